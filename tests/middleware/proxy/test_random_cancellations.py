"""1,000 random cancellations in front of the proxy stage leave no task, no socket and no slot of a pool."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

from tests.middleware.proxy.proxying import ALICE, Before, backend_of, core

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits
from aggmw.testing import Client, IncompleteResponse, ReceivedRequest, ScriptedBackend, respond

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WATCH = b"/watch?watch=1"


async def answer(request: bytes) -> list[object]:
    """At once, in pieces, as a watch that never ends, early while the body still comes, or never."""
    target = ReceivedRequest.of(request).target
    pause = _pause if target.endswith(b"slow") else b""
    if target == WATCH:
        return [CHUNKED, b"2\r\n{}\r\n", _forever]
    if target == b"/never":
        return [_forever]
    if target.startswith(b"/pieces"):
        return [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", pause, b"def"]
    if target == b"/large":
        return [respond(200, body=b"x" * 300_000)]
    return [pause, respond(200, body=b"hello")]


async def _forever(connection: object) -> None:
    await asyncio.Event().wait()


async def _pause(connection: object) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def body(chance: random.Random) -> AsyncIterator[bytes]:
    """A body that comes in pieces, and may never be whole."""
    for _ in range(chance.randint(1, 4)):
        yield b"piece" * chance.randint(1, 2000)
        await asyncio.sleep(0)
    if chance.random() < 0.3:
        await asyncio.Event().wait()


async def visit(client: Client, chance: random.Random) -> None:
    """One request, and some of its answer."""
    target = chance.choice([b"/a", b"/slow", b"/pieces", b"/pieces/slow", b"/large", WATCH, b"/never"])
    upload = body(chance) if chance.random() < 0.4 else None
    async with client.stream("POST" if upload else "GET", target, (), upload) as response:
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            await response.disconnect()
            return
        async for _ in response:
            if chance.random() < 0.3:
                return


async def test_a_thousand_cancellations_leave_nothing() -> None:
    """Whatever await an exchange is in when it is cancelled, or its client leaves: afterwards every slot is free.

    Six connections for twenty-five at a time, so that many are cancelled while they wait for their turn. What is left
    of tasks and sockets, every test is watched for.
    """
    chance = random.Random(31)
    transport = Http1Transport(limits=TransportLimits(connections=6))
    running: set[asyncio.Task[None]] = set()
    cancelled = left = 0
    async with ScriptedBackend(answer) as backend:
        proxy = Stages(ProxyMiddleware(core, transport=transport), Before(backend_of(backend), ALICE, "id-1"))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            task = asyncio.current_task()
            assert task is not None
            running.add(task)
            try:
                await proxy(scope, receive, send)
            finally:
                running.discard(task)

        client = Client(application, raise_app_exceptions=False)
        for _ in range(40):
            visits = [asyncio.create_task(_tolerant(client, chance)) for _ in range(25)]
            for visit_ in visits:
                for _ in range(chance.randint(0, 4)):
                    await asyncio.sleep(0)
                if running and chance.random() < 0.6:
                    chance.choice(sorted(running, key=asyncio.Task.get_name)).cancel()
                    cancelled += 1
                else:
                    visit_.cancel()
                    left += 1
            for visit_ in visits:
                visit_.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
        assert cancelled > 400
        assert cancelled + left == 1000
        assert transport.taken == 0
        for _ in range(20):
            assert (await client.request("GET", "/a")).body == b"hello"
        await transport.aclose()


async def _tolerant(client: Client, chance: random.Random) -> None:
    with suppress(IncompleteResponse):
        await visit(client, chance)
