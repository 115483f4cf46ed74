"""How long streams go on: not beyond the credential that opened them, the age that is configured, and the process.

Moments are compared on the event loop's clock, which nobody sets: a jump of the wall clock ends nothing that was going
on, and what begins after it goes by the new time (security cases C5.11).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextvars import Context
from enum import Enum

from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Identity

__all__ = ["End", "Lifetime", "Lifetimes"]

_BETWEEN_LOOKS = 0.25
_LONGEST_SLEEP = 86_400.0
_EARLY = 0.002  # timers are about a millisecond exact


class End(Enum):
    """Why a stream has to end, in words that a client may see."""

    STOPPING = "the front proxy is shutting down"
    EXPIRED = "the credential has expired"
    REVOKED = "the credential is no longer believed"
    AGED = "the stream is as old as it may be"
    LATE = "the answer took longer than the request may"


class Lifetime:
    """One stream that has an end, whether or not that comes before its own. Closed when the stream is over.

    Attributes:
        ended: why it has to end; None while it may go on.
        due: when it has to, on the event loop's clock.
    """

    __slots__ = ("_calendar", "_call", "_drain", "_why", "_withdrawal", "due", "ended")

    def __init__(
        self, calendar: _Calendar, drain: Drain | None, due: float, why: End, withdrawal: Drain | None = None
    ) -> None:
        self.due = due
        self.ended: End | None = None
        self._why = why
        self._call: Callable[[], None] | None = None
        self._calendar = calendar
        self._drain = drain
        self._withdrawal = withdrawal
        if due < math.inf:
            calendar.add(self)
        if drain is not None:
            drain.add(self._stopping)
        if withdrawal is not None:
            withdrawal.add(self._withdrawn)

    def then(self, call: Callable[[], None] | None) -> None:
        """What to call, once, when it has to end; at once when it has to already. In place of what was to be called."""
        self._call = call
        if self.ended is not None and call is not None:
            call()

    def close(self) -> None:
        """The stream is over."""
        self._call = None
        self._calendar.remove(self)
        if self._drain is not None:
            self._drain.remove(self._stopping)
        if self._withdrawal is not None:
            self._withdrawal.remove(self._withdrawn)

    def expire(self) -> None:
        """Its time has come."""
        self._end(self._why)

    def _stopping(self) -> None:
        self._end(End.STOPPING)

    def _withdrawn(self) -> None:
        self._end(End.REVOKED)

    def _end(self, why: End) -> None:
        if self.ended is None:
            self.ended = why
            if self._call is not None:
                self._call()


class Lifetimes:
    """Gives every stream its lifetime.

    Args:
        drain: once begun, long-running streams end.
        max_seconds: so old a long-running stream becomes at most; each gets an age between half of that and all of it,
            so that those that began together do not come back together. None: any age.
        clock: seconds since the epoch.
        spread: between 0 and 1, differently each time.
    """

    def __init__(
        self,
        drain: Drain | None = None,
        max_seconds: float | None = None,
        *,
        clock: Callable[[], float] = time.time,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._drain = drain
        self._max_seconds = max_seconds
        self._clock = clock
        self._spread = spread
        self._calendars: dict[asyncio.AbstractEventLoop, _Calendar] = {}

    def of(self, caller: Identity | None, *, long_running: bool, deadline: float | None = None) -> Lifetime | None:
        """The lifetime of a stream that begins now; None for one that nothing but itself will end.

        Args:
            caller: who asked for it.
            long_running: whether it goes on until somebody ends it. Others end with their credential, or late.
            deadline: when it is late, on the event loop's clock; None: never.
        """
        drain = self._drain if long_running else None
        left, why = math.inf, End.EXPIRED
        withdrawal: Drain | None = None
        if caller is not None:
            withdrawal = caller.credential.withdrawal
            if (expires := caller.credential.expires) is not None:
                left = expires - self._clock()
        if long_running and self._max_seconds is not None:
            age = self._max_seconds * (1 - self._spread() / 2)
            if age < left:
                left, why = age, End.AGED
        if drain is None and withdrawal is None and left == math.inf and deadline is None:
            return None
        loop = asyncio.get_running_loop()
        due = loop.time() + left
        if deadline is not None and deadline < due:
            due, why = deadline, End.LATE
        return Lifetime(self._calendar(loop), drain, due, why, withdrawal)

    def _calendar(self, loop: asyncio.AbstractEventLoop) -> _Calendar:
        calendar = self._calendars.get(loop)
        if calendar is None:
            self._calendars = {other: kept for other, kept in self._calendars.items() if not other.is_closed()}
            calendar = self._calendars[loop] = _Calendar(loop)
        return calendar


class _Calendar:
    """The streams of one event loop whose end is known, and one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: set[Lifetime] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._context = Context()  # nothing of the request that set the timer stays with it

    def add(self, stream: Lifetime) -> None:
        self._streams.add(stream)
        self._look_at(stream.due)

    def remove(self, stream: Lifetime) -> None:
        """The timer stays: it finds nothing, or the next one. So streams that come and go cost none."""
        self._streams.discard(stream)

    def _look_at(self, moment: float) -> None:
        moment = min(moment, self._loop.time() + _LONGEST_SLEEP)
        if self._timer is not None:
            if self._timer.when() <= moment:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._look, context=self._context)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time() + _EARLY
        due = [stream for stream in self._streams if stream.due <= now]
        self._streams.difference_update(due)
        for stream in due:
            stream.expire()
        if self._streams:
            self._look_at(max(min(stream.due for stream in self._streams), now + _BETWEEN_LOOKS))
