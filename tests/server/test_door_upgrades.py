"""WebSockets pass, every other upgrade is an ordinary request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits

HANDSHAKE = (
    b"GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
PING = b"\x81\x84\x00\x00\x00\x00ping"


def application(log: Any) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"no"})
            return
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "fail":
                raise RuntimeError("secret")
            await send({"type": "websocket.send", "text": message["text"]})
        log(message["type"])

    return app


@pytest.mark.parametrize("split", [False, True])
def test_websocket(serve: Callable[..., Any], log: Any, loop: str, split: bool) -> None:
    """A WebSocket handshake becomes a WebSocket scope, with trimmed headers and the connection in its state."""
    wire = serve(application(log), loop=loop).connect()
    wire.send(HANDSHAKE + b"X-Y:  z \t\r\n\r\n", split=split)
    assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    scope = log.next()
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/a", b"b")
    assert (b"x-y", b"z") in scope["headers"]
    connection = scope["state"]["aggmw.connection"]
    assert (connection.peer, connection.tls) == (wire.sock.getsockname(), False)
    assert connection.trailers_apart
    wire.send(PING)
    assert wire.until(b"ping") == b"\x81\x04ping"
    wire.close()
    assert log.next() == "websocket.disconnect"


def test_frames_behind_the_handshake(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """What comes in the same packet as the handshake is not lost."""
    wire = serve(application(log), loop=loop).connect()
    wire.send(HANDSHAKE + b"\r\n" + PING)
    wire.until(b"\r\n\r\n")
    assert wire.until(b"ping") == b"\x81\x04ping"


def test_long_packet(serve: Callable[..., Any], log: Any) -> None:
    """Frames that come with the handshake in a packet longer than any head may be are not lost either."""
    limits = DoorLimits(head_bytes=len(HANDSHAKE) + 10)
    wire = serve(application(log), limits=limits).connect()
    wire.send(HANDSHAKE + b"\r\n" + PING + PING)
    wire.until(b"\r\n\r\n")
    assert wire.until(b"ping") == wire.until(b"ping") == b"\x81\x04ping"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Host: y\r\n", 400),
        (b"Content-Length: 1\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 400),
        (b"X: y\x01\r\n", 400),
        (b"X: " + b"y" * 70_000 + b"\r\n", 431),
        (b"X: y\r\n" * 250, 431),
    ],
)
def test_same_checks(serve: Callable[..., Any], log: Any, fields: bytes, status: int) -> None:
    """A handshake has to pass the same examination as any head, no more and no less."""
    wire = serve(application(log)).connect()
    wire.send(HANDSHAKE + fields + b"\r\n")
    assert wire.response()[0] == status
    assert wire.rest() == b""
    assert log.empty()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_other_upgrades(serve: Callable[..., Any], log: Any, loop: str, head: bytes, split: bool) -> None:
    """C5, http-facts §8: no other upgrade is ever made (h2c smuggling); it is a request, and the last one."""
    wire = serve(application(log), loop=loop).connect()
    wire.send(head, split=split)
    assert log.next()["type"] == "http"
    status, headers, _ = wire.response()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert wire.rest() == b""


def test_bytes_behind_another_upgrade(serve: Callable[..., Any], log: Any) -> None:
    """CVE-2018-1002105: what a client sends behind an upgrade that was not made is never read as a request."""
    wire = serve(application(log)).connect()
    wire.send(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert wire.response()[0] == 400
    assert wire.rest() == b""
    assert log.next()["path"] == "/a"
    assert log.empty()


def test_failing_websocket(serve: Callable[..., Any], log: Any, capfd: Any, caplog: Any) -> None:
    """A WebSocket's failing application is told to the client as 1011 and to the log without a trace."""
    wire = serve(application(log)).connect()
    wire.send(HANDSHAKE + b"\r\n")
    wire.until(b"\r\n\r\n")
    wire.send(b"\x81\x84\x00\x00\x00\x00fail")
    assert wire.until(b"\x03\xf3") == b"\x88\x02\x03\xf3"  # 1011
    written = "".join(capfd.readouterr()) + caplog.text
    assert "RuntimeError" in written
    assert "secret" not in written
    assert "Traceback" not in written


def test_websockets_count(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A WebSocket counts as a connection of its address until it ends."""
    served = serve(application(log), loop=loop, limits=DoorLimits(connections_per_peer=1))
    wire = served.connect()
    wire.send(HANDSHAKE + b"\r\n")
    wire.until(b"\r\n\r\n")
    log.next()
    assert served.connect().rest() == b""
    wire.close()
    assert log.next() == "websocket.disconnect"
    again = served.connect()
    again.send(HANDSHAKE + b"\r\n")
    again.until(b"\r\n\r\n")
