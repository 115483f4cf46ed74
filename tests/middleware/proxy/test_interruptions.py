"""Interruptions that come at the wrong moment: an exchange interrupts itself, and never anything after it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from tests.middleware.proxy.proxying import ALICE, Before, backend_of, core

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Message
from aggmw.contracts.backends import UpstreamRequest
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.testing import ScriptedBackend, VirtualClock, Wait, respond

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


def scope(target: bytes) -> dict[str, Any]:
    path, _, query = target.partition(b"?")
    return {
        "type": "http", "method": "GET", "path": path.decode(), "raw_path": path, "query_string": query,
        "headers": [(b"host", b"a")], "http_version": "1.1", "scheme": "http", "client": None, "extensions": {},
    }  # fmt: skip


class Caller:
    """A server's side, step by step: `receive` waits for `left`, and may not let itself be cancelled."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.received = asyncio.Event()
        self.seen_in = ""
        self._stubborn = stubborn

    async def receive(self) -> Message:
        self.seen_in = NAME.get()
        self.received.set()
        try:
            await self.left.wait()
        except asyncio.CancelledError:
            if not self._stubborn:
                raise
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def front(transport: Http1Transport, backend: ScriptedBackend) -> Stages:
    return Stages(ProxyMiddleware(core, transport=transport), Before(backend_of(backend), ALICE, "id-1"))


async def test_late_departure_interrupts_nothing(transport: Http1Transport, clock: VirtualClock) -> None:
    """A `receive` that swallows its cancellation and reports a departure afterwards cancels nobody."""
    answered = asyncio.Event()

    async def slowly(request: bytes) -> bytes:
        await answered.wait()
        return respond(body=b"hello")

    caller = Caller(stubborn=True)
    async with ScriptedBackend(slowly) as backend:
        task = asyncio.create_task(front(transport, backend)(scope(b"/a"), caller.receive, caller.send))
        await backend.connected()
        await clock.advance(0.2)
        await caller.received.wait()
        answered.set()
        await task
        assert task.cancelling() == 0
        assert caller.sent[-1] == {"type": "http.response.body", "body": b"hello"}
        await transport.aclose()


async def test_both_at_once(transport: Http1Transport, clock: VirtualClock) -> None:
    """A cancellation from outside is never swallowed, also when the client leaves in the same moment."""
    caller = Caller()
    async with ScriptedBackend([asyncio_forever]) as backend:
        task = asyncio.create_task(front(transport, backend)(scope(b"/a"), caller.receive, caller.send))
        await backend.connected()
        await clock.advance(0.2)
        caller.left.set()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await transport.aclose()


async def test_departure_alone_is_silent(transport: Http1Transport, clock: VirtualClock) -> None:
    """A client that leaves ends its exchange without an exception, and no cancellation is left behind on the task."""
    caller = Caller()
    async with ScriptedBackend([asyncio_forever]) as backend:
        task = asyncio.create_task(front(transport, backend)(scope(b"/a"), caller.receive, caller.send))
        connection = await backend.connected()
        await clock.advance(0.2)
        caller.left.set()
        await task
        await connection.gone()
        assert (caller.sent, task.cancelling()) == ([], 0)
        await transport.aclose()


async def test_nobody_to_tell(transport: Http1Transport) -> None:
    """A server's `send` may raise once the client is gone: an error of which nobody can be told is no failure."""

    async def send(message: Message) -> None:
        raise OSError

    caller = Caller()
    async with ScriptedBackend([]) as backend:
        await front(transport, backend)(scope(b"/a"), caller.receive, send)
        await transport.aclose()


async def test_watchers_see_the_callers_context(transport: Http1Transport, clock: VirtualClock) -> None:
    """`receive` is awaited in the context of its own request, not of whichever request started the timer."""
    callers = [Caller(), Caller()]
    async with ScriptedBackend([asyncio_forever]) as backend:
        stages = front(transport, backend)
        tasks = []
        for name, caller in zip(("one", "two"), callers, strict=True):
            context = contextvars.copy_context()
            context.run(NAME.set, name)
            calling = stages(scope(b"/a"), caller.receive, caller.send)
            tasks.append(asyncio.create_task(calling, context=context))
        await backend.connected(2)
        await clock.advance(0.2)
        assert [caller.seen_in for caller in callers] == ["one", "two"]
        for caller in callers:
            caller.left.set()
        await asyncio.gather(*tasks)
        await transport.aclose()


async def test_what_comes_after_the_end_is_not_passed_on(transport: Http1Transport) -> None:
    """A stream that was ended here is over: a backend that goes on sending is cut off, not waited for."""
    ended = asyncio.Event()
    script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Wait(ended), b"5\r\nagain\r\n", asyncio_forever]
    async with ScriptedBackend(lambda request: script) as backend:
        response = await transport.send(backend_of(backend), UpstreamRequest(b"GET", b"/a", long_running=True))
        response.end()
        ended.set()
        await (await backend.connected()).gone()
        assert await response.read() == b""
        await response.aclose()
        await transport.aclose()


async def asyncio_forever(connection: Any) -> None:
    await connection.gone()
