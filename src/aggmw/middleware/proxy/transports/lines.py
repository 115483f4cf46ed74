"""Lines: foreign transports to one backend, each with the exchanges that are on it, and when one is given up.

A foreign transport keeps its connections to itself. What can be known of them from outside is when one was made and
what ended well on it, so a line is the unit: one that is too old, shows an old certificate, or carried an exchange that
did not end well gets no further one, and is closed with all its connections as soon as the last exchange on it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from random import uniform
from typing import Any, Protocol

import structlog

from aggmw.contracts.backends import Backend
from aggmw.contracts.drain import Drain
from aggmw.errors import UpstreamUnreachable, fault
from aggmw.middleware.proxy.transports.pool import TransportLimits, host_field
from aggmw.middleware.proxy.transports.statistics import PoolStatistics
from aggmw.middleware.proxy.transports.turns import Turns

__all__ = ["Carrier", "Line", "Lines"]

_log = structlog.get_logger("aggmw.proxy")

_ROOM = 100
"""Exchanges on one line: so many streams its HTTP/2 client has on a connection at most; one more would wait inside."""

_YOUNGEST = 0.8  # of the maximum age


class Carrier(Protocol):
    """What is asked of an `httpx.AsyncBaseTransport`, or of what has its shape."""

    def handle_async_request(self, request: Any) -> Awaitable[Any]: ...

    def aclose(self) -> Awaitable[None]: ...


class Line:
    """One foreign transport and the exchanges on it.

    Attributes:
        carrier: the transport.
        alone: for one exchange only.
        number: exchanges on it.
        leaving: those of them that nobody waits for any more.
        deserted: done when there are no others.
        proven: whether one has ended well on a connection that others may share.
        network: the stream of its newest connection that others may share, for a look before the next exchange.
        given_up: it gets no further exchange.
    """

    __slots__ = (
        "alone",
        "carrier",
        "deserted",
        "expires",
        "given_up",
        "leaving",
        "network",
        "number",
        "proven",
        "timer",
    )

    def __init__(self, carrier: Carrier, expires: float, *, alone: bool) -> None:
        self.carrier = carrier
        self.expires = expires
        self.alone = alone
        self.number = 0
        self.leaving = 0
        self.deserted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.proven = False
        self.given_up = False
        self.network: Any = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def seems_closed(self) -> bool:
        """Whether there is something to be read where nobody expects it: mostly the connection's end."""
        return self.network is not None and not self.number and bool(self.network.get_extra_info("is_readable"))


