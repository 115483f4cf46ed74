"""An application that is cancelled at any of its steps leaves no task, no socket and no pool slot.

`tests/soak/test_cancellations.py` does the same at random, with many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from tests.middleware.proxy.proxying import backend_of, proxied

from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.testing import Client, IncompleteResponse, ScriptedBackend, Send, respond


def answer(request: bytes) -> Any:
    """A backend with every kind of answer."""
    target = request.split(b" ", 2)[1]
    if b"watch" in target:
        return [respond(headers={"Transfer-Encoding": "chunked"}), *[b"2\r\n{}\r\n"] * 5, _until_gone]
    if b"silent" in target:
        return [_until_gone]
    if b"slow" in target:
        return [respond(headers={"Content-Length": "4"}), b"he", _pause, Send(b"ll")]
    if b"large" in target:
        return respond(body=b"x" * 300_000)
    return respond(body=b"well", chunked=b"chunked" in target)


async def _until_gone(connection: Any) -> None:
    await connection.gone()


async def _pause(connection: Any) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def upload() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 70_000
        await asyncio.sleep(0)


class Told:
    """An application whose task can be cancelled, as servers do when they stop."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.task = asyncio.current_task()
        await self._app(scope, receive, send)


async def ask(client: Client, target: str, body: Any) -> None:
    """A request, and three pieces of its answer."""
    async with client.stream("GET" if body is None else "POST", target, body=body) as response:
        pieces = 0
        async for _ in response:
            pieces += 1
            if pieces == 3:
                break


@pytest.mark.parametrize("uploads", [False, True])
@pytest.mark.parametrize("target", ["/a", "/chunked", "/slow", "/silent", "/watch?watch=1", "/large"])
async def test_cancelled_at_every_step(target: str, uploads: bool) -> None:
    """Wherever the application waits when it is cancelled, its slot is free at once and the pool serves as before."""
    transport = Http1Transport(limits=TransportLimits(connections=1))
    async with ScriptedBackend(answer) as backend:
        app = proxied(transport, backend_of(backend))._app
        for steps in range(2, 27):
            told = Told(app)
            asking = asyncio.create_task(ask(Client(told), target, upload() if uploads else None))
            for _ in range(steps):
                await asyncio.sleep(0)
            assert told.task is not None
            told.task.cancel()
            with suppress(asyncio.CancelledError, IncompleteResponse, AssertionError):
                await asking
            assert transport.taken == 0
        assert (await Client(app).request("GET", "/a")).body == b"well"
        await transport.aclose()
