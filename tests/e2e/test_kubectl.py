"""Unmodified kubectl 1.37 through the front proxy to an API server that is a process of its own."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.conftest import PATIENCE

from aggmw.pki.make import issue_client, make_ca
from aggmw.server.directory import Directory

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo, Kubectl

FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/{}/flunders"
FORBIDDEN = (
    "Error from server (Forbidden): flunders.wardle.example.com is forbidden: "
    'User "{}" cannot {} resource "flunders" in API group "wardle.example.com" {}\n'
)
UNAUTHORIZED = {
    "error: You must be logged in to the server (Unauthorized)",
    "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
}


def manifest(name: str, reference: str = "hello") -> str:
    return f"""\
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata:
  name: {name}
  labels:
    test: {name}
spec:
  reference: {reference}
"""


# --- what there is ---------------------------------------------------------------------------------------------------


def test_version(admin: Kubectl) -> None:
    """`kubectl version` reads the server's version and sees no skew."""
    out = admin("version")
    assert "Client Version: v1.37." in out
    assert re.search(r"^Server Version: v1\.37\.", out, re.MULTILINE)
    server = admin.json("version")["serverVersion"]
    assert (server["major"], server["minor"]) == ("1", "37")


def test_api_versions(admin: Kubectl) -> None:
    """The backend's group version is listed."""
    assert "wardle.example.com/v1alpha1" in admin("api-versions").splitlines()


def test_api_resources(admin: Kubectl) -> None:
    """The backend's resource is listed with its short name, scope, kind, verbs and categories."""
    out = admin("api-resources", "--api-group=wardle.example.com", "-o", "wide")
    header, row = out.splitlines()
    assert header.split() == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"]
    assert row.split() == [
        "flunders",
        "fl",
        "wardle.example.com/v1alpha1",
        "true",
        "Flunder",
        "create,delete,deletecollection,get,list,patch,update,watch",
        "all",
    ]


def test_get_raw_apis(admin: Kubectl) -> None:
    """`get --raw /apis` gets the legacy list of groups."""
    document = json.loads(admin("get", "--raw", "/apis"))
    assert (document["kind"], document["apiVersion"]) == ("APIGroupList", "v1")
    version = {"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"}
    assert {
        "name": "wardle.example.com",
        "versions": [version],
        "preferredVersion": version,
    } in document["groups"]


# --- working with objects --------------------------------------------------------------------------------------------


def test_create_with_validation(admin: Kubectl, name: str) -> None:
    """`kubectl create` validates by default, which needs the front proxy's OpenAPI document for this backend."""
    assert admin("create", "-f", "-", stdin=manifest(name)) == f"flunder.wardle.example.com/{name} created\n"
    wrong = manifest(f"{name}-2").replace("reference:", "referense:")
    assert 'strict decoding error: unknown field "spec.referense"' in admin.fails("create", "-f", "-", stdin=wrong)
    assert admin.fails("create", "-f", "-", stdin=manifest(name)) == (
        'Error from server (AlreadyExists): error when creating "STDIN": '
        f'flunders.wardle.example.com "{name}" already exists\n'
    )


def test_create_from_a_file(admin: Kubectl, name: str, tmp_path: Path) -> None:
    """A file works as standard input does."""
    file = tmp_path / "flunder.yaml"
    file.write_text(manifest(name))
    assert admin("create", "-f", str(file)) == f"flunder.wardle.example.com/{name} created\n"


def test_get_and_list(admin: Kubectl, name: str) -> None:
    """Objects and the server's table, one and many, one namespace and all."""
    admin("create", "-f", "-", stdin=manifest(name))
    admin("create", "-n", "dev", "-f", "-", stdin=manifest(name, "there"))
    header, row = admin("get", "flunder", name).splitlines()
    assert header.split() == ["NAME", "REFERENCE", "READY", "AGE"]
    assert row.split()[:2] == [name, "hello"]
    found = admin.json("get", "fl", name)
    assert (found["kind"], found["metadata"]["namespace"], found["spec"]) == (
        "Flunder", "default", {"reference": "hello"},
    )  # fmt: skip
    header, *rows = admin("get", "flunders", "-A", "-l", f"test={name}").splitlines()
    assert header.split() == ["NAMESPACE", "NAME", "REFERENCE", "READY", "AGE"]
    assert [row.split()[:3] for row in rows] == [["default", name, "hello"], ["dev", name, "there"]]
    listed = admin.json("get", "flunders", "-n", "dev", "--field-selector", f"metadata.name={name}")
    assert [item["spec"]["reference"] for item in listed["items"]] == ["there"]


