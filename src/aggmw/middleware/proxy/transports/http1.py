"""Http1Transport: the fast lane. HTTP/1.1 over our own pools, both bodies streamed, deadlines by one sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import Context
from dataclasses import replace

from aggmw.contracts.backends import AnyBackend, Backend, BalancedBackend, UpstreamRequest, UpstreamResponse
from aggmw.contracts.drain import Drain
from aggmw.contracts.metrics import Sample
from aggmw.contracts.options import check_type
from aggmw.contracts.websockets import UpstreamWebSocket
from aggmw.errors import StatusError, UpstreamError, UpstreamUnreachable
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.exchange import Exchange
from aggmw.middleware.proxy.transports.pool import Pool, TransportLimits
from aggmw.middleware.proxy.transports.statistics import PoolStatistics, samples_of
from aggmw.middleware.proxy.transports.upgrade import BackendWebSocket, Refusal, check, handshake
from aggmw.net.addresses import AddressRules
from aggmw.net.tls import ClientCertificate, ClientCertificatePair
from aggmw.net.websocket import new_key

__all__ = ["Http1Transport", "PoolStatistics", "TransportLimits", "only_server", "repeatable", "request_head"]

_SWEEP_SECONDS = 0.25
_MANY_POOLS = 1000
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\r\n")


class _Loop:
    """The pools of one event loop, and the timer that looks after them."""

    __slots__ = (
        "_client_certificate",
        "_context",
        "_drain",
        "_limits",
        "_pools",
        "_rules",
        "_shared",
        "_timer",
        "loop",
        "resting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client_certificate: ClientCertificate,
        limits: TransportLimits,
        drain: Drain | None,
        rules: AddressRules | None,
    ) -> None:
        self._rules = rules
        self.loop = loop
        self._client_certificate = client_certificate
        self._limits = limits
        self._drain = drain
        self._pools: dict[AnyBackend, Pool] = {}
        self._shared: dict[Backend, Pool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.resting = True
        self._context = Context()  # nothing of the request that started the timer stays with it

    @property
    def pools(self) -> tuple[Pool, ...]:
        return tuple(self._shared.values())

    def pool(self, backend: AnyBackend) -> Pool:
        """The pool of a backend. Two services of one server share it: the name is for error messages only."""
        pool = self._pools.get(backend)
        if pool is None:
            server = only_server(backend)
            if len(self._pools) >= _MANY_POOLS:
                self._forget_unused()
            shared = replace(server, name="")
            pool = self._shared.get(shared)
            if pool is None:
                pool = Pool(server, self._client_certificate, self._limits, self._drain, self._rules)
                self._shared[shared] = pool
            self._pools[backend] = pool
        return pool

    def watch(self) -> None:
        """Sweep while there is anything to look after."""
        if self._timer is None:
            self.resting = False
            self._timer = self.loop.call_later(_SWEEP_SECONDS, self._sweep, context=self._context)

    def renew(self) -> None:
        """Show another client certificate from now on."""
        for pool in self.pools:
            pool.renew()

    def close(self) -> list[Connection]:
        """Close everything, and tell what."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.resting = True
        closed = [connection for pool in self.pools for connection in pool.close()]
        self._pools.clear()
        self._shared.clear()
        return closed

    def _sweep(self) -> None:
        self._timer = None
        self.resting = True
        now = self.loop.time()
        for pool in self._shared.values():
            if pool.sweep(now):
                self.watch()

    def _forget_unused(self) -> None:
        self._pools = {backend: pool for backend, pool in self._pools.items() if not pool.unused}
        self._shared = {backend: pool for backend, pool in self._shared.items() if not pool.unused}


