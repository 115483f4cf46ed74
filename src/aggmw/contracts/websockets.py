"""WebSockets towards backends: how one ends, what an open one offers, and the seam for opening one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from aggmw.asgi.types import Headers
from aggmw.contracts.backends import AnyBackend, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.errors import StatusError

__all__ = ["Close", "UpstreamWebSocket", "UpstreamWebSocketTransport", "connector"]


class Close(NamedTuple):
    """How a WebSocket ended, or is to end (RFC 6455 §7.1.5, §7.4).

    Args:
        code: 1005 for a close frame without a code, 1006 for an end without a close frame; neither is ever on the wire.
        reason: at most 123 bytes of UTF-8.
    """

    code: int = 1000
    reason: str = ""


@runtime_checkable
class UpstreamWebSocket(Protocol):
    """An open WebSocket to a backend. Pings are answered behind this. Every one ends with `aclose`."""

    @property
    def subprotocol(self) -> str | None:
        """What the backend chose of the subprotocols that were offered."""
        ...

    @property
    def headers(self) -> Headers:
        """Of its answer to the handshake, all fields as received, names in lower case."""
        ...

    async def receive(self) -> str | bytes | Close:
        """The next message; once there are no more, how it ended, each time it is asked.

        What is wrong with the backend's frames is an end with 1006, and `fault` says why.
        """
        ...

    @property
    def fault(self) -> str:
        """What the backend did wrong, in words safe to show; "" when it did nothing wrong."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Send a message; done when the backend takes more. On one that has ended it is dropped."""
        ...

    async def close(self, close: Close) -> None:
        """Say so to the backend, 1005 by a frame without a code, and wait a few seconds until it has closed, too.

        What it still sends is dropped, and `receive` gives `close`; one that has ended keeps its own end.
        """
        ...

    async def aclose(self) -> None:
        """End the connection, at once and without a close frame where there was none. Never raises."""
        ...


@runtime_checkable
class UpstreamWebSocketTransport(Protocol):
    """What a transport offers besides `UpstreamTransport`, if it carries WebSockets."""

    async def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> UpstreamWebSocket | UpstreamResponse:
        """Open a WebSocket: one handshake on a connection of its own, which nobody else gets afterwards.

        No redirect is followed, no extension offered.

        Args:
            backend: where to.
            request: a GET without a body; its headers hold no `Sec-WebSocket-…`, `Connection` or `Upgrade`.
            subprotocols: to be offered, in order.

        Returns:
            The WebSocket, or the answer by which the backend refused it, whatever its status.

        Raises:
            UpstreamUnreachable: nothing was sent.
            UpstreamBroken, UpstreamTimeout: sent, without a usable answer: also a WebSocket with a wrong digest, a
                subprotocol or an extension that was not offered.
            StatusError: the request itself cannot be sent.
        """
        ...


def connector(transport: UpstreamTransport) -> UpstreamWebSocketTransport:
    """The transport, if it carries WebSockets.

    Raises:
        StatusError: 501.
    """
    if isinstance(transport, UpstreamWebSocketTransport):
        return transport
    raise StatusError(
        501, "NotImplemented", f"{type(transport).__name__}, which reaches the backend, carries no WebSockets"
    )
