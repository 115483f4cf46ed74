"""ProxyMiddleware: forwards where a backend was left, and passes everything else on."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from aggmw.asgi.exchanges import enter
from aggmw.asgi.headers import first
from aggmw.asgi.responses import respond
from aggmw.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, LocalBackend, PathService, UpstreamRequest, UpstreamTransport
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput, StatusError
from aggmw.middleware.proxy.errors import NO_WEBSOCKET, USE_WEBSOCKET
from aggmw.middleware.proxy.forward import Forwarding
from aggmw.middleware.proxy.headers import IdentityFields, authority_of, forwards, sift
from aggmw.middleware.proxy.paths import stripped
from aggmw.middleware.proxy.watching import Departures
from aggmw.objects.status import answer_of

__all__ = ["ProxyMiddleware"]


class ProxyMiddleware:
    """Forwards a request to the backend that the registry left, as the caller that authentication found out.

    What is sent is `RequestInfo.target`, byte for byte what was authorised. No redirect is followed, no cookie kept,
    nothing that was sent is repeated, except a safe request on a kept connection that closed without a byte.

    Args:
        app: gets every request for which there is no backend.
        transport: how backends are reached; its owner closes it.
        backend: one backend for every request, or a function that finds it, instead of the registry's.
        request_info: replaces what the request_info stage leaves.
        anonymous: forward also without an identity and without a verdict, for plain services whose callers nobody
            needs to know; an API server must not be reached so.
        drain: once begun, long streams get their proper end.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        transport: UpstreamTransport,
        backend: AnyBackend | Callable[[Exchange], AnyBackend | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo] | None = None,
        anonymous: bool = False,
        drain: Drain | None = None,
    ) -> None:
        self._app = app
        self._transport = transport
        self._find = backend if callable(backend) else (lambda exchange: backend) if backend else _left
        self._request_info = request_info or _request_info
        self._anonymous = anonymous
        self._drain = drain
        self._departures = Departures()
        self._identities = IdentityFields()

    def __repr__(self) -> str:
        return f"ProxyMiddleware → {self._app!r}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = enter(scope)
        backend = self._find(exchange)
        if backend is None:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await respond(scope, send, NO_WEBSOCKET)
            return
        service = exchange.path_service if backend is exchange.backend else None
        prefix = b"" if service is None else _prefix(scope, service)
        outgoing = self._outgoing(exchange, backend, scope, service, prefix)
        if isinstance(outgoing, Answer):
            await respond(scope, send, outgoing)
            return
        request, chunked = outgoing
        await Forwarding(
            self._transport,
            self._departures,
            self._drain,
            backend,
            exchange.request_id,
            scope,
            receive,
            send,
            service,
            prefix,
        ).run(request, chunked=chunked)

    def _outgoing(
        self, exchange: Exchange, backend: AnyBackend, scope: Scope, service: PathService | None, prefix: bytes
    ) -> tuple[UpstreamRequest, bool] | Answer:
        """What is to be sent, and whether a body of unknown length follows; or why nothing is."""
        info = self._request_info(exchange)
        identity: Headers = ()
        if exchange.identity is not None:
            identity = self._identities.of(exchange.identity)
        elif not self._anonymous:
            raise MissingInput("proxy", "an identity", "authentication")
        if not self._anonymous and (exchange.verdict is None or not exchange.verdict.allowed):
            raise MissingInput("proxy", "a verdict that allows", "authorization")
        asked = target = info.target if exchange.target is None else exchange.target
        try:
            incoming = sift(exchange.headers)
            if service is not None and service.strip_prefix:
                target = stripped(target, service)
        except StatusError as error:
            return answer_of(error)
        if incoming.upgrade:
            return USE_WEBSOCKET
        client = exchange.connection.peer or scope.get("client")
        proto = scope.get("scheme", "http")
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
            info.long_running,
            info.timeout,
            exchange.identity,
            client,
            host,
        )
        return request, incoming.chunked


def _prefix(scope: Scope, service: PathService) -> bytes:
    """What clients have in front of the path that is sent: the mount, and the service's own path where it is cut."""
    prefix: str = (scope.get("root_path") or "").rstrip("/")
    if service.strip_prefix:
        prefix += service.path.rstrip("/")
    return quote(prefix).encode("ascii")


def _left(exchange: Exchange) -> AnyBackend | None:
    return exchange.backend


def _request_info(exchange: Exchange) -> RequestInfo:
    if exchange.request_info is None:
        raise MissingInput("proxy", "the request info", "request_info")
    return exchange.request_info
