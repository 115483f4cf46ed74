"""curl through the front proxy: what the protocol looks like to a client that is no Kubernetes client."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.conftest import PATIENCE, Running
from tests.e2e.flunders import API_VERSION, KIND, PAINTED, TABLE, about, flunder, forbidden, modified, path

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo

JSON = ("-H", "Content-Type: application/json")
MERGE_PATCH = ("-X", "PATCH", "-H", "Content-Type: application/merge-patch+json")
JSON_PATCH = ("-X", "PATCH", "-H", "Content-Type: application/json-patch+json")
FACTS = "%{stderr}\nfacts %{json}\n"


@dataclass(frozen=True)
class Answer:
    """What one transfer brought: the body (with -i or -I the head too), and curl's own variables about it."""

    body: str
    facts: dict[str, Any]
    said: str

    @property
    def code(self) -> int:
        code: int = self.facts["response_code"]
        return code

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Curl:
    """curl with the credentials of somebody, apart from any configuration of the machine."""

    program: str
    demo: Demo
    home: Path
    options: tuple[str, ...]

    def command(self, *arguments: str) -> list[str]:
        """With paths of the front proxy made into URLs."""
        words = [self.demo.url + word if word.startswith("/") else word for word in arguments]
        return [self.program, "-sS", *self.options, *words]

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ.get("PATH", "")}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever that is."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> Answer:
        """One transfer that has to reach its end, whatever the status."""
        done = self.run("-w", FACTS, *arguments, stdin=stdin)
        assert done.returncode == 0, done
        said, _, facts = done.stderr.partition("\nfacts ")
        return Answer(done.stdout, json.loads(facts), said)

    def start(self, *arguments: str) -> Running:
        """A transfer that goes on."""
        return Running(
            subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )


@pytest.fixture
def curl_as(demo: Demo, curl_program: str, tmp_path: Path) -> Callable[..., Curl]:
    """curl with options of one's own, trusting the front proxy's CA."""
    (tmp_path / "ca.crt").write_bytes(demo.authority)

    def made(*options: str) -> Curl:
        return Curl(curl_program, demo, tmp_path, ("--cacert", str(tmp_path / "ca.crt"), *options))

    return made


@pytest.fixture
def stranger(curl_as: Callable[..., Curl]) -> Curl:
    """Without credentials."""
    return curl_as()


@pytest.fixture
def alice(curl_as: Callable[..., Curl], demo: Demo, tmp_path: Path) -> Curl:
    """With the token of alice's kubeconfig, in a file: arguments can be seen by everybody on a machine."""
    (tmp_path / "alice.header").write_text(f"Authorization: Bearer {demo.entry('alice')['token']}")
    return curl_as("-H", f"@{tmp_path / 'alice.header'}")


@pytest.fixture
def admin(curl_as: Callable[..., Curl], demo: Demo, tmp_path: Path) -> Curl:
    """With the client certificate of the administrator's kubeconfig."""
    entry = demo.entry("admin")
    (tmp_path / "admin.crt").write_bytes(base64.b64decode(entry["client-certificate-data"]))
    (tmp_path / "admin.key").write_bytes(base64.b64decode(entry["client-key-data"]))
    return curl_as("--cert", str(tmp_path / "admin.crt"), "--key", str(tmp_path / "admin.key"))


@pytest.fixture
def wrong(curl_as: Callable[..., Curl]) -> Curl:
    """With a token that nobody has."""
    return curl_as("-H", "Authorization: Bearer wrong")


def assert_status(answer: Answer, code: int, reason: str, message: str) -> None:
    """The answer is a Status that agrees with itself, as JSON."""
    status = answer.json()
    assert (answer.code, status["code"], status["reason"], status["message"]) == (code, code, reason, message)
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert answer.facts["content_type"] == "application/json"


# --- who it is -------------------------------------------------------------------------------------------------------


def test_the_authority_has_to_be_known(stranger: Curl, curl_program: str, demo: Demo, tmp_path: Path) -> None:
    """With `--cacert` the front proxy is trusted, without it is not."""
    answer = stranger("/healthz")
    assert (answer.code, answer.body, answer.facts["ssl_verify_result"]) == (200, "ok", 0)
    refused = Curl(curl_program, demo, tmp_path, ()).run("/healthz")
    assert (refused.returncode, refused.stdout) == (60, "")
    assert "SSL certificate problem" in refused.stderr


def test_a_token(alice: Curl, demo: Demo, name: str) -> None:
    """The token says who it is; the server behind is told so by the front proxy and never sees the token."""
    answer = alice(f"{path('dev')}?labelSelector=test%3D{name}")
    assert (answer.code, answer.json()["kind"]) == (200, f"{KIND}List")
    (line,) = [line for line in demo.requests(path=path("dev")) if name in line["query"]]
    assert (line["user"], line["uid"], line["certificate"]) == ("alice", "alice-1", "front-proxy-client")


