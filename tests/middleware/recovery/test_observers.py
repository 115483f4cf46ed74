"""Observers of requests: told once of each that is over, whatever became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.exchange import Exchange
from aggmw.errors import StatusError
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.testing import Client, IncompleteResponse

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}


class Notes:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.ends: list[tuple[int, int]] = []
        self.seconds: list[float] = []

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        self.exchanges.append(exchange)
        self.ends.append((status, size))
        self.seconds.append(seconds)


class Raising:
    """Fails."""

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        raise RuntimeError("s3cr3t")


async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in two pieces; HEAD gets the head alone."""
    await send({"type": "http.response.start", "status": 201, "headers": []})
    if scope["method"] != "HEAD":
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await send({"type": "http.response.body", "body": b"678"})
    else:
        await send({"type": "http.response.body"})


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    """Fails before an answer."""
    raise RuntimeError


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses in words."""
    raise StatusError(409, "Conflict", "taken")


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Notices that the client left, and answers nothing."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cut(scope: Scope, receive: Receive, send: Send) -> None:
    """Fails in the middle of its answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError


@pytest.mark.parametrize(
    ("app", "method", "end"),
    [
        (pieces, "GET", (201, 8)),
        (pieces, "HEAD", (201, 0)),
        (refusing, "GET", (409, None)),
        (failing, "GET", (500, None)),
    ],
)
async def test_status_and_size(app: ASGIApp, method: str, end: tuple[int, int | None]) -> None:
    """Status and bytes are those of the answer that went out, also where recovery made it."""
    notes = Notes()
    response = await Client(RecoveryMiddleware(app, observers=[notes])).request(method, "/")
    assert notes.ends == [(end[0], len(response.body) if end[1] is None else end[1])]
    assert 0 < notes.seconds[0] < 10


async def test_exchange_is_told() -> None:
    """The observer sees what the stages found out, and the scope of the outermost stage."""
    notes = Notes()
    response = await Client(RecoveryMiddleware(pieces, observers=[notes])).request("GET", "/x")
    (exchange,) = notes.exchanges
    assert exchange.request_id.encode() == response.header(b"audit-id")
    assert "aggmw.exchange" not in exchange.scope


async def test_cut_answer_keeps_its_status() -> None:
    """What failed after its head was sent was answered with that status."""
    notes = Notes()
    async with Client(RecoveryMiddleware(cut, observers=[notes])).stream("GET", "/") as response:
        with pytest.raises(IncompleteResponse):
            await response.read()
    assert notes.ends == [(200, 4)]


async def test_client_left_before_an_answer() -> None:
    """Status 0: nobody was answered."""
    notes = Notes()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    await RecoveryMiddleware(silent, observers=[notes])(dict(SCOPE), receive, send)
    assert notes.ends == [(0, 0)]


async def test_cancellation_is_told_of() -> None:
    """A server that cancels the request ends it too; the cancellation goes on."""
    notes = Notes()
    began = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.Event().wait()

    app = RecoveryMiddleware(waiting, observers=[notes])
    task = asyncio.create_task(app(dict(SCOPE), None, None))  # type: ignore[arg-type]
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes.ends == [(0, 0)]


async def test_websockets() -> None:
    """101 for one that was accepted; the refusal's status, and 403 for one that was closed before it was accepted."""
    notes = Notes()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/closed":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == "/refused":
            await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no"})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})

    client = Client(RecoveryMiddleware(app, observers=[notes]))
    for path in ("/open", "/closed", "/refused"):
        socket = await client.websocket(path)
        await socket.close()
    assert notes.ends == [(101, 0), (403, 0), (418, 2)]


async def test_failing_observer_breaks_nothing() -> None:
    """An observer that raises is logged by type, never by its words; the others are told, and the answer is whole."""
    notes = Notes()
    with structlog.testing.capture_logs() as logs:
        response = await Client(RecoveryMiddleware(pieces, observers=[Raising(), notes])).request("GET", "/")
    assert (response.status, response.body) == (201, b"12345678")
    assert notes.ends == [(201, 8)]
    (line,) = logs
    assert (line["event"], line["observer"], line["error"]) == ("observer failed", "Raising", "RuntimeError")
    assert "s3cr3t" not in str(logs)


async def test_what_is_in_flight_outside_stays() -> None:
    """Below another recovery, observers inside see nothing of what a stage outside counts under, and leave it alone."""
    inner, outer = Notes(), Notes()
    outside = object()
    seen: list[object] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        scope["aggmw.exchange"].in_flight = outside
        await nested(scope, receive, send)
        seen.append(scope["aggmw.exchange"].in_flight)

    nested = RecoveryMiddleware(pieces, observers=[inner])
    await Client(RecoveryMiddleware(counting, observers=[outer])).request("GET", "/")
    assert seen == [outside]
    assert (inner.ends, outer.ends) == ([(201, 8)], [(201, 8)])