def test_get_what_is_not_there(admin: Kubectl) -> None:
    """The backend's 404 comes through unchanged."""
    assert admin.fails("get", "flunder", "missing") == (
        'Error from server (NotFound): flunders.wardle.example.com "missing" not found\n'
    )


def test_get_watch(admin: Kubectl, name: str) -> None:
    """`get -w` shows what is, and each change as it happens."""
    admin("create", "-f", "-", stdin=manifest(name, "first"))
    admin("wait", "--for=condition=Ready", f"flunder/{name}", "--timeout=60s")
    with admin.start("get", "flunders", "-w", "-l", f"test={name}") as watch:
        assert watch.line().split() == ["NAME", "REFERENCE", "READY", "AGE"]
        assert watch.line().split()[:3] == [name, "first", "True"]
        admin("patch", "flunder", name, "--type=merge", "-p", '{"spec":{"reference":"second"}}')
        assert watch.line().split()[:3] == [name, "second", "True"]
        admin("delete", "flunder", name)
        assert watch.line().split()[:3] == [name, "second", "True"]


def test_wait_for_a_condition(admin: Kubectl, name: str) -> None:
    """`wait --for=condition=Ready` sees the condition come, over a streaming list."""
    admin("create", "-f", "-", stdin=manifest(name))
    out = admin("wait", "--for=condition=Ready", f"flunder/{name}", "--timeout=60s")
    assert out == f"flunder.wardle.example.com/{name} condition met\n"


def test_wait_for_deletion(admin: Kubectl, name: str, demo: Demo) -> None:
    """`wait --for=delete` begins while the object is there and ends when it goes."""
    admin("create", "-f", "-", stdin=manifest(name))
    with admin.start("wait", "--for=delete", f"flunder/{name}", "--timeout=60s") as waiting:
        await_watch(demo, name)
        assert admin("delete", "flunder", name) == (
            f'flunder.wardle.example.com "{name}" deleted from default namespace\n'
        )
        assert waiting.end() == (0, f"flunder.wardle.example.com/{name} condition met\n", "")


def await_watch(demo: Demo, name: str) -> None:
    """Until the backend has been asked to watch this object."""
    until = time.monotonic() + PATIENCE
    while not any("watch=true" in line["query"] and name in line["query"] for line in demo.log()):
        assert time.monotonic() < until, "the backend saw no watch"
        time.sleep(0.05)


def test_merge_patch(admin: Kubectl, name: str) -> None:
    """`patch --type=merge` changes what it names."""
    admin("create", "-f", "-", stdin=manifest(name))
    out = admin("patch", "flunder", name, "--type=merge", "-p", '{"spec":{"reference":"patched"}}')
    assert out == f"flunder.wardle.example.com/{name} patched\n"
    assert admin.json("get", "flunder", name)["spec"] == {"reference": "patched"}


def test_delete(admin: Kubectl, name: str) -> None:
    """`delete` waits until the object is gone."""
    admin("create", "-f", "-", stdin=manifest(name))
    assert admin("delete", "flunder", name) == f'flunder.wardle.example.com "{name}" deleted from default namespace\n'
    assert "NotFound" in admin.fails("get", "flunder", name)


def test_apply_and_replace(admin: Kubectl, name: str) -> None:
    """Client-side apply and replace work with nothing but merge patches and updates."""
    assert admin("apply", "-f", "-", stdin=manifest(name)).endswith(" created\n")
    assert admin("apply", "-f", "-", stdin=manifest(name)).endswith(" unchanged\n")
    assert admin("apply", "-f", "-", stdin=manifest(name, "applied")).endswith(" configured\n")
    assert admin("replace", "-f", "-", stdin=manifest(name, "replaced")).endswith(" replaced\n")
    assert admin.json("get", "flunder", name)["spec"] == {"reference": "replaced"}


