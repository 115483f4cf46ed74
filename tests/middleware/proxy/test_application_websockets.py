"""WebSockets to applications in this process: what they get, what comes back, and that nothing of theirs stays."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import ALICE, Before, core, proxied

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import LocalBackend
from aggmw.middleware.proxy import AsgiTransport, Http1Transport, ProxyMiddleware, Transports
from aggmw.testing import Client, VirtualClock, WebSocketClosed

NAME = "v1.notes.example.com"
ACCEPT = {"type": "websocket.accept"}
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def websockets_only(handler: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("WebSockets only")
        await handler(scope, receive, send)

    return app


@asynccontextmanager
async def visited(handler: Handler, **options: Any) -> AsyncIterator[Client]:
    """A client of a proxy in front of one application."""
    transport = AsgiTransport()
    backend = LocalBackend(NAME, websockets_only(handler))
    async with transport.applications.running([backend]):
        yield proxied(transport, backend, **options)
        await transport.aclose()
        assert transport._tasks == set()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def ended(socket: Any) -> tuple[int, str]:
    with pytest.raises(WebSocketClosed) as closed:
        await socket.receive()
    return closed.value.code, closed.value.reason


async def test_scope_is_new() -> None:
    """C5.13: a listed set of keys, and nothing that an outer stage or framework left."""
    seen: list[Scope] = []
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({**scope, "context": variable.get()})
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"X-Own", b"1")]})

    outer = {"app": object(), "router": 1, "session": {}, "user": "mallory", "auth": "all", "state": {"secret": 1}}
    variable.set("ours")
    transport = AsgiTransport()
    backend = LocalBackend(NAME, websockets_only(handler))

    async def outside(scope: Scope, receive: Receive, send: Send) -> None:
        stack = Stages(ProxyMiddleware(core, transport=transport), Before(backend, ALICE, "id-1"))
        await stack({**scope, **outer}, receive, send)

    async with transport.applications.running([backend]):
        socket = await Client(outside, scheme="https").websocket("/a%20b?c=d", subprotocols=["a", "b"])
        assert (socket.subprotocol, socket.headers) == ("b", ((b"x-own", b"1"),))
        await ended(socket)
        await transport.aclose()
    (scope,) = seen
    assert scope.keys() == {
        *("type", "asgi", "http_version", "scheme", "path", "raw_path", "query_string", "root_path", "headers"),
        *("client", "server", "state", "extensions", "subprotocols", "aggmw.identity", "context"),
    }
    assert (scope["type"], scope["scheme"], scope["path"], scope["raw_path"]) == ("websocket", "wss", "/a b", b"/a%20b")
    assert (scope["subprotocols"], scope["query_string"], scope["state"]) == (["a", "b"], b"c=d", {})
    assert scope["aggmw.identity"] is ALICE
    assert scope["context"] == "none"
    names = {name for name, _ in scope["headers"]}
    assert b"x-remote-user" in names
    assert not {name for name in names if name.startswith(b"sec-websocket")}


async def test_messages() -> None:
    """Text and bytes, both ways, and the client's end."""
    async with visited(echo) as client:
        socket = await client.websocket("/a")
        for message in ("héllo", b"\x00", "", b"", "x" * 200_000):
            await socket.send(message)
            assert await socket.receive() == message
        await socket.close(4000, "bye")


@pytest.mark.parametrize(("code", "told"), [(1000, 1000), (4000, 4000), (1005, 1005), (1006, 1006)])
async def test_the_client_closes(code: int, told: int) -> None:
    """The application learns how, as under a server."""
    seen: list[Any] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        seen.append(await receive())
        seen.append(await receive())
        await send({"type": "websocket.close"})

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        await socket.close(code, "")
        await asyncio.sleep(0)
    assert [message["code"] for message in seen] == [told, told]


@pytest.mark.parametrize("leave", ["close", "disconnect"])
async def test_what_a_client_says_last(leave: str) -> None:
    """Messages right in front of its end are received before it, however busy the application is, as under a server."""
    seen: list[Any] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(4):
            for _ in range(10):
                await asyncio.sleep(0)
            message = await receive()
            seen.append(message.get("text", message["type"]))

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        for text in ("one", "two", "three"):
            await socket.send(text)
        await getattr(socket, leave)()
        await socket.finished()
    assert seen == ["one", "two", "three", "websocket.disconnect"]


