"""The connections of one backend: idle ones last in first out, a limit, and a bounded queue for those who wait."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, fields
from random import uniform

from aggmw.contracts.backends import Backend
from aggmw.contracts.drain import Drain
from aggmw.errors import UpstreamBusy, UpstreamUnreachable
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.statistics import PoolStatistics
from aggmw.net.addresses import AddressRules
from aggmw.net.dial import dial
from aggmw.net.tls import ClientCertificate, upstream_context

__all__ = ["Pool", "TransportLimits", "host_field"]

_NO_NAME = "its name does not resolve"
_YOUNGEST = 0.8  # of the maximum age
_LEAST = {"connections": 1, "dial_seconds": 0.001, "silence_seconds": 0.001}


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one backend may cost.

    Args:
        connections: at most so many at once; a watch holds one.
        waiting: at most so many exchanges wait for a connection; more are refused.
        wait_seconds: so long they wait.
        dial_seconds: for name, connection and handshake.
        idle_seconds: an unused connection is closed after so long.
        max_age_seconds: an older connection gets no further exchange, so that where a name leads now, and which
            certificates are shown now, is found out within that time; up to a fifth less, so that connections which
            began together do not end together. An exchange that lasts longer is not disturbed.
        silence_seconds: between two pieces of a body, unless the request is long-running.
    """

    connections: int = 1000
    waiting: int = 1000
    wait_seconds: float = 5.0
    dial_seconds: float = 5.0
    idle_seconds: float = 60.0
    max_age_seconds: float = 300.0
    silence_seconds: float = 60.0

    def __repr__(self) -> str:
        given = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(self)]
        usual = [f"{each.name}={each.default!r}" for each in fields(self)]
        return f"TransportLimits({', '.join(one for one, other in zip(given, usual, strict=True) if one != other)})"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), _LEAST.get(field.name, 0)
            if not value >= least:  # also when it is no number at all
                raise ValueError(f"{field.name} must be at least {least:g}, not {value!r}")


