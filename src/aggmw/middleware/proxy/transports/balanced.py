"""BalancedTransport: services with several endpoints, over a transport that reaches each of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from aggmw.asgi.headers import first
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import (
    AnyBackend,
    BalancedBackend,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTransport,
)
from aggmw.contracts.metrics import Sample, Source
from aggmw.contracts.websockets import Close, UpstreamWebSocket, connector
from aggmw.errors import UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy.balance import Attempt, Balance
from aggmw.middleware.proxy.transports.http1 import repeatable
from aggmw.middleware.proxy.transports.statistics import balance_samples

__all__ = ["BalancedTransport"]

_T = TypeVar("_T", UpstreamResponse, "UpstreamWebSocket | UpstreamResponse")

_FAILED: Final = frozenset({502, 503, 504})
_FAIR_SECONDS = 5.0
"""Who gives an endpoint less time than this learns nothing of it by a time-out. Callers choose `?timeout=`, and must
not be able to have endpoints left out by that."""

_FORGET_SECONDS = 600.0
"""So long nobody asked for a service, and it is forgotten: perhaps it has other endpoints by now."""


class BalancedTransport:
    """Sends what is for a `BalancedBackend` to one of its endpoints, and everything else as it is.

    State per running loop. Two services of the same endpoints share it, but for their names.

    Args:
        servers: reaches single servers.
        chance: between 0 and 1, differently each time.
    """

    def __init__(self, servers: UpstreamTransport, *, chance: Callable[[], float] = random.random) -> None:
        self.servers = servers
        self._chance = chance
        self._loops: dict[asyncio.AbstractEventLoop, dict[BalancedBackend, Balance]] = {}

    def __repr__(self) -> str:
        found = {id(balance): balance for balances in self._loops.values() for balance in balances.values()}
        return f"BalancedTransport({', '.join([repr(self.servers), *map(repr, found.values())])})"

    @property
    def balances(self) -> tuple[Balance, ...]:
        """What is known on the running loop, each once."""
        found = {id(balance): balance for balance in self._balances().values()}
        return tuple(found.values())

    def samples(self) -> Iterator[Sample]:
        """As `Source.samples`: those of the transport for servers, and of each endpoint of several."""
        if isinstance(self.servers, Source):
            yield from self.servers.samples()
        self._forget()
        yield from balance_samples(self.balances)

    def send(self, backend: AnyBackend, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamResponse]:
        """As `UpstreamTransport.send`.

        Raises:
            UpstreamBusy: `Balancing.requests` are under way.
        """
        if isinstance(backend, BalancedBackend):
            return self._send(backend, request)
        return self.servers.send(backend, request)

    def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> Coroutine[Any, Any, UpstreamWebSocket | UpstreamResponse]:
        """As `UpstreamWebSocketTransport.connect`. No handshake is repeated that was sent: a command may be behind it.

        Raises:
            StatusError: 501, the transport for servers carries no WebSockets.
            UpstreamBusy: `Balancing.requests` are under way.
        """
        if isinstance(backend, BalancedBackend):
            return self._connect(backend, request, subprotocols)
        return connector(self.servers).connect(backend, request, subprotocols)

    async def aclose(self) -> None:
        """Close the transport for servers, and forget what was learned on the running loop."""
        self._loops.pop(asyncio.get_running_loop(), None)
        await self.servers.aclose()

    async def _send(self, backend: BalancedBackend, request: UpstreamRequest) -> UpstreamResponse:
        attempt, response = await self._exchange(backend, request, self.servers.send, safe=repeatable(request))
        good = response.status not in _FAILED
        if good and (response.content is not None or request.long_running or attempt.probe):
            attempt.succeeded()
            good = False
        return _Response(attempt, response, good=good)

    async def _connect(
        self, backend: BalancedBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> UpstreamWebSocket | UpstreamResponse:
        servers = connector(self.servers)

        def connect(
            endpoint: AnyBackend, handshake: UpstreamRequest
        ) -> Coroutine[Any, Any, UpstreamWebSocket | UpstreamResponse]:
            return servers.connect(endpoint, handshake, subprotocols)

        attempt, answer = await self._exchange(backend, request, connect, safe=False)
        if isinstance(answer, UpstreamWebSocket):
            attempt.succeeded()
            return _WebSocket(attempt, answer)
        return _Response(attempt, answer, good=answer.status not in _FAILED)

    async def _exchange(
        self,
        backend: BalancedBackend,
        request: UpstreamRequest,
        send: Callable[[AnyBackend, UpstreamRequest], Awaitable[_T]],
        *,
        safe: bool,
    ) -> tuple[Attempt, _T]:
        """Ask an endpoint, and others in its place as far as that may be."""
        trial = _Trial(self._balance(backend), request, safe=safe)
        while True:
            attempt = trial.attempt
            try:
                answer = await send(attempt.endpoint.backend, trial.outgoing())
            except UpstreamError as error:
                if not trial.goes_on(error):
                    raise
            except BaseException:
                attempt.over()
                raise
            else:
                if getattr(answer, "status", 101) not in _FAILED:
                    return attempt, answer
                if not trial.goes_on(None):
                    return attempt, answer
                try:
                    await answer.aclose()
                except BaseException:
                    trial.attempt.over()
                    raise
                finally:
                    attempt.over()

    def _balances(self) -> dict[BalancedBackend, Balance]:
        loop = asyncio.get_running_loop()
        balances = self._loops.get(loop)
        if balances is None:
            self._loops = {other: kept for other, kept in self._loops.items() if not other.is_closed()}
            balances = self._loops[loop] = {}
        return balances

    def _balance(self, backend: BalancedBackend) -> Balance:
        balances = self._balances()
        balance = balances.get(backend)
        if balance is None:
            self._forget()
            shared = replace(backend, name="")
            balance = next((kept for each, kept in balances.items() if replace(each, name="") == shared), None)
            if balance is None:
                loop = asyncio.get_running_loop()
                # Looked up each time, because a virtual clock replaces the method.
                balance = Balance(backend, lambda: loop.time(), self._chance)
            balances[backend] = balance
        return balance

    def _forget(self) -> None:
        balances = self._balances()
        latest = asyncio.get_running_loop().time() - _FORGET_SECONDS
        for unused in [each for each, kept in balances.items() if not kept.in_flight and kept.used_at < latest]:
            del balances[unused]


class _Trial:
    """One request on its way from endpoint to endpoint.

    Args:
        balance: knows the endpoints.
        request: with the time-out that holds for all attempts together.
        safe: whether it may be sent again.

    Attributes:
        attempt: the present one.

    Raises:
        UpstreamBusy: it is not let in.
    """

    __slots__ = (
        "_asked",
        "_balance",
        "_body",
        "_deadline",
        "_hurried",
        "_key",
        "_loop",
        "_request",
        "_safe",
        "_timeout",
        "attempt",
    )

    def __init__(self, balance: Balance, request: UpstreamRequest, *, safe: bool) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        balance.admit(now)
        self._balance = balance
        self._safe = safe
        self._timeout = request.timeout
        self._deadline = None if request.timeout is None else now + request.timeout
        self._hurried = False
        self._key = _key(balance.options.sticky, request) if balance.options.sticky else b""
        self._body: _Body | None = None
        if request.body is not None:
            self._body = _Body(request.body)
            request = replace(request, body=self._body)
        self._request = request
        self.attempt = balance.first(self._key, safe=safe and not request.long_running, now=now)
        self._asked = [self.attempt.endpoint]

    def outgoing(self) -> UpstreamRequest:
        """The request for the present attempt."""
        request, timeout, patience = self._request, self._timeout, self._balance.options.attempt_seconds
        self._hurried = (
            patience is not None
            and (timeout is None or patience < timeout)
            and self._safe
            and not request.long_running
            and self._more()
            and bool(self._balance.untried(self._asked))
            and self._balance.budget.left(self._loop.time())
        )
        if self._hurried:
            timeout = patience
        return request if timeout == request.timeout else replace(request, timeout=timeout)

    def goes_on(self, error: UpstreamError | None) -> bool:
        """Whether another endpoint is to be asked; `attempt` is the one there then.

        Args:
            error: what the present attempt came to; None: an answer that says it failed, which is still to be closed.
        """
        attempt = self.attempt
        endpoint = attempt.endpoint
        if error is None or _tells(error, None if self._hurried else self._timeout):
            attempt.failed()
        now = self._loop.time()
        following: Attempt | None = None
        if self._more() and (self._deadline is None or now < self._deadline):
            if isinstance(error, UpstreamUnreachable) and (self._body is None or not self._body.begun):
                following = self._balance.another(self._key, self._asked)
            elif self._safe:
                if not self._balance.budget.left(now):
                    endpoint.refused += 1
                elif (following := self._balance.another(self._key, self._asked)) is not None:
                    self._balance.budget.take(now)
        if error is not None:
            attempt.over()
        if following is None:
            return False
        endpoint.retried += 1
        self._asked.append(following.endpoint)
        self.attempt = following
        if self._deadline is not None:
            self._timeout = self._deadline - now
        return True

    def _more(self) -> bool:
        """Whether the number of endpoints lets another attempt follow this one."""
        asked = len(self._asked)
        return asked <= self._balance.options.retries and asked < len(self._balance.endpoints)


class _Body:
    """A request's body, and whether anything was taken from it."""

    __slots__ = ("_body", "begun")

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.begun = False

    def __aiter__(self) -> _Body:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        self.begun = True
        return self._body.__anext__()

    async def aclose(self) -> None:
        """Nobody goes on with it."""
        self.begun = True
        close: Any = getattr(self._body, "aclose", None)
        if close is not None:
            await close()


