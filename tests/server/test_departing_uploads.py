"""A client that leaves in the middle of an upload that its backend does not take: nobody awaits `receive` then."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.server.conftest import PATIENCE
from tests.server.test_door_pipelining import time_for_reading

from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import Backend
from aggmw.contracts.connection import Connection
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.server.tls import DoorTLS

PIECE = b"x" * 65_536
MANY = 10_000
INFO = RequestInfo(
    is_resource=True, verb="create", method="POST", path="/a", target=b"/a", long_running=False, timeout=10 * PATIENCE
)


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A backend that accepts, and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield listener


def forwarding(transport: Http1Transport, listener: socket.socket) -> ASGIApp:
    backend = Backend("deaf", "127.0.0.1", listener.getsockname()[1], tls=False)
    return ProxyMiddleware(
        nothing, transport=transport, backend=backend, request_info=lambda exchange: INFO, anonymous=True
    )


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("there is a backend for everything")


def upload_until_stuck(served: Any, wire: Any) -> None:
    """Send until nobody takes any more: not the backend, not the front proxy; the rest waits in the door's socket."""
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * MANY))
    for _ in range(MANY):
        wire.send(PIECE)
        time_for_reading(served)
        (door,) = served.server.server_state.connections
        if door.flow.read_paused:
            return
    raise AssertionError("somebody takes everything")


async def let_go(transport: Http1Transport) -> None:
    """Wait until no connection to the backend is taken."""
    while transport.taken:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_nobody_waits_for_the_deadline(
    serve: Callable[..., Any],
    deaf: socket.socket,
    loop: str,
    tls: bool,
    end: str,
    door_tls: DoorTLS,
    trusting: ssl.SSLContext,
) -> None:
    """The backend takes no more, so nobody asks for more; the client leaves, and a second later its exchange is over.

    The deadline of the request is far away. Were the client's own socket full too, the end of the connection would wait
    in it behind the body, and nobody could know; only a reset overtakes.
    """
    transport = Http1Transport()
    served = serve(forwarding(transport, deaf), loop=loop, tls=door_tls if tls else None)
    wire = served.connect(trusting if tls else None)
    upload_until_stuck(served, wire)
    accepted, _ = deaf.accept()
    with accepted:
        if end == "reset":
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.close()
        asyncio.run_coroutine_threadsafe(let_go(transport), served.server._loop).result(PATIENCE)
    asyncio.run_coroutine_threadsafe(transport.aclose(), served.server._loop).result(PATIENCE)


def test_who_asks_late_is_told(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """Whoever asks to be told of a departure that has already been is told all the same, once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["aggmw.connection"]
        assert connection.when_gone is not None
        while (await receive())["type"] != "http.disconnect":
            log("started")
        connection.when_gone(lambda: log("told"))
        connection.when_gone(lambda: log("told"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log("over")

    wire = serve(app, loop=loop).connect()
    wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert log.next() == "started"
    wire.close()
    assert [log.next(), log.next()] == ["told", "over"]


def test_taken_back(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """Who no longer wants to know is not told, and a later request on the connection is nothing to it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["aggmw.connection"]
        assert connection.when_gone is not None
        if scope["path"] == "/first":
            connection.when_gone(lambda: log("told"))
            connection.when_gone(None)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        if scope["path"] == "/second":
            while (await receive())["type"] != "http.disconnect":
                pass
            log("over")

    wire = serve(app, loop=loop).connect()
    wire.send(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.response()[0] == 200
    wire.send(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.response()[0] == 200
    wire.close()
    assert log.next() == "over"
    assert log.empty()


def test_late_answer(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """Answering an upload whose client has just left, unnoticed behind its unread body, is no error of anybody's."""
    answer = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log("started")
        await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        log("answered")

    served = serve(app, loop=loop)
    wire = served.connect()
    upload_until_stuck(served, wire)
    assert log.next() == "started"
    wire.close()
    served.server._loop.call_soon_threadsafe(answer.set)
    assert log.next() == "answered"


def test_goodbye_behind_an_unread_body(
    serve: Callable[..., Any], log: Any, loop: str, door_tls: DoorTLS, trusting: ssl.SSLContext
) -> None:
    """A TLS client that says goodbye and leaves while its body waits for the application: an end, and no error."""
    read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log("started")
        await read.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
        log("disconnected")

    served = serve(app, loop=loop, tls=door_tls)
    wire = served.connect(trusting)
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + PIECE + bytes(20_000))
    assert log.next() == "started"
    time_for_reading(served)
    wire.sock.settimeout(0.05)
    with suppress(TimeoutError):
        wire.sock.unwrap()  # sends the goodbye, and waits for the other
    wire.close()
    time_for_reading(served)
    served.server._loop.call_soon_threadsafe(read.set)
    assert log.next() == "disconnected"
    served.stop()
