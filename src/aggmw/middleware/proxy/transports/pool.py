"""The connections of one backend: idle ones last in first out, a limit, and a bounded queue for those who wait."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.net.dial import dial
from aggmw.net.tls import ClientCertificatePair, upstream_context

__all__ = ["Pool", "TransportLimits"]


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one backend may cost.

    Args:
        connections: at most so many at once; a watch holds one.
        waiting: at most so many exchanges wait for a connection; more are refused.
        wait_seconds: so long they wait.
        dial_seconds: for name, connection and handshake.
        idle_seconds: an unused connection is closed after so long.
        silence_seconds: between two pieces of a body, unless the request is long-running.
    """

    connections: int = 1000
    waiting: int = 1000
    wait_seconds: float = 5.0
    dial_seconds: float = 5.0
    idle_seconds: float = 60.0
    silence_seconds: float = 60.0


class Pool:
    """The connections of one backend on one event loop."""

    def __init__(
        self, backend: Backend, client_certificate: ClientCertificatePair | None, limits: TransportLimits
    ) -> None:
        self._backend = backend
        self._client_certificate = client_certificate
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._context = upstream_context(backend, client_certificate) if backend.tls else None
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = 0

    def __repr__(self) -> str:
        return f"<Pool {self._backend.name}: {self._taken} taken, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    @property
    def taken(self) -> int:
        """Connections that carry an exchange or are being dialled."""
        return self._taken

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._all)

    @property
    def connections(self) -> frozenset[Connection]:
        return frozenset(self._all)

    def idle(self) -> Connection | None:
        """An open connection that nobody uses, without waiting; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._taken += 1
                return connection
            connection.abort()
        return None

    async def fresh(self) -> Connection:
        """A new connection, or an idle one that came free while waiting for its turn.

        Raises:
            UpstreamUnreachable: not to be had.
        """
        if self._taken >= self._limits.connections:
            await self._turn()
            if (connection := self.idle()) is not None:
                return connection
        self._taken += 1
        try:
            connection = await dial(
                lambda: Connection(self._loop, self._lost),
                self._backend.host,
                self._backend.port,
                context=self._context,
                server_name=self._backend.server_name,
                timeout=self._limits.dial_seconds,
            )
        except BaseException:
            self._free()
            raise
        self._all.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """An exchange is over: keep the connection if its answer was whole, close it otherwise."""
        if connection.release():
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
        else:
            connection.abort()
        self._free()

    def sweep(self, now: float) -> bool:
        """Close what is idle for too long and end what is too late; whether anything is left to look at."""
        while self._idle and now - self._idle[0].idle_since > self._limits.idle_seconds:
            self._idle.popleft().abort()
        for connection in list(self._all):
            if connection.deadline is not None and now >= connection.deadline:
                connection.deadline = None
                connection.timed_out()
        return bool(self._all)

    def close(self) -> None:
        """Close every connection; exchanges on them end as broken."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()

    async def _turn(self) -> None:
        """Wait until a slot is free."""
        if len(self._waiting) >= self._limits.waiting:
            raise UpstreamUnreachable("it is busy: too many requests wait for it")
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except TimeoutError as error:
            raise UpstreamUnreachable("it is busy: no connection came free in time") from error
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # our turn had come: it is somebody else's now
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _free(self) -> None:
        self._taken -= 1
        self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
