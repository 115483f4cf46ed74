"""One connection to a backend: bytes in, one response at a time out. The state machine that httptools leaves to us.

What the parser does not know, and this does: that the answer to HEAD has no body; that 1xx are not the answer; that
trailers are not headers; that bytes nobody asked for poison the next user's response; that a body which ends with the
connection may have been cut; that one exception ends a parser's life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import cast

import httptools

from aggmw.asgi.headers import unfit
from aggmw.errors import UpstreamBroken, UpstreamError, UpstreamTimeout

__all__ = ["Connection", "Phase"]

HEAD_BYTES = 65_536
HEAD_FIELDS = 200
HIGH_WATER = 65_536


class Phase(Enum):
    """What the backend's next byte would be."""

    IDLE = 0
    """Nobody asked: any byte is a fault."""
    HEAD = 1
    BODY = 2
    DONE = 3
    """The response is complete; any byte is a fault."""
    CLOSED = 4


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time.

    Attributes:
        phase: where the current exchange stands.
        reused: whether an exchange was completed on it before this one.
        answered: whether a byte of the current answer has come.
        idle_since: loop time when it was given back.
        deadline: loop time by which something must have come; None for never. The pool's sweep looks at it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._truncatable = False
        self._uvloop = False
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._reading_paused = False
        self._error: UpstreamError | None = None
        self._eof = False
        self.phase = Phase.IDLE
        self.reused = False
        self.answered = False
        self.idle_since = 0.0
        self.deadline: float | None = None
        self._parser = httptools.HttpResponseParser(self)

    # For the exchange

    @property
    def usable(self) -> bool:
        """Whether a next request may be written."""
        return self.phase is Phase.IDLE and not self._eof and not self._transport.is_closing()

    def begin(self, *, head: bool) -> None:
        """Expect the answer to a request that is about to be written."""
        self.phase = Phase.HEAD
        self.answered = False
        self._head = head
        self._new_message()
        self._error = None
        self._complete = False
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._head_bytes = 0
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the backend takes more.

        Raises:
            UpstreamError: the connection is gone.
        """
        if self._error is not None:
            raise self._error
        if self._writing_paused:
            if self._writable is None:
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)
            if self._error is not None:
                raise self._error

    async def head(self) -> None:
        """Wait for the head of the answer; `status` and `headers` hold it then.

        Raises:
            UpstreamError: broken off, nonsense, or too late.
        """
        while self.phase is Phase.HEAD and self._error is None:
            await self._wait()
        if self._error is not None and not self.status:
            raise self._error

    async def read(self) -> bytes:
        """What has come of the body; b"" at its end.

        Raises:
            UpstreamError: the body was cut, or too late.
        """
        while not self._chunks:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come and was taken."""
        return self._complete and not self._chunks

    def release(self) -> bool:
        """Make ready for the next exchange; False when this connection must not have one."""
        if not self._complete or not self._keep_alive or self._eof or self._error or self._transport.is_closing():
            return False
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self.phase = Phase.IDLE
        self.reused = True
        self.deadline = None
        if self._head or not self._clean:
            self._parser = httptools.HttpResponseParser(self)
        return True

    def fail(self, error: UpstreamError) -> None:
        """End the exchange with an error, and the connection."""
        if self._error is None:
            self._error = error
        self.abort()

    def timed_out(self) -> None:
        """The deadline passed."""
        self.fail(UpstreamTimeout("it did not answer in time" if not self.status else "it fell silent"))

    def abort(self) -> None:
        """Close at once."""
        self.phase = Phase.CLOSED
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def end(self) -> None:
        """Wake whoever reads, with a proper end: the stream is over on our side."""
        self._complete = True
        self._keep_alive = False
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._truncatable = transport.get_extra_info("ssl_object") is not None
        self._uvloop = type(transport).__module__.startswith("uvloop")

    def data_received(self, data: bytes) -> None:
        if self.phase in (Phase.IDLE, Phase.DONE, Phase.CLOSED):
            self.abort()  # nobody asked for this: it would be the next user's answer
            return
        self.answered = True
        if self.phase is Phase.HEAD:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamBroken("it switched protocols unasked"))
        except httptools.HttpParserError as error:
            cause = error.__context__ if isinstance(error.__context__, UpstreamBroken) else None
            self.fail(cause or UpstreamBroken("its answer is not HTTP/1.1"))
        except UpstreamBroken as error:
            self.fail(error)
        if self.phase is Phase.HEAD and self._head_bytes > HEAD_BYTES and self._error is None:
            self.fail(UpstreamBroken("the head of its answer is too long"))
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self.phase is Phase.BODY and self._until_close and error is None and self._ended_cleanly():
            self._complete = True
            self._keep_alive = False
        elif self.phase in (Phase.HEAD, Phase.BODY) and self._error is None and not self._complete:
            self._error = UpstreamBroken(
                "it closed the connection in the middle of its answer"
                if self.answered
                else "it closed the connection without an answer"
            )
        self.phase = Phase.CLOSED
        self._writing_paused = False
        self._wake()
        self._on_lost(self)

    def _ended_cleanly(self) -> bool:
        """Whether an end was the peer's own. asyncio does not tell a cut TLS stream from a closed one."""
        return self._eof and (not self._truncatable or self._uvloop)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # From the parser

    def _new_message(self) -> None:
        self._fields: list[tuple[bytes, bytes]] = []
        self._clean = False
        self._keep_alive = False
        self._until_close = False

    def on_message_begin(self) -> None:
        if self.phase is not Phase.HEAD:
            raise UpstreamBroken("it answered more than it was asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is not Phase.HEAD:
            return  # a trailer
        if len(self._fields) >= HEAD_FIELDS:
            raise UpstreamBroken("its answer has too many header fields")
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise UpstreamBroken("its answer is not HTTP/1.1")
        if status < 200:
            if status == 101:
                raise UpstreamBroken("it switched protocols unasked")
            self._fields = []
            return
        headers = tuple(self._fields)
        if unfit(headers):
            raise UpstreamBroken("its answer has a malformed header field")
        length, chunked = _framing(headers)
        self._keep_alive = self._parser.should_keep_alive()
        bodiless = self._head or status in (204, 304)
        self._until_close = not (bodiless or chunked or length is not None)
        self.status, self.headers = status, headers
        self.phase = Phase.BODY
        if bodiless:
            self._finish(clean=False)

    def on_body(self, body: bytes) -> None:
        if self.phase is not Phase.BODY:
            raise UpstreamBroken("it answered more than it was asked")
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.phase is Phase.BODY:
            self._finish(clean=True)

    def _finish(self, *, clean: bool) -> None:
        self._complete = True
        self._clean = clean
        self.phase = Phase.DONE


def _framing(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes | None, bool]:
    """Content-Length and whether chunked; the parser has refused contradictions."""
    length: bytes | None = None
    chunked = False
    for name, value in headers:
        if name == b"content-length":
            if length is not None or not value.isdigit():
                raise UpstreamBroken("the length of its answer is unclear")
            length = value
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise UpstreamBroken("its answer has a transfer coding other than chunked")
            chunked = True
    if chunked and length is not None:
        raise UpstreamBroken("the length of its answer is unclear")
    return length, chunked
