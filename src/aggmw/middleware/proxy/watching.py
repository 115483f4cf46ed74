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

    __slots__ = ("_on_gone", "_receive", "context", "seen", "task")

    def __init__(self, receive: Receive, on_gone: Callable[[], None]) -> None:
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


class _Tick:
    """The exchanges of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.young: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._context = Context()  # nothing of the request that started the timer stays with it

    def add(self, watched: Watched) -> None:
        self.young.add(watched)
        if self._timer is None:
            self._timer = self.loop.call_later(_TICK_SECONDS, self._look, context=self._context)

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

    def __init__(self) -> None:
        self._tick: _Tick | None = None
        self._ticks: dict[asyncio.AbstractEventLoop, _Tick] = {}

    def watch(self, receive: Receive, on_gone: Callable[[], None]) -> Watched:
        """Begin to watch. From now on nobody else may call `receive`."""
        watched = Watched(receive, on_gone)
        self._of_this_loop().add(watched)
        return watched

    def forget(self, watched: Watched) -> asyncio.Task[None] | None:
        """The exchange is over. Gives the task that still has to end, cancelled."""
        if watched.task is None:
            self._of_this_loop().young.discard(watched)
            return None
        watched.task.cancel()
        return watched.task

    def _of_this_loop(self) -> _Tick:
        loop = asyncio.get_running_loop()
        tick = self._tick
        if tick is None or tick.loop is not loop:
            tick = self._ticks.get(loop)
            if tick is None:
                self._ticks = {other: kept for other, kept in self._ticks.items() if not other.is_closed()}
                tick = self._ticks[loop] = _Tick(loop)
            self._tick = tick
        return tick
