"""A clock that tests move: timers fire without anybody waiting for them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aggmw.testing._waiting import real_time_is_up

__all__ = ["VirtualClock"]

_IDLE_ROUNDS = 5
_MAX_ROUNDS = 2000
# Seconds that count at most: of a wait that something ended, and of a round of callbacks. How much of what is beyond
# that the machine took for itself, nobody knows.
_MOST_WAITED = 0.01
_MOST_WORKED = 0.0002


class VirtualClock:
    """Moves the time of the running event loop: `loop.time()` becomes real time plus what was advanced.

    Of real time counts what the loop waits: a timer that nobody advances to takes as long as ever. When a busy machine
    lets the process rest, or a callback takes long, next to nothing of that counts: nobody is late because of it.

    Whatever waits on the loop's clock sees it: `loop.call_later`, `asyncio.sleep`, `asyncio.timeout`. What reads
    `time.monotonic()` or waits in a thread does not. Works on asyncio's own event loops only.

    Use the fixture `clock` of `aggmw.testing.plugin`, or `async with VirtualClock() as clock:`. The loop is taken at
    the first use; `restore()` gives it its own time back.
    """

    def __init__(self) -> None:
        self._loop: asyncio.BaseEventLoop | None = None
        self._selector: Any = None
        self._passed = 0.0
        self._offset = 0.0

    async def __aenter__(self) -> VirtualClock:
        self._attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def time(self) -> float:
        """The loop's time, in seconds."""
        return self._attach().time()

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let everything run that became due on the way.

        The clock stops at every timer in between, so a periodic timer fires as often as it would have. Returns when the
        loop has nothing left to run: tasks that timers woke have come to their next wait.

        Args:
            seconds: how far; 0 only lets the loop settle.
        """
        if seconds < 0:
            raise ValueError("time does not go backwards")
        loop = self._attach()
        await self.settle()
        target = self._offset + seconds
        while (due := self._next_timer()) is not None:
            # Real time passes too: what is due by itself needs no step.
            step = max(0.0, due - loop.time())
            if self._offset + step > target:
                break
            self._offset += step
            await self.settle()
        self._offset = max(self._offset, target)
        await self.settle()

    async def settle(self) -> None:
        """Let the loop run until it has nothing to run at once; local sockets are served on the way.

        Gives up silently on what never rests.
        """
        loop = self._attach()
        idle = 0
        for _ in range(_MAX_ROUNDS):
            await asyncio.sleep(0)
            idle = 0 if loop._ready else idle + 1  # type: ignore[attr-defined]  # asyncio has no public way to ask
            if idle >= _IDLE_ROUNDS:
                return

    def restore(self) -> None:
        """Give the loop its own time back."""
        if self._loop is not None:
            del self._loop.time
            del self._selector.select
            self._loop = None

    def _attach(self) -> asyncio.BaseEventLoop:
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return self._loop
        if not isinstance(loop, asyncio.BaseEventLoop):
            raise TypeError(f"a virtual clock needs an event loop of asyncio, not {type(loop).__name__}")
        self.restore()
        real = loop.time
        self._selector = loop._selector  # type: ignore[attr-defined]  # asyncio has no public way to see the loop wait
        wait = self._selector.select
        rested = real()

        def select(timeout: float | None = None) -> list[Any]:
            nonlocal rested
            began = real()
            events: list[Any] = wait(timeout)
            worked, waited, rested = began - rested, real() - began, real()
            most = _MOST_WAITED if timeout is None else timeout
            if events:
                most = min(most, _MOST_WAITED)
            self._passed += min(worked, _MOST_WORKED) + min(waited, most)
            return events

        self._passed, self._offset = rested, 0.0
        self._selector.select = select
        loop.time = lambda: self._passed + self._offset  # type: ignore[method-assign]  # the point of this class
        self._loop = loop
        return loop

    def _next_timer(self) -> float | None:
        timers = self._loop._scheduled  # type: ignore[union-attr]  # asyncio has no public way to ask
        return min((t.when() for t in timers if not t.cancelled() and t._callback is not real_time_is_up), default=None)