class _Response:
    """An answer that is under way at its endpoint until it is closed.

    Its head alone is no success where a body follows. That it was closed without having failed is one, unless something
    of the length was missing that the head says: then its client has left, perhaps because nothing came any more.

    Args:
        attempt: what it came of.
        response: as it came.
        good: whether its end is still to show that the endpoint works.
    """

    __slots__ = ("_attempt", "_good", "_left", "_response", "content", "headers", "status")

    def __init__(self, attempt: Attempt, response: UpstreamResponse, *, good: bool) -> None:
        self._attempt = attempt
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.content = response.content
        self._good = good
        self._left = _length(response.headers) if good else 0

    async def read(self) -> bytes:
        """As `UpstreamResponse.read`."""
        try:
            piece = await self._response.read()
        except UpstreamError:
            self._good = False
            self._attempt.failed()
            raise
        self._left = self._left - len(piece) if piece else 0  # the answer to HEAD has a length, and ends at once
        return piece

    def end(self) -> None:
        """As `UpstreamResponse.end`."""
        self._response.end()

    async def aclose(self) -> None:
        """As `UpstreamResponse.aclose`."""
        try:
            await self._response.aclose()
        finally:
            if self._good and self._left <= 0:
                self._attempt.succeeded()
            self._attempt.over()