def test_a_client_certificate(admin: Curl, demo: Demo, name: str) -> None:
    """The certificate says who it is, over all namespaces too."""
    answer = admin(f"{path()}?labelSelector=test%3D{name}")
    assert (answer.code, answer.json()["items"]) == (200, [])
    (line,) = [line for line in demo.requests(path=path()) if name in line["query"]]
    assert (line["user"], line["groups"]) == ("admin", ["system:masters", "system:authenticated"])


def test_alice_elsewhere(alice: Curl) -> None:
    """A refusal is a Status with Kubernetes' words."""
    assert_status(alice(path()), 403, "Forbidden", forbidden("alice", "list"))
    assert_status(alice(f"{path('default')}?watch=true"), 403, "Forbidden", forbidden("alice", "watch", "default"))


@pytest.mark.parametrize("target", ["/healthz", "/apis", path("dev")])
def test_a_wrong_token(wrong: Curl, target: str) -> None:
    """A token that nobody has is a 401 with a body, also where everybody may go."""
    assert_status(wrong(target), 401, "Unauthorized", "Unauthorized")


@pytest.mark.parametrize("options", [(), ("-u", "admin:admin"), ("-H", "X-Remote-User: admin")])
def test_no_credentials(curl_as: Callable[..., Curl], options: tuple[str, ...]) -> None:
    """Without credentials that the front proxy takes there is nothing but `/healthz`."""
    assert_status(curl_as(*options)("/apis"), 401, "Unauthorized", "Unauthorized")


# --- working with objects --------------------------------------------------------------------------------------------


def test_discovery(alice: Curl) -> None:
    """The documents, with and without a slash."""
    for slash in ("", "/"):
        assert alice(f"/version{slash}").json()["minor"] == "37"
        groups = alice(f"/apis{slash}").json()["groups"]
        assert API_VERSION in [version["groupVersion"] for group in groups for version in group["versions"]]
        assert [each["name"] for each in alice(f"/apis/{API_VERSION}{slash}").json()["resources"]] == [
            "flunders",
            "flunders/status",
        ]


def test_create_change_delete(alice: Curl, name: str) -> None:
    """POST, GET, both patches, the status, PUT with an old resourceVersion, DELETE."""
    one = path("dev", name)
    created = alice(path("dev"), *JSON, "--data", "@-", stdin=json.dumps(flunder(name)))
    assert (created.code, created.json()["spec"]) == (201, {"reference": "hello"})
    found = alice(one).json()
    merged = alice(one, *MERGE_PATCH, "--data", '{"spec": {"reference": "merged"}}')
    assert (merged.code, merged.json()["spec"]) == (200, {"reference": "merged"})
    patched = alice(one, *JSON_PATCH, "--data", '[{"op": "replace", "path": "/spec/reference", "value": "patched"}]')
    assert (patched.code, patched.json()["spec"]) == (200, {"reference": "patched"})
    painted = alice(f"{one}/status", *MERGE_PATCH, "--data", json.dumps({"status": {"conditions": [PAINTED]}}))
    assert (painted.code, PAINTED in painted.json()["status"]["conditions"]) == (200, True)
    late = alice(one, "-X", "PUT", *JSON, "--data", json.dumps(found))
    assert_status(late, 409, "Conflict", modified(name))
    assert late.json()["details"] == about(name)
    deleted = alice(one, "-X", "DELETE")
    assert (deleted.code, deleted.json()["status"]) == (200, "Success")
    assert_status(alice(one), 404, "NotFound", f'flunders.wardle.example.com "{name}" not found')


def test_table(alice: Curl, name: str) -> None:
    """Who asks for a table gets the server's."""
    alice(path("dev"), *JSON, "--data", json.dumps(flunder(name)))
    table = alice(f"{path('dev')}?labelSelector=test%3D{name}", "-H", f"Accept: {TABLE}").json()
    assert (table["kind"], [row["cells"][:2] for row in table["rows"]]) == ("Table", [[name, "hello"]])


def test_a_forgotten_content_type(alice: Curl, name: str) -> None:
    """curl calls data a form where nobody says otherwise: the answer says what is wanted."""
    answer = alice(path("dev"), "--data", json.dumps(flunder(name)))
    message = "the body of the request was in an unknown format - accepted media types include: application/json"
    assert_status(answer, 415, "UnsupportedMediaType", message)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_watch(alice: Curl, name: str) -> None:
    """`-N`: each line comes while the watch is open: the object changes only after the event before has been seen."""
    alice(path("dev"), *JSON, "--data", json.dumps(flunder(name, "first")))
    with alice.start("-N", f"{path('dev')}?watch=true&labelSelector=test%3D{name}") as watch:
        assert seen(watch.line()) == ("ADDED", "first")
        alice(path("dev", name), *MERGE_PATCH, "--data", '{"spec": {"reference": "second"}}')
        while (event := seen(watch.line())) != ("MODIFIED", "second"):
            assert event == ("MODIFIED", "first")  # it became Ready
        alice(path("dev", name), "-X", "DELETE")
        while (event := seen(watch.line())) != ("DELETED", "second"):
            assert event == ("MODIFIED", "second")


