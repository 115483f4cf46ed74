"""Seeing that a client left, without a task for every request: a tick looks after those that take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context

from aggmw.asgi.types import Receive

__all__ = ["Departures", "Watched"]

_TICK_SECONDS = 0.05


class Watched:
    """One exchange whose client may leave.

    Attributes:
        task: what waits for it to leave, once the exchange took longer than a tick.
    """

    __slots__ = ("_on_gone", "_receive", "context", "seen", "task", "tick")

    def __init__(self, tick: Tick, receive: Receive, on_gone: Callable[[], None]) -> None:
        self.tick = tick
        self._receive = receive
        self._on_gone = on_gone
        self.context = copy_context()  # `receive` may be a foreign middleware's that looks at it
        self.seen = False
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":  # noqa: ASYNC110  nothing is polled
            await asyncio.sleep(0)  # a server that gives empty messages without end must not hold the loop
        self._on_gone()


class Tick:
    """The exchanges of one event loop."""

    __slots__ = ("_context", "_timer", "loop", "young")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.young: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._context = Context()  # nothing of the request that started the timer stays with it

    def watch(self, receive: Receive, on_gone: Callable[[], None]) -> Watched:
        """Begin to watch. From now on nobody else may call `receive`."""
        watched = Watched(self, receive, on_gone)
        self.young.add(watched)
        if self._timer is None:
            self._timer = self.loop.call_later(_TICK_SECONDS, self._look, context=self._context)
        return watched

    def _look(self) -> None:
        """Start a task for whatever was here at the last tick already; go on ticking while anything is young."""
        self._timer = None
        for watched in [watched for watched in self.young if watched.seen]:
            self.young.discard(watched)
            watched.task = self.loop.create_task(
                watched.run(), name="watching for the client to leave", context=watched.context
            )
        for watched in self.young:
            watched.seen = True
        if self.young:
            self._timer = self.loop.call_later(_TICK_SECONDS, self._look, context=self._context)


class Departures:
    """Calls back when a client disconnects, for exchanges that run longer than one or two ticks of 50 ms."""

    __slots__ = ("_latest", "_ticks")

    def __init__(self) -> None:
        self._latest: Tick | None = None
        self._ticks: dict[asyncio.AbstractEventLoop, Tick] = {}

    def watch(self, receive: Receive, on_gone: Callable[[], None]) -> Watched:
        """Begin to watch on this event loop. From now on nobody else may call `receive`."""
        return self.tick().watch(receive, on_gone)

    def forget(self, watched: Watched) -> asyncio.Task[None] | None:
        """The exchange is over. Gives the task that still has to end, cancelled."""
        # Its end keeps the frame that holds `watched`: no cycle for the collector.
        task, watched.task = watched.task, None
        if task is None:
            watched.tick.young.discard(watched)
            return None
        task.cancel()
        return task

    def tick(self) -> Tick:
        """The exchanges of the running event loop."""
        loop = asyncio.get_running_loop()
        tick = self._latest
        if tick is None or tick.loop is not loop:
            tick = self._ticks.get(loop)
            if tick is None:
                self._ticks = {other: kept for other, kept in self._ticks.items() if not other.is_closed()}
                tick = self._ticks[loop] = Tick(loop)
            self._latest = tick
        return tick
