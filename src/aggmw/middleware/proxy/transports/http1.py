"""Http1Transport: the fast lane. HTTP/1.1 over our own pools, both bodies streamed, deadlines by one sweep."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakKeyDictionary

from aggmw.contracts.backends import Backend, UpstreamRequest, UpstreamResponse
from aggmw.contracts.drain import Drain
from aggmw.errors import UpstreamBroken, UpstreamError
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.pool import Pool, TransportLimits
from aggmw.net.tls import ClientCertificatePair

__all__ = ["Http1Transport", "TransportLimits"]

_SWEEP_SECONDS = 0.25
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class _Loop:
    """The pools of one event loop, and the timer that looks after them."""

    def __init__(self) -> None:
        self.pools: dict[Backend, Pool] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Sweep while there is anything to look after."""
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for pool in self.pools.values():
            if pool.sweep(now):
                self.watch()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pool in self.pools.values():
            pool.close()
        self.pools.clear()


class Http1Transport:
    """One exchange at a time per connection, connections shared by equal backends, state per running loop.

    A request on a kept connection that closes without a byte of an answer is repeated once on a new one if it is GET,
    HEAD or OPTIONS without a body, as Go's client does; nothing else that was sent is ever repeated.

    Args:
        client_certificate: shown to every backend that asks.
        limits: what one backend may cost.
        drain: once begun, no connection is kept.
    """

    def __init__(
        self,
        *,
        client_certificate: ClientCertificatePair | None = None,
        limits: TransportLimits | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._client_certificate = client_certificate
        self._limits = limits or TransportLimits()
        self._drain = drain
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return (
            f"Http1Transport({', '.join(repr(pool) for loop in self._loops.values() for pool in loop.pools.values())})"
        )

    async def send(self, backend: Backend, request: UpstreamRequest) -> UpstreamResponse:
        """As `UpstreamTransport.send`."""
        state = self._state()
        pool = self._pool(state, backend)
        head = _head(backend, request)
        connection = pool.idle()
        while True:
            if connection is None:
                connection = await pool.fresh()
            exchange = _Exchange(pool, connection, self._limits, long_running=request.long_running)
            try:
                state.watch()
                await exchange.send(head, request)
            except UpstreamError:
                stale = connection.reused and not connection.answered
                await exchange.aclose()
                if stale and request.body is None and not request.content and request.method in _REPEATABLE:
                    connection = None
                    continue
                raise
            except BaseException:
                await exchange.aclose()
                raise
            return exchange

    async def aclose(self) -> None:
        """Close every connection of every loop that still runs."""
        for loop, state in list(self._loops.items()):
            if not loop.is_closed():
                state.close()
        self._loops.clear()
        await asyncio.sleep(0)

    def _state(self) -> _Loop:
        loop = asyncio.get_running_loop()
        state = self._loops.get(loop)
        if state is None:
            state = self._loops[loop] = _Loop()
        return state

    def _pool(self, state: _Loop, backend: Backend) -> Pool:
        pool = state.pools.get(backend)
        if pool is None:
            # Two services of one server share its connections: the name is for error messages only.
            shared = replace(backend, name="")
            pool = state.pools.get(shared)
            if pool is None:
                pool = state.pools[shared] = Pool(backend, self._client_certificate, self._limits)
            state.pools[backend] = pool
        return pool


class _Exchange:
    """One request and its answer on one connection: the `UpstreamResponse`."""

    __slots__ = ("_closed", "_connection", "_limits", "_long_running", "_loop", "_pool", "_pump")

    def __init__(self, pool: Pool, connection: Connection, limits: TransportLimits, *, long_running: bool) -> None:
        self._pool = pool
        self._connection = connection
        self._limits = limits
        self._long_running = long_running
        self._loop = asyncio.get_running_loop()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def status(self) -> int:
        return self._connection.status

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self._connection.headers

    async def send(self, head: bytes, request: UpstreamRequest) -> None:
        """Send the request and wait for the head of the answer, which may come before the body is gone."""
        connection = self._connection
        connection.begin(head=request.method == b"HEAD")
        if request.timeout is not None:
            connection.deadline = self._loop.time() + request.timeout
        if request.body is None:
            connection.write(head + request.content)
        else:
            self._pump = self._loop.create_task(self._upload(head, request))
        await connection.head()
        self._renew()

    async def read(self) -> bytes:
        data = await self._connection.read()
        self._renew()
        return data

    def end(self) -> None:
        """Let whoever reads see a proper end now, whatever the backend would still have sent."""
        self._connection.end()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        pump, self._pump = self._pump, None
        if pump is not None and not pump.done():
            self._connection.abort()  # the upload did not finish: the connection is in the middle of it
            pump.cancel()
        self._pool.give_back(self._connection)
        if pump is not None:
            await asyncio.gather(pump, return_exceptions=True)

    def _renew(self) -> None:
        """The next piece has its own time; a watch has all the time there is."""
        connection = self._connection
        if self._long_running or connection.complete:
            connection.deadline = None
        else:
            connection.deadline = self._loop.time() + self._limits.silence_seconds

    async def _upload(self, head: bytes, request: UpstreamRequest) -> None:
        connection = self._connection
        body = request.body
        assert body is not None
        left = request.content_length
        try:
            async for chunk in body:
                if not chunk:
                    continue
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise UpstreamBroken("the request's body is longer than it said")
                else:
                    chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
                connection.write(head + chunk if head else chunk)
                head = b""
                await connection.writable()
            if left:
                raise UpstreamBroken("the request's body is shorter than it said")
            if request.content_length is None:
                head += b"0\r\n\r\n"
            if head:
                connection.write(head)
        except UpstreamError as error:
            connection.fail(error)
        except Exception:  # noqa: BLE001  the caller's body failed: its request must not seem whole
            connection.fail(UpstreamBroken("the request's body broke off"))


def _head(backend: Backend, request: UpstreamRequest) -> bytes:
    """The request's head. The last guard: no value can have brought a line of its own.

    Raises:
        UpstreamBroken: a field that would be two.
    """
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, request.target, backend.authority.encode("ascii"))]
    lines += [b"%b: %b\r\n" % field for field in request.headers]
    if request.content_length is not None:
        lines.append(b"Content-Length: %d\r\n" % request.content_length)
    elif request.body is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    expected = len(lines) + 1
    if head.count(b"\r") != expected or head.count(b"\n") != expected:
        raise UpstreamBroken("a header field of the request cannot be sent")
    return head
