"""Audit, impersonation, front proxies, revocation and terminators, from a configuration to what it comes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.config.again import read_again
from tests.server.test_revocation import list_of

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.pki.read import pem_certificates
from aggmw.testing import Client, ScriptedBackend, respond

FRONT = make_ca("front proxies")
CLIENTS = make_ca("clients")
POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived]}]\n"
TOKEN = {"Authorization": "Bearer token"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with credentials, and alice, who may do everything, bob, who may do nothing."""
    for name, ca in (("clients", CLIENTS), ("front", FRONT)):
        (tmp_path / f"{name}.crt").write_bytes(ca.certificate)
    (tmp_path / "front.crl").write_bytes(list_of(FRONT))
    (tmp_path / "tokens.csv").write_text("token,alice,1\nother,bob,2\n")
    (tmp_path / "policy.csv").write_text("p, user:alice, *, *, *, *, *\np2, user:alice, get, /*\n")
    (tmp_path / "audit.yaml").write_text(POLICY)
    pair = issue_client(FRONT, "front-proxy")
    (tmp_path / "proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "proxy.key").write_bytes(pair.key)
    return tmp_path


def composed(place: Path, text: str) -> Composed:
    """A front proxy with these keys, and tokens and a policy."""
    (place / "aggmw.yaml").write_text(f"{text}\nauthorization: {{policy: policy.csv}}\n")
    pair = ClientCertificatePair(place / "proxy.crt", place / "proxy.key")
    return compose(load(place / "aggmw.yaml"), Credentials(place / "clients.crt", pair), Drain())


def mistakes(place: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        composed(place, text)
    return [line.replace(f"{place}/", "") for line in str(caught.value).splitlines()]


AUDIT = "authentication: {tokenFile: tokens.csv}\naudit: {policyFile: audit.yaml, log: {path: audit.log}}"


async def test_audit_and_its_reload(place: Path) -> None:
    """Requests are in the file; SIGHUP reads the policy again; a broken one changes nothing."""
    found = composed(place, AUDIT)
    client = Client(found.front_proxy)
    async with found.front_proxy:
        await client.request("GET", "/x", TOKEN)
        (place / "audit.yaml").write_text("rules: {}")
        with pytest.raises(ConfigurationError, match=r"audit\.yaml: rules: must be a list"):
            await read_again(found, "audit policy")
        await client.request("GET", "/y", TOKEN)
        (place / "audit.yaml").write_text(POLICY.replace("Metadata", "None"))
        await read_again(found, "audit policy")
        found.reloads["audit log"]()
        await client.request("GET", "/z", TOKEN)
    lines = [json.loads(line) for line in (place / "audit.log").read_text().splitlines()]
    assert [line["requestURI"] for line in lines] == ["/x", "/y"]


async def test_impersonation_is_off_until_it_is_on(place: Path) -> None:
    """`authentication.impersonation`: without it 403 for everybody; with it, for who may not."""
    headers = {**TOKEN, "Impersonate-User": "bob"}
    keys = "authentication: {tokenFile: tokens.csv%s}"
    off = composed(place, keys % "").front_proxy
    on = composed(place, keys % ", impersonation: true").front_proxy
    async with off, on:
        assert "nobody can be impersonated" in (await Client(off).request("GET", "/x", headers)).text
        response = await Client(on).request("GET", "/x", headers)
        assert 'User \\"bob\\" cannot get path' in response.text
        other = {"Authorization": "Bearer other", "Impersonate-User": "alice"}
        assert 'User \\"bob\\" cannot impersonate' in (await Client(on).request("GET", "/x", other)).text


def on(place: Path, ca: object, name: str) -> Connection:
    made = issue_client(ca, name)  # type: ignore[arg-type]  # a pair
    (leaf,) = pem_certificates(made.certificate)
    (root,) = pem_certificates(ca.certificate)  # type: ignore[attr-defined]
    return Connection(("10.0.0.7", 1), True, (leaf, root), trailers_apart=True)


async def asked(found: Composed, connection: Connection, headers: dict[str, str]) -> int:
    async with found.front_proxy:
        client = Client(found.front_proxy, connection=connection)
        return (await client.request("GET", "/x", headers)).status


async def test_front_proxies(place: Path) -> None:
    """`authentication.requestHeader`: its CA comes to the door's, and its word counts; another CA's does not."""
    keys = "authentication: {requestHeader: {ca: front.crt, allowedNames: [front-proxy]}}"
    found = composed(place, keys)
    assert [path.name for path in found.client_ca] == ["clients.crt", "front.crt"]
    told = {"X-Remote-User": "alice"}
    assert await asked(found, on(place, FRONT, "front-proxy"), told) == 404
    assert await asked(found, on(place, FRONT, "other"), told) == 401
    assert await asked(found, on(place, CLIENTS, "front-proxy"), told) == 403
    (place / "front.crt").write_bytes(make_ca("new").certificate)
    await read_again(found, "front-proxy CA")
    assert await asked(found, on(place, FRONT, "front-proxy"), told) == 401


async def test_front_proxies_with_other_headers(place: Path) -> None:
    """`authentication.requestHeader.*Headers*`: those names count, and the usual ones no longer do."""
    names = "usernameHeaders: [X-User], uidHeaders: [], groupHeaders: [X-Teams], extraHeadersPrefixes: [X-About-]"
    found = composed(place, f"authentication: {{requestHeader: {{ca: front.crt, {names}}}}}")
    connection = on(place, FRONT, "front-proxy")
    assert await asked(found, connection, {"X-User": "alice"}) == 404
    assert await asked(found, connection, {"X-User": "bob", "X-Remote-User": "alice"}) == 403
    assert await asked(found, connection, {"X-Remote-User": "alice"}) == 401
    wrong = "usernameHeaders: [], uidHeaders: [X-Id], groupHeaders: [Cookie], extraHeadersPrefixes: X"
    assert mistakes(place, f"authentication: {{requestHeader: {{ca: front.crt, {wrong}}}}}") == [
        "aggmw.yaml: authentication.requestHeader.groupHeaders[0]: 'Cookie' is the name of a header that says something"
        " else than who is asking",
        "aggmw.yaml: authentication.requestHeader.extraHeadersPrefixes: must be a list of texts, not 'X'",
        "aggmw.yaml: authentication.requestHeader.usernameHeaders: must list at least one header, such as"
        " X-Remote-User",
        "aggmw.yaml: authentication.requestHeader.uidHeaders: must include X-Remote-Uid",
    ]


async def test_c5_4_revoked_front_proxies(place: Path) -> None:
    """`authentication.requestHeader.crls`: read at the start and on SIGHUP; a broken list is named with its path."""
    found = composed(place, "authentication: {requestHeader: {ca: front.crt, crls: [front.crl]}}")
    pair = issue_client(FRONT, "front-proxy")
    (der,), (root,) = pem_certificates(pair.certificate), pem_certificates(FRONT.certificate)
    connection = Connection(("10.0.0.7", 1), True, (der, root), trailers_apart=True)
    told = {"X-Remote-User": "alice"}
    assert await asked(found, connection, told) == 404
    (place / "front.crl").write_bytes(list_of(FRONT, pair))
    await read_again(found, "front-proxy CA")
    assert await asked(found, connection, told) == 401
    (place / "front.crl").write_bytes(list_of(CLIENTS))
    with pytest.raises(
        ConfigurationError, match=r"front\.crl: list 1 is not signed by any authority of the front-proxy"
    ):
        await read_again(found, "front-proxy CA")


async def test_terminators(place: Path) -> None:
    """`clientCertificates.terminators`: the certificate of the field counts from a listed peer."""
    import base64

    keys = "authentication: {clientCertificates: {terminators: {peers: [10.0.0.0/24]}}}"
    found = composed(place, keys)
    (der,) = pem_certificates(issue_client(CLIENTS, "alice").certificate)
    headers = {"Client-Cert": f":{base64.b64encode(der).decode()}:"}
    assert await asked(found, Connection(("10.0.0.7", 1), True, trailers_apart=True), headers) == 404
    assert await asked(found, Connection(("10.0.1.7", 1), True, trailers_apart=True), headers) == 401


async def test_cluster_behind_a_path(place: Path) -> None:
    """`services.paths[].impersonation`: the server is told who asks, with the token of the file."""
    (place / "token").write_text("of-the-proxy")
    async with ScriptedBackend(lambda request: respond(200)) as server:
        service = f"{{path: /c/, url: 'http://{server.host}:{server.port}', impersonation: {{tokenFile: token}}}}"
        found = composed(place, f"authentication: {{tokenFile: tokens.csv}}\nservices: {{paths: [{service}]}}")
        async with found.front_proxy:
            assert (await Client(found.front_proxy).request("GET", "/c/api", TOKEN)).status == 200
        assert b"Impersonate-User: alice\r\n" in server.requests[0]
        assert b"Authorization: Bearer of-the-proxy\r\n" in server.requests[0]


SERVICE = """\
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.a.example, annotations: {aggmw/url: "URL"}}
spec:
  {group: a.example, version: v1, groupPriorityMinimum: 1000, versionPriority: 15, service: {namespace: a, name: b}}
"""


async def test_cluster_behind_a_group_version(place: Path) -> None:
    """`services.impersonation`: the server of that APIService is told who asks, with the token of the file."""
    (place / "token").write_text("of-the-proxy")
    received: list[bytes] = []

    def answer(request: bytes) -> bytes:
        received.append(bytes(request))
        return respond(200, body=b"{}")

    keys = "authentication: {tokenFile: tokens.csv}\nservices: {files: [services.yaml], impersonation: [%s]}"
    async with ScriptedBackend(answer) as server:
        (place / "services.yaml").write_text(SERVICE.replace("URL", server.url))
        found = composed(place, keys % "{apiService: v1.a.example, tokenFile: token}")
        async with found.front_proxy:
            await Client(found.front_proxy).request("GET", "/apis/a.example/v1/things", TOKEN)
    (things,) = [each for each in received if b"/things" in each]
    assert b"Impersonate-User: alice\r\n" in things
    assert b"Authorization: Bearer of-the-proxy\r\n" in things
    where = "aggmw.yaml: services.impersonation"
    assert mistakes(place, keys % "{apiService: v1.b.example}") == [
        f"{where}: there is no APIService v1.b.example in services.files"
    ]
    assert mistakes(place, keys % "{apiService: v1.a.example}, {apiService: v1.a.example, token: x}, {}") == [
        f"{where}[1].token: is not a known key; known here: apiService, extra, tokenFile, uid",
        f"{where}[1].apiService: v1.a.example is there twice",
        f"{where}[2].apiService: is missing",
    ]
    (place / "services.yaml").write_text(SERVICE.replace("URL", "http://10.0.0.1"))
    assert mistakes(place, keys % "{apiService: v1.a.example, tokenFile: token}") == [
        f"{where}: v1.a.example: a bearer token is sent only over TLS to a server whose certificate is verified, or on"
        " this machine"
    ]


def test_all_mistakes_with_their_paths(place: Path) -> None:
    """What is wrong in the file, all at once."""
    text = """
authentication:
  impersonation: maybe
  requestHeader: {allowedNames: front-proxy}
  clientCertificates: {crls: x, terminators: {peers: [10.0.0.1/8], field: x-client}, roots: y}
audit: {log: {maxSize: -1, whenFull: block, file: x}, webhook: {batch: 0}}
services: {paths: [{path: /a/, app: "a:b", impersonation: {token: x}}]}
"""
    assert [line.removeprefix("aggmw.yaml: ") for line in mistakes(place, text)] == [
        "authentication.clientCertificates.crls: must be a list of texts, not 'x'",
        "authentication.clientCertificates.terminators.peers[0]: 10.0.0.1/8 has host bits set",
        "authentication.clientCertificates.terminators.peers: must list at least one address or network, such as"
        " 10.0.0.7 or 10.1.0.0/24",
        "authentication.clientCertificates.terminators.field: must be one of client-cert, x-forwarded-client-cert, not"
        " 'x-client'",
        "authentication.requestHeader.ca: is missing",
        "authentication.requestHeader.allowedNames: must be a list of texts, not 'front-proxy'",
        "authentication.impersonation: must be true or false, not 'maybe'",
        "authentication.clientCertificates.roots: is not a known key; known here: crls, terminators",
        "audit.policyFile: is missing",
        "audit.log.path: is missing",
        "audit.log.maxSize: must be a whole number from 0 to 1000000, not -1",
        "audit.log.whenFull: must be one of wait, drop, not 'block'",
        "audit.log.file: is not a known key; known here: maxAge, maxBackups, maxSize, path, queue, whenFull",
        "audit.webhook.kubeconfig: is missing",
        "audit.webhook.batch: must be a whole number from 1 to 100000, not 0",
        "services.paths[0].impersonation: needs url beside it",
        "services.paths[0].impersonation.token: is not a known key; known here: extra, tokenFile, uid",
    ]


def test_all_mistakes_of_the_files(place: Path) -> None:
    """What is wrong in the files that it names, all at once."""
    (place / "broken.crl").write_text("nonsense")
    (place / "audit.yaml").write_text("kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: all}]\n")
    text = """
authentication:
  clientCertificates: {crls: [broken.crl, gone.crl]}
  requestHeader: {ca: clients.crt}
audit: {policyFile: audit.yaml, log: {path: gone/audit.log}}
services: {paths: [{path: /a/, url: "http://10.0.0.1", impersonation: {tokenFile: token}}]}
"""
    assert mistakes(place, text) == [
        "broken.crl: holds no PEM list (-----BEGIN X509 CRL-----)",
        "gone.crl: cannot be read: No such file or directory",
        "audit.yaml: rules[0].level: must be one of None, Metadata, Request, RequestResponse",
        "gone/audit.log: cannot be opened for appending: No such file or directory",
        "aggmw.yaml: services.paths[0]: path service '/a/': a bearer token is sent only over TLS to a server whose"
        " certificate is verified, or on this machine",
    ]


def test_ca_of_front_proxies_and_clients(place: Path) -> None:
    """Where one CA signs both, every client could be anybody: names are needed."""
    (message,) = mistakes(place, "authentication: {requestHeader: {ca: clients.crt}}")
    assert message.startswith("aggmw.yaml: authentication.requestHeader.allowedNames: is needed: the CA also signs")
    composed(place, "authentication: {requestHeader: {ca: clients.crt, allowedNames: [front-proxy]}}")


def test_audit_that_goes_nowhere(place: Path) -> None:
    """A policy without a log and without a webhook records nothing, so it is a mistake."""
    (message,) = mistakes(place, "audit: {policyFile: audit.yaml}")
    assert message == "aggmw.yaml: audit.log: is missing, or webhook: the events have to go somewhere"


async def test_audit_webhook(place: Path) -> None:
    """The server of a kubeconfig; a mistake in the file is one of the configuration."""
    text = "audit: {policyFile: audit.yaml, webhook: {kubeconfig: audit.kubeconfig}}"
    (message,) = mistakes(place, text)
    assert message.startswith("audit.kubeconfig: cannot be read")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://audit.example"}}],
    }
    (place / "audit.kubeconfig").write_text(json.dumps(config))
    made = composed(place, text)
    assert "audit policy" in made.reloads
    (place / "audit.kubeconfig").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"audit\.kubeconfig"):
        await read_again(made, "audit webhook")
