"""What arrives behind a request, and how the end of a connection is noticed in every phase."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LIMITS = DoorLimits(linger_seconds=0.2, surplus_bytes=5_000)


def ok(log: Any, gate: asyncio.Event | None = None) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope["path"])
        if gate is not None:
            await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def watch(log: Any) -> Any:
    """Streams until the client goes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        log("streaming")
        log((await receive())["type"])

    return app


@pytest.mark.parametrize("packets", [1, 2])
def test_surplus(serve: Callable[..., Any], log: Any, loop: str, packets: int) -> None:
    """http-facts §2: a request behind one that runs is dropped, and the connection ends with the answer."""
    gate = asyncio.Event()
    served = serve(ok(log, gate), loop=loop, limits=LIMITS)
    wire = served.connect()
    if packets == 1:
        wire.send(GET + b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        assert log.next() == "/a"
    else:
        wire.send(GET)
        assert log.next() == "/a"
        wire.send(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        time_for_reading(served)
    served.server._loop.call_soon_threadsafe(gate.set)
    status, headers, _ = wire.response()
    assert (status, headers[b"connection"]) == (200, b"close")
    assert wire.rest() == b""
    assert log.empty()


def time_for_reading(served: Any) -> None:
    """Returns when the server's loop had a few turns after what was sent."""

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    asyncio.run_coroutine_threadsafe(turns(), served.server._loop).result(PATIENCE)


@pytest.mark.parametrize("packets", [1, 2])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_surplus_behind_a_watch(serve: Callable[..., Any], log: Any, loop: str, packets: int, end: str) -> None:
    """http-facts §2: with a second request pipelined behind a watch, the disconnect is still seen."""
    wire = serve(watch(log), loop=loop).connect()
    if packets == 1:
        wire.send(GET + GET)
    else:
        wire.send(GET)
        wire.until(b"event")
        wire.send(GET + GET)
    assert log.next() == "streaming"
    leave(wire, end)
    assert log.next() == "http.disconnect"


def leave(wire: Any, end: str) -> None:
    if end == "reset":
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if end == "half":
        wire.sock.shutdown(socket.SHUT_WR)
    else:
        wire.close()


def test_surplus_is_bounded(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """Who keeps sending behind an unanswered request is cut off."""
    wire = serve(watch(log), loop=loop, limits=LIMITS).connect()
    wire.send(GET)
    assert log.next() == "streaming"
    wire.send(GET * 300)
    assert log.next() == "http.disconnect"


def test_line_ends_are_no_request(serve: Callable[..., Any], log: Any) -> None:
    """An empty line after a request, as some old clients send it, is no second request."""
    served = serve(ok(log))
    wire = served.connect()
    wire.send(GET + b"\r\n")
    assert wire.response()[0] == 200
    wire.send(GET)
    assert wire.response()[0] == 200


def test_next_request_at_once(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A client that has its answer may send the next request at once, however long the application takes to end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await asyncio.sleep(0.1 if scope["path"] == "/slow" else 0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        log(scope["path"])

    wire = serve(app, loop=loop).connect()
    for path in (b"/slow", b"/1", b"/2", b"/slow", b"/3"):
        wire.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        status, headers, body = wire.response()
        assert (status, body) == (200, b"ok")
        assert b"connection" not in headers
    assert sorted(log.next() for _ in range(5)) == ["/1", "/2", "/3", "/slow", "/slow"]


def test_same_turn(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A next request is taken when it arrives in the very turn of the loop in which the answer was written."""
    wires: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        if scope["path"] == "/first":  # written, not yet left to the loop: the next request is in the socket already
            wires[0].sock.sendall(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
        log(scope["path"])

    wire = serve(app, loop=loop).connect()
    wires.append(wire)
    wire.send(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.response()[2] == b"ok"
    assert wire.response()[2] == b"ok"
    assert [log.next(), log.next()] == ["/first", "/second"]


def test_many_requests(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A connection lives on from request to request."""
    wire = serve(ok(log), loop=loop).connect()
    for _ in range(200):
        wire.send(GET)
        assert wire.response()[0] == 200


@pytest.mark.parametrize("end", ["close", "reset", "half"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("phase", ["body", "waiting", "streaming", "stalled"])
def test_disconnects(
    serve: Callable[..., Any], log: Any, loop: str, phase: str, end: str, tls: bool, door_tls: Any, trusting: Any
) -> None:
    """http-facts §2: the application learns in every phase that its client went; a half-closed one went too."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if phase in ("streaming", "stalled"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"event", "more_body": True})
        log("begun")
        if phase == "stalled":
            # More than any buffer takes: the next send waits until the client goes, and is then dropped.
            for _ in range(100):
                await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        log("gone")

    served = serve(app, loop=loop, tls=door_tls if tls else None)
    wire = served.connect(trusting if tls else None)
    if phase == "body":
        wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    else:
        wire.send(GET)
    assert log.next() == "begun"
    if end == "half" and tls:
        wire.sock.close()  # TLS has no half-close worth the name
    else:
        leave(wire, end)
    assert log.next() == "gone"


def test_unread_body(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """While a body waits for an application that reads nothing, the end of the connection is noticed all the same."""
    cycles: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cycles.append(receive.__self__)
        log("begun")
        while not cycles[0].disconnected:
            await asyncio.sleep(0.01)
        log("gone")

    wire = serve(app, loop=loop, limits=LIMITS).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 120_000)
    assert log.next() == "begun"
    wire.close()
    assert log.next() == "gone"


def test_head_incomplete(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A client that goes in the middle of a head leaves nothing behind."""
    served = serve(ok(log), loop=loop)
    wire = served.connect()
    wire.send(GET[:20])
    time_for_reading(served)
    assert len(served.server.server_state.connections) == 1
    wire.close()
    time_for_reading(served)
    assert not served.server.server_state.connections
    assert log.empty()


def test_client_that_reads_nothing(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A client that leaves a full send buffer untouched is cut off in the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        log((await receive())["type"])

    async def unread(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await app(scope, receive, send)

    wire = serve(unread, loop=loop, limits=DoorLimits(write_seconds=0.1)).connect()
    wire.send(GET)
    assert log.next() == "http.disconnect"
    wire.close()
