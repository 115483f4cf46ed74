"""WebSocket frames on an open connection (RFC 6455), either side: messages in and out, pings answered, an end.

The frames are those of the sans-I/O `websockets`; the connection, what it may hold, and how long an end may take are
ours. No extension is spoken, so no frame is larger than it looks. Handshakes belong to whoever reads HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import hashlib
import logging
import secrets
from collections import deque
from typing import cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from aggmw.contracts.websockets import Close
from aggmw.net.buffers import HIGH_WATER

__all__ = ["MESSAGE_BYTES", "REASON_BYTES", "WebSocket", "accept_of", "new_key", "travels"]

MESSAGE_BYTES = 16 * 2**20
"""The largest message, either way."""

REASON_BYTES = 123
"""The largest reason in a close frame, in UTF-8."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_SLICE = 8192  # bytes whose frames are looked at together
_AT_ONCE = 256  # frames, and those of one slice more, before the others on the event loop have their turn
_OVERHEAD = 64  # what a message costs besides its bytes
_NO_CODE, _ABNORMAL, _INVALID = 1005, 1006, 1007
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # the library's would show what is in frames


def new_key() -> bytes:
    """A `Sec-WebSocket-Key`."""
    return base64.b64encode(secrets.token_bytes(16))


def accept_of(key: bytes) -> bytes:
    """The `Sec-WebSocket-Accept` that answers a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def travels(code: int) -> bool:
    """Whether a code may be in a close frame."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, _NO_CODE, _ABNORMAL))


