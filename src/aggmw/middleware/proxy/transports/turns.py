"""Turns: a bounded number of exchanges at a time, the others wait in order, for a bounded time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from aggmw.errors import UpstreamBusy
from aggmw.middleware.proxy.transports.pool import TransportLimits

__all__ = ["Turns"]


class Turns:
    """The exchanges of one backend on one event loop, where somebody else keeps the connections.

    As a `Pool` has it: who gives a turn back hands it to the first who waits, and newcomers never overtake.

    Args:
        limits: `connections` is the number of exchanges at a time.
    """

    __slots__ = ("_limits", "_loop", "_waiting", "taken")

    def __init__(self, limits: TransportLimits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    def __repr__(self) -> str:
        return f"<Turns: {self.taken} taken, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def take(self, deadline: float | None) -> None:
        """Wait for a turn.

        Args:
            deadline: loop time by which it must have come.

        Raises:
            UpstreamBusy: too many wait already, or it took too long.
        """
        if self.taken < self._limits.connections:
            self.taken += 1
            return
        if len(self._waiting) >= self._limits.waiting:
            raise UpstreamBusy("it is busy: too many requests wait for it")
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        latest = self._loop.time() + self._limits.wait_seconds
        try:
            async with asyncio.timeout_at(latest if deadline is None else min(latest, deadline)):
                try:
                    await turn
                except asyncio.CancelledError:
                    if turn.cancelled():
                        with suppress(ValueError):  # whoever had a turn to give has taken it off already
                            self._waiting.remove(turn)
                    else:
                        self.give_back()  # our turn had come: it is somebody else's now
                    raise
        except TimeoutError as error:
            raise UpstreamBusy("it is busy: no connection came free in time") from error

    def give_back(self) -> None:
        """An exchange is over."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
