"""The demo's API server as a process of its own: TLS, arguments, beginning and end."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggmw.pki.make import issue_client, issue_server, make_ca

SCRIPT = Path(__file__).parents[2] / "examples" / "wardle" / "__main__.py"
SERVING, FRONT_PROXY = make_ca("serving CA"), make_ca("front proxy CA")
WATCH = "/apis/wardle.example.com/v1alpha1/flunders?watch=true&allowWatchBookmarks=true"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wardle")
    server = issue_server(SERVING, "wardle", names=["127.0.0.1"])
    client = issue_client(FRONT_PROXY, "front-proxy-client")
    for name, data in {
        "server.crt": server.certificate,
        "server.key": server.key,
        "ca.crt": FRONT_PROXY.certificate,
        "client.pem": client.certificate + client.key,
    }.items():
        (path / name).write_bytes(data)
    return path


class Wardle:
    """A running server."""

    def __init__(self, files: Path, *more: str) -> None:
        self.files = files
        self.log = files / "requests.log"
        self.log.unlink(missing_ok=True)
        arguments: list[str | Path] = [
            "--cert",
            files / "server.crt",
            "--key",
            files / "server.key",
            "--client-ca",
            files / "ca.crt",
        ]
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments, "--log", self.log, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.port = int(self.first_line.rpartition(":")[2])

    def connect(self, *, certificate: bool) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cadata=SERVING.certificate.decode())
        if certificate:
            context.load_cert_chain(self.files / "client.pem")
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=60)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(files: Path) -> Iterator[Callable[..., Wardle]]:
    running: list[Wardle] = []

    def started(*more: str) -> Wardle:
        running.append(Wardle(files, *more))
        return running[-1]

    yield started
    for wardle in running:
        wardle.kill()


def get(connection: http.client.HTTPSConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path, headers={"X-Remote-User": "alice", "X-Remote-Group": "dev"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_identity_over_tls(start: Callable[..., Wardle]) -> None:
    """The front proxy's certificate makes identity headers count; without it only health is answered."""
    wardle = start()
    assert wardle.first_line == f"listening on https://127.0.0.1:{wardle.port}\n"
    assert get(wardle.connect(certificate=True), "/apis")[0] == 200
    assert get(wardle.connect(certificate=False), "/apis")[0] == 401
    assert get(wardle.connect(certificate=False), "/healthz") == (200, b"ok")
    lines = [json.loads(line) for line in wardle.log.read_text().splitlines()]
    assert [(line["path"], line["status"], line["user"], line["groups"], line["certificate"]) for line in lines] == [
        ("/apis", 200, "alice", ["dev", "system:authenticated"], "front-proxy-client"),
        ("/apis", 401, "", [], ""),
        ("/healthz", 200, "system:anonymous", ["system:unauthenticated"], ""),
    ]


@pytest.mark.parametrize("end", ["SIGTERM", "end of input"])
def test_a_proper_end_with_an_open_watch(start: Callable[..., Wardle], end: str) -> None:
    """An open watch ends with its last chunk, and the process with status 0 and without a word on stderr."""
    wardle = start("--stop-at-eof")
    connection = wardle.connect(certificate=True)
    connection.request("GET", WATCH, headers={"X-Remote-User": "alice"})
    response = connection.getresponse()
    if end == "SIGTERM":
        wardle.process.send_signal(signal.SIGTERM)
    else:
        assert wardle.process.stdin is not None
        wardle.process.stdin.close()
        wardle.process.stdin = None
    (line,) = response.read().splitlines()  # raises IncompleteRead if it had been cut
    connection.close()
    assert json.loads(line)["type"] == "BOOKMARK"
    assert wardle.end() == (0, "", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ca.crt", None, "{}/ca.crt: No such file or directory\n"),
        ("ca.crt", b"x", "{}/ca.crt: holds no PEM certificate (-----BEGIN CERTIFICATE-----)\n"),
        ("server.key", b"x", "{}/server.crt: certificate and key cannot be used: "),
    ],
)
def test_mistakes(files: Path, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """A file that cannot be used is one line, path first, and status 2."""
    for file in files.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    arguments = ["--cert", "server.crt", "--key", "server.key", "--client-ca", "ca.crt"]
    paths = [each if each.startswith("--") else str(tmp_path / each) for each in arguments]
    done = subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message.format(tmp_path))
    assert done.stderr.count("\n") == 1
