"""One transport for all kinds of backends: servers, several servers, and applications in this process."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from aggmw.contracts.backends import (
    AnyBackend,
    Backend,
    LocalBackend,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTransport,
)
from aggmw.contracts.websockets import UpstreamWebSocket
from aggmw.middleware.proxy.transports.asgi import AsgiTransport
from aggmw.middleware.proxy.transports.balanced import BalancedTransport

__all__ = ["Transports"]


class Transports:
    """Asks the transport that reaches a kind of backend.

    Args:
        servers: reaches `Backend`s, and so the endpoints of `BalancedBackend`s.
        applications: reaches `LocalBackend`s.
    """

    def __init__(self, servers: UpstreamTransport, applications: AsgiTransport) -> None:
        self.servers = servers
        self.applications = applications
        self.balanced = BalancedTransport(servers)

    def __repr__(self) -> str:
        return f"Transports({self.servers!r}, {self.applications!r})"

    def send(self, backend: AnyBackend, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamResponse]:
        """As `UpstreamTransport.send`; no coroutine of its own, because every request comes through here."""
        if isinstance(backend, Backend):
            return self.servers.send(backend, request)
        if isinstance(backend, LocalBackend):
            return self.applications.send(backend, request)
        return self.balanced.send(backend, request)

    def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> Coroutine[Any, Any, UpstreamWebSocket | UpstreamResponse]:
        """As `UpstreamWebSocketTransport.connect`.

        Raises:
            StatusError: 501, the transport for servers carries no WebSockets.
        """
        if isinstance(backend, LocalBackend):
            return self.applications.connect(backend, request, subprotocols)
        return self.balanced.connect(backend, request, subprotocols)

    async def aclose(self) -> None:
        """Close all of them."""
        await self.applications.aclose()
        await self.balanced.aclose()
