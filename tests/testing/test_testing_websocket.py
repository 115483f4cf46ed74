"""The WebSocket side of the client behaves as a server does."""

from __future__ import annotations

import asyncio

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.testing import Client, ClientDisconnected, IncompleteResponse, LintError, WebSocketClosed


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts the first offer, sends back what comes, closes on "bye"."""
    assert (await receive())["type"] == "websocket.connect"
    offer = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offer[0] if offer else None, "headers": [(b"x-a", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000, "reason": "said bye"})
            return
        await send({**message, "type": "websocket.send"})
    scope["state"]["log"].append(message)


def client_of(app: object, log: list[object] | None = None) -> Client:
    """A client whose applications note in `log` how it left."""
    return Client(app, state={"log": [] if log is None else log}, limit=20)  # type: ignore[arg-type]


async def test_text_and_bytes() -> None:
    """Messages go both ways as what they are; the offer, the answer and its headers are seen."""
    log: list[object] = []
    async with client_of(echo, log).websocket("/exec?x", subprotocols=["v5.channel.k8s.io", "v4"]) as socket:
        assert (socket.accepted, socket.subprotocol, socket.status) == (True, "v5.channel.k8s.io", 101)
        assert socket.header("X-A") == b"1"
        await socket.send("text")
        assert await socket.receive() == "text"
        await socket.send(b"\x00")
        assert await socket.receive() == b"\x00"
    assert log == [{"type": "websocket.disconnect", "code": 1000, "reason": ""}]


async def test_awaited() -> None:
    """Without `async with` the test closes by itself, with a code of its own."""
    log: list[object] = []
    socket = await client_of(echo, log).websocket("/")
    await socket.close(4001, "done")
    assert log == [{"type": "websocket.disconnect", "code": 4001, "reason": "done"}]


async def test_handshake_scope() -> None:
    """The scope is that of a handshake: its fields, its scheme, its offer."""
    scopes = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    client = Client(app, state={"log": []}, scheme="https")
    async with client.websocket("/a%20b?c", {"X-B": "2"}, ["one", "two"]):
        pass
    (scope,) = scopes
    assert (scope["scheme"], scope["path"], scope["query_string"]) == ("wss", "/a b", b"c")
    assert scope["subprotocols"] == ["one", "two"]
    fields = dict(scope["headers"])
    assert fields[b"sec-websocket-protocol"] == b"one, two"
    assert (fields[b"upgrade"], fields[b"x-b"]) == (b"websocket", b"2")


async def test_closed_by_the_application() -> None:
    """A close by the application is an exception with code and reason."""
    async with client_of(echo).websocket("/") as socket:
        await socket.send("bye")
        with pytest.raises(WebSocketClosed) as closed:
            await socket.receive()
    assert (closed.value.code, closed.value.reason) == (4000, "said bye")


async def test_ended_without_closing() -> None:
    """An application that returns without closing looks like a broken connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async with client_of(app).websocket("/") as socket:
        with pytest.raises(WebSocketClosed) as closed:
            await socket.receive()
    assert closed.value.code == 1006


async def test_denied_with_a_response() -> None:
    """A refusal by `websocket.http.response` is a whole response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"pe"})

    socket = await client_of(app).websocket("/")
    assert (socket.accepted, socket.status, socket.headers, socket.body) == (False, 401, ((b"x", b"y"),), b"nope")


async def test_denied_by_closing() -> None:
    """Closing before accepting is a bare 403."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    socket = await client_of(app).websocket("/")
    assert (socket.accepted, socket.status) == (False, 403)


async def test_neither() -> None:
    """An application that neither accepts nor refuses is an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(IncompleteResponse):
        await client_of(app).websocket("/")


async def test_app_exceptions() -> None:
    """What leaves the application before it accepts is raised, or a 500."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("secret")

    with pytest.raises(KeyError):
        await client_of(app).websocket("/")
    assert (await Client(app, raise_app_exceptions=False).websocket("/")).status == 500


async def test_slow_client_stops_the_application() -> None:
    """`send` returns only when the client has taken the message."""
    sent = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for number in range(2):
            await send({"type": "websocket.send", "text": str(number)})
            sent.append(number)

    async with client_of(app).websocket("/") as socket:
        for _ in range(10):
            await asyncio.sleep(0)
        assert sent == []
        assert await socket.receive() == "0"
        assert await socket.receive() == "1"
        await socket.finished()
    assert sent == [0, 1]


async def test_sending_to_a_client_that_is_gone() -> None:
    """`send` raises an OSError once the client is gone, and that is no error of the application's."""
    raised = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            await send({"type": "websocket.send", "text": "unread"})
        except ClientDisconnected as error:
            raised.append(error)
            raise

    async with client_of(app).websocket("/"):
        pass
    assert len(raised) == 1
    assert isinstance(raised[0], OSError)


async def test_pending() -> None:
    """What the application has not received yet can be counted."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        await receive()

    async with client_of(app).websocket("/") as socket:
        await socket.send("x")
        assert socket.pending == 1
        go.set()
        await socket.finished()
        assert socket.pending == 0


async def test_hanging_app() -> None:
    """An application that ignores the disconnect is cancelled, and the test fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="did not end"):
        async with Client(app, limit=0.05).websocket("/"):
            pass


async def test_never_answered() -> None:
    """A handshake that nobody answers fails after the limit."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    with pytest.raises(AssertionError, match="accepted or refused"):
        await Client(app, limit=0.05).websocket("/")


async def test_lint_built_in() -> None:
    """A subprotocol that was not offered is an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "subprotocol": "other"})

    with pytest.raises(LintError, match="did not offer"):
        await client_of(app).websocket("/", subprotocols=["mine"])
