"""One request on a line, and its answer: deadlines, departures, and every foreign exception in our words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import structlog

from aggmw.asgi.types import Headers
from aggmw.contracts.backends import UpstreamRequest
from aggmw.errors import (
    StatusError,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
    fault,
)
from aggmw.middleware.proxy.transports.framing import HEAD_BYTES, HEAD_FIELDS, UNASKED, UPGRADED, examine
from aggmw.middleware.proxy.transports.lines import Line, Lines
from aggmw.net.dial import reason_of

__all__ = ["Flight", "FlightBody", "StaleLine"]

_log = structlog.get_logger("aggmw.proxy")

_CUT = "the request's body broke off"
_WRONG_LENGTH = "the request's body is not as long as its Content-Length says"
_UNSENDABLE = "the request has a target or a header field that cannot be sent"
_WITHOUT_ANSWER = "it closed the connection without an answer"
_IN_THE_MIDDLE = "it closed the connection in the middle of its answer"
_NO_TURN = "it is busy: no connection came free in time"
_FAILED = "its transport failed"

_CUT_TLS = "EndOfStream"  # anyio's, which comes through httpcore as it is where a write meets a cut TLS connection
_CLOSING = ("disconnected", "ConnectionTerminated", "StreamReset")  # of HTTP/1.1, and of HTTP/2 (RFC 9113 §6.8, §6.4)
_STEPS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)  # of a handshake, no reason for anything


class StaleLine(Exception):
    """The line was closed under a request that may be repeated on another one."""


class FlightBody:
    """The body of a request as httpx takes it. Mixed into httpx's class of streams.

    Args:
        source: the pieces.
        length: what they come to; None when nobody knows.

    Attributes:
        error: why the body is not what it should be.
    """

    def __init__(self, source: AsyncIterator[bytes], length: int | None) -> None:
        self._source = source
        self._left = length
        self._begun = False
        self.error: StatusError | None = None

    def __aiter__(self) -> FlightBody:
        return self

    async def __anext__(self) -> bytes:
        self._begun = True
        try:
            piece = await anext(self._source, None)
            while piece == b"":
                piece = await anext(self._source, None)
        except Exception as error:  # noqa: BLE001  whatever the body raised
            self.error = error if isinstance(error, StatusError) else StatusError(400, "BadRequest", _CUT)
            raise self.error from None
        if self._left is not None:
            self._left -= len(piece or b"")
            if self._left < 0 or (piece is None and self._left):
                self.error = StatusError(400, "BadRequest", _WRONG_LENGTH)
                raise self.error
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """A generator that is not at its end would be closed at some time. One that nobody began is for another try."""
        close: Any = getattr(self._source, "aclose", None)
        if close is not None and self._begun:
            await close()


class Flight:
    """An `UpstreamResponse`, once `run` has returned.

    What waits inside the carrier is a task of its own, for the request and for each piece of the answer: our own
    cancellation must not interrupt a foreign transport in the middle of what it does, see `Lines.leave`.

    Args:
        lines, line: get the exchange back.
        request: what is sent.
        outgoing: the same in the words of httpx.
        known: the carrier is one that tells how far it has come.
    """

    __slots__ = (
        "_closed",
        "_composing",
        "_dialling",
        "_ended",
        "_gone",
        "_keeps_turn",
        "_left",
        "_line",
        "_lines",
        "_outgoing",
        "_parts",
        "_pending",
        "_request",
        "_response",
        "_sending",
        "_shares",
        "_silence",
        "_traced",
        "_until_close",
        "_whole",
        "content",
        "headers",
        "status",
    )

    def __init__(self, lines: Lines, line: Line, request: UpstreamRequest, outgoing: Any, *, known: bool) -> None:
        self._lines = lines
        self._line = line
        self._request = request
        self._outgoing = outgoing
        self._outgoing.extensions["trace"] = self._trace
        self._traced = known
        self._dialling = False
        self._sending = False  # something of the request may have been sent
        self._composing = False  # its head is made at this moment
        self._gone = False  # nobody waits any more
        self._pending: asyncio.Task[Any] | None = None
        self._response: Any = None
        self._parts: Any = None
        self._silence: float | None = None
        self._ended: asyncio.Future[None] | None = None
        self._left: int | None = None
        self._until_close = False
        self._keeps_turn = False
        self._shares = False
        self._whole = False
        self._closed = False
        self.status = 0
        self.headers: Headers = ()
        self.content: bytes | None = None

    async def run(self, deadline: float | None, silence: float | None, *, again: bool) -> Flight:
        """Send the request and wait for the head of the answer.

        Args:
            deadline: loop time by which it must have come.
            silence: seconds the backend may take between two pieces of the body; None for ever.
            again: the request may be repeated where that helps.

        Raises:
            StaleLine: it is to be repeated on another line, for which the turn is still taken.
        """
        loop = asyncio.get_running_loop()
        sending = self._pending = loop.create_task(self._sent(), name="sending a request through httpx")
        try:
            seconds = None if deadline is None else max(0.0, deadline - loop.time())
            await asyncio.wait({sending}, timeout=seconds)
        except BaseException:
            self._abandon()
            raise
        if not sending.done():
            self._abandon()
            if self._traced and not self._sending:
                raise UpstreamUnreachable(_reason(TimeoutError())) if self._dialling else UpstreamBusy(_NO_TURN)
            raise UpstreamTimeout("it did not answer in time")
        self._pending = None
        try:
            if sending.cancelled():
                raise UpstreamBroken(_FAILED)  # nobody here has cancelled it
            self._response = sending.result()
            self._answered(silence)
        except Exception as error:
            self._keeps_turn = again and self._line.proven and self._response is None and _may_be_stale(error)
            await self.aclose()
            if self._keeps_turn:
                raise StaleLine from None
            raise self._meant(error) from error
        return self

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        if self._closed or self._whole or (self._ended is not None and self._ended.done()):
            return b""
        loop = asyncio.get_running_loop()
        if self._pending is None:
            self._pending = loop.create_task(self._next(), name="reading an answer of httpx")
        if self._ended is None:
            self._ended = loop.create_future()
        first = asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait({self._pending, self._ended}, timeout=self._silence, return_when=first)
        if self._ended in done:
            return b""
        if not done:
            raise UpstreamTimeout("it fell silent")
        reading, self._pending = self._pending, None
        if reading.cancelled():
            raise UpstreamBroken(_IN_THE_MIDDLE)
        if (error := reading.exception()) is not None:
            raise self._meant(error) from error
        return self._counted(reading.result())

    def end(self) -> None:
        """From now on `read` gives b""."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        if not self._ended.done():
            self._ended.set_result(None)

    async def aclose(self) -> None:
        """Give the line back. What has to be done is done, whoever cancels us."""
        if not self._closed:
            await asyncio.wait({self._abandon()})

    def _abandon(self) -> asyncio.Task[None]:
        """Nobody waits for anything any more."""
        self._closed = True
        left = None
        if not self._whole:
            self._gone = True
            left = self._lines.leave(self._line)
        return self._lines.do(self._over(left), "closing an exchange of httpx")

    async def _sent(self) -> Any:
        try:
            return await self._line.carrier.handle_async_request(self._outgoing)
        finally:
            if isinstance(self._outgoing.stream, FlightBody):
                await self._outgoing.stream.aclose()

    async def _next(self) -> bytes | None:
        piece: bytes | None = await anext(self._parts, None)
        while piece == b"":
            piece = await anext(self._parts, None)
        return piece

    async def _trace(self, event: str, info: Any) -> None:
        """How far httpcore has come with this request. Nothing is awaited here: it counts on that.

        Raises:
            ConnectionResetError: nobody waits for it any more, and nothing was sent yet.
        """
        self._traced = True
        self._dialling = event.startswith("connection.")
        if event.endswith("send_request_headers.started"):
            if self._gone:
                raise ConnectionResetError("the client is gone")
            self._sending = True
            self._composing = event.startswith("http11.")
        elif event.endswith("send_request_headers.complete"):
            self._composing = False

    def _counted(self, piece: bytes | None) -> bytes:
        """A piece of the body, against the length that was declared.

        Raises:
            UpstreamBroken: it is not what it should be.
        """
        if self._left is not None:
            self._left -= len(piece or b"")
            if self._left < 0:
                raise UpstreamBroken(UNASKED)
            if piece and not self._left:
                self._whole = True  # whoever counts does not ask for the end
        if piece is None:
            if self._left or self._until_close:
                raise UpstreamBroken(_IN_THE_MIDDLE)
            self._whole = True
            return b""
        return bytes(piece)

    def _answered(self, silence: float | None) -> None:
        """The head of the answer has come.

        Raises:
            UpstreamBroken: it is none that can be passed on.
        """
        response = self._response
        status: int = response.status_code
        headers = tuple([(bytes(name).lower(), bytes(value)) for name, value in response.headers.raw])
        if len(headers) > HEAD_FIELDS:
            raise UpstreamBroken("its answer has too many header fields")
        large = sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES
        version = _version(response)
        http1 = version not in (b"", b"HTTP/2")
        framing = examine(status, version[5:].decode("latin-1") if http1 else "1.1", headers, large=large)
        if framing is None:
            raise UpstreamBroken(UPGRADED)
        self.status, self.headers = status, headers
        if self._request.method == b"HEAD" or status in (204, 304):
            self.content = b""
            self._whole = True
        else:
            lengths = [int(value) for name, value in headers if name == b"content-length"]
            self._left = lengths[0] if lengths else None
            # An end without a goodbye looks like any other: httpx does not tell a cut TLS stream from a closed one.
            self._until_close = http1 and not framing.delimited and self._lines.backend.tls
            if self._left == 0:
                self.content = b""
                self._whole = True
        self._parts = aiter(response.stream)
        self._silence = silence
        self._shares = version == b"HTTP/2"
        self._lines.multiplexes = self._shares or (self._lines.multiplexes and not http1)
        if self._shares:
            self._line.network = response.extensions.get("network_stream")

    def _meant(self, error: BaseException) -> BaseException:
        """What an exception of the carrier means to us."""
        body = self._outgoing.stream
        if isinstance(body, FlightBody) and body.error is not None:
            return body.error
        if isinstance(error, (UpstreamError, StatusError)) or not isinstance(error, Exception):
            return error
        kinds = {kind.__name__ for kind in type(error).__mro__}  # httpx's, or those of a continuation of it
        if "ConnectError" in kinds or "ConnectTimeout" in kinds:
            return UpstreamUnreachable(_reason(error))
        if "PoolTimeout" in kinds:
            return UpstreamBusy(_NO_TURN)
        if "ProxyError" in kinds:
            return UpstreamUnreachable("the outbound proxy does not let it through")
        if "UnsupportedProtocol" in kinds:
            return UpstreamUnreachable("its transport does not know how to reach it")
        if "LocalProtocolError" in kinds and self._composing:
            return StatusError(400, "BadRequest", _UNSENDABLE)
        if "TimeoutException" in kinds:
            return UpstreamTimeout("it fell silent" if self.status else "it did not answer in time")
        if "TransportError" not in kinds and _CUT_TLS not in kinds:
            _log.error("a transport failed", service=self._lines.backend.name, **fault(error))
            return UpstreamBroken(_FAILED)
        if self.status:
            return UpstreamBroken(_IN_THE_MIDDLE)
        if "RemoteProtocolError" in kinds and not any(word in str(error) for word in _CLOSING):
            return UpstreamBroken("its answer broke the protocol")
        return UpstreamBroken(_WITHOUT_ANSWER)

    async def _over(self, deserted: asyncio.Future[None] | None) -> None:
        """Close what there is of an answer, and give the line back."""
        try:
            if self._pending is not None:
                await self._interrupt(self._pending, deserted)
            if self._response is not None:
                await self._close(self._response)
        except Exception as error:  # noqa: BLE001  it is over in any case
            self._whole = False
            _log.debug("an answer of httpx did not close well", **fault(error))
        finally:
            self._outgoing.extensions.pop("trace", None)  # it holds on to us
            self._line.proven = self._line.proven or (self._whole and self._shares)
            self._lines.give_back(self._line, whole=self._whole, left=deserted is not None)
            if not self._keeps_turn:
                self._lines.turns.give_back()

    async def _interrupt(self, pending: asyncio.Task[Any], deserted: asyncio.Future[None] | None) -> None:
        """End what is under way in the carrier, as soon as that disturbs nobody."""
        if deserted is not None:
            await asyncio.wait({pending, deserted}, return_when=asyncio.FIRST_COMPLETED)
            if not pending.done() and self._traced and not self._sending:
                # httpcore forgets a socket whose handshake is interrupted; it comes to its end in time, see `_trace`.
                await asyncio.wait({pending}, timeout=2 * self._lines.dial_seconds)
            if not pending.done():
                await self._lines.close(self._line)
        pending.cancel()
        await asyncio.wait({pending})
        if not pending.cancelled() and pending.exception() is None and self._response is None:
            self._response = pending.result()

    async def _close(self, response: Any) -> None:
        if (close := getattr(self._parts, "aclose", None)) is not None:
            await close()
        network = response.extensions.get("network_stream")
        if network is not None and _version(response) != b"HTTP/2":
            await network.aclose()
        await response.aclose()


def _version(response: Any) -> bytes:
    """Such as b"HTTP/1.1" or b"HTTP/2"; empty for what no wire was asked for."""
    version: bytes = response.extensions.get("http_version", b"")
    return version


def _may_be_stale(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"RemoteProtocolError", "ReadError", "WriteError", "CloseError", _CUT_TLS})


def _reason(error: BaseException) -> str:
    """Why there is no connection: what lies deepest below the exception says it best."""
    if "Timeout" in type(error).__name__:
        return reason_of(TimeoutError())
    found: BaseException | None = error
    deepest = OSError()
    while found is not None:
        if isinstance(found, ExceptionGroup):
            found = found.exceptions[0]
            continue
        if isinstance(found, OSError) and not isinstance(found, _STEPS):
            deepest = found
        found = found.__cause__ or found.__context__
    return reason_of(deepest)