class Pool:
    """The connections of one backend on one event loop.

    A slot is the right to use one connection. Whoever gives a connection back, or fails to get one, hands the slot to
    the first who waits, with the connection if it can be kept; newcomers never overtake.

    Args:
        backend: where they lead.
        client_certificate: shown there.
        limits: see there.
        drain: once begun, no connection is kept.
        rules: which addresses may be dialled.

    Attributes:
        authority: the Host field's value.

    Raises:
        UpstreamUnreachable: the backend's host is no name.
    """

    __slots__ = (
        "_all",
        "_backend",
        "_certificate",
        "_closed",
        "_context",
        "_drain",
        "_idle",
        "_limits",
        "_loop",
        "_rules",
        "_taken",
        "_waiting",
        "authority",
    )

    def __init__(
        self,
        backend: Backend,
        client_certificate: ClientCertificate,
        limits: TransportLimits,
        drain: Drain | None = None,
        rules: AddressRules | None = None,
    ) -> None:
        self._rules = rules
        self._backend = backend
        self._limits = limits
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._certificate = client_certificate
        self._context: ssl.SSLContext | None = None
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._taken = 0
        self._closed = False
        self.authority = host_field(backend)

    def __repr__(self) -> str:
        return f"<Pool {self._backend.name}: {self._taken} taken, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    @property
    def taken(self) -> int:
        """Slots in use: connections that carry an exchange or are being dialled."""
        return self._taken

    @property
    def statistics(self) -> PoolStatistics:
        """The figures of this moment."""
        return PoolStatistics(self._backend.address, self._taken, len(self._idle), len(self._waiting))

    @property
    def unused(self) -> bool:
        """Whether nobody would miss this pool."""
        return not (self._taken or self._all or self._waiting)

    def idle(self) -> Connection | None:
        """An open connection that nobody uses, without waiting; None when there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                self._taken += 1
                return connection
            connection.abort()
        return None

    async def fresh(self, deadline: float | None) -> Connection:
        """A new connection, or one that came free while waiting for a slot.

        Args:
            deadline: loop time by which it must be there.

        Raises:
            UpstreamUnreachable: not to be had.
        """
        if self._taken < self._limits.connections:
            self._taken += 1
        else:
            connection = await self._turn(deadline)
            if connection is not None:
                if connection.usable:
                    return connection
                connection.abort()
        return await self._dial(deadline)

    async def replace(self, stale: Connection, deadline: float | None) -> Connection:
        """A new connection in place of one that the backend had given up; it keeps the slot. Raises as `fresh`."""
        stale.abort()
        return await self._dial(deadline)

    def give_back(self, connection: Connection) -> None:
        """An exchange is over: keep the connection if its answer was whole and it is not too old; else close it."""
        now = self._loop.time()
        if (
            self._closed
            or now >= connection.expires
            or (self._drain is not None and self._drain.begun)
            or not connection.release()
        ):
            connection.abort()
            self._pass_on(None)
        else:
            connection.idle_since = now
            self._pass_on(connection)

    def sweep(self, now: float) -> bool:
        """Close what is idle for too long or too old and end what is too late; whether anything is left to look at."""
        longest = now - self._limits.idle_seconds
        for connection in [each for each in self._idle if each.idle_since < longest or now >= each.expires]:
            self._idle.remove(connection)
            connection.abort()
        for connection in list(self._all):
            if connection.deadline is not None and now >= connection.deadline:
                connection.deadline = None
                connection.timed_out()
        return bool(self._all)

    def renew(self) -> None:
        """Another client certificate is shown from now on: what was made with the old one gets no further exchange."""
        if not self._backend.tls:
            return
        self._context = None
        for connection in self._all:
            connection.expires = 0.0
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> set[Connection]:
        """Close every connection, and tell which; exchanges on them end as broken."""
        self._closed = True
        closed = set(self._all)
        for connection in closed:
            connection.abort()
        self._idle.clear()
        return closed

    async def _dial(self, deadline: float | None) -> Connection:
        """Use a slot for a new connection; the slot is free again when there is none."""
        if self._closed:
            self._pass_on(None)
            raise UpstreamUnreachable("the front proxy stops")
        while self._idle and len(self._idle) + self._taken > self._limits.connections:
            self._idle.popleft().abort()
        try:
            context = self._secured()
            connection = await dial(
                lambda: Connection(self._loop, self._lost),
                self._backend.host,
                self._backend.port,
                unix=self._backend.unix,
                context=context,
                server_name=self._backend.server_name,
                timeout=self._at_most(self._limits.dial_seconds, deadline),
                rules=self._rules,
            )
        except BaseException:
            self._pass_on(None)
            raise
        if context is self._context:
            # Nothing is decided by this chance.
            connection.expires = self._loop.time() + self._limits.max_age_seconds * uniform(_YOUNGEST, 1)  # noqa: S311
        if connection.gone:
            return connection  # `begin` says so
        self._all.add(connection)
        return connection

    def _secured(self) -> ssl.SSLContext | None:
        """The TLS context of the next connection. To read the system's roots takes a while, so it is kept."""
        if self._context is None and self._backend.tls:
            self._context = upstream_context(self._backend, self._certificate.shown())
        return self._context

    async def _turn(self, deadline: float | None) -> Connection | None:
        """Wait for a slot; the connection that came with it, if one did.

        Raises:
            UpstreamBusy: too many wait already, or it took too long.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise UpstreamBusy("it is busy: too many requests wait for it")
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._at_most(self._limits.wait_seconds, deadline)):
                try:
                    return await turn
                except asyncio.CancelledError:
                    if turn.cancelled():
                        with suppress(ValueError):  # whoever had a slot to give has taken it off already
                            self._waiting.remove(turn)
                    else:
                        self._pass_on(turn.result())  # our turn had come: it is somebody else's now
                    raise
        except TimeoutError as error:
            raise UpstreamBusy("it is busy: no connection came free in time") from error

    def _pass_on(self, connection: Connection | None) -> None:
        """A slot is free, with or without a connection."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._taken -= 1
        if connection is not None:
            self._idle.append(connection)

    def _at_most(self, seconds: float, deadline: float | None) -> float:
        return seconds if deadline is None else max(0.0, min(seconds, deadline - self._loop.time()))

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def host_field(backend: Backend) -> bytes:
    """The Host field's value: visible ASCII, whatever was registered.

    Raises:
        UpstreamUnreachable: the host is no name.
    """
    try:
        authority = backend.authority.encode("idna")
    except UnicodeError as error:
        raise UpstreamUnreachable(_NO_NAME) from error
    if not all(33 <= byte <= 126 for byte in authority):
        raise UpstreamUnreachable(_NO_NAME)
    return authority
