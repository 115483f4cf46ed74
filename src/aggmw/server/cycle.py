"""One request and its response: the ASGI side of the door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from aggmw.asgi.headers import unfit_parts
from aggmw.asgi.types import ASGIApp, Message, Scope
from aggmw.server.head import FAILED, STATUS_LINES, Head, rendered

__all__ = ["Cycle"]

_log = structlog.get_logger("aggmw.server")
_levels = logging.getLogger("uvicorn.error")
_COPIED = 8_192


class Keeper(Protocol):
    """What a cycle needs of its connection."""

    @property
    def draining(self) -> bool:
        """Whether connections are to end with the response they are in."""
        ...

    @property
    def overlong(self) -> bool:
        """Whether more of the request's body is to come than is read and thrown away, or nobody knows how much."""
        ...

    def waiting(self) -> None:
        """The application waits for the request's body."""
        ...

    def answered(self) -> None:
        """The last byte of the response was handed to the transport."""
        ...

    def soon(self, call: Callable[[], None]) -> None:
        """Call in the next round of the event loop."""
        ...

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of a response, with what was written so far or by a reset."""
        ...


class Cycle:
    """`receive` and `send` of one request.

    The response counts as answered when its last byte was written, which may be before the application says so: a
    client that has all bytes of a `Content-Length` sends its next request at once, and that is no pipelining.

    Attributes:
        disconnected: the client is gone, or the request broke off; what is sent from now on is dropped.
        keep_alive: whether the connection may go on after this response.
        started: the head was written.
        answered: the last byte was written.
        finished: the application said so too, or may say no more.
        more_body: the request's body is not complete.
        waits: the application is inside `receive` and needs bytes to go on.
    """

    __slots__ = (
        "_bodiless",
        "_body",
        "_chunked",
        "_continue",
        "_defaults",
        "_flow",
        "_held",
        "_keeper",
        "_left",
        "_transport",
        "_unread",
        "_wakes",
        "answered",
        "disconnected",
        "finished",
        "keep_alive",
        "more_body",
        "scope",
        "started",
        "waits",
    )

    def __init__(
        self,
        keeper: Keeper,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        head: Head,
        *,
        keep_alive: bool,
        defaults: list[tuple[bytes, bytes]],
    ) -> None:
        self._keeper = keeper
        self.scope = scope
        self._transport = transport
        self._flow = flow
        self._continue = head.expects
        self._defaults = defaults
        self._wakes: asyncio.Event | None = None
        self._held = b""
        self._body = b""
        self._unread = False
        self.finished = False
        self._bodiless = False
        self._chunked = False
        self._left: int | None = 0
        self.keep_alive = keep_alive
        self.more_body = True
        self.waits = False
        self.disconnected = False
        self.started = False
        self.answered = False

    # What the connection tells

    def feed(self, body: bytes) -> None:
        """A part of the request's body came."""
        self._continue = False
        self._body = self._body + body if self._body else body
        if len(self._body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self._unread = True
        self._wake()

    def complete(self) -> None:
        """The request's body is complete."""
        self.more_body = False
        self._unread = True
        if self._wakes is not None:
            self._wake()

    def disconnect(self) -> None:
        """The client is gone, or its request is beyond repair."""
        self.disconnected = True
        self._wake()

    def retire(self) -> None:
        """The next request begins; the application has not yet said that this one, whose answer is written, is over."""
        self.finished = True
        self._wake()

    def _wake(self) -> None:
        self.waits = False
        if self._wakes is not None:
            self._wakes.set()

    # What the application calls

    async def run_asgi(self, app: ASGIApp) -> None:
        """Call the application, and see that the connection ends well whatever it does."""
        if self.disconnected:
            return
        try:
            await app(self.scope, self.receive, self.send)
        except (asyncio.CancelledError, GeneratorExit):
            self.break_off()
            raise
        except BaseException as error:  # noqa: BLE001  also `sys.exit` in a handler ends its request, not the server
            self._failed(error)
        else:
            if not self.answered and not self.disconnected:
                if self.started:
                    _log.warning("response broken off")
                    self.break_off()
                else:
                    _log.error("application returned without a response")
                    self._answer_failure()

    async def receive(self) -> Message:
        """`http.request` until the body is complete, then `http.disconnect` when the client goes or all is sent."""
        while True:
            if self.disconnected or self.finished:
                return {"type": "http.disconnect"}
            if self._unread:
                self._unread = False
                body, self._body = self._body, b""
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            if self._continue:
                self._continue = False
                if not self._transport.is_closing():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._flow.resume_reading()
            if self.more_body and not self.answered:
                self.waits = True
                self._keeper.waiting()
            if self._wakes is None:
                self._wakes = asyncio.Event()
            else:
                self._wakes.clear()
            await self._wakes.wait()

    async def send(self, message: Message) -> None:
        """`http.response.start`, then `http.response.body` until `more_body` is false.

        Raises:
            RuntimeError: a message out of order, a status below 200, a header that may not be sent, or a body that does
                not fit the declared length.
        """
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"expected 'http.response.start', got '{kind}'")
            self._start(message)
        elif self.finished:
            if not self.answered or kind != "http.response.body":
                raise RuntimeError(f"'{kind}' after the response was complete")
        elif kind != "http.response.body":
            raise RuntimeError(f"expected 'http.response.body', got '{kind}'")
        else:
            self._write_body(message.get("body", b""), message.get("more_body", False))

    def _start(self, message: Message) -> None:
        status: int = message["status"]
        line = STATUS_LINES.get(status)
        if line is None:
            raise RuntimeError(f"not a final status: {status}")
        if self._continue or self._keeper.draining or (self.more_body and self._keeper.overlong):
            # A client that waits for "100 Continue" may send its body or leave it out: what comes next is undefined.
            # And who was told that the connection goes on would lose a next request behind a body that nobody reads.
            self.keep_alive = False
        self._bodiless = status in (204, 304) or self.scope["method"] == "HEAD"
        length: int | None = None
        says_close = False
        head = [line]
        names = []
        values = []
        for name, value in (*self._defaults, *(message.get("headers") or ())):
            if len(name) in _TELLING_LENGTHS:
                lower = name.lower()
                if lower == b"content-length":
                    again, length = length, self._length(value, length)
                    if again is not None or status in (204, 304):
                        continue
                elif lower == b"transfer-encoding":
                    continue
                elif lower == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
                    says_close = True
            names.append(name)
            values.append(value)
            head.append(b"%b: %b\r\n" % (name, value))
        if reason := unfit_parts(names, values):
            raise RuntimeError(reason)
        self._left = length = None if status in (204, 304) else length
        if length is None and not self._bodiless:
            if self.scope["http_version"] == "1.1":
                self._chunked = True
                head.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False  # the end of the connection is the end of the body
        if says_close:
            self.keep_alive = False
        elif not self.keep_alive:
            head.append(b"connection: close\r\n")
        head.append(b"\r\n")
        self.started = True
        self._continue = False
        if self._bodiless or (self._left == 0 and not self._chunked):
            self._transport.write(b"".join(head))
            self._end_of_bytes()
        else:
            # Most applications send the body next: then both go in one write. If not, the head goes all the same.
            self._held = b"".join(head)
            self._keeper.soon(self._flush)

    @staticmethod
    def _length(value: bytes, before: int | None) -> int:
        if not value.isdigit() or (before is not None and int(value) != before):
            raise RuntimeError("the Content-Length of the response is not valid")
        return int(value)

    def _flush(self) -> None:
        """Write the head if it still waits for the first of the body."""
        held, self._held = self._held, b""
        if held and not self.disconnected and not self._transport.is_closing():
            self._transport.write(held)

    def _write(self, data: bytes) -> None:
        """Write what may be copied, behind the head if that still waits."""
        held, self._held = self._held, b""
        self._transport.write(held + data if held else data)

    def _write_body(self, body: bytes, more_body: bool) -> None:
        if self._bodiless:
            pass
        elif self._chunked:
            self._write_chunk(body, b"" if more_body else b"0\r\n\r\n")
        elif body:
            size = len(body)
            if self._left is not None:
                if size > self._left:
                    raise RuntimeError("the body is longer than the Content-Length")
                self._left -= size
            if size > _COPIED:
                self._flush()
                self._transport.write(body)
            else:
                held, self._held = self._held, b""
                self._transport.write(held + body if held else body)
        if not more_body:
            if self._left and not self._bodiless and not self._chunked:
                raise RuntimeError("the body is shorter than the Content-Length")
            self.finished = True
            if not self.answered:
                self.answered = True
                self._keeper.answered()
            if self._wakes is not None:
                self._wake()
        elif self._left == 0 and not self._chunked:
            self._end_of_bytes()

    def _write_chunk(self, body: bytes, last: bytes) -> None:
        if len(body) > _COPIED:
            self._flush()
            self._transport.writelines((b"%x\r\n" % len(body), body))
            # By itself: after `writelines` alone, asyncio before 3.12.9 and 3.13.2 never says that the buffer is full.
            self._transport.write(b"\r\n" + last)
        elif body:
            self._write(b"%x\r\n%b\r\n%b" % (len(body), body, last))
        elif last:
            self._write(last)

    def _end_of_bytes(self) -> None:
        if not self.answered:
            self.answered = True
            self._keeper.answered()

    # When it goes wrong

    def _failed(self, error: BaseException) -> None:
        report = _log.warning if self.disconnected else _log.error
        report("application failed", error=type(error).__name__)
        if _levels.isEnabledFor(logging.DEBUG):
            _log.debug("application failed", exc_info=error)
        if self.disconnected or self.answered:
            return
        if self.started:
            self.break_off()
        else:
            self._answer_failure()

    def _answer_failure(self) -> None:
        if self._transport.is_closing():
            return
        self.started = self.finished = True
        self.keep_alive = False
        self._transport.write(rendered(FAILED, body=self.scope["method"] != "HEAD"))
        self._end_of_bytes()

    def break_off(self) -> None:
        """End the connection so that nobody takes what was sent for a whole response."""
        if self.answered or self.disconnected:
            return
        self._flush()
        # Where the end of the connection would be the end of the body, only a reset says that it is not.
        self._keeper.cut(reset=self.started and self._left is None and not self._chunked)
        self.disconnect()


_TELLING_LENGTHS = frozenset(map(len, (b"content-length", b"transfer-encoding", b"connection")))
