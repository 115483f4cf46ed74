"""One side of a WebSocket: messages, what it may hold, and every way it can end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.websockets import Close
from aggmw.net.buffers import HIGH_WATER
from aggmw.net.websocket import MESSAGE_BYTES, WebSocket, accept_of, new_key, travels
from aggmw.testing.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

MASK = b"\x01\x02\x03\x04"


class Wire(asyncio.Transport):
    """The connection, as far as a WebSocket needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading = True
        self.closing = False
        self.aborted = False
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def taken(self) -> bytes:
        """What was sent since the last look."""
        sent, self.sent = self.sent, b""
        return sent

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.protocol.connection_lost(None)


def opened(*, server: bool = True, **options: Any) -> tuple[WebSocket, Wire]:
    """An open WebSocket; a server's unless it is said otherwise, so what it gets is masked."""
    wire = Wire()
    socket = WebSocket(server=server, **options)
    socket.begin(wire)
    return socket, wire


def masked(opcode: int, payload: bytes | str = b"", **options: Any) -> bytes:
    return frame(opcode, payload, mask=MASK, **options)


async def everything(socket: WebSocket) -> list[object]:
    """All messages, and the end."""
    found: list[object] = []
    while not isinstance(message := await socket.receive(), Close):
        found.append(message)
    return [*found, message]


def test_digest() -> None:
    """RFC 6455 §1.3: the example of the specification."""
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert new_key() != new_key()


@pytest.mark.parametrize("server", [True, False])
async def test_messages(server: bool) -> None:
    """Text and bytes, either way; a client masks what it sends, a server does not, and wants it so."""
    socket, wire = opened(server=server)
    mask = MASK if server else None
    socket.data_received(frame(TEXT, "hé", mask=mask) + frame(BINARY, b"\x00", mask=mask) + frame(TEXT, "", mask=mask))
    assert [await socket.receive() for _ in range(3)] == ["hé", b"\x00", ""]
    await socket.send("hé")
    await socket.send(b"\x00")
    sent = wire.taken()
    if server:
        assert sent == frame(TEXT, "hé") + frame(BINARY, b"\x00")
    else:
        assert [sent[0], sent[1], sent[9], sent[10]] == [0x81, 0x83, 0x82, 0x81]


@given(
    message=st.one_of(st.text(max_size=300), st.binary(max_size=300)),
    cuts=st.lists(st.integers(0, 300), max_size=8),
    chop=st.integers(1, 40),
    pings=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_pieces(message: str | bytes, cuts: list[int], chop: int, pings: bool) -> None:
    """A message is the same in whatever fragments and packets it comes, with control frames between them."""
    data = message.encode() if isinstance(message, str) else message
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[a:b] for a, b in pairwise(edges)] or [b""]
    wire_bytes = b""
    for number, piece in enumerate(pieces):
        opcode = CONTINUATION if number else TEXT if isinstance(message, str) else BINARY
        wire_bytes += masked(opcode, piece, fin=number == len(pieces) - 1)
        wire_bytes += masked(PING, b"?") if pings else b""

    async def main() -> None:
        socket, wire = opened()
        for start in range(0, len(wire_bytes), chop):
            socket.data_received(wire_bytes[start : start + chop])
        assert await socket.receive() == message
        assert wire.sent.count(frame(PONG, b"?")) == (len(pieces) if pings else 0)

    asyncio.run(main())


@pytest.mark.parametrize("rest", [b"\xe2", b"\xe2\x82", b"\xff", b"\xed\xa0\x80"])
async def test_text_that_is_none(rest: bytes) -> None:
    """Text that is no UTF-8 ends it with 1007; what is not complete yet does not."""
    socket, wire = opened()
    socket.data_received(masked(TEXT, b"a" + rest))
    assert await socket.receive() == Close(1006)
    assert socket.fault == "text that is not UTF-8"
    assert wire.taken().startswith(b"\x88\x0b" + (1007).to_bytes(2, "big"))
    assert wire.closing


async def test_text_is_refused_at_the_first_wrong_piece() -> None:
    """Nobody has to wait for the end of a message whose beginning is wrong already; half a character is not."""
    socket, _ = opened()
    socket.data_received(masked(TEXT, b"\xe2\x82", fin=False) + masked(CONTINUATION, b"\xac", fin=False))
    assert socket.ended is None
    socket.data_received(masked(CONTINUATION, b"\xff", fin=False))
    assert socket.ended == Close(1006)


