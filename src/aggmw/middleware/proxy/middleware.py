"""ProxyMiddleware: forwards where a backend was left, and passes everything else on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from aggmw.asgi.exchanges import enter, inside, misuse
from aggmw.asgi.headers import first
from aggmw.asgi.lifespan import serve_lifespan
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.backends import (
    AnyBackend,
    Backend,
    BalancedBackend,
    LocalBackend,
    PathService,
    UpstreamRequest,
    UpstreamTransport,
    impersonated,
)
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.options import check_lookup, check_seam, check_type
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import CompositionError, MissingInput, StatusError
from aggmw.middleware.proxy.errors import NO_HANDSHAKE, USE_WEBSOCKET
from aggmw.middleware.proxy.forward import Forwarding
from aggmw.middleware.proxy.headers import IdentityFields, authority_of, forwards, sift, without_handshake
from aggmw.middleware.proxy.impersonating import ImpersonationFields
from aggmw.middleware.proxy.lifetimes import Lifetimes
from aggmw.middleware.proxy.paths import stripped
from aggmw.middleware.proxy.relay import Relay
from aggmw.middleware.proxy.transports.balanced import BalancedTransport
from aggmw.middleware.proxy.transports.http1 import Http1Transport
from aggmw.middleware.proxy.watching import Departures
from aggmw.objects.status import answer_of

__all__ = ["ProxyMiddleware"]

_HANDSHAKE_SECONDS = 60.0
"""For the answer to the handshake of a WebSocket, where the request has no deadline of its own."""


class ProxyMiddleware:
    """Forwards a request to the backend that the registry left, as the caller that authentication found out.

    What is sent is `RequestInfo.target`, byte for byte what was authorised. No redirect is followed, no cookie kept,
    nothing that was sent is repeated, except a safe request on a kept connection that closed without a byte.

    Args:
        app: gets every request for which there is no backend.
        transport: how backends are reached; who hands one in closes it. Without one it is an `Http1Transport` of its
            own in a `BalancedTransport`, closed when the lifespan ends. Where no lifespan comes by (mounts, Litestar's
            middlewares, which are made for each route besides), hand one in.
        backend: one backend for every request, or a function that finds it, instead of the registry's.
        request_info: replaces what the request_info stage leaves.
        identity: who asks, in place of what the authentication stage left.
        verdict: what was decided, in place of what the authorization stage left.
        anonymous: forward also without an identity and without a verdict, for plain services whose callers nobody
            needs to know; an API server must not be reached so.
        impersonation: tell the server of `backend` who asks by `Impersonate-*`, as a client of its own with the right
            to do so. Only for one server that is named here: its token must go nowhere else.
        drain: once begun, long streams get their proper end.
        max_stream_seconds: so old a watch or another long-running stream becomes at most, each between half of that and
            all of it; then it gets its proper end, and the client comes back. None: any age. However old, a stream ends
            when the credential does that opened it; whatever else is still being answered then is cut.

    Raises:
        ValueError: `max_stream_seconds` is not more than 0.
        ConfigurationError: a server that no token may be sent to.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        transport: UpstreamTransport | None = None,
        backend: AnyBackend | Callable[[Exchange], AnyBackend | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo] | None = None,
        identity: Callable[[Exchange], Identity | None] | None = None,
        verdict: Callable[[Exchange], Verdict | None] | None = None,
        anonymous: bool = False,
        impersonation: Impersonate | None = None,
        drain: Drain | None = None,
        max_stream_seconds: float | None = None,
    ) -> None:
        if transport is not None:
            check_seam("transport", transport, "send")
        if callable(backend) and not isinstance(backend, type):
            check_lookup("backend", backend)
        elif backend is not None:
            check_type("backend", backend, Backend, LocalBackend, BalancedBackend)
        if impersonation is not None:
            check_type("impersonation", impersonation, Impersonate)
            if not isinstance(backend, Backend):
                raise TypeError("impersonation needs backend=Backend…: its token goes to one server that is named")
            backend = impersonated(backend, impersonation, "impersonation")
        for option, look_up in (("request_info", request_info), ("identity", identity), ("verdict", verdict)):
            check_lookup(option, look_up)
        if max_stream_seconds is not None and not max_stream_seconds > 0:
            raise ValueError("max_stream_seconds must be more than 0 seconds, or None")
        needs: dict[str, object] = {"request_info": request_info, "registry": backend}
        if not anonymous:
            needs |= {"authentication": identity, "authorization": verdict}
        self.aggmw_stages = stand("proxy", app, needs=[name for name, given in needs.items() if given is None])
        self._app = app
        self._inside = inside(app)
        self._owns_transport = transport is None
        self._transport = transport or BalancedTransport(Http1Transport())
        self._find = backend if callable(backend) else (lambda exchange: backend) if backend else None
        self._request_info = request_info
        self._identity = identity
        self._verdict = verdict
        self._anonymous = anonymous
        self._lifetimes = Lifetimes(drain, max_stream_seconds)
        self._departures = Departures()
        self._identities = IdentityFields()
        self._impersonation = impersonation
        self._impersonations = ImpersonationFields()

    def __repr__(self) -> str:
        return f"ProxyMiddleware({self._transport!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self._owns_transport:
            await serve_lifespan(self._app, self._closing, scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            exchange = enter(scope)
            backend = _left(exchange) if self._find is None else self._find(exchange)
        except CompositionError as error:
            await respond(scope, send, misuse(error, scope.get("aggmw.request_id", "")))
            return
        if backend is None:
            await self._app(scope, receive, send)
        else:
            await self._forward(exchange, backend, receive, send)

    async def aggmw_take(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """As when called, with the exchange at hand."""
        backend = exchange.backend
        if backend is None or self._find is not None:
            try:
                backend = _left(exchange) if self._find is None else self._find(exchange)
            except CompositionError as error:
                await respond(exchange.scope, send, misuse(error, exchange.request_id))
                return
        if backend is None:
            await self._inside(exchange, receive, send)
        else:
            await self._forward(exchange, backend, receive, send)

    def _forward(
        self, exchange: Exchange, backend: AnyBackend, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        """What is to be awaited: forwarding, or an answer."""
        scope = exchange.scope
        opening = scope["type"] == "websocket"
        service = exchange.path_service if backend is exchange.backend else None
        prefix = b"" if service is None else _prefix(scope, service)
        try:
            outgoing = self._outgoing(exchange, backend, scope, service, prefix)
        except StatusError as error:
            outgoing = answer_of(error)
        except CompositionError as error:
            outgoing = misuse(error, exchange.request_id)
        if isinstance(outgoing, Answer):
            return respond(scope, send, outgoing)
        request, chunked, whole = outgoing
        if opening:
            return Relay(
                self._transport,
                self._lifetimes,
                backend,
                exchange.request_id,
                scope,
                receive,
                send,
                service,
                prefix,
                exchange.connection.when_gone,
                exchange.own_cookies,
            ).run(request, exchange.subprotocols)
        return Forwarding(
            self._transport,
            self._departures,
            self._lifetimes,
            backend,
            exchange.request_id,
            scope,
            receive,
            send,
            service,
            prefix,
            exchange.connection.when_gone,
            exchange.own_cookies,
        ).run(request, chunked=chunked, whole=whole)

    def _outgoing(
        self, exchange: Exchange, backend: AnyBackend, scope: Scope, service: PathService | None, prefix: bytes
    ) -> tuple[UpstreamRequest, bool, bool] | Answer:
        """What is to be sent, whether a body of unknown length follows, and whether the time-out holds for the whole
        answer, as it does in Kubernetes; or why nothing is sent."""
        info = exchange.request_info if self._request_info is None else self._request_info(exchange)
        if info is None:
            raise MissingInput("proxy", "the request info", "request_info")
        look_up = None if exchange.impersonator is not None else self._identity
        caller = exchange.identity if look_up is None else look_up(exchange)
        identity: Headers = ()
        if service is not None:
            acting = service.impersonation
        else:
            acting = exchange.telling if backend is exchange.backend else self._impersonation
        if caller is not None:
            identity = self._identities.of(caller) if acting is None else self._impersonations.of(caller, acting)
        elif not self._anonymous or acting is not None:  # never the front proxy itself in place of nobody
            raise MissingInput("proxy", "an identity", "authentication")
        if not self._anonymous:
            verdict = exchange.verdict if self._verdict is None else self._verdict(exchange)
            if verdict is None or verdict.outcome is not Outcome.ALLOW:
                raise MissingInput("proxy", "a verdict that allows", "authorization")
        asked = target = info.target if exchange.target is None else exchange.target
        incoming = sift(exchange.headers)
        if service is not None and service.strip_prefix:
            target = stripped(target, service)
        proto = scope.get("scheme", "http")
        long_running, timeout = info.long_running, info.timeout
        if scope["type"] == "websocket":
            incoming = without_handshake(incoming)
            proto = "https" if proto == "wss" else "http"
            long_running, timeout = True, info.timeout or _HANDSHAKE_SECONDS
        elif incoming.upgrade:
            wanted = [each.strip() for each in (first(exchange.headers, b"upgrade") or b"").lower().split(b",")]
            return NO_HANDSHAKE if b"websocket" in wanted else USE_WEBSOCKET
        client = exchange.connection.peer or _client(scope)
        host = b""
        if service is not None or isinstance(backend, LocalBackend):
            # Not an API server with an address of its own: it should know itself as its clients do.
            host = forwarded = first(exchange.headers, b"host") or b""
            if prefix:
                incoming.kept.append((b"X-Forwarded-Prefix", prefix))
        else:
            forwarded = authority_of(backend)
        peer = client[0] if client else ""
        headers = forwards(incoming, forwarded, identity, asked, peer, proto, exchange.request_id)
        request = UpstreamRequest(
            info.method.encode("ascii"),
            target,
            headers,
            b"",
            None,
            incoming.length,
            long_running,
            timeout,
            caller,
            client,
            host,
        )
        # A plain service may have downloads and events without an end, on whatever path.
        return request, incoming.chunked, info.is_resource and service is None and not self._anonymous

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._transport.aclose()


def _client(scope: Scope) -> tuple[str, int] | None:
    """Who the server says is at the other end. granian gives the port as text."""
    if not (client := scope.get("client")):
        return None
    host, port = client
    return host, int(port) if str(port).isdigit() else 0


def _prefix(scope: Scope, service: PathService) -> bytes:
    """What clients have in front of the path that is sent: the mount, and the service's own path where it is cut."""
    prefix: str = (scope.get("root_path") or "").rstrip("/")
    if service.strip_prefix:
        prefix += service.path.rstrip("/")
    return quote(prefix).encode("ascii")


def _left(exchange: Exchange) -> AnyBackend | None:
    if exchange.backend is None and not exchange.routed:
        raise MissingInput("proxy", "a backend, or the word that there is none", "registry")
    return exchange.backend
