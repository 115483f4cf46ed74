"""What the tests of the proxy share: a caller, a backend's address, and a proxy before a scripted backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.backends import AnyBackend, Backend, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.proxy import ProxyMiddleware
from aggmw.testing import Client, ScriptedBackend, WebSocket

NAME = "v1alpha1.wardle.example.com"
ALICE = Identity("alice", "uid-1", ("dev", "ops"), {"scopes": ("read",)})
GET = UpstreamRequest(b"GET", b"/a")


def backend_of(scripted: ScriptedBackend, **changed: Any) -> Backend:
    """Where a scripted backend listens, as the proxy is told."""
    fields: dict[str, Any] = {"name": NAME, "host": scripted.host, "port": scripted.port, "tls": False}
    return Backend(**{**fields, **changed})


def parsed(exchange: Exchange) -> RequestInfo:
    """What the request_info stage would leave, without its refusals."""
    scope = exchange.scope
    path, query = scope["raw_path"], scope["query_string"]
    watch = b"watch=" in query
    return RequestInfo(
        is_resource=True,
        verb="watch" if watch else "get",
        method=scope.get("method", "GET"),
        path=scope["path"],
        target=path + b"?" + query if query else path,
        long_running=watch,
        timeout=None if watch else 60.0,
    )


class Before:
    """Stands for the stages in front of the proxy."""

    def __init__(self, backend: AnyBackend | None, identity: Identity | None, request_id: str) -> None:
        self.backend = backend
        self.identity = identity
        self.request_id = request_id

    async def decide(self, exchange: Exchange) -> Answer | None:
        exchange.backend = self.backend
        exchange.routed = True
        exchange.identity = self.identity
        exchange.verdict = Verdict(Outcome.ALLOW)
        exchange.request_info = parsed(exchange)
        exchange.request_id = self.request_id
        return None


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """The wrapped application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"core"})


def proxied(
    transport: UpstreamTransport,
    backend: AnyBackend | None,
    *,
    identity: Identity | None = ALICE,
    request_id: str = "id-1",
    drain: Any = None,
    **client: Any,
) -> Client:
    """A client of a proxy in its stack."""
    proxy = ProxyMiddleware(core, transport=transport, drain=drain)
    return Client(Stages(proxy, Before(backend, identity, request_id)), **client)


@asynccontextmanager
async def relayed(
    transport: UpstreamTransport,
    *script: object,
    target: str | bytes = "/a",
    headers: Any = (),
    subprotocols: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[tuple[ScriptedBackend, WebSocket]]:
    """A backend that does what the script says, and a WebSocket to it through a proxy."""
    async with (
        ScriptedBackend(script) as backend,
        proxied(transport, backend_of(backend), **options).websocket(target, headers, subprotocols) as socket,
    ):
        yield backend, socket


async def dead_port() -> int:
    """A port at which nobody listens."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def whole(response: UpstreamResponse) -> bytes:
    """The rest of a body; the response is closed."""
    try:
        pieces = []
        while piece := await response.read():
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        await response.aclose()
