"""A real server in a thread of its own, and raw clients for it."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.drain import Drain
from aggmw.pki.make import KeyPair, issue_server, make_ca
from aggmw.server.limits import DoorLimits
from aggmw.server.serving import Server, make_server
from aggmw.server.tls import DoorTLS

PATIENCE = 30.0  # seconds that only something that hangs takes


class Wire:
    """A blocking client that sees bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, data: bytes, *, split: bool = False) -> None:
        """All of it, in one packet or byte by byte."""
        if not split:
            self.sock.sendall(data)
            return
        for position in range(len(data)):
            self.sock.sendall(data[position : position + 1])

    def read(self, size: int = 65_536) -> bytes:
        data, self.buffer = self.buffer, b""
        return data or self.sock.recv(size)

    def until(self, mark: bytes) -> bytes:
        """What came up to and with `mark`."""
        while mark not in self.buffer:
            data = self.sock.recv(65_536)
            assert data, f"the connection ended after {self.buffer!r}"
            self.buffer += data
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """One response with a Content-Length."""
        head = self.until(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
        body = b""
        length = int(headers.get(b"content-length", b"0"))
        while len(self.buffer) < length:
            data = self.sock.recv(65_536)
            assert data, "the body is cut"
            self.buffer += data
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split()[1]), headers, body

    def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset ends it too."""
        data, self.buffer = self.buffer, b""
        try:
            while more := self.sock.recv(65_536):
                data += more
        except (ConnectionError, ssl.SSLError):
            pass
        return data

    def close(self) -> None:
        self.sock.close()


class Served:
    """A running server."""

    def __init__(self, server: Server, loop: str) -> None:
        self.server = server
        self.drain: Drain = server.drain
        self.port = server.port
        self.wires: list[Wire] = []
        self._loop = loop
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            serving = asyncio.ensure_future(self.server.serve())
            while not self.server.started and not serving.done():
                await asyncio.sleep(0.001)
            self._up.set()
            await serving

        factory = self.server.config.get_loop_factory()
        loop = asyncio.new_event_loop() if factory is None else factory()
        loop.set_exception_handler(self._trouble)
        try:
            loop.run_until_complete(main())
        except BaseException as error:  # noqa: BLE001  handed to the test
            self._error = error
        finally:
            self._up.set()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raises is the server's mistake, and fails the test."""
        self._error = context.get("exception") or RuntimeError(context["message"])

    def start(self) -> Served:
        self._thread.start()
        assert self._up.wait(PATIENCE)
        return self

    def connect(self, context: ssl.SSLContext | None = None, **options: Any) -> Wire:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            try:
                sock = context.wrap_socket(sock, **{"server_hostname": "localhost", **options})
            except BaseException:
                sock.close()
                raise
        wire = Wire(sock)
        self.wires.append(wire)
        return wire

    def stop(self) -> None:
        """Stop and wait; as if a signal had come."""
        self.server.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server does not end"
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        for wire in self.wires:
            wire.close()
        if self._thread.is_alive():
            self.stop()


class Log:
    """What an application saw, handed over to the test's thread."""

    def __init__(self) -> None:
        self._seen: queue.Queue[Any] = queue.Queue()

    def __call__(self, item: Any) -> None:
        self._seen.put(item)

    def next(self) -> Any:
        return self._seen.get(timeout=PATIENCE)

    def empty(self) -> bool:
        return self._seen.empty()


def with_lifespan(app: ASGIApp) -> ASGIApp:
    """The app, with a lifespan that does nothing."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return wrapped


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    """Each event loop."""
    name: str = request.param
    return name


@pytest.fixture
def log() -> Log:
    """From the application to the test."""
    return Log()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start a server with `serve(app, …)`; it is stopped after the test."""
    running: list[Served] = []

    def start(
        app: ASGIApp,
        *,
        loop: str = "asyncio",
        limits: DoorLimits | None = None,
        tls: DoorTLS | None = None,
        grace: float = 1.0,
        lifespan: bool = True,
    ) -> Served:
        server = make_server(
            with_lifespan(app) if lifespan else app,
            port=0,
            tls=tls,
            grace=grace,
            limits=limits,
            loop=loop,
            signals=False,
        )
        served = Served(server, loop)
        running.append(served)
        return served.start()

    yield start
    for served in running:
        served.end()


@pytest.fixture(scope="session")
def authority() -> KeyPair:
    """Who signs the server's certificate."""
    return make_ca("serving")


@pytest.fixture(scope="session")
def certificate(authority: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The server's certificate and key."""
    return write_pair(tmp_path_factory.mktemp("door"), issue_server(authority, "door", names=["localhost"]))


def write_pair(directory: Path, pair: KeyPair) -> tuple[Path, Path]:
    """The pair as files."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key


@pytest.fixture
def door_tls(certificate: tuple[Path, Path]) -> DoorTLS:
    """TLS without client certificates."""
    return DoorTLS(certificate=certificate[0], key=certificate[1])


@pytest.fixture
def trusting(authority: KeyPair) -> ssl.SSLContext:
    """A client that believes the server."""
    return ssl.create_default_context(cadata=authority.certificate.decode())