class _WebSocket:
    """A WebSocket that is under way at its endpoint until it is closed."""

    __slots__ = ("_attempt", "_socket", "headers", "subprotocol")

    def __init__(self, attempt: Attempt, socket: UpstreamWebSocket) -> None:
        self._attempt = attempt
        self._socket = socket
        self.headers: Headers = socket.headers
        self.subprotocol = socket.subprotocol

    @property
    def fault(self) -> str:
        """As `UpstreamWebSocket.fault`."""
        return self._socket.fault

    def receive(self) -> Coroutine[Any, Any, str | bytes | Close]:
        """As `UpstreamWebSocket.receive`."""
        return self._socket.receive()

    def send(self, message: str | bytes) -> Coroutine[Any, Any, None]:
        """As `UpstreamWebSocket.send`."""
        return self._socket.send(message)

    def close(self, close: Close) -> Coroutine[Any, Any, None]:
        """As `UpstreamWebSocket.close`."""
        return self._socket.close(close)

    async def aclose(self) -> None:
        """As `UpstreamWebSocket.aclose`."""
        try:
            await self._socket.aclose()
        finally:
            self._attempt.over()


def _key(sticky: str, request: UpstreamRequest) -> bytes:
    """By what a caller is kept at an endpoint; empty when it has nothing of the kind."""
    if sticky == "identity" and request.identity is not None:
        return b"user:" + request.identity.user.encode()
    return b"client:" + request.client[0].encode() if request.client is not None else b""


def _length(headers: Headers) -> int:
    """Of the body, as far as the head says; 0 when it says nothing of it."""
    value = first(headers, b"content-length")
    return int(value) if value is not None and value.isdigit() else 0


def _tells(error: UpstreamError, timeout: float | None) -> bool:
    """Whether an error says anything of the endpoint."""
    if isinstance(error, UpstreamBusy):
        return False
    late = isinstance(error, UpstreamTimeout) or isinstance(error.__cause__, TimeoutError)
    return not late or timeout is None or timeout >= _FAIR_SECONDS