class Lines:
    """The lines to one backend on one event loop, and whose turn it is.

    Args:
        backend: where they lead.
        make: makes a carrier; may raise `UpstreamUnreachable`.
        limits: see there.
        drain: once begun, nothing is kept.
        given: the one carrier there is, in place of `make`: it is never given up, because there is no other.

    Attributes:
        multiplexes: whether exchanges share connections, as far as is known.

    Raises:
        UpstreamUnreachable: the backend's host is no name.
    """

    def __init__(
        self,
        backend: Backend,
        make: Callable[[], Carrier],
        limits: TransportLimits,
        drain: Drain | None,
        given: Carrier | None = None,
    ) -> None:
        self.backend = backend
        self.authority = host_field(backend)
        self.turns = Turns(limits)
        self._make = make
        self._limits = limits
        self._drain = drain
        self.multiplexes = False
        self.dial_seconds = limits.dial_seconds
        self._loop = asyncio.get_running_loop()
        self._given = None if given is None else Line(given, float("inf"), alone=False)
        self._all: set[Line] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._context = Context()  # nothing of the request that caused some work stays with it
        self._closed = False

    def __repr__(self) -> str:
        turns = self.turns
        return f"<Lines {self.backend.name}: {turns.taken} taken, {len(self._all)} lines, {turns.waiting} waiting>"

    @property
    def statistics(self) -> PoolStatistics:
        """The figures of this moment. Idle connections are not to be known."""
        return PoolStatistics(self.backend.address, self.turns.taken, 0, self.turns.waiting)

    @property
    def unused(self) -> bool:
        """Whether nobody would miss these."""
        return not (self.turns.taken or self.turns.waiting or self._all or self._work)

    def take(self, *, alone: bool) -> Line:
        """A line for one exchange, whose turn it is.

        Args:
            alone: share no connection: what takes long is ended by closing its connection, and must not hold up others.
                Where connections are not shared anyway, no line is.

        Raises:
            UpstreamUnreachable: there is none to be had.
        """
        if self._closed:
            raise UpstreamUnreachable("the front proxy stops")
        alone = alone or not self.multiplexes
        line = self._given or self._shared(alone) or self._new(alone)
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        line.number += 1
        return line

    def leave(self, line: Line) -> asyncio.Future[None] | None:
        """Nobody waits for this exchange any more, but it is still under way. The line gets no further one.

        Others on it must not be disturbed: what interrupts one exchange inside a foreign transport may break the
        connection of all. So it goes on until it is over, or until nobody is left who would miss the line.

        Returns:
            Done when only such exchanges are left; None for the transport that was given, which cannot be closed.
        """
        self.give_up(line)
        if line is self._given:
            return None
        line.leaving += 1
        self._look(line)
        return line.deserted

    async def close(self, line: Line) -> None:
        """Close it with all that is on it."""
        self._all.discard(line)
        await _close(line)

    def give_back(self, line: Line, *, whole: bool, left: bool = False) -> None:
        """An exchange is over.

        Args:
            whole: it ended well, and nothing of it is still on its way.
            left: it was left before.
        """
        line.number -= 1
        line.leaving -= left
        self._look(line)
        if not whole or line.alone or (self._drain is not None and self._drain.begun):
            self.give_up(line)
        elif line.given_up:
            self._close_when_unused(line)
        elif not line.number and line is not self._given:
            seconds = self._limits.idle_seconds
            line.timer = self._loop.call_later(seconds, self.give_up, line, context=self._context)

    def give_up(self, line: Line) -> None:
        """It gets no further exchange, and is closed after the last one."""
        if line is not self._given:
            line.given_up = True
            self._close_when_unused(line)

    def renew(self) -> None:
        """What was made until now shows an old certificate."""
        for line in list(self._all):
            self.give_up(line)

    def do(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Work that nobody's cancellation may interrupt; closing waits for it."""
        task = self._loop.create_task(work, name=name, context=self._context)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def aclose(self) -> None:
        """Close every line; exchanges on them end as broken."""
        self._closed = True
        closing, self._all = set(self._all), set()
        if self._given is not None:
            closing.add(self._given)
        for line in closing:
            line.given_up = True
            if line.timer is not None:
                line.timer.cancel()
            self.do(_close(line), "closing a transport")
        while self._work:
            await asyncio.wait(self._work)

    def _shared(self, alone: bool) -> Line | None:
        now = self._loop.time()
        for line in list(self._all):
            if line.alone:
                continue
            if now >= line.expires or line.seems_closed:
                self.give_up(line)
            elif not alone and not line.given_up and line.number < _ROOM:
                return line
        return None

    def _new(self, alone: bool) -> Line:
        # Nothing is decided by this chance.
        age = self._limits.max_age_seconds * uniform(_YOUNGEST, 1)  # noqa: S311
        line = Line(self._make(), self._loop.time() + age, alone=alone)
        self._all.add(line)
        return line

    def _look(self, line: Line) -> None:
        if line.leaving and line.leaving == line.number and not line.deserted.done():
            line.deserted.set_result(None)

    def _close_when_unused(self, line: Line) -> None:
        if not line.number and line in self._all:
            self._all.discard(line)
            if line.timer is not None:
                line.timer.cancel()
            self.do(_close(line), "closing a transport")


async def _close(line: Line) -> None:
    try:
        await line.carrier.aclose()
    except Exception as error:  # noqa: BLE001  whatever a foreign transport makes of it
        _log.warning("a transport did not close well", **fault(error))
