"""Waiting inside the test tools: for a condition, and never for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["DEFAULT_LIMIT", "Signal", "real_time_is_up"]

DEFAULT_LIMIT = 30.0
"""Seconds of real time after which a test tool stops waiting."""


class Signal:
    """Wakes whoever waits for a condition on the same loop.

    The time limit is one of real time: moving a `VirtualClock` does not use it up.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Something changed: every waiter looks at its condition again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], object], *, limit: float | None, waiting_for: str) -> None:
        """Wait until `condition()` is true; it is looked at now and after each `notify`.

        Args:
            limit: seconds of real time; None waits as long as it takes.
            waiting_for: what the error message says was awaited.

        Raises:
            AssertionError: the limit has passed.
        """
        if condition():
            return
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        while not condition():
            waiter = loop.create_future()
            self._waiters.add(waiter)
            timer = None
            if limit is not None:
                left = limit - (time.perf_counter() - started)
                if left <= 0:
                    self._waiters.discard(waiter)
                    raise AssertionError(f"waited {limit:g} seconds for {waiting_for}")
                timer = loop.call_later(left, real_time_is_up, waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
                if timer is not None:
                    timer.cancel()


def real_time_is_up(waiter: asyncio.Future[None]) -> None:
    """The timer of a limit. A `VirtualClock` does not stop at these."""
    if not waiter.done():
        waiter.set_result(None)