class WebSocket(asyncio.Protocol):
    """One side of an open WebSocket: give it the connection with `begin`.

    Messages wait in here up to 64 KiB (and the last one of them whole); then the other side has to wait. Its pings are
    answered as long as it reads the answers. A message in pieces is one message; text that is no UTF-8 ends the
    WebSocket at the first wrong piece.

    Args:
        server: whether this is the server's side, which masks nothing and closes the connection first.
        message_bytes: the largest message that is taken.

    Attributes:
        ended: how it ended; None while it is open.
        fault: what the other side did wrong, in words safe to show.
        gone: whether the connection is.
    """

    __slots__ = (
        "_decoder",
        "_frames",
        "_held",
        "_inbox",
        "_is_text",
        "_loop",
        "_lost",
        "_no_more",
        "_partial",
        "_pinged",
        "_reader",
        "_reading_paused",
        "_rest",
        "_writer",
        "_writing_paused",
        "ended",
        "fault",
        "gone",
        "transport",
    )

    def __init__(self, *, server: bool, message_bytes: int = MESSAGE_BYTES) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames = _Frames(Side.SERVER if server else Side.CLIENT, max_size=message_bytes, logger=_SILENT)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by `begin`
        self._inbox: deque[str | bytes] = deque()
        self._held = 0
        self._partial: bytearray | None = None
        self._is_text = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self._pinged = False
        self._rest = b""  # came, and is still to be looked at; while there is any, `_look` is about to be called
        self._no_more = False
        self._reading_paused = False
        self._writing_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self.ended: Close | None = None
        self.fault = ""
        self.gone = False

    def begin(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Take over a connection whose handshakes are done.

        Args:
            transport: where frames come from and go to.
            data: what came behind the head of the handshake.
        """
        self.transport = transport
        transport.set_protocol(self)
        if data:
            self.data_received(data)
        if not self._reading_paused and not transport.is_closing():
            transport.resume_reading()  # whoever did the handshake may have stopped it

    # For whoever has it

    async def receive(self) -> str | bytes | Close:
        """The next message, or how it ended."""
        while not self._inbox:
            if self.ended is not None:
                return self.ended
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        self._held -= len(message) + _OVERHEAD
        self._flow()
        return message

    async def send(self, message: str | bytes) -> None:
        """Send a message, and wait until there is room for the next one. On one that has ended it is dropped.

        Raises:
            UnicodeEncodeError: text that is none.
        """
        await self._room()
        if self.ended is not None:
            return
        if isinstance(message, str):
            self._frames.send_text(message.encode())
        else:
            self._frames.send_binary(message)
        self._flush()
        await self._room()

    def begin_close(self, close: Close) -> None:
        """Say that it is over. From now on `receive` gives `close`, and what the other side still sends is dropped.

        One that has ended keeps its own end.

        Raises:
            ValueError: a code that may not be sent, or a reason that is too long.
        """
        if self.ended is not None:
            return
        if close.code != _NO_CODE and not travels(close.code):
            raise ValueError(f"a WebSocket cannot be closed with the code {close.code}")
        if len(close.reason.encode()) > REASON_BYTES:
            raise ValueError(f"the reason of a close frame is longer than {REASON_BYTES} bytes")
        if close.code == _NO_CODE:
            self._frames.send_close()
        else:
            self._frames.send_close(close.code, close.reason)
        self._inbox.clear()
        self._held = 0
        self._end(close)
        self._flush()

    async def closed(self, seconds: float) -> None:
        """Wait until the connection is gone; end it when that takes too long."""
        if self.gone:
            return
        self._lost = self._loop.create_future()
        timer = self._loop.call_later(seconds, self.abort)
        try:
            await self._lost
        finally:
            timer.cancel()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    async def _room(self) -> None:
        while self._writing_paused and self.ended is None:
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    # From the event loop

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        if self._rest:
            self._rest += data
        else:
            self._rest = data
            self._look()

    def eof_received(self) -> bool | None:
        """The other side sends no more."""
        self._no_more = True
        if not self._rest:
            self._run_out()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.gone = self._no_more = True
        if not self._rest:
            self._run_out()
        _wake(self._lost)

    def _look(self) -> None:
        """Take up what has come. Small frames by the thousand do so in turns with whatever else happens."""
        data, self._rest = self._rest, b""
        start = frames = 0
        while start < len(data) and frames < _AT_ONCE:
            frames += self._read(data[start : start + _SLICE])
            start += _SLICE
        self._rest = data[start:]
        self._flush()
        if self._rest:
            self._loop.call_soon(self._look)
        elif self._no_more:
            self._run_out()
        self._flow()

    def _run_out(self) -> None:
        """Nothing comes any more, and all that came was looked at."""
        if self.gone:
            self._end(Close(_ABNORMAL))
            self._frames.parser.close()  # it holds on to what holds it
            return
        self._frames.receive_eof()
        self._frames.parser_exc = None  # it holds frames that hold us
        self._flush()
        self._end(Close(_ABNORMAL))

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The send buffer is low again."""
        self._writing_paused = self._pinged = False
        _wake(self._writer)
        self._flow()

    # Frames

    def _read(self, data: bytes) -> int:
        """Take the frames that end in these bytes; how many."""
        frames = self._frames
        frames.receive_data(data)
        events = frames.events_received()
        for event in events:
            frame = cast(Frame, event)  # others are of the handshake
            if self.ended is None:
                self._take(frame)
            else:
                self._heed(frame)
        if self.ended is None and frames.parser_exc is not None:
            self._failed(_words(frames.parser_exc))
        return len(events)

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._is_text = opcode is Opcode.TEXT
            if frame.fin:
                self._deliver(frame.data)
            else:
                self._partial = bytearray()
                self._decoder = _utf8() if self._is_text else None
                self._append(frame.data)
        elif opcode is Opcode.CONT:
            if self._append(frame.data, final=frame.fin) and frame.fin and self._partial is not None:
                partial, self._partial, self._decoder = self._partial, None, None
                self._deliver(partial)
        elif opcode is Opcode.CLOSE:
            received = self._frames.close_rcvd
            assert received is not None
            self._end(Close(int(received.code), received.reason))
        else:
            self._heed(frame)

    def _heed(self, frame: Frame) -> None:
        """Who does not read our pongs must not make more of them."""
        if frame.opcode is Opcode.PING:
            self._pinged = self._writing_paused

    def _append(self, data: bytes | bytearray | memoryview, *, final: bool = False) -> bool:
        """Keep a piece of a message, without an object for each; False when it is no UTF-8."""
        if self._decoder is not None:
            try:
                self._decoder.decode(data, final)
            except UnicodeDecodeError:
                self._not_text()
                return False
        if self._partial is not None:
            self._partial += data
        return True

    def _deliver(self, data: bytes | bytearray | memoryview) -> None:
        message: str | bytes
        if self._is_text:
            try:
                message = str(data, "utf-8")
            except UnicodeDecodeError:
                self._not_text()
                return
        else:
            message = bytes(data)
        self._inbox.append(message)
        self._held += len(message) + _OVERHEAD
        _wake(self._reader)

    def _not_text(self) -> None:
        self._frames.fail(_INVALID, "not UTF-8")
        self._failed("text that is not UTF-8")

    def _failed(self, why: str) -> None:
        """The frames cannot be read: a close frame says so, and no other side's close frame came."""
        self.fault = why
        self._frames.parser_exc = None  # as at an end
        self._end(Close(_ABNORMAL))

    def _end(self, close: Close) -> None:
        """It is over. Messages that had come before can still be had."""
        if self.ended is not None:
            return
        self.ended = close
        self._partial = self._decoder = None
        _wake(self._reader)
        _wake(self._writer)
        self._flow()

    def _flush(self) -> None:
        """Write what the frames have to say."""
        pieces = self._frames.data_to_send()
        if not pieces or self.transport.is_closing():
            return
        if ended := pieces[-1] == b"":
            pieces.pop()
        if pieces:
            self.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended:
            self.finish()

    def finish(self) -> None:
        """Both have said that it is over, or this side has had enough: the connection's end."""
        self.transport.close()

    def _flow(self) -> None:
        """Read while all that came was looked at, there is room for more, and pongs are taken."""
        pause = self._pinged or bool(self._rest) or (self.ended is None and self._held > HIGH_WATER)
        if pause == self._reading_paused or self.transport.is_closing():
            return
        self._reading_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class _Frames(Protocol):
    """The library's, but that a close frame may come in the middle of a message (RFC 6455 §5.4): its code counts."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


_utf8 = codecs.getincrementaldecoder("utf-8")


def _words(error: Exception) -> str:
    if isinstance(error, PayloadTooBig):
        return "a message that is too large"
    if isinstance(error, UnicodeDecodeError):
        return "the reason of a close frame that is not UTF-8"
    return str(error)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