# --- who may ---------------------------------------------------------------------------------------------------------


def test_alice_in_her_namespace(alice: Kubectl, demo: Demo, name: str) -> None:
    """alice works with flunders in dev; the backend's log proves who she is, and through whom she came."""
    before = len(demo.log())
    dev = ("-n", "dev")
    assert alice("create", *dev, "-f", "-", stdin=manifest(name)) == f"flunder.wardle.example.com/{name} created\n"
    alice("wait", *dev, "--for=condition=Ready", f"flunder/{name}", "--timeout=60s")
    assert name in alice("get", *dev, "flunders")
    alice("patch", *dev, "flunder", name, "--type=merge", "-p", '{"spec":{"reference":"x"}}')
    alice("delete", *dev, "flunder", name)
    hers = [line for line in demo.log()[before:] if line["user"] == "alice" and "/flunders" in line["path"]]
    assert {line["method"] for line in hers} == {"GET", "POST", "PATCH", "DELETE"}
    for line in hers:
        assert line["path"].startswith(FLUNDERS.format("dev"))
        assert line["uid"] == "alice-1"
        assert line["groups"] == ["flunder-people", "system:authenticated"]
        assert line["certificate"] == "front-proxy-client"


def test_alice_elsewhere(alice: Kubectl, demo: Demo, name: str) -> None:
    """Elsewhere alice gets Kubernetes' own words, and the backend never hears of it."""
    before = len(demo.log())
    default = ("-n", "default")
    text = FORBIDDEN.format("alice", "list", 'in the namespace "default"')
    assert alice.fails("get", "flunders", *default) == text
    assert alice.fails("get", "flunders", "-A") == FORBIDDEN.format("alice", "list", "at the cluster scope")
    assert alice.fails("get", "flunder", "one", *default) == (
        'Error from server (Forbidden): flunders.wardle.example.com "one" is forbidden: User "alice" cannot get '
        'resource "flunders" in API group "wardle.example.com" in the namespace "default"\n'
    )
    refused = alice.fails("create", *default, "-f", "-", stdin=manifest(name))
    assert refused == FORBIDDEN.format("alice", "create", 'in the namespace "default"').replace(
        "(Forbidden): ", '(Forbidden): error when creating "STDIN": '
    )
    hers = [line for line in demo.log()[before:] if line["user"] == "alice" and "/flunders" in line["path"]]
    assert hers == []


@pytest.mark.parametrize("namespace", ["dev", "default"])
def test_nobody(nobody: Kubectl, namespace: str) -> None:
    """nobody is known and may do nothing."""
    text = FORBIDDEN.format("nobody", "list", f'in the namespace "{namespace}"')
    assert nobody.fails("get", "flunders", "-n", namespace) == text


def test_a_wrong_token(kubectl_as: Callable[[str | Path], Kubectl], demo: Demo, wrong_token: Path) -> None:
    """A token that is not known is a 401, never an anonymous caller: also not on the path that is open to everybody."""
    kubectl = kubectl_as(wrong_token)
    for command in (("get", "flunders", "-n", "dev"), ("get", "--raw", "/apis"), ("version",)):
        said = kubectl.run(*command)
        assert said.returncode == 1
        assert said.stderr.splitlines()[-1] in UNAUTHORIZED
    for path in ("/healthz", "/apis", FLUNDERS.format("dev")):
        status, body = demo.request(path, headers={"Authorization": "Bearer wrong"})
        assert_unauthorized(status, body)


