"""The handshake of a WebSocket to a backend, on a connection of the pool that nobody gets afterwards (RFC 6455 §4.1).

CVE-2018-1002105: a backend that does not switch protocols has refused. Its answer is read as any other, and the
connection ends with it: nothing that the client sends ever follows a failed handshake.
"""

from __future__ import annotations

from collections.abc import Sequence

from aggmw.asgi.headers import first, values
from aggmw.asgi.types import Headers
from aggmw.contracts.websockets import Close
from aggmw.errors import UpstreamBroken
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.pool import Pool
from aggmw.net.websocket import WebSocket, accept_of

__all__ = ["BackendWebSocket", "Refusal", "check", "handshake"]

_CLOSE_SECONDS = 2.0
"""So long a backend may take to answer a close frame and to end the connection."""


def handshake(key: bytes, subprotocols: Sequence[str]) -> Headers:
    """The fields that make a request a handshake. No extension is offered: see `aggmw.net.websocket`."""
    fields = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", key),
        (b"Sec-WebSocket-Version", b"13"),
    ]
    if subprotocols:
        fields.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii", "replace")))
    return tuple(fields)


def check(headers: Headers, key: bytes, subprotocols: Sequence[str]) -> str | None:
    """The subprotocol that the backend chose with its 101, None for none.

    Raises:
        UpstreamBroken: that is no answer to this handshake, and why.
    """
    options = [option.strip() for value in values(headers, b"connection") for option in value.lower().split(b",")]
    if [value.lower() for value in values(headers, b"upgrade")] != [b"websocket"] or b"upgrade" not in options:
        raise UpstreamBroken("it switched to another protocol than WebSocket")
    if values(headers, b"sec-websocket-accept") != [accept_of(key)]:
        raise UpstreamBroken("its answer belongs to another WebSocket handshake")
    if first(headers, b"sec-websocket-extensions") is not None:
        raise UpstreamBroken("it chose a WebSocket extension that was not offered")
    chosen = values(headers, b"sec-websocket-protocol")
    if not chosen:
        return None
    subprotocol = chosen[0].decode("latin-1")
    if len(chosen) > 1 or subprotocol not in subprotocols:
        raise UpstreamBroken("it chose a WebSocket subprotocol that was not offered")
    return subprotocol


class BackendWebSocket(WebSocket):
    """An `UpstreamWebSocket`. It holds a slot of the pool until it is closed, as a watch does.

    Args:
        pool: gets the slot back.
        connection: behind its 101.
        subprotocol, headers: of the answer.
    """

    __slots__ = ("_connection", "_pool", "headers", "subprotocol")

    def __init__(self, pool: Pool, connection: Connection, subprotocol: str | None, headers: Headers) -> None:
        super().__init__(server=False)
        self._pool: Pool | None = pool
        self._connection = connection
        self.subprotocol = subprotocol
        self.headers = headers

    async def close(self, close: Close) -> None:
        """As `UpstreamWebSocket.close`."""
        self.begin_close(close)
        await self.closed(_CLOSE_SECONDS)

    async def aclose(self) -> None:
        """End the connection, and give the slot back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self._connection)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self._connection.connection_lost(exc)


class Refusal:
    """An `UpstreamResponse` that answers a handshake with something else than a WebSocket; its connection is not kept.

    Args:
        pool: gets the slot back.
        connection: behind the head of the answer.
        silence: seconds the backend may take between two pieces of the body.
    """

    __slots__ = ("_connection", "_pool", "_silence", "content", "headers", "status")

    def __init__(self, pool: Pool, connection: Connection, silence: float | None) -> None:
        self._pool: Pool | None = pool
        self._connection = connection
        self._silence = silence
        self.status = connection.status
        self.headers = connection.headers
        self.content = connection.whole

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        return await self._connection.read(self._silence) if self._pool is not None else b""

    def end(self) -> None:
        """Let whoever reads see a proper end now."""
        self._connection.end()

    async def aclose(self) -> None:
        """End the connection, and give the slot back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            self._connection.abort()
            pool.give_back(self._connection)
