"""What leaves through the door."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"


def respond(status: int = 200, headers: Any = (), *parts: bytes, complete: bool = True) -> Any:
    """An application that sends these parts."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, part in enumerate(parts, 1):
            more = number < len(parts) or not complete
            await send({"type": "http.response.body", "body": part, "more_body": more})

    return app


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"", b"five!"])
def test_no_body(serve: Callable[..., Any], status: int, body: bytes) -> None:
    """C5 16: 204 and 304 with a length or even a body break nothing; the connection goes on."""
    wire = serve(respond(status, [(b"content-length", b"5"), (b"etag", b'"e"')], body)).connect()
    for _ in range(2):
        wire.send(GET)
        head = wire.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
        assert b'etag: "e"\r\n' in head


@pytest.mark.parametrize("headers", [[(b"content-length", b"5")], []])
def test_head(serve: Callable[..., Any], headers: Any) -> None:
    """A HEAD request gets the head alone, with the length that the body has, and the connection goes on."""
    wire = serve(respond(200, headers, b"he", b"llo")).connect()
    for _ in range(2):
        wire.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        head = wire.until(b"\r\n\r\n")
        assert (b"content-length: 5" in head) == bool(headers)
        assert b"transfer-encoding" not in head
    wire.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert wire.rest().endswith(b"\r\n\r\n")


def test_chunked(serve: Callable[..., Any]) -> None:
    """A body without a length is sent in chunks, each at once; large ones too."""
    wire = serve(respond(200, [(b"x", b"y")], b"a", b"", b"b" * 20_000, b"")).connect()
    for _ in range(2):
        wire.send(GET)
        head, _, body = wire.until(b"0\r\n\r\n").partition(b"\r\n\r\n")
        assert head == b"HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked"
        assert body == b"1\r\na\r\n4e20\r\n" + b"b" * 20_000 + b"\r\n0\r\n\r\n"


def test_old_client(serve: Callable[..., Any], loop: str) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the body, whatever the application wanted."""
    served = serve(respond(200, [(b"transfer-encoding", b"chunked")], b"a", b"b"), loop=loop)
    wire = served.connect()
    wire.send(OLD)
    assert wire.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nab"


def test_old_client_broken_off(serve: Callable[..., Any], loop: str) -> None:
    """A body that only the end of the connection delimits is broken off by a reset, never by a clean end."""
    wire = serve(respond(200, [], b"part", complete=False), loop=loop).connect()
    wire.send(OLD)
    with pytest.raises(ConnectionResetError):
        drained(wire)


def drained(wire: Any) -> None:
    while wire.sock.recv(1_000):
        pass


@pytest.mark.parametrize("headers", [[(b"content-length", b"9")], []])
def test_broken_off(serve: Callable[..., Any], capfd: Any, loop: str, headers: Any) -> None:
    """http-facts §5: a response that its application does not complete is cut, without a trace in the log."""
    wire = serve(respond(200, headers, b"part", complete=False), loop=loop).connect()
    wire.send(GET)
    received = wire.rest()
    assert b"part" in received
    assert not received.endswith(b"0\r\n\r\n")
    written = "".join(capfd.readouterr())
    assert "Traceback" not in written
    assert "response broken off" in written


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret")


async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise RuntimeError("secret")


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    return


@pytest.mark.parametrize(
    "app", [fail, nothing, respond(100), respond(200, [(b"a b", b"c")]), respond(200, [(b"a", b"\n")])]
)
def test_failed(serve: Callable[..., Any], capfd: Any, caplog: Any, app: Any) -> None:
    """An application that fails before it answers is a 500 `Status`; no trace and no secret anywhere."""
    wire = serve(app).connect()
    wire.send(GET)
    status, headers, body = wire.response()
    assert (status, headers[b"connection"]) == (500, b"close")
    assert json.loads(body)["reason"] == "InternalError"
    assert wire.rest() == b""
    written = "".join(capfd.readouterr()) + caplog.text
    assert "secret" not in written
    assert "Traceback" not in written
    assert written


def test_failed_late(serve: Callable[..., Any], capfd: Any, caplog: Any) -> None:
    """An application that fails in the middle of its answer ends the connection, with one line in the log."""
    wire = serve(fail_late).connect()
    wire.send(GET)
    assert not wire.rest().endswith(b"0\r\n\r\n")
    written = "".join(capfd.readouterr()) + caplog.text
    assert "RuntimeError" in written
    assert "secret" not in written
    assert "Traceback" not in written


@pytest.mark.parametrize("parts", [[b"toolong"], [b"sh"], [b"sh", b""]])
def test_wrong_length(serve: Callable[..., Any], parts: list[bytes]) -> None:
    """A body that does not fit its Content-Length never looks complete."""
    wire = serve(respond(200, [(b"content-length", b"5")], *parts)).connect()
    wire.send(GET)
    _, _, body = wire.rest().partition(b"\r\n\r\n")
    assert len(body) < 5


@pytest.mark.parametrize("lengths", [[b"5", b"6"], [b"+5"], [b"5_0"]])
def test_doubtful_length(serve: Callable[..., Any], lengths: list[bytes]) -> None:
    """Lengths that clients read differently are not sent."""
    wire = serve(respond(200, [(b"content-length", length) for length in lengths], b"hello")).connect()
    wire.send(GET)
    assert wire.response()[0] == 500


def test_same_length_twice(serve: Callable[..., Any]) -> None:
    """The same length said twice is sent once."""
    wire = serve(respond(200, [(b"content-length", b"5"), (b"Content-Length", b"5")], b"hello")).connect()
    wire.send(GET)
    assert wire.until(b"hello").lower().count(b"content-length") == 1


def test_close_is_the_applications_choice(serve: Callable[..., Any]) -> None:
    """`Connection: close` of the application ends the connection."""
    wire = serve(respond(200, [(b"connection", b"Close"), (b"content-length", b"2")], b"ok")).connect()
    wire.send(GET)
    assert wire.rest().endswith(b"connection: Close\r\ncontent-length: 2\r\n\r\nok")


def test_no_limit_to_slow_reading(serve: Callable[..., Any], loop: str) -> None:
    """A client that reads slowly but does read gets everything, also when the connection ends behind it."""
    size = 8_000_000
    app = respond(200, [(b"content-length", b"%d" % size)], bytes(size))
    limits = DoorLimits(write_seconds=1.5, linger_seconds=1.5)
    wire = serve(app, loop=loop, limits=limits).connect()
    wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = 0
    while data := wire.read(400_000):
        received += len(data)
        time.sleep(0.1)
    assert received > size


def test_closed_and_never_read(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A closed connection whose client fetches nothing any more is cut off in the end."""
    app = respond(200, [(b"content-length", b"20000000")], bytes(20_000_000))
    served = serve(app, loop=loop, limits=DoorLimits(write_seconds=0.1, linger_seconds=0.1))
    wire = served.connect()
    begun = threading.Event()
    emptied = _emptied(served.server.server_state.connections, begun)
    gone = asyncio.run_coroutine_threadsafe(emptied, served.server._loop)
    assert begun.wait(PATIENCE)
    wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    gone.result(PATIENCE)


async def _emptied(connections: Any, begun: threading.Event) -> None:
    while not connections:
        await asyncio.sleep(0.005)
    begun.set()
    while connections:
        await asyncio.sleep(0.005)