def test_a_client_certificate(kubectl_as: Callable[[str | Path], Kubectl], demo: Demo, name: str) -> None:
    """A further certificate of the client CA works: the name is the user, the organizations are the groups."""
    kubeconfig = Directory.open(demo.directory).kubeconfig(
        "carol", server=demo.url, user="carol", groups=("system:masters", "ops")
    )
    carol = kubectl_as(kubeconfig)
    assert carol("create", "-f", "-", stdin=manifest(name)).endswith(" created\n")
    (line,) = demo.requests(method="POST", user="carol")
    assert (line["path"], line["status"]) == (FLUNDERS.format("default"), 201)
    assert line["groups"] == ["system:masters", "ops", "system:authenticated"]
    assert line["certificate"] == "front-proxy-client"
    (credential,) = line["extra"]["authentication.kubernetes.io/credential-id"]
    assert re.fullmatch(r"X509SHA256=[0-9a-f]{64}", credential)


def test_the_administrator_comes_with_a_certificate(admin: Kubectl, demo: Demo) -> None:
    """The administrator's kubeconfig holds a client certificate and no token."""
    entry = demo.entry("admin")
    assert "client-certificate-data" in entry
    assert "token" not in entry
    admin("get", "flunders", "-o", "name")
    line = demo.requests(method="GET", path=FLUNDERS.format("default"), user="admin")[-1]
    assert line["groups"] == ["system:masters", "system:authenticated"]


def test_a_certificate_of_another_authority(demo: Demo, tmp_path: Path) -> None:
    """A certificate that another authority signed ends in the handshake, whatever name it bears."""
    pair = issue_client(make_ca("aggmw client CA"), "admin", groups=("system:masters",))
    file = tmp_path / "forged.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = demo.context()
    context.load_cert_chain(file)
    assert tls_refuses(demo, context)


def tls_refuses(demo: Demo, context: ssl.SSLContext) -> bool:
    """Whether a request over this TLS fails; with TLS 1.3 the refusal comes with the first answer."""
    connection = http.client.HTTPSConnection("127.0.0.1", demo.port, context=context, timeout=PATIENCE)
    try:
        connection.request("GET", "/apis")
        connection.getresponse()
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return True
    finally:
        connection.close()
    return False


def test_anonymous(demo: Demo) -> None:
    """Without credentials there is `/healthz` and nothing else."""
    before = len(demo.log())
    assert demo.request("/healthz") == (200, b"ok")
    for path in ("/", "/livez", "/readyz", "/healthz/ping", "/version", "/api", "/apis", "/openapi/v3", "/nothing"):
        assert_unauthorized(*demo.request(path))
    for path in (FLUNDERS.format("dev"), "/apis/wardle.example.com/v1alpha1/flunders?watch=true"):
        assert_unauthorized(*demo.request(path))
        forged = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
        assert_unauthorized(*demo.request(path, headers=forged))
    assert [line for line in demo.log()[before:] if "namespaces" in line["path"] or "watch" in line["query"]] == []


def assert_unauthorized(status: int, body: bytes) -> None:
    document: dict[str, Any] = json.loads(body)
    assert (status, document["code"], document["reason"], document["message"]) == (
        401, 401, "Unauthorized", "Unauthorized",
    )  # fmt: skip


def test_identity_headers_of_a_client_are_not_passed_on(demo: Demo) -> None:
    """C2: what an authenticated client says about itself never reaches the backend."""
    path = FLUNDERS.format("default") + "?fieldSelector=metadata.name%3Dforged"
    forged = {
        "X-Remote-User": "mallory",
        "X-Remote-Group": "system:nodes",
        "X_Remote_User": "mallory",
        "X-Remote-Extra-Scopes": "all",
        "X-Remote-Uid": "0",
    }
    assert demo.request(path, user="admin", headers=forged)[0] == 200
    (line,) = [line for line in demo.log() if "forged" in line["query"]]
    assert (line["user"], line["uid"], line["groups"]) == ("admin", "", ["system:masters", "system:authenticated"])
    assert set(line["extra"]) <= {"authentication.kubernetes.io/credential-id"}


# --- the end ---------------------------------------------------------------------------------------------------------


def test_every_request_came_through_the_front_proxy(demo: Demo) -> None:
    """The backend has answered nobody but the front proxy."""
    answered = [line for line in demo.log() if line["path"] not in ("/healthz", "/livez", "/readyz")]
    assert answered
    assert {line["certificate"] for line in answered} == {"front-proxy-client"}
    assert all(line["user"] for line in answered)
