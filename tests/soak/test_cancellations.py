"""Cancellations in every phase of an exchange leave nothing behind: in front of the proxy stage, without a server.

With `test_departures.py` they are 1,000 in all, and 10,000 with `--whole`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from tests.middleware.proxy.proxying import ALICE, NAME, Before, core
from tests.soak.dawdling import dawdling
from tests.soak.whereabouts import PHASES, phase

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import Backend
from aggmw.contracts.connection import Connection
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits
from aggmw.testing import Client, IncompleteResponse

AT_ONCE = 32
CONNECTIONS = 20
PATIENCE = 0.5  # seconds, as long as enough are in each phase; then ten times that
PROMPT = 9.0  # seconds, on a machine that has other things to do; usually 0.1
TARGETS = {"waiting": ["late", "never"], "streaming": ["watch?watch=1", "large"]}
ANY = ["quick", "late", "never", "watch?watch=1", "large"]


class Departure:
    """That a client has left, told as the door tells it."""

    def __init__(self) -> None:
        self._call: Callable[[], None] | None = None
        self._gone = False

    def when_gone(self, call: Callable[[], None] | None) -> None:
        self._call = call
        if call is not None and self._gone:
            asyncio.get_running_loop().call_soon(call)

    def tell(self) -> None:
        self._gone = True
        if self._call is not None:
            self._call()


class Cancelled:
    """Exchanges that are cancelled, or left by their client, in some phase.

    Attributes:
        phases: how many in each phase; "over" when there was nothing to cancel any more.
        by_client: how many were left by their client, the others being cancelled as a server does that stops.
        slowest: seconds from there to the end of the exchange, at most.
        patience: seconds to wait for the phase in which an exchange is to be cancelled, at most.
    """

    def __init__(self, proxy: Stages, chance: random.Random) -> None:
        self._proxy = proxy
        self._chance = chance
        self.phases: Counter[str] = Counter()
        self.by_client = 0
        self.slowest = 0.0
        self.patience = PATIENCE

    def rarest(self) -> tuple[str, int]:
        """In which phase the fewest were cancelled, and how many."""
        name = min(PHASES, key=lambda name: self.phases[name])
        return name, self.phases[name]

    async def exchange(self) -> None:
        """Begin an exchange, and cancel it in a phase."""
        chance = self._chance
        wanted = chance.choice([self.rarest()[0], chance.choice([*PHASES, None])])
        running: list[asyncio.Task[Any]] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            task = asyncio.current_task()
            assert task is not None
            running.append(task)
            await self._proxy(scope, receive, send)

        departure = Departure()
        connection = Connection(when_gone=departure.when_gone)
        client = Client(application, connection=connection, raise_app_exceptions=False)
        visit = asyncio.create_task(self._visit(client, wanted))
        while not running:
            await asyncio.sleep(0)
        gives_up = time.monotonic() + chance.random() * self.patience
        while not visit.done() and time.monotonic() < gives_up:
            if wanted is not None and phase(running[0]) == wanted:
                break
            await asyncio.sleep(chance.random() * 0.008)
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        (task,) = running
        self.phases["over" if task.done() else phase(task) or "other"] += 1
        left = time.monotonic()
        if chance.random() < 0.5:
            visit.cancel()
            departure.tell()
            self.by_client += 1
        else:
            task.cancel()
        await asyncio.wait({task})
        self.slowest = max(self.slowest, time.monotonic() - left)
        assert task.cancelled() or task.exception() is None
        visit.cancel()
        with suppress(IncompleteResponse, asyncio.CancelledError):
            await visit

    async def _visit(self, client: Client, wanted: str | None) -> None:
        chance = self._chance
        target = chance.choice(TARGETS.get(wanted or "", ANY))
        uploads = wanted == "sending" or chance.random() < 0.2
        if wanted == "sending" and chance.random() < 0.2:
            target = "deaf"
        body = self._body() if uploads else None
        async with client.stream("POST" if uploads else "GET", f"/{target}", (), body) as response:
            async for _ in response:
                await asyncio.sleep(chance.random() * 0.01)

    async def _body(self) -> AsyncIterator[bytes]:
        """In pieces, large ones now and then, so that a deaf backend's buffers are full in no time."""
        for _ in range(self._chance.randint(1, 20)):
            yield b"x" * self._chance.choice([10, 10, 1_000_000])
            await asyncio.sleep(0.005)


async def test_cancellations(whole: bool, record_property: Callable[[str, object], None]) -> None:
    """Whatever an exchange waits for when it is cancelled or its client leaves: soon after it is over, its connection's
    slot is free and its place in the queue another's, and the pool serves as before.

    What is left of tasks and sockets, every test is watched for.
    """
    number = 2000 if whole else 200
    chance = random.Random(31)
    transport = Http1Transport(limits=TransportLimits(connections=CONNECTIONS))
    async with dawdling(chance, None) as backend:
        before = Before(Backend(NAME, "localhost", backend.port, tls=False), ALICE, "id-1")
        proxy = Stages(ProxyMiddleware(core, transport=transport), before)
        cancelled = Cancelled(proxy, chance)
        left = number

        async def again_and_again() -> None:
            nonlocal left
            while left > 0 or (cancelled.rarest()[1] < number / 25 and left > -2 * number):
                left -= 1
                cancelled.patience = PATIENCE if left >= 0 else 10 * PATIENCE
                await cancelled.exchange()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(again_and_again())
        assert transport.taken == 0
        assert [pool.waiting for pool in transport.statistics] == [0]
        for _ in range(20):
            assert (await Client(proxy).request("GET", "/quick")).body == b"hello"
        await transport.aclose()
    figures = ", ".join(f"{count} {name}" for name, count in cancelled.phases.most_common())
    record_property("figures", f"{figures}; the slowest end took {cancelled.slowest:.2f} s")
    total = cancelled.phases.total()
    assert total >= number
    assert total / 4 < cancelled.by_client < total * 3 / 4
    assert cancelled.slowest < PROMPT
    name, fewest = cancelled.rarest()
    assert fewest >= number / 25, f"too few in the phase {name!r}: {cancelled.phases}"