@pytest.mark.parametrize(
    ("data", "code", "fault"),
    [
        (frame(TEXT, "unmasked"), 1002, "incorrect masking"),
        (masked(TEXT, "x", reserved=4), 1002, "reserved bits must be 0"),
        (masked(3), 1002, "invalid opcode"),
        (masked(PING, b"x" * 126), 1002, "control frame too long"),
        (masked(PING, fin=False), 1002, "fragmented control frame"),
        (masked(CONTINUATION, b"x"), 1002, "unexpected continuation frame"),
        (masked(TEXT, "x", fin=False) + masked(TEXT, "y"), 1002, "expected a continuation frame"),
        (close_frame(1005, mask=MASK), 1002, "invalid status code"),
        (close_frame(2999, mask=MASK), 1002, "invalid status code"),
        (masked(CLOSE, b"\x03"), 1002, "close frame too short"),
        (masked(CLOSE, b"\x03\xe8\xff"), 1007, "the reason of a close frame that is not UTF-8"),
        (masked(BINARY, b"x" * 201), 1009, "a message that is too large"),
        (masked(BINARY, b"x" * 150, fin=False) + masked(CONTINUATION, b"x" * 60), 1009, "a message that is too large"),
    ],
)
async def test_wrong_frames(data: bytes, code: int, fault: str) -> None:
    """What no frame may be: the other side is told by a close frame, and no close code of its own is made up."""
    socket, wire = opened(message_bytes=200)
    socket.data_received(masked(BINARY, b"before") + data + masked(BINARY, b"behind"))
    assert await everything(socket) == [b"before", Close(1006)]
    assert socket.fault == fault
    sent = wire.taken()
    assert (sent[0], sent[2:4]) == (0x88, code.to_bytes(2, "big"))


def test_largest_message() -> None:
    """§11.13: 16 MiB."""
    assert MESSAGE_BYTES == 16_777_216


@pytest.mark.parametrize("size", [100, 101])
async def test_size_of_a_message(size: int) -> None:
    """The limit itself is allowed; a longer frame is refused by its head, before any of its bytes."""
    socket, _ = opened(message_bytes=100)
    socket.data_received(masked(BINARY, b"x" * size)[:4])
    assert (socket.ended is None) == (size == 100)


async def test_empty_pieces_hold_nothing() -> None:
    """A message of a million empty fragments costs as much as one."""
    socket, _ = opened()
    socket.data_received(masked(BINARY, b"a", fin=False))
    for _ in range(50):
        socket.data_received(masked(CONTINUATION, b"", fin=False) * 1_000)
    assert socket._partial == b"a"
    socket.data_received(masked(CONTINUATION, b"b"))
    assert await socket.receive() == b"ab"


# Backpressure


async def test_messages_that_nobody_takes() -> None:
    """More than 64 KiB of messages stop the reading, until they are taken; each counts, however short."""
    socket, wire = opened()
    socket.data_received(masked(BINARY, b"x" * HIGH_WATER))
    assert not wire.reading
    await socket.receive()
    assert wire.reading
    socket.data_received(masked(BINARY) * 2_000)
    assert not wire.reading


async def test_nobody_takes_what_is_sent() -> None:
    """Sending waits while the other side takes nothing, and goes on when it does."""
    socket, wire = opened()
    socket.pause_writing()
    sending = asyncio.ensure_future(socket.send("x"))
    await asyncio.sleep(0)
    assert wire.taken() == b""
    socket.resume_writing()
    await sending
    assert wire.taken() == frame(TEXT, "x")


@pytest.mark.parametrize("end", ["lost", "closed"])
async def test_whoever_sends_learns_of_the_end(end: str) -> None:
    """The end wakes who waits for room; the message is dropped."""
    socket, wire = opened()
    socket.pause_writing()
    sending = asyncio.ensure_future(socket.send("x"))
    await asyncio.sleep(0)
    if end == "lost":
        socket.connection_lost(None)
    else:
        socket.data_received(close_frame(1000, mask=MASK))
    await sending
    assert frame(TEXT, "x") not in wire.taken()


async def test_pings_of_a_client_that_does_not_read() -> None:
    """Who does not take the pongs may not ask for more: they would fill the memory."""
    socket, wire = opened()
    socket.pause_writing()
    socket.data_received(masked(BINARY, b"not a ping"))
    assert wire.reading
    socket.data_received(masked(PING))
    assert not wire.reading
    socket.resume_writing()
    assert wire.reading


@pytest.mark.parametrize("unit", [(PING, b""), (PONG, b""), (BINARY, b"x")], ids=["pings", "pongs", "messages"])
async def test_thousands_of_small_frames(unit: tuple[int, bytes]) -> None:
    """They are looked at in turns with whatever else the event loop has to do; nothing more is read meanwhile."""
    socket, wire = opened()
    data = masked(*unit)
    number = 262_144 // len(data)
    turns = 0
    socket.data_received(data * number + masked(BINARY, b"last") + close_frame(1000, mask=MASK))
    while socket.ended is None:
        assert not wire.reading
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20
    assert wire.taken().count(frame(PONG)) == (number if unit[0] == PING else 0)
    messages = await everything(socket)
    assert messages[-2:] == [b"last", Close(1000)]
    assert len(messages) == 2 + (number if unit[0] == BINARY else 0)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("ends", [["eof_received", "connection_lost"], ["connection_lost"]], ids=["end", "loss"])
