"""One request and its answer on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aggmw.asgi.types import Headers
from aggmw.contracts.backends import UpstreamRequest
from aggmw.errors import StatusError
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.pool import Pool

__all__ = ["Exchange"]

_WRONG_LENGTH = "the request's body is not as long as its Content-Length says"
_CUT = "the request's body broke off"


class Exchange:
    """An `UpstreamResponse`, once `begin` has returned.

    Args:
        pool: gets the connection back.
        connection: for this exchange alone.
        silence: seconds the backend may take between two pieces of the body; None for ever.
    """

    __slots__ = ("_closed", "_connection", "_pool", "_silence", "_upload", "content", "headers", "status")

    def __init__(self, pool: Pool, connection: Connection, silence: float | None) -> None:
        self._pool = pool
        self._connection = connection
        self._silence = silence
        self._upload: asyncio.Task[None] | None = None
        self._closed = False
        self.status = 0
        self.headers: Headers = ()
        self.content: bytes | None = None

    def begin(self, head: bytes, request: UpstreamRequest, deadline: float | None) -> None:
        """Send the request, or begin to.

        Raises:
            UpstreamUnreachable: nothing was sent.
        """
        connection = self._connection
        if request.body is None:
            connection.begin(request.method == b"HEAD", deadline, head + request.content)
        else:
            connection.begin(request.method == b"HEAD", deadline)
            uploading = _upload(connection, head, request.body, request.content_length)
            self._upload = asyncio.get_running_loop().create_task(uploading, name="sending a request's body")

    def answered(self) -> None:
        """The head of the answer has come, and the body if it is short."""
        connection = self._connection
        self.status, self.headers, self.content = connection.status, connection.headers, connection.whole

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        if self._closed:
            return b""  # the connection may be another's by now
        return await self._connection.read(self._silence)

    def end(self) -> None:
        """Let whoever reads see a proper end now, whatever the backend would still have sent."""
        if not self._closed:
            self._connection.end()

    async def aclose(self) -> None:
        """Give the connection back. Nothing that matters comes after an await: no cancellation can lose it."""
        if self._closed:
            return
        self._closed = True
        upload, self._upload = self._upload, None
        if upload is not None and not upload.done():
            self._connection.abort()  # it is in the middle of a request
            upload.cancel()
        self._pool.give_back(self._connection)
        if upload is not None:
            await asyncio.gather(upload, return_exceptions=True)


async def _upload(connection: Connection, head: bytes, body: AsyncIterator[bytes], length: int | None) -> None:
    """Send head and body as the backend takes them. A body that fails breaks the connection: it must not seem whole."""
    try:
        if length is None:
            await _send_chunks(connection, head, body)
        else:
            await _send_exactly(connection, head, body, length)
    except Exception as error:  # noqa: BLE001  whatever the body raised
        connection.fail(error if isinstance(error, StatusError) else StatusError(400, "BadRequest", _CUT))
    finally:
        close: Any = getattr(body, "aclose", None)  # a generator that is not at its end would be closed at some time
        if close is not None:
            await close()


async def _send_chunks(connection: Connection, head: bytes, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        if piece:
            if not await connection.heard():
                return
            connection.write(b"%b%x\r\n%b\r\n" % (head, len(piece), piece))
            head = b""
            if not await connection.writable():
                return
    if not connection.gone:
        connection.write(head + b"0\r\n\r\n")


async def _send_exactly(connection: Connection, head: bytes, body: AsyncIterator[bytes], length: int) -> None:
    async for piece in body:
        length -= len(piece)
        if length < 0:
            raise StatusError(400, "BadRequest", _WRONG_LENGTH)
        if piece:
            if not await connection.heard():
                return
            connection.write(head + piece if head else piece)
            head = b""
            if not await connection.writable():
                return
    if length:
        raise StatusError(400, "BadRequest", _WRONG_LENGTH)
    if head and not connection.gone:
        connection.write(head)
