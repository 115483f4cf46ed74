"""One connection to a backend: bytes in, one response at a time out. The state machine that httptools leaves to us.

What the parser does not know, and this does: that the answer to HEAD has no body; that 1xx are not the answer; that
trailers are not headers; that bytes nobody asked for poison the next user's response; that a body which ends with the
connection may have been cut; that one exception ends a parser's life.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import cast

import httptools

from aggmw.asgi.types import Headers
from aggmw.errors import StatusError, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy.transports.framing import HEAD_BYTES, HEAD_FIELDS, NOT_HTTP, UNASKED, UPGRADED, examine
from aggmw.net.buffers import bound_buffers

__all__ = ["Connection"]

_HIGH_WATER = 65_536
_TURNS = 3  # of the event loop, in which it reads what there is

# What the backend's next byte would be.
_IDLE = 0  # a fault: nobody asked
_HEAD = 1  # the head of the answer, or of a 1xx before it
_BODY = 2  # the body, or trailers
_DONE = 3  # a fault: the answer is complete
_CLOSED = 4
_BEGUN = 5  # a fault: nothing of the request was written yet
_EXPECTING = (_BEGUN, _HEAD, _BODY)


class Connection:
    """A connection that carries one exchange at a time: an `asyncio.Protocol`, without being derived from it.

    Args:
        loop: the running event loop.
        on_lost: called once, when the connection is gone.

    Attributes:
        reused: whether an exchange was completed on it before this one.
        stale: it was closed under a next request before a byte of an answer: the backend had given it up.
        idle_since: loop time when it was given back.
        expires: loop time from which on it gets no further exchange; the pool's affair.
        deadline: loop time by which what is waited for must have come; None for never. The sweep looks at it.
        status, headers: of the answer, once `head` has returned.
        upgrading: whether the answer may be a 101. With that the exchange is over, and the connection somebody else's,
            who gets it by `surrender`; it is never kept.
    """

    __slots__ = (
        "_answered",
        "_barren",
        "_buffered",
        "_chunks",
        "_complete",
        "_end",
        "_eof",
        "_error",
        "_fields",
        "_head_only",
        "_keep_alive",
        "_look",
        "_loop",
        "_on_lost",
        "_parser",
        "_phase",
        "_reading_paused",
        "_rest",
        "_room",
        "_tls",
        "_transport",
        "_until_close",
        "_used_up",
        "_uvloop",
        "_waiter",
        "_writing_paused",
        "deadline",
        "expires",
        "headers",
        "idle_since",
        "reused",
        "stale",
        "status",
        "upgrading",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._tls = False
        self._uvloop = False
        self._parser: httptools.HttpResponseParser | None = None  # holds on to us: made with the connection
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._end: asyncio.Future[None] | None = None
        self._look: select.poll | None = None
        self._writing_paused = False
        self._reading_paused = False
        self._eof = False
        self._phase = _IDLE
        self._rest = b""
        self.reused = False
        self.upgrading = False
        self.idle_since = 0.0
        self.expires = 0.0
        self.deadline: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Nothing of an answer is known."""
        self._error: UpstreamError | StatusError | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._barren = 0
        self._answered = False
        self._complete = False
        self._head_only = False
        self._keep_alive = False
        self._until_close = False
        self._used_up = False
        self.stale = False
        self.status = 0
        self.headers: Headers = ()

    # For the exchange

    @property
    def usable(self) -> bool:
        """Whether a next request may be written.

        The socket is asked too: what it holds and the loop has not read yet is the connection's end, or bytes that
        nobody asked for, which would become the next user's answer.
        """
        if self._phase != _IDLE or self._eof or self._transport.is_closing():
            return False
        return self._look is None or not self._look.poll(0)

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent or received any more."""
        return self._phase == _CLOSED

    def begin(self, head_only: bool, deadline: float | None = None, request: bytes = b"") -> None:
        """Expect the answer to a request, and write what there is of it.

        Args:
            head_only: the answer will have no body, whatever its head says: the request is a HEAD.
            deadline: loop time by which the head of the answer must have come.
            request: all of it, or as much as is at hand.

        Raises:
            UpstreamUnreachable: the connection is closed already; nothing was sent.
        """
        if self._phase != _IDLE or self._eof or self._transport.is_closing():
            raise UpstreamUnreachable("it closed the connection at once")
        if self.reused:
            # The rest of what `_forget` forgets is as it was: an answer that ended well left nothing behind.
            self._buffered = self._barren = self.status = 0
            self._answered = self._complete = self._used_up = False
        self._head_only = head_only
        self.deadline = deadline
        if request:
            self._phase = _HEAD
            self._transport.write(request)
        else:
            self._phase = _BEGUN

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        if self._phase == _BEGUN:
            self._phase = _HEAD
        self._transport.write(data)

    async def writable(self) -> bool:
        """Wait until the backend takes more; False when the connection is gone."""
        while self._writing_paused and self._phase != _CLOSED:
            self._room = self._loop.create_future()
            await self._room
        return self._phase != _CLOSED

    async def heard(self) -> bool:
        """Let the event loop read what the backend has sent, before more is written; False when the connection is gone.

        Who answers early may break the connection behind its answer; a write that fails on that would lose the answer.
        """
        look = self._watch()
        for _ in range(_TURNS):
            if self._reading_paused or self._transport.is_closing() or look is None or not look.poll(0):
                break
            await asyncio.sleep(0)
        return self._phase != _CLOSED

    async def head(self) -> None:
        """Wait for the head of the answer; `status` and `headers` hold it then.

        Raises:
            UpstreamError: broken off, nonsense, or too late.
            StatusError: the request's body was not what it should be.
        """
        while not self.status:
            if self._error is not None:
                raise self._failure(self._error)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def read(self, silence: float | None) -> bytes:
        """What has come of the body; b"" at its end.

        Args:
            silence: seconds to wait for something; None for ever.

        Raises:
            UpstreamError: the body was cut, or too late.
        """
        while not self._chunks:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._failure(self._error)
            self.deadline = None if silence is None else self._loop.time() + silence
            try:
                await self._wait()
            finally:
                self.deadline = None
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def surrender(self) -> tuple[asyncio.Transport, bytes]:
        """Behind a 101: the transport, not reading, and what has come already. Its end is still to be told to this.

        Raises:
            UpstreamBroken: the connection is gone.
        """
        if self._phase != _DONE or self._transport.is_closing():
            raise UpstreamBroken("it closed the connection behind its answer")
        rest, self._rest = self._rest, b""
        return self._transport, rest

    def release(self) -> bool:
        """Make ready for the next exchange; False when this connection must not have one."""
        if self._phase != _DONE or not self._keep_alive or self._eof or self._transport.is_closing():
            return False
        if self._reading_paused or self._transport.get_write_buffer_size():
            return False  # the socket may hold more than the answer, or less than the request
        if self._used_up:
            self._parser = httptools.HttpResponseParser(self)
        if self._look is None:
            self._watch()
        self._phase = _IDLE
        self._chunks = []
        self.headers = ()
        self.reused = True
        return True

    def fail(self, error: UpstreamError | StatusError) -> None:
        """End the exchange with an error, and the connection."""
        if self._error is None and not self._complete:
            self._error = error.with_traceback(None)
        self.abort()

    def _failure(self, error: UpstreamError | StatusError) -> UpstreamError | StatusError:
        """To be raised, and not kept: it will hold frames that hold us, and all that we hold."""
        self._error = UpstreamBroken("the connection was closed")
        return error

    def timed_out(self) -> None:
        """The deadline passed."""
        self.fail(UpstreamTimeout("it fell silent" if self.status else "it did not answer in time"))

    def abort(self) -> None:
        """Close at once."""
        if self._phase in _EXPECTING and self._error is None and not self._complete:
            self._error = UpstreamBroken("the connection was closed")
        self._phase = _CLOSED
        self._transport.abort()
        self._wake()

    async def lost(self) -> None:
        """Wait until the socket is gone; for a connection that was closed."""
        if self._parser is not None:
            self._end = self._loop.create_future()
            await self._end

    @property
    def whole(self) -> bytes | None:
        """The body when all of it has come, None before; `read` gives it all the same."""
        if not self._complete or self._error is not None:
            return None
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end(self) -> None:
        """Let whoever reads see a proper end: the stream is over on our side, whatever still comes."""
        if self._phase == _BODY:
            self._phase = _DONE
        self._complete = True
        self._keep_alive = False
        self._wake()

    def _watch(self) -> select.poll | None:
        """Tells whether there is anything to be read; None where the system has no such thing."""
        if self._look is None and hasattr(select, "poll"):
            self._look = select.poll()
            self._look.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return self._look

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, the TLS handshake done."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._uvloop = type(transport).__module__.startswith("uvloop")
        bound_buffers(self._transport, tls=self._tls)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer, or a fault."""
        if self._phase not in (_HEAD, _BODY) or self._parser is None:
            if self._phase == _DONE and self.status == 101:
                self._rest += data
                return
            if self._phase == _BEGUN:
                self.fail(UpstreamBroken(UNASKED))
            self.abort()
            return
        self._answered = True
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.status == 101:
                self._rest = data[upgrade.args[0] :]
                self._transport.pause_reading()
            else:
                self.fail(UpstreamBroken(UPGRADED))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.fail(cause if isinstance(cause, UpstreamBroken) else UpstreamBroken(NOT_HTTP))
        if self._barren > HEAD_BYTES and self._phase in (_HEAD, _BODY):
            what = "the head of its answer is" if self._phase == _HEAD else "the trailers of its answer are"
            self.fail(UpstreamBroken(f"{what} too long"))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:
        """The backend sends no more: the connection is closed, whatever we would still have sent."""
        self._eof = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if error is not None and not self._tls:
            self._salvage()
        if self._phase == _BODY and self._until_close and error is None and self._ended_properly():
            self._complete = True
        elif self._phase in _EXPECTING and self._error is None and not self._complete:
            self.stale = self.reused and not self._answered
            self._error = UpstreamBroken(
                "it closed the connection in the middle of its answer"
                if self._answered
                else "it closed the connection without an answer"
            )
        self._phase = _CLOSED
        self._parser = None  # it holds on to us
        self._look = None
        if self._end is not None and not self._end.done():
            self._end.set_result(None)
        self._wake()
        self._on_lost(self)

    def _salvage(self) -> None:
        """Read what had come when a write failed. The socket is still open, but for that under a TLS transport."""
        stream = self._transport.get_extra_info("socket")
        while self._phase in (_HEAD, _BODY) and self._buffered <= _HIGH_WATER and stream is not None:
            try:
                data = os.read(stream.fileno(), _HIGH_WATER)
            except OSError:
                return
            if not data:
                return
            self.data_received(data)

    def _ended_properly(self) -> bool:
        """Whether an end was the peer's own. asyncio does not tell a cut TLS stream from a closed one."""
        return self._eof and (not self._tls or self._uvloop)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The send buffer is low again."""
        self._writing_paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # From the parser

    def on_message_begin(self) -> None:
        """The first byte of the answer, of a 1xx, or of an answer too many."""
        if self._phase != _HEAD:
            raise UpstreamBroken(UNASKED)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field; after the head a trailer, which is nothing to us."""
        if self._phase != _HEAD:
            return
        if len(self._fields) >= HEAD_FIELDS:
            raise UpstreamBroken("its answer has too many header fields")
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head of the answer, or of a 1xx."""
        parser = self._parser
        assert parser is not None
        fields, self._fields = tuple(self._fields), []
        status: int = parser.get_status_code()
        large = self._barren > HEAD_BYTES
        found = examine(status, parser.get_http_version(), fields, large=large, upgrading=self.upgrading)
        if found is None:
            return
        bodiless = self._head_only or status in (101, 204, 304)
        self._until_close = not (bodiless or found.delimited)
        self._keep_alive = found.keep_alive and not self._until_close
        self.status, self.headers = status, fields
        self.deadline = None
        self._phase = _BODY
        if bodiless:
            self._used_up = True  # the parser would take what comes next for a body
            self._complete = True
            self._phase = _DONE

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._phase != _BODY:
            raise UpstreamBroken(UNASKED)
        self._barren = 0
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > _HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole, or a 1xx is."""
        if self._phase == _BODY:
            self._complete = True
            self._phase = _DONE