def seen(line: str) -> tuple[str, str]:
    event = json.loads(line)
    return event["type"], event["object"]["spec"]["reference"]


def test_watch_that_ends_by_itself(alice: Curl, name: str) -> None:
    """`timeoutSeconds` is a proper end of the stream: curl calls a stream that was cut an error."""
    query = f"watch=true&timeoutSeconds=1&allowWatchBookmarks=true&labelSelector=test%3D{name}"
    answer = alice("-N", f"{path('dev')}?{query}")
    assert (answer.code, json.loads(answer.body)["type"]) == (200, "BOOKMARK")


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_one_connection_for_two_requests(alice: Curl) -> None:
    """HTTP/1.1 keeps the connection."""
    done = alice.run("-w", FACTS, path("dev"), path("dev", "missing"))
    first, second = [json.loads(line.removeprefix("facts ")) for line in done.stderr.splitlines() if line]
    assert (first["http_version"], first["response_code"], first["num_connects"]) == ("1.1", 200, 1)
    assert (second["http_version"], second["response_code"], second["num_connects"]) == ("1.1", 404, 0)
    assert first["local_port"] == second["local_port"]


def test_chunked_upload(alice: Curl, name: str) -> None:
    """A body whose length nobody knows before."""
    upload = alice("-v", "-X", "POST", *JSON, "-T", "-", path("dev"), stdin=json.dumps(flunder(name)))
    assert "> Transfer-Encoding: chunked" in upload.said
    assert (upload.code, upload.json()["metadata"]["name"]) == (201, name)


def large(name: str, size: int) -> str:
    """A flunder as JSON that is larger than `size`."""
    sent = flunder(name)
    sent["metadata"]["annotations"] = {"large": "x" * size}
    return json.dumps(sent)


@pytest.fixture
def with_large(tmp_path: Path, name: str) -> tuple[str, ...]:
    """Arguments to send a large flunder, and only when the server wants it."""
    (tmp_path / "large.json").write_text(large(name, 1_500_000))
    waits = ("-H", "Expect: 100-continue", "--expect100-timeout", str(PATIENCE))  # by itself for a second
    return ("-v", *waits, *JSON, "--data-binary", f"@{tmp_path / 'large.json'}")


def test_expect_100_continue(alice: Curl, name: str, with_large: tuple[str, ...]) -> None:
    """A client that waits for leave to send a large body gets it, and the body arrives whole."""
    answer = alice(*with_large, path("dev"))
    assert "< HTTP/1.1 100 Continue" in answer.said
    assert answer.code == 201
    assert len(answer.json()["metadata"]["annotations"]["large"]) == 1_500_000


def test_expect_100_continue_of_a_stranger(wrong: Curl, with_large: tuple[str, ...]) -> None:
    """Who is not known gets a 401 instead, before a byte of the body was sent."""
    answer = wrong(*with_large, path("dev"))
    assert "100 Continue" not in answer.said
    assert answer.facts["size_upload"] == 0
    assert_status(answer, 401, "Unauthorized", "Unauthorized")


def test_a_body_that_is_too_large(alice: Curl, name: str) -> None:
    """The answer of a server that stops reading arrives, though curl has not sent everything."""
    answer = alice(path("dev"), *JSON, "--data-binary", "@-", stdin=large(name, 5_000_000))
    assert_status(answer, 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


def test_head(alice: Curl, wrong: Curl, name: str) -> None:
    """HEAD is GET without the body, whatever the answer."""
    alice(path("dev"), *JSON, "--data", json.dumps(flunder(name)))
    while not any(each["status"] == "True" for each in alice(path("dev", name)).json()["status"]["conditions"]):
        pass  # it becomes Ready by itself, and has another length then
    for curl, target, code in ((alice, path("dev", name), 200), (alice, path("dev", "no"), 404), (wrong, "/apis", 401)):
        head, get = curl("-I", target), curl(target)
        assert (head.code, get.code) == (code, code)
        assert f"content-length: {len(get.body)}\n" in head.body.lower().replace("\r\n", "\n")
        assert head.facts["size_download"] == 0


def test_head_of_other_paths(alice: Curl, admin: Curl) -> None:
    """Where no resource is meant, HEAD is a verb of its own, which alice's policy does not allow."""
    assert [alice("/apis").code, alice("-I", "/apis").code, admin("-I", "/apis").code] == [200, 403, 200]


def test_head_of_a_watch(alice: Curl, demo: Demo, name: str) -> None:
    """A watch without a body is no stream that nobody reads."""
    answer = alice("-I", f"{path('dev')}?watch=true&labelSelector=test%3D{name}")
    assert (answer.code, answer.facts["size_download"]) == (200, 0)
    assert len([line for line in demo.requests(method="HEAD") if name in line["query"]]) == 1