class Http1Transport:
    """One exchange at a time per connection, connections shared by equal backends, state per running loop.

    A request on a kept connection that closes without a byte of an answer is repeated once on a new one if it is GET,
    HEAD or OPTIONS without a body, as Go's client does; nothing else that was sent is ever repeated.

    Args:
        client_certificate: shown to every backend that asks; read when it is first needed, and again by `reload`.
        limits: what one backend may cost.
        drain: once begun, no connection is kept.
        addresses: which addresses may be dialled, whatever names lead there; None: all, because the operator names the
            services. Where others do, `AddressRules(deny=INTERNAL)` keeps them out of this host and its links.
    """

    def __init__(
        self,
        *,
        client_certificate: ClientCertificatePair | None = None,
        limits: TransportLimits | None = None,
        drain: Drain | None = None,
        addresses: AddressRules | None = None,
    ) -> None:
        if addresses is not None:
            check_type("addresses", addresses, AddressRules)
        self._rules = addresses
        self._client_certificate = ClientCertificate(client_certificate)
        self._limits = limits or TransportLimits()
        self._drain = drain
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._latest: _Loop | None = None

    def __repr__(self) -> str:
        limits = [repr(self._limits)] if self._limits != TransportLimits() else []
        if self._rules is not None:
            limits.append(repr(self._rules))
        pools = [repr(pool) for state in self._loops.values() for pool in state.pools]
        return f"Http1Transport({', '.join([*limits, *pools])})"

    @property
    def taken(self) -> int:
        """Connections that carry an exchange or are being dialled, over all backends of the running loop."""
        return sum(pool.taken for pool in self._state().pools)

    @property
    def statistics(self) -> tuple[PoolStatistics, ...]:
        """The figures of the running loop, by address: pools that differ in certificates or names are one here."""
        found: dict[str, PoolStatistics] = {}
        for pool in self._state().pools:
            one = pool.statistics
            if (before := found.get(one.address)) is not None:
                one = before + one
            found[one.address] = one
        return tuple(found.values())

    def samples(self) -> Iterator[Sample]:
        """As `Source.samples`: connections, who waits for one, and the limits of both."""
        limits = self._limits
        return samples_of(self.statistics, connections=limits.connections, waiting=limits.waiting)

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> UpstreamResponse:
        """As `UpstreamTransport.send`. The time-out covers waiting for a connection, too."""
        state = self._state()
        pool = state.pool(backend)
        head = request_head(pool.authority, request)
        deadline = None if request.timeout is None else state.loop.time() + request.timeout
        silence = None if request.long_running else self._limits.silence_seconds
        connection = pool.idle() or await pool.fresh(deadline)
        while True:
            if state.resting:
                state.watch()
            exchange = Exchange(pool, connection, silence)
            try:
                exchange.begin(head, request, deadline)
                await connection.head()
            except UpstreamError:
                if not connection.stale or not repeatable(request):
                    await exchange.aclose()
                    raise
            except BaseException:
                await exchange.aclose()
                raise
            else:
                exchange.answered()
                return exchange
            connection = await pool.replace(connection, deadline)

    async def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> UpstreamWebSocket | UpstreamResponse:
        """As `UpstreamWebSocketTransport.connect`. It holds one of the backend's connections, as a watch does.

        It goes on a new one, and never twice: the backend may have given up a kept one, and nobody would know whether
        the command that a handshake stands for was run.
        """
        state = self._state()
        pool = state.pool(backend)
        key = new_key()
        head = request_head(pool.authority, replace(request, headers=(*request.headers, *handshake(key, subprotocols))))
        deadline = None if request.timeout is None else state.loop.time() + request.timeout
        connection = await pool.fresh(deadline)
        if connection.reused:
            connection = await pool.replace(connection, deadline)
        if state.resting:
            state.watch()
        try:
            connection.upgrading = True
            connection.begin(False, deadline, head)
            await connection.head()
            if connection.status != 101:
                return Refusal(pool, connection, self._limits.silence_seconds)
            chosen = check(connection.headers, key, subprotocols)
            transport, rest = connection.surrender()
            socket = BackendWebSocket(pool, connection, chosen, connection.headers)
            socket.begin(transport, rest)
        except BaseException:
            pool.give_back(connection)
            raise
        return socket

    def reload(self) -> None:
        """Read the client certificate again. New connections show it, no exchange begins on older ones, and none that
        runs is disturbed. Files in which there is nothing new change nothing.

        On the running event loop that is so at once, on others as soon as they have a moment.

        Raises:
            ConfigurationError: it cannot be used, and why; what was shown is still shown.
        """
        if not self._client_certificate.reload():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, state in list(self._loops.items()):
            if loop is here:
                state.renew()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(state.renew)

    async def aclose(self) -> None:
        """Close every connection of the running loop, and wait until they are gone; forget those of other loops."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        self._loops.clear()
        self._latest = None
        if state is not None:
            for connection in state.close():
                await connection.lost()

    def _state(self) -> _Loop:
        loop = asyncio.get_running_loop()
        state = self._latest
        if state is None or state.loop is not loop:
            state = self._loops.get(loop)
            if state is None:
                self._loops = {other: kept for other, kept in self._loops.items() if not other.is_closed()}
                state = self._loops[loop] = _Loop(
                    loop, self._client_certificate, self._limits, self._drain, self._rules
                )
            self._latest = state
        return state


def only_server(backend: AnyBackend) -> Backend:
    """The backend, if it is a single server.

    Raises:
        UpstreamUnreachable: it is none.
    """
    if isinstance(backend, BalancedBackend):
        raise UpstreamUnreachable("this transport reaches single servers only: put BalancedTransport around it")
    if not isinstance(backend, Backend):
        raise UpstreamUnreachable("this transport reaches servers only, no application in this process")
    return backend


def repeatable(request: UpstreamRequest) -> bool:
    """Whether it does no harm when the backend gets it twice, and all of it is at hand."""
    return request.method in _REPEATABLE and request.body is None and not request.content


def request_head(authority: bytes, request: UpstreamRequest) -> bytes:
    """The request's head. The last guard: nothing in it can have brought a line or a word of its own.

    Raises:
        StatusError: 400, a target or a field that cannot be sent.
    """
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, request.target, authority)]
    lines += [b"%b: %b\r\n" % field for field in request.headers]
    length = request.content_length
    if request.body is None and (request.content or length is not None):
        length = len(request.content)
    if length is not None:
        lines.append(b"Content-Length: %d\r\n" % length)
    elif request.body is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    expected = len(lines) + 1
    if (
        head.count(b"\r") != expected
        or head.count(b"\n") != expected
        or len(head.translate(None, _CONTROLS)) != len(head)
        or lines[0].count(b" ") != 3
    ):
        raise StatusError(400, "BadRequest", "the request has a target or a header field that cannot be sent")
    return head
