"""Listening, draining and stopping, in one process."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.server.limits import DoorLimits
from aggmw.server.serving import Server, StartFailed, bind, make_server, run
from aggmw.server.sockets import bind_path

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def refused(host: str, port: int) -> str:
    with pytest.raises(ConfigurationError) as caught:
        bind(host, port)
    return str(caught.value)


def test_port_in_use() -> None:
    """Issue 2, bad input: a port in use is one line, path first."""
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert refused("127.0.0.1", port) == (
            f"listen 127.0.0.1:{port}: the address is already in use: stop what listens there, or choose another port"
        )


def test_bad_addresses() -> None:
    """Addresses that cannot be listened on are one line each."""
    assert refused("192.0.2.1", 0) == "listen 192.0.2.1:0: this machine has no such address"
    assert refused("no.such.host.invalid", 0) == "listen no.such.host.invalid:0: the host is not known here"
    assert refused("127.0.0.1", 70_000) == "listen 127.0.0.1:70000: the port must be between 0 and 65535"


def test_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that needs privileges is one line; said by the socket itself here, because root may listen anywhere."""

    def deny(listener: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", deny)
    assert refused("127.0.0.1", 1) == (
        "listen 127.0.0.1:1: permission denied: ports below 1024 need privileges, choose another port"
    )


def test_ipv6() -> None:
    """IPv6 addresses are written in brackets."""
    listener = bind("::1", 0)
    server = make_server(ok, sockets=[listener])
    assert server.address == f"[::1]:{server.port}"
    listener.close()


def test_unix_socket(tmp_path: Path) -> None:
    """A Unix socket is for owner and group; a stale one is replaced, a live one and a file are not."""
    path = str(tmp_path / "door")
    first = bind_path(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    with pytest.raises(ConfigurationError, match="already in use"):
        bind_path(path)
    first.close()
    bind_path(path).close()
    plain = tmp_path / "file"
    plain.write_text("")
    with pytest.raises(ConfigurationError, match="already in use"):
        bind_path(str(plain))
    assert plain.exists()


def test_dead_machines_are_noticed() -> None:
    """A connection asks after a client of which nothing is heard: half a minute later, then three times in another."""
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            asks = [
                accepted.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert asks == [30, 10, 3]


def test_unix_socket_serves(tmp_path: Path) -> None:
    """Behind a Unix socket there is no peer."""
    from tests.server.conftest import Log, Served, Wire, with_lifespan

    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope["state"]["aggmw.connection"].peer)
        await ok(scope, receive, send)

    path = str(tmp_path / "door")
    limits = DoorLimits(connections_per_peer=1)
    served = Served(make_server(with_lifespan(app), uds=path, limits=limits, signals=False), "").start()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    wire = Wire(sock)
    wire.send(GET)
    assert wire.response()[0] == 200
    assert log.next() is None
    assert served.server.address == path
    wire.close()
    served.end()


def test_settings() -> None:
    """http-facts §2–3: no header is trusted or added, and shutdown is always bounded."""
    server = make_server(ok, port=0, grace=7)
    for listener in server.sockets:
        listener.close()
    config = server.config
    assert (config.proxy_headers, config.server_header, config.date_header) == (False, False, False)
    assert (config.interface, config.lifespan, config.access_log) == ("asgi3", "on", False)
    assert config.timeout_graceful_shutdown == 7


def test_draining(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """http-facts §3: once draining, each response says `Connection: close`, and idle connections are closed."""
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope["path"])
        if scope["path"] == "/slow":
            await gate.wait()
        await ok(scope, receive, send)

    served = serve(app, loop=loop, grace=10 * PATIENCE)
    idle, fresh, busy, half = (served.connect() for _ in range(4))
    idle.send(GET)
    assert idle.response()[0] == 200
    busy.send(GET.replace(b"/a", b"/slow"))
    half.send(GET[:10])
    assert [log.next(), log.next()] == ["/a", "/slow"]
    server = served.server
    server.stop()
    assert idle.rest() == b""
    assert server.drain.begun
    half.send(GET[10:])
    status, headers, _ = half.response()
    assert (status, headers[b"connection"]) == (200, b"close")
    assert fresh.rest() == b""
    server._loop.call_soon_threadsafe(gate.set)
    assert busy.response()[1][b"connection"] == b"close"
    assert busy.rest() == b""
    served.join()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", served.port), PATIENCE)


@pytest.mark.parametrize("polite", [True, False])
def test_streams(serve: Callable[..., Any], log: Any, loop: str, polite: bool) -> None:
    """http-facts §3: streams that heed the drain end whole; others are cancelled within the grace time."""
    drains: list[Drain] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ended = asyncio.Event()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        if polite:
            drains[0].add(ended.set)
        log("streaming")
        try:
            await ended.wait()
        except asyncio.CancelledError:
            log("cancelled")
            raise
        await send({"type": "http.response.body", "body": b"last"})
        log("ended")

    served = serve(app, loop=loop, grace=PATIENCE if polite else 0.6)
    drains.append(served.drain)
    wire = served.connect()
    wire.send(GET)
    assert log.next() == "streaming"
    served.server.stop()
    assert wire.rest().endswith(b"last\r\n0\r\n\r\n") == polite
    assert log.next() == ("ended" if polite else "cancelled")
    served.join()


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("polite", [True, False])
def test_websockets(serve: Callable[..., Any], log: Any, polite: bool) -> None:
    """http-facts §3: a WebSocket has time to say 1001 itself; one that does not is ended with 1012."""
    drains: list[Drain] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        ended = asyncio.Event()
        if polite:
            drains[0].add(ended.set)
        log("open")
        if polite:
            await ended.wait()
            await send({"type": "websocket.close", "code": 1001})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    served = serve(app, grace=PATIENCE if polite else 0.6)
    drains.append(served.drain)
    wire = served.connect()
    wire.send(HANDSHAKE)
    wire.until(b"\r\n\r\n")
    assert log.next() == "open"
    served.server.stop()
    assert wire.until(b"\x88\x02") == b"\x88\x02"
    code = wire.read(2)
    wire.close()
    assert int.from_bytes(code, "big") == (1001 if polite else 1012)
    served.join()


def lifespan(startup: Any = None, shutdown: Any = None) -> Any:
    """An application of which only the lifespan matters."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        if startup is not None:
            await startup(send)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if shutdown is not None:
            await shutdown(send)
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def fail(send: Send) -> None:
    raise RuntimeError("secret")


async def say(send: Send) -> None:
    await send({"type": "lifespan.startup.failed", "message": "no store"})
    await asyncio.sleep(3600)


async def hang(send: Send) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize(("startup", "told"), [(fail, "RuntimeError"), (say, "no store")])
def test_startup_fails(capfd: Any, caplog: Any, loop: str, startup: Any, told: str) -> None:
    """An application that does not start is a line in the log, no trace, and exit status 1."""
    server = make_server(lifespan(startup), port=0, loop=loop, signals=False)
    assert run(server) == 1
    written = "".join(capfd.readouterr()) + caplog.text
    assert told in written
    assert "secret" not in written
    assert "Traceback" not in written


def test_shutdown_hangs(capfd: Any, loop: str) -> None:
    """A lifespan that does not end does not keep the process."""
    server = make_server(lifespan(None, hang), port=0, loop=loop, grace=0.5, signals=False)

    async def stop() -> None:
        server.stop()

    assert run(server, beside=stop) == 0
    assert "did not shut down in time" in capfd.readouterr().out


def test_stopped_while_starting(loop: str) -> None:
    """A server that is told to stop while its application still starts, stops."""

    async def stop_and_hang(send: Send) -> None:
        threading.Thread(target=server.stop).start()
        await hang(send)

    server = make_server(lifespan(stop_and_hang), port=0, loop=loop, signals=False)
    assert run(server) == 0


def test_companion_fails() -> None:
    """What runs beside the server takes it down with it."""

    async def beside() -> None:
        raise ValueError("beside")

    server = make_server(lifespan(), port=0, signals=False)
    with pytest.raises(ValueError, match="beside"):
        run(server, beside=beside)


async def test_in_a_task() -> None:
    """`serve()` also runs as a task, and ends when `should_exit` is set, as with any uvicorn server."""
    server: Server = make_server(lifespan(), port=0)
    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit
    server.should_exit = True
    await task
    assert signal.getsignal(signal.SIGTERM) == before


async def test_failing_start_in_a_task() -> None:
    """In a task it is an exception, not an exit."""
    with pytest.raises(StartFailed):
        await make_server(lifespan(fail), port=0, signals=False).serve()
