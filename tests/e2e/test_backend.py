"""The backend of `docs/how-to/trust-the-front-proxy.md` under that page's very command, alone and behind `aggmw`."""

from __future__ import annotations

import base64
import json
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import BIN, PATIENCE, Kubectl
from tests.ports import free_port

from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca

PAGE = (Path(__file__).parents[2] / "docs/how-to/trust-the-front-proxy.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE))
COMMAND = re.findall(r"^\$ (uvicorn .*?) &$", PAGE, re.DOTALL | re.MULTILINE)[0].replace("\\\n> ", "")
NOTE = "/apis/notes.example.com/v1/notes/first"
FRONT_PROXY, OTHER, STRANGER = make_ca("front proxy CA"), make_ca("front proxy CA"), make_ca("stranger")
TRUSTED = issue_client(FRONT_PROXY, "front-proxy-client")
ALICE = ["X-Remote-User: alice", "X-Remote-Group: dev"]
GROUPS = ["dev", "system:authenticated"]


class Process:
    """A command that goes on, and the lines that it has printed."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """Wait for a line with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in {''.join(self.lines)}")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Backend(Process):
    """The page's application on a free port."""

    def __init__(self, directory: Path, port: int, command: str = COMMAND) -> None:
        program, *arguments = shlex.split(command.replace("7443", str(port)))
        super().__init__([str(BIN / program), *arguments], directory)
        self.port = port
        self._directory = directory
        self.until("Uvicorn running on")

    def context(self, pair: KeyPair | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client that trusts this server, and shows a certificate."""
        context = ssl.create_default_context(cafile=self._directory / "notes-ca.crt")
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if pair is not None:
            path = self._directory / "client.pem"
            path.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(path)
        return context

    def connect(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> AbstractContextManager[ssl.SSLSocket]:
        return connected(self.port, "notes.default.svc", context, session)

    def ask(self, pair: KeyPair | None, *fields: str, path: str = NOTE, packets: tuple[bytes, ...] = ()) -> Any:
        """As the function: on a connection of its own."""
        with self.connect(self.context(pair)) as connection:
            return ask(connection, *fields, path=path, packets=packets)

    def reader(self, pair: KeyPair | None, *fields: str, packets: tuple[bytes, ...] = ()) -> Any:
        """The status of a refusal, else who has read the note; None when the connection ended without an answer."""
        answer = self.ask(pair, *fields, packets=packets)
        return (answer["status"]["reader"], answer["status"]["groups"]) if isinstance(answer, dict) else answer


@contextmanager
def connected(
    port: int, name: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    """A connection that is ended properly, which fails if anything came that was not read."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as connection,
    ):
        yield connection
        connection.unwrap()  # a server that has not read all of a request waits for this


def ask(connection: ssl.SSLSocket, *fields: str, path: str = NOTE, packets: tuple[bytes, ...] = ()) -> Any:
    """Send a request, its body in packets of its own, and read the answer.

    Returns:
        The status of a refusal, else the JSON of the answer; None when there is none: in TLS 1.3 a client learns only
        then that its certificate was not accepted.
    """
    head = [f"GET {path} HTTP/1.1", "Host: notes", "Connection: close", *fields, "", ""]
    for packet in ("\r\n".join(head).encode(), *packets):
        connection.sendall(packet)
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := connection.recv(65536)):
            assert not received
            return None
        received += piece
    answer, _, body = received.partition(b"\r\n\r\n")
    [length] = re.findall(rb"(?im)^content-length: (\d+)\r?$", answer)
    while len(body) < int(length):
        piece = connection.recv(65536)
        assert piece
        body += piece
    assert len(body) == int(length)
    status = int(answer.split(b" ", 2)[1])
    return json.loads(body) if status == 200 else status


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and a front-proxy CA."""
    path = tmp_path_factory.mktemp("backend")
    for name, text in FILES.items():
        (path / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "certificates.py"], cwd=path, check=True)
    (path / "front-proxy-ca.crt").write_bytes(FRONT_PROXY.certificate)
    (path / "listener-ca.crt").write_bytes(FRONT_PROXY.certificate + OTHER.certificate)
    return path


@pytest.fixture(scope="module")
def backend(directory: Path) -> Iterator[Backend]:
    """The page's command."""
    running = Backend(directory, free_port())
    yield running
    running.stop()


