"""Seeing that a client left, without a task for every request: a tick looks after those that take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from aggmw.asgi.types import Receive

__all__ = ["Departures", "Watched"]

_TICK_SECONDS = 0.05


class Watched:
    """One exchange whose client may leave."""

    __slots__ = ("on_gone", "receive", "seen", "task")

    def __init__(self, receive: Receive, on_gone: Callable[[], None]) -> None:
        self.receive = receive
        self.on_gone = on_gone
        self.seen = False
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.on_gone()


class _Tick:
    """The exchanges of one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.watched: set[Watched] = set()

    def start(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        waiting = False
        for watched in self.watched:
            if watched.task is not None:
                continue
            if watched.seen:
                watched.task = self._loop.create_task(watched.run(), name="watching for the client to leave")
            else:
                watched.seen = waiting = True
        if waiting:
            self.start()


class Departures:
    """Calls back when a client disconnects, for exchanges that run longer than one or two ticks of 50 ms."""

    def __init__(self) -> None:
        self._ticks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Tick] = WeakKeyDictionary()

    def watch(self, receive: Receive, on_gone: Callable[[], None]) -> Watched:
        """Begin to watch. From now on nobody else may call `receive`."""
        loop = asyncio.get_running_loop()
        tick = self._ticks.get(loop)
        if tick is None:
            tick = self._ticks[loop] = _Tick()
        watched = Watched(receive, on_gone)
        tick.watched.add(watched)
        tick.start()
        return watched

    async def forget(self, watched: Watched) -> None:
        """The exchange is over."""
        self._ticks[asyncio.get_running_loop()].watched.discard(watched)
        if watched.task is not None:
            watched.task.cancel()
            await asyncio.gather(watched.task, return_exceptions=True)
