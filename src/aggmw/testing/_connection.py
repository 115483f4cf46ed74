"""One connection of a scripted backend."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from aggmw.testing._waiting import Signal
from aggmw.testing.raw import body_length, chunk_length

__all__ = ["BackendConnection", "PeerGone"]

_HIGH_WATER = 65536


class PeerGone(ConnectionError):
    """The peer ended or broke the connection before what was awaited."""


class BackendConnection(asyncio.Protocol):
    """A connection, as the steps of a script use it.

    What arrives is buffered up to 64 KiB; beyond that the peer has to wait until a step reads.

    Attributes:
        received: every byte received so far, read by a step or not.
        exchanges: every whole request that `read_request` has read (handlers get theirs from it).
        sent: how many bytes `send` has handed to the transport.
        eof: whether the peer has ended its side properly.
        lost: what broke the connection, or None.
        closed: set once the connection is gone.
    """

    def __init__(
        self, connected: Callable[[BackendConnection], None], context: ssl.SSLContext | None, *, limit: float | None
    ) -> None:
        self.received = bytearray()
        self.exchanges: list[bytes] = []
        self.sent = 0
        self.eof = False
        self.lost: Exception | None = None
        self.closed = asyncio.Event()
        self._connected = connected
        self._context = context
        self._limit = limit
        self._unread = bytearray()
        self._changed = Signal()
        self._writable = True
        self._reading = 0
        self._transport: asyncio.Transport = asyncio.Transport()

    @property
    def peer(self) -> tuple[Any, ...]:
        """The address of the other end, as the socket tells it."""
        peer: tuple[Any, ...] = self._transport.get_extra_info("peername")
        return peer

    @property
    def certificate(self) -> bytes | None:
        """The peer's certificate in DER, or None."""
        stream = self._tls()
        return None if stream is None else stream.getpeercert(binary_form=True)

    @property
    def server_name(self) -> str | None:
        """The server name that the peer asked for in the TLS handshake (SNI), or None."""
        name: str | None = getattr(self._tls(), "aggmw_server_name", None)
        return name

    @property
    def ended(self) -> bool:
        """Whether nothing more can arrive."""
        return self.eof or self.closed.is_set()

    async def secure(self) -> None:
        """Do the TLS handshake, if there is to be one. Raises what the handshake raises."""
        if self._context is None:
            return
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self._transport, self, self._context, server_side=True)
        if secured is None:
            raise PeerGone("the peer left in the TLS handshake")
        self._transport = secured

    async def received_at_least(self, number: int) -> None:
        """Wait until so many bytes have been received in all. Raises AssertionError after the backend's limit."""
        await self._changed.until(
            lambda: len(self.received) >= number, limit=self._limit, waiting_for=f"{number} bytes at the backend"
        )

    async def gone(self) -> None:
        """Wait until the peer has ended or broken the connection. Raises AssertionError after the backend's limit."""
        await self._changed.until(lambda: self.ended, limit=self._limit, waiting_for="the peer to go away")

    async def expect(self, data: bytes) -> bytes:
        """Read up to and including `data`.

        Raises:
            PeerGone: the peer left without sending anything unread.
            AssertionError: it left having sent something else.
        """
        try:
            return await self.read_until(data)
        except PeerGone:
            if not self._unread:
                raise
            raise AssertionError(f"expected {data!r}, received {bytes(self._unread)!r}") from None

    async def read_until(self, separator: bytes) -> bytes:
        """Read up to and including `separator`. Raises PeerGone."""
        await self._arrived(lambda: separator in self._unread)
        return self._take(self._unread.index(separator) + len(separator))

    async def read_exactly(self, number: int) -> bytes:
        """Read so many bytes. Raises PeerGone."""
        await self._arrived(lambda: len(self._unread) >= number)
        return self._take(number)

    async def read_some(self, most: int | None = None) -> bytes:
        """Read what is there, from one byte to `most`; b"" once the peer has ended its side or is gone."""
        try:
            await self._arrived(lambda: self._unread)
        except PeerGone:
            return b""
        return self._take(len(self._unread) if most is None else min(most, len(self._unread)))

    async def read_to_end(self) -> bytes:
        """Read until the peer ends its side or is gone."""
        pieces = []
        while piece := await self.read_some():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_request(self) -> bytes:
        """Read one whole request, as raw bytes. Raises PeerGone."""
        head = await self.read_until(b"\r\n\r\n")
        length = body_length(head)
        request = head + (await self._read_chunks() if length is None else await self.read_exactly(length))
        self.exchanges.append(request)
        return request

    async def send(self, data: bytes) -> None:
        """Send; returns when the transport has room for more. Raises PeerGone."""
        if self.closed.is_set() or self._transport.is_closing():
            raise PeerGone("the connection is closed")
        self._transport.write(data)
        self.sent += len(data)
        await self._changed.until(
            lambda: self._writable or self.closed.is_set(), limit=None, waiting_for="room to send"
        )

    def close(self) -> None:
        """Close after what was sent has gone out."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what has not gone out is lost."""
        if not self.closed.is_set():  # asyncio's transport forgets its loop when it is closed
            self._transport.abort()

    def reset(self) -> None:
        """Break the connection with a TCP RST."""
        stream: socket.socket = self._transport.get_extra_info("socket")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def _read_chunks(self) -> bytes:
        body = b""
        while True:
            line = await self.read_until(b"\r\n")
            length = chunk_length(line)
            body += line
            if length == 0:
                break
            body += await self.read_exactly(length + 2)
        while True:  # trailers, and the empty line
            line = await self.read_until(b"\r\n")
            body += line
            if line == b"\r\n":
                return body

    async def _arrived(self, condition: Callable[[], object]) -> None:
        self._reading += 1
        self._flow()
        try:
            await self._changed.until(lambda: condition() or self.ended, limit=None, waiting_for="the peer")
        finally:
            self._reading -= 1
            self._flow()
        if not condition():
            raise PeerGone("the peer left before what was awaited")

    def _take(self, number: int) -> bytes:
        data = bytes(self._unread[:number])
        del self._unread[:number]
        self._flow()
        return data

    def _flow(self) -> None:
        if self._transport.is_closing():
            return
        if self._reading or len(self._unread) < _HIGH_WATER:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _tls(self) -> ssl.SSLObject | None:
        stream: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return stream

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._context is not None:
            transport.pause_reading()  # the first bytes belong to TLS
        self._connected(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        self._flow()
        self._changed.notify()

    def eof_received(self) -> bool:
        self.eof = True
        self._changed.notify()
        return self._tls() is None  # a TLS transport cannot stay half-open

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._changed.notify()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = error
        self.closed.set()
        self._changed.notify()