def test_the_front_proxy_is_believed(backend: Backend) -> None:
    """Its certificate makes the headers count."""
    assert backend.reader(TRUSTED, *ALICE) == ("alice", GROUPS)
    assert backend.reader(TRUSTED) == 401


def test_c2_rexec_171_nobody_without_a_certificate_is(backend: Backend) -> None:
    """X-Remote-* of anyone is worth nothing (Adyen/kubectl-rexec#171); health is for everybody."""
    assert backend.reader(None, *ALICE) == 401
    assert backend.ask(None, *ALICE, path="/apis") == 401
    assert backend.ask(None, *ALICE, path="/healthz") == "ok"


@pytest.mark.parametrize(
    "pair",
    [issue_client(FRONT_PROXY, "somebody"), issue_client(FRONT_PROXY, "alice", groups=["front-proxy-client"])],
    ids=["somebody", "a group"],
)
def test_the_right_ca_with_another_name(backend: Backend, pair: KeyPair) -> None:
    """§6.3: the name must be allowed; on anonymous paths, too, a certificate that is not good is 401."""
    assert backend.reader(pair, *ALICE) == 401
    assert backend.ask(pair, path="/healthz") == 401


def refused(backend: Backend, pair: KeyPair) -> bool:
    """Whether the connection ends before anything is answered."""
    try:
        return backend.reader(pair, *ALICE) is None
    except (ssl.SSLError, ConnectionError):
        return True


def test_a_certificate_of_a_server(backend: Backend) -> None:
    """§6.3: clientAuth is required. OpenSSL itself ends the handshake here."""
    assert refused(backend, issue_server(FRONT_PROXY, "front-proxy-client", names=["x"]))


@pytest.mark.parametrize("ca", [OTHER, STRANGER], ids=["a CA of the same name", "a CA of another name"])
def test_a_ca_that_the_listener_does_not_know(backend: Backend, ca: KeyPair) -> None:
    """A certificate of another CA ends the handshake: nothing is answered, least of all as alice."""
    assert refused(backend, issue_client(ca, "front-proxy-client"))


def test_a_ca_that_only_the_listener_knows(directory: Path) -> None:
    """http-facts §6: a listener of two CAs: the chain's root is compared, so the other CA's client is 401."""
    command = COMMAND.replace("--ssl-ca-certs front-proxy-ca.crt", "--ssl-ca-certs listener-ca.crt")
    running = Backend(directory, free_port(), command)
    try:
        assert running.reader(issue_client(OTHER, "front-proxy-client"), *ALICE) == 401
        assert running.ask(issue_client(OTHER, "front-proxy-client"), path="/healthz") == 401
        assert running.reader(TRUSTED, *ALICE) == ("alice", GROUPS)
    finally:
        running.stop()


SPELLINGS = ["X_Remote_Group: root", "x.remote.group: root", "X_Remote_User: root", "X-Remote_Extra-A: root"]


@pytest.mark.parametrize("field", [*SPELLINGS, "Impersonate-User: root", "X-Remote-Groups: root"])
def test_c2_cve_2025_64484_spellings(backend: Backend, field: str) -> None:
    """C2, CVE-2025-64484: what a careless front proxy lets through is not identity."""
    assert backend.reader(TRUSTED, *ALICE, field) == ("alice", GROUPS)


TRAILERS = ["X-Remote-Group: system:masters", "x_remote_group: root", "X-Remote-User: root"]


@pytest.mark.parametrize("split", [False, True], ids=["one packet", "two packets"])
@pytest.mark.parametrize("trailer", TRAILERS)
def test_c5_1_trailers_are_never_identity(backend: Backend, trailer: str, split: bool) -> None:
    """C5.1: behind the front proxy's certificate, too, a trailer says nothing about the caller."""
    body = b"2\r\n{}\r\n", f"0\r\n{trailer}\r\n\r\n".encode()
    packets = body if split else (b"".join(body),)
    chunked = "Transfer-Encoding: chunked"
    assert backend.reader(TRUSTED, *ALICE, chunked, packets=packets) == ("alice", GROUPS)
    assert backend.reader(TRUSTED, chunked, packets=packets) == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_c5_4_a_resumed_session_is_nobody(backend: Backend, version: ssl.TLSVersion) -> None:
    """C5.4: nobody has verified its certificate again: it is as if there were none."""
    context = backend.context(TRUSTED, version)
    with backend.connect(context) as connection:
        assert ask(connection, *ALICE)["status"]["reader"] == "alice"
        session = connection.session
    assert session is not None
    with backend.connect(context, session) as connection:
        assert connection.session_reused
        assert ask(connection, *ALICE) == 401