async def test_an_end_right_behind_small_frames(ends: list[str], closed: bool) -> None:
    """What had come before the end of the connection still counts: messages, and a close frame."""
    socket, _ = opened()
    end = close_frame(3000, "done", mask=MASK) if closed else b""
    socket.data_received(masked(BINARY, b"x") * 5000 + end)
    for name in ends:
        getattr(socket, name)(*[None] * (name == "connection_lost"))
    assert socket.gone
    assert await everything(socket) == [b"x"] * 5000 + [Close(3000, "done") if closed else Close(1006)]


async def test_pings_behind_a_close_frame() -> None:
    """Nor may it after the end."""
    socket, wire = opened()
    socket.begin_close(Close(1000))
    socket.pause_writing()
    socket.data_received(masked(PING))
    assert not wire.reading


# The end


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4999, "żółw"), (None, "")])
async def test_the_other_side_closes(code: int | None, reason: str) -> None:
    """Its close frame is echoed, its code and reason told, 1005 for none; what came before is not lost."""
    socket, wire = opened()
    socket.data_received(masked(TEXT, "last") + close_frame(code, reason, mask=MASK) + masked(TEXT, "too late"))
    assert await everything(socket) == ["last", Close(code or 1005, reason)]
    assert await socket.receive() == Close(code or 1005, reason)
    assert wire.taken() == close_frame(code, reason)
    assert wire.closing


async def test_close_in_the_middle_of_a_message() -> None:
    """RFC 6455 §5.4: a close frame may come between fragments, and its code counts."""
    socket, wire = opened()
    socket.data_received(masked(TEXT, "half", fin=False) + close_frame(1001, mask=MASK))
    assert await everything(socket) == [Close(1001)]
    assert wire.taken() == close_frame(1001)


async def test_a_client_lets_the_server_end_the_connection() -> None:
    """RFC 6455 §7.1.1: the server closes first; a client does so only when that takes too long."""
    socket, wire = opened(server=False)
    socket.data_received(close_frame(1000))
    assert not wire.closing
    await socket.closed(0.01)
    assert wire.aborted


@pytest.mark.parametrize("code", [1000, 1005])
async def test_closing(code: int) -> None:
    """What the other side still sends is dropped, pings are answered, and its echo ends the connection."""
    socket, wire = opened()
    socket.data_received(masked(TEXT, "unread"))
    socket.begin_close(Close(code))
    socket.begin_close(Close(4000))
    assert wire.taken() == close_frame(None if code == 1005 else code)
    socket.data_received(masked(TEXT, "dropped") + masked(PING))
    assert wire.taken() == frame(PONG)
    assert not wire.closing
    assert await everything(socket) == [Close(code)]
    socket.data_received(close_frame(code if code == 1000 else None, mask=MASK))
    assert wire.closing
    await socket.send("too late")
    assert wire.taken() == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65_536])
async def test_codes_that_may_not_travel(code: int) -> None:
    """RFC 6455 §7.4: they are refused where they are given, and never sent."""
    socket, wire = opened()
    with pytest.raises(ValueError, match="cannot be closed with the code"):
        socket.begin_close(Close(code))
    assert wire.taken() == b""
    assert not travels(code)


async def test_reason_that_is_too_long() -> None:
    """A control frame has 125 bytes."""
    socket, _ = opened()
    with pytest.raises(ValueError, match="longer than 123 bytes"):
        socket.begin_close(Close(1000, "é" * 62))
    socket.begin_close(Close(1000, "é" * 61))


@pytest.mark.parametrize("end", [lambda socket: socket.eof_received(), lambda socket: socket.connection_lost(None)])
async def test_an_end_without_a_close_frame(end: Callable[[WebSocket], object]) -> None:
    """It is 1006, and nobody's fault; what came before can still be had."""
    socket, _ = opened()
    socket.data_received(masked(TEXT, "last") + masked(TEXT, "half", fin=False))
    end(socket)
    assert await everything(socket) == ["last", Close(1006)]
    assert socket.fault == ""


async def test_frames_behind_the_handshake() -> None:
    """What came in the same packet is read, and the reading that the handshake had stopped goes on."""
    wire = Wire()
    wire.pause_reading()
    socket = WebSocket(server=True)
    socket.begin(wire, masked(TEXT, "early"))
    assert await socket.receive() == "early"
    assert wire.reading


async def test_receiving_can_be_cancelled() -> None:
    """Whoever gave up waiting has taken nothing."""
    socket, _ = opened()
    waiting = asyncio.ensure_future(socket.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    socket.data_received(masked(TEXT, "x"))
    assert await socket.receive() == "x"


@pytest.mark.parametrize("data", [b"", close_frame(1000, mask=MASK), frame(TEXT, "wrong"), None])
async def test_no_garbage(data: bytes | None) -> None:
    """One that is over is freed at once, however it ended: nothing is left to the garbage collector."""
    socket, wire = opened()
    if data is None:
        socket.eof_received()
    elif data:
        socket.data_received(data)
    socket.connection_lost(None)
    frames = weakref.ref(socket._frames)
    gc.disable()
    try:
        wire.protocol = None
        del socket
        assert frames() is None
    finally:
        gc.enable()