async def test_the_application_closes() -> None:
    """Behind all that it sent."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 3000, "reason": "done"})

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        assert await socket.receive() == "last"
        assert await ended(socket) == (3000, "done")


@pytest.mark.parametrize(
    ("handler_sends", "status"),
    [
        ([{"type": "websocket.close"}], 403),
        ([], 500),
        ([{"type": "websocket.send", "text": "x"}], 500),
        ([{**ACCEPT, "subprotocol": "not offered"}], 500),
        ([{**ACCEPT, "headers": [(b"x", b"a\nb")]}], 500),
        ([{"type": "websocket.http.response.start", "status": 101}], 500),
        ([{"type": "websocket.http.response.start", "status": 401, "headers": []}], 500),
    ],
)
async def test_refused(handler_sends: Any, status: int) -> None:
    """A close before it is accepted is 403; an application that fails, or says nothing, is 500."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in handler_sends:
            await send(message)

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        assert socket.status == status
        assert NAME.encode() in socket.body


async def test_refused_with_an_answer() -> None:
    """`websocket.http.response` is what it would be under a server."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"X-Own", b"1")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"o"})
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["type"] == "websocket.disconnect"

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        assert (socket.status, socket.body, socket.header("x-own")) == (401, b"no", b"1")


@pytest.mark.parametrize("raises", [True, False])
async def test_the_application_fails(raises: bool) -> None:
    """1011, and a line in the log without its words."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "last"})
        if raises:
            raise RuntimeError("secret")

    with capture_logs() as logs:
        async with visited(handler) as client:
            socket = await client.websocket("/a")
            assert await socket.receive() == "last"
            assert (await ended(socket))[0] == 1011
    assert logs
    assert "secret" not in repr(logs)


@pytest.mark.parametrize("code", [999, 1004, 1006, 5000])
async def test_codes_that_may_not_travel(code: int) -> None:
    """An application is told, and its client gets 1011."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": code})

    async with visited(handler) as client:
        assert (await ended(await client.websocket("/a")))[0] == 1011


async def test_backpressure() -> None:
    """Whoever takes nothing stops the other, after 64 KiB."""
    sent = taken = 0
    go = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent, taken
        await receive()
        await send(ACCEPT)
        for _ in range(20):
            await send({"type": "websocket.send", "bytes": b"x" * 30_000})
            sent += 1
        await go.wait()
        while taken < 20:
            await receive()
            taken += 1
        await send({"type": "websocket.close"})

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        for _ in range(50):
            await asyncio.sleep(0)
        assert sent < 8
        for _ in range(20):
            await socket.send(b"y" * 30_000)
            await socket.receive()
        for _ in range(50):
            await asyncio.sleep(0)
        assert socket.pending > 10
        go.set()
        assert await ended(socket) == (1000, "")
        assert taken == 20


async def test_an_application_that_does_not_end(clock: VirtualClock) -> None:
    """It is cancelled a second after its client has left."""
    cancelled = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with visited(handler) as client:
        socket = await client.websocket("/a")
        await socket.disconnect()
        await socket.finished()
        await clock.advance(0.5)
        assert not cancelled.is_set()
        await clock.advance(1)
        assert cancelled.is_set()


async def test_sending_to_a_client_that_is_gone() -> None:
    """It raises an OSError (ASGI 2.4), and letting that out is no failure."""
    raised: list[type] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            raised.append(type(error))
            raise

    with capture_logs() as logs:
        async with visited(handler) as client:
            socket = await client.websocket("/a")
            await socket.disconnect()
            await socket.finished()
    assert len(raised) == 1
    assert logs == []


async def test_no_answer_in_time(clock: VirtualClock) -> None:
    """504, and the application is told."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"

    async with visited(handler) as client:
        opening = asyncio.ensure_future(_opened(client))
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.advance(61)
        assert (await opening).status == 504


async def _opened(client: Client) -> Any:
    return await client.websocket("/a")


async def test_both_kinds_by_one_transport() -> None:
    """`Transports` asks the one that reaches the backend."""
    backend = LocalBackend(NAME, websockets_only(echo))
    both = Transports(Http1Transport(), AsgiTransport())
    async with both.applications.applications.running([backend]):
        socket = await proxied(both, backend).websocket("/a")
        await socket.send("x")
        assert await socket.receive() == "x"
        await socket.close()
        await both.aclose()