def test_plain_uvicorn_believes_nobody(directory: Path) -> None:
    """Without the protocol class every request is 401, and the log says what to do."""
    running = Backend(directory, free_port(), COMMAND.replace("--http aggmw.server.door:Door ", ""))
    try:
        assert running.reader(TRUSTED, *ALICE) == 401
        assert running.ask(None, path="/healthz") == 401
        line = running.until("every request is refused")
        assert "uvicorn --http aggmw.server.door:Door" in line
    finally:
        running.stop()


# Behind `aggmw serve`

SERVE = """\
authentication: {tokenFile: tokens.csv}
authorization: {policy: policy.csv}
services: {files: [apiservice.yaml]}
logFormat: json
"""
POLICY = """\
p, user:alice, get|list, notes.example.com, notes, *, *
"""


@pytest.fixture
def behind(directory: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The page's application behind `aggmw serve`: that one's directory, and its port."""
    port, backend_port = free_port(), free_port()
    for name in (*FILES, "backend.crt", "backend.key", "notes-ca.crt"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    ca = base64.b64encode((directory / "notes-ca.crt").read_bytes()).decode()
    text = FILES["apiservice.yaml"].replace("caBundle: CA", f"caBundle: {ca}").replace("7443", str(backend_port))
    for name, content in {
        "apiservice.yaml": text,
        "config.yaml": SERVE,
        "policy.csv": POLICY,
        "tokens.csv": 'secret,alice,uid-1,"dev"\n',
    }.items():
        (tmp_path / name).write_text(content)
    command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "proxy"]
    serving = Process([*command, "--port", str(port)], tmp_path)
    try:
        serving.until('"event": "serving"')
        (tmp_path / "front-proxy-ca.crt").write_bytes((tmp_path / "proxy" / "front-proxy-ca.crt").read_bytes())
        running = Backend(tmp_path, backend_port)
        try:
            serving.until('"event": "discovery of a backend succeeded"')
            yield tmp_path / "proxy", port
        finally:
            running.stop()
    finally:
        serving.stop()


def test_behind_aggmw(behind: tuple[Path, int], kubectl_program: Path, tmp_path: Path) -> None:
    """kubectl lists and reads; the backend knows who asks; nothing that a client says of itself arrives."""
    proxy, port = behind
    kubectl = Kubectl(kubectl_program, proxy / "admin.kubeconfig", tmp_path)
    assert kubectl("api-resources", "--api-group", "notes.example.com", "--no-headers").split() == [
        *("notes", "nt", "notes.example.com/v1", "false", "Note")
    ]
    assert kubectl("get", "nt", "-o", "name") == "note.notes.example.com/first\n"
    assert kubectl.json("get", "note", "first")["status"] == {
        "reader": "admin",
        "groups": ["system:masters", "system:authenticated"],
    }
    assert kubectl.fails("get", "note", "second") == (
        'Error from server (NotFound): notes.notes.example.com "second" not found\n'
    )

    forged = ["X-Remote-User: root", "X-Remote-Group: system:masters", "x_remote_group: system:masters"]
    context = ssl.create_default_context(cafile=proxy / "serving-ca.crt")
    token = "Authorization: Bearer secret"
    trailers = ("Transfer-Encoding: chunked",), (b"0\r\nX-Remote-Group: system:masters\r\n\r\n",)
    for fields, packets in ((forged, ()), trailers):
        for credentials, expected in (([token], "alice"), ([], 401)):
            with connected(port, "localhost", context) as connection:
                found = ask(connection, *credentials, *fields, packets=packets)
            if expected == 401:
                assert found == 401
            else:
                assert found["status"] == {"reader": "alice", "groups": ["dev", "system:authenticated"]}
