"""The servers of one run: the backends first, then whatever is measured, each a process on its core."""

from __future__ import annotations

import importlib.util
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks import nginx
from benchmarks.aggregator import start_aggregator
from benchmarks.machine import INSTALL, Cores, free_port, program, started
from benchmarks.workspace import ONE, SERVER_NAME, STREAMS, TOKEN, UPLOAD, Workspace

__all__ = ["Missing", "Server", "Site", "need_module", "opened"]

_CACHE = Path(__file__).parent.parent / ".cache" / "benchmarks"
_PEER = Path(__file__).parent / "peers" / "proxy.go"
_KUBE_APISERVER = _CACHE / "kube-apiserver"
_COMPILED = Path(__file__).parent.parent / "build" / "compiled"
_PYTHON_PEERS = {"asgiproxy": "asgiproxy", "fastapi-proxy-lib": "fastapi_proxy_lib"}
"""What is asked for → the module that it is."""
_STARTUP_SECONDS = 20.0


class Missing(Exception):
    """Something is not there that is needed; the text says what, and how to get it."""


class Server(NamedTuple):
    """One server that can be measured."""

    name: str
    tls: bool
    port: int
    pid: int
    streams: int
    """The port for streams: the same, unless this is the backend itself."""

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


class Site:
    """Starts servers and ends them all with its context; a server that was started once is used again.

    Args:
        workspace: the directory of this run.
        cores: where everything runs.
        large: bytes of the backend's large answer.
        profiles: directory for what cProfile sees in every aggmw server; None runs them without.
    """

    def __init__(self, workspace: Workspace, cores: Cores, large: int, profiles: Path | None = None) -> None:
        self.workspace = workspace
        self.cores = cores
        self._large = large
        self._profiles = profiles
        self._stack = ExitStack()
        self._servers: dict[tuple[str, bool], Server | Missing] = {}
        self._backend: tuple[dict[bool, int], int] | None = None
        self._streams: tuple[dict[bool, int], int] | None = None

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def server(self, name: str, *, tls: bool, fresh: bool = False) -> Server:
        """A running server: direct, nginx, go, kube-apiserver, asgiproxy, fastapi-proxy-lib; aggmw's answer, bare, and
        stack-N (N rules).

        With `granian-` in front, aggmw's run on granian instead of on our door; with `compiled-` in front of that, the
        compiled build runs.

        Args:
            name, tls: which.
            fresh: a process that nothing was measured on, so that memory it once needed does not hide what it needs.

        Raises:
            Missing: it cannot run here.
        """
        key = (name, tls)
        if key not in self._servers or fresh:
            start = self._start(name)
            try:
                server: Server | Missing = start(name, tls)
                if isinstance(server, Server):
                    _wait(server)
            except Missing as missing:
                server = missing
            self._servers[key] = server
        found = self._servers[key]
        if isinstance(found, Missing):
            raise found
        return found

    def _start(self, name: str) -> Callable[[str, bool], Server]:
        if name in _PYTHON_PEERS:
            return self._python_peer
        starts = {
            "direct": self._direct,
            "nginx": self._nginx,
            "go": self._go,
            "kube-apiserver": self._kube_apiserver,
        }
        return starts.get(name, self._aggmw)

    @property
    def streams_pid(self) -> int:
        """The process that holds the watches."""
        return self._upstreams()[1][1]

    # The backends

    def _upstreams(self) -> tuple[tuple[dict[bool, int], int], tuple[dict[bool, int], int]]:
        if self._backend is None or self._streams is None:
            ports = {False: free_port(), True: free_port()}
            configuration = nginx.backend_configuration(self.workspace, ports[False], ports[True], self._large)
            process = self._run("backend", [_need("nginx"), "-c", configuration], self.cores.rest)
            self._backend = ports, process.pid
            process = self._run(
                "streams", [sys.executable, "-m", "benchmarks.upstream", self.workspace.path], self.cores.rest
            )
            plain, tls = (int(port) for port in _line(process, "streams", self.workspace).split())
            self._streams = {False: plain, True: tls}, process.pid
        return self._backend, self._streams

    def _direct(self, name: str, tls: bool) -> Server:
        (ports, pid), (streams, _) = self._upstreams()
        return Server(name, tls, ports[tls], pid, streams[tls])

    # What is measured

    def _nginx(self, name: str, tls: bool) -> Server:
        backend, streams = self._ports(tls)
        port = free_port()
        configuration = nginx.peer_configuration(self.workspace, f"nginx-{tls}", port, backend, streams, tls=tls)
        return self._listening(name, tls, [_need("nginx"), "-c", configuration], port)

    def _go(self, name: str, tls: bool) -> Server:
        backend, streams = self._ports(tls)
        arguments: list[str | Path] = [
            _built_peer(),
            f"-backend=127.0.0.1:{backend}",
            f"-streams=127.0.0.1:{streams}",
            f"-prefix=/apis/{STREAMS}/",
            f"-name={SERVER_NAME}",
        ]
        if tls:
            arguments.append(f"-tls={self.workspace.path}")
        return self._listening(name, tls, arguments)

    def _kube_apiserver(self, name: str, tls: bool) -> Server:
        if not _KUBE_APISERVER.exists():
            raise Missing(f"not built. {INSTALL['kube-apiserver']}")
        backend, _ = self._ports(tls)
        programs = str(_KUBE_APISERVER), _need("etcd")
        cores = self.cores.proxy, self.cores.rest
        try:
            port, pid = start_aggregator(self._run, programs, self.workspace, cores, backend)
        except (TimeoutError, RuntimeError) as error:
            raise Missing(f"does not start: {error}") from None
        return Server(name, tls, port, pid, port)

    def _python_peer(self, name: str, tls: bool) -> Server:
        need_module(_PYTHON_PEERS[name])
        module = f"benchmarks.peers.with_{_PYTHON_PEERS[name]}"
        return self._listening(name, tls, self._python(module, [], tls))

    def _aggmw(self, name: str, tls: bool) -> Server:
        plain = name.removeprefix("compiled-")
        case, _, rules = plain.removeprefix("granian-").partition("-")
        arguments = self._python("benchmarks.apps", [case], tls)
        arguments += [f"--rules={rules}"] * bool(rules)
        if plain.startswith("granian-"):
            need_module("granian")
            arguments.append("--server=granian")
        if self._profiles is not None:
            arguments.append(f"--profile={self._profiles}/{name}-{'tls' if tls else 'plain'}.prof")
        if plain == name:
            return self._listening(name, tls, arguments)
        if not _COMPILED.is_dir():
            raise Missing(f"not built. {INSTALL['compiled']}")
        return self._listening(name, tls, arguments, env={"PYTHONPATH": str(_COMPILED)})

    def _python(self, module: str, arguments: list[str | Path], tls: bool) -> list[str | Path]:
        backend, streams = self._ports(tls)
        ports: list[str | Path] = [f"--backend={backend}", f"--streams={streams}"]
        return [sys.executable, "-m", module, *arguments, self.workspace.path, *ports, *["--tls"] * tls]

    def _ports(self, tls: bool) -> tuple[int, int]:
        (ports, _), (streams, _) = self._upstreams()
        return ports[tls], streams[tls]

    def _listening(
        self, name: str, tls: bool, arguments: list[str | Path], port: int = 0, env: Mapping[str, str] | None = None
    ) -> Server:
        """Start it on the proxy's core; without a port it prints the one it listens on."""
        log = f"{name}-{'tls' if tls else 'plain'}"
        process = self._run(log, arguments, self.cores.proxy, env)
        port = port or int(_line(process, log, self.workspace))
        return Server(name, tls, port, process.pid, port)

    def _run(
        self, log: str, arguments: list[str | Path], core: int | None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        errors = self.workspace.log(log)
        env = {"GOMAXPROCS": "1", **(env or {})}
        return self._stack.enter_context(started(arguments, core, env=env, output=subprocess.PIPE, errors=errors))


@contextmanager
def opened(large: int, profiles: Path | None = None) -> Iterator[Site]:
    """A site in a directory that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="aggmw-bench-") as directory:
        cores = Cores.choose()
        if cores.rest is not None:
            os.sched_setaffinity(0, {cores.rest})  # wrk and the other clients inherit it
        site = Site(Workspace.make(Path(directory)), cores, large, profiles)
        try:
            yield site
        finally:
            site.close()


def _line(process: subprocess.Popen[str], name: str, workspace: Workspace) -> str:
    """The first line a server prints: its port.

    Raises:
        Missing: it ended instead; the text is the last line of its log.
    """
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line:
        return line
    log = workspace.log(name).read_text().strip().splitlines()
    raise Missing(f"does not start: {log[-1] if log else 'it said nothing'}")


def _need(name: str) -> str:
    path = program(name)
    if path is None:
        raise Missing(f"not installed. {INSTALL[name]}")
    return path


def need_module(name: str) -> None:
    """A Python module that is installed.

    Raises:
        Missing: it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise Missing(f"not installed. {INSTALL['bench']}")


def _built_peer() -> Path:
    """The Go peer, built when its source is newer."""
    compiler = _need("go")
    binary = _CACHE / "go-proxy"
    if not binary.exists() or binary.stat().st_mtime < _PEER.stat().st_mtime:
        _CACHE.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"}
        built = subprocess.run([compiler, "build", "-o", binary, _PEER], env=env, capture_output=True, text=True)
        if built.returncode:
            shutil.rmtree(_CACHE, ignore_errors=True)
            raise Missing(f"go build failed: {built.stderr.strip().splitlines()[-1]}")
    return binary


def _wait(server: Server) -> None:
    """Until it answers as it should; the large paths are asked for too, so that every pool has been used."""
    deadline = time.monotonic() + _STARTUP_SECONDS
    while True:
        try:
            status = _status(server, server.port, "GET", ONE)
            if status == 200 and not server.name.endswith(("answer", "kube-apiserver")):
                status = _status(server, server.streams, "PUT", UPLOAD, b"x")
        except (OSError, HTTPException) as error:
            status = 0
            reason = str(error)
        else:
            reason = f"it answers {status}"
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise Missing(f"does not serve: {reason}")
        time.sleep(0.05)


def _status(server: Server, port: int, method: str, path: str, body: bytes | None = None) -> int:
    connection: HTTPConnection
    if server.tls:
        context = ssl._create_unverified_context()
        connection = HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
