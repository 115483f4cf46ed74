"""WebSocket handshakes and frames as bytes (RFC 6455), right ones and wrong ones, for a scripted backend.

::

    script = [AcceptWebSocket("v5.channel.k8s.io"), frame(BINARY, b"\\x01hello"), ReadFrame(), close_frame(1000)]
    async with ScriptedBackend(script) as backend:
        ...
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field

from aggmw.testing._connection import BackendConnection
from aggmw.testing._scopes import HeaderInput
from aggmw.testing.raw import ReceivedRequest, respond

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "AcceptWebSocket",
    "EndWebSocket",
    "Frame",
    "ReadFrame",
    "close_frame",
    "frame",
    "read_frame",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was read.

    Args:
        opcode: such as `TEXT`.
        payload: unmasked.
        fin: whether it is the last of its message.
        masked: whether it came masked, as a client's must.
    """

    opcode: int
    payload: bytes
    fin: bool = True
    masked: bool = False

    @property
    def close(self) -> tuple[int | None, str]:
        """Code and reason of a close frame; None without a code."""
        if not self.payload:
            return None, ""
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def frame(
    opcode: int, payload: bytes | str = b"", *, fin: bool = True, mask: bytes | None = None, reserved: int = 0
) -> bytes:
    """A frame, whether or not that is one that may be sent.

    Args:
        opcode: any of the 16.
        payload: text is sent as UTF-8.
        fin: whether it ends its message.
        mask: four bytes to mask with; None sends it unmasked.
        reserved: the three reserved bits as a number.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    first = bytes([(fin << 7) | (reserved << 4) | opcode])
    masked = 0 if mask is None else 0x80
    if len(data) < 126:
        length = bytes([masked | len(data)])
    elif len(data) < 65_536:
        length = struct.pack("!BH", masked | 126, len(data))
    else:
        length = struct.pack("!BQ", masked | 127, len(data))
    return first + length + (data if mask is None else mask + _masked(data, mask))


def close_frame(code: int | None = None, reason: str = "", *, mask: bytes | None = None) -> bytes:
    """A close frame; None sends no code. `mask` as for `frame`."""
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return frame(CLOSE, payload, mask=mask)


async def read_frame(connection: BackendConnection) -> Frame:
    """Read one frame. Raises PeerGone."""
    first, second = await connection.read_exactly(2)
    length = second & 0x7F
    if length > 125:
        length = int.from_bytes(await connection.read_exactly(2 if length == 126 else 8), "big")
    masked = bool(second & 0x80)
    mask = await connection.read_exactly(4) if masked else b""
    payload = await connection.read_exactly(length)
    return Frame(first & 0x0F, _masked(payload, mask) if masked else payload, bool(first & 0x80), masked)


@dataclass(frozen=True, slots=True)
class AcceptWebSocket:
    """Read a handshake and switch protocols.

    Args:
        subprotocol: what is chosen, offered or not.
        headers: further fields, and replacements: a field that is given is not added by itself.
    """

    subprotocol: str | None = None
    headers: HeaderInput = ()

    async def run(self, connection: BackendConnection) -> None:
        request = ReceivedRequest.of(await connection.read_request())
        key = request.header("sec-websocket-key") or b""
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        given = self.headers.items() if hasattr(self.headers, "items") else self.headers
        fields: list[tuple[bytes | str, bytes | str]] = [*given]
        names = {(name.encode() if isinstance(name, str) else name).lower() for name, _ in fields}
        usual: list[tuple[bytes, bytes]] = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", accept),
        ]
        if self.subprotocol is not None:
            usual.append((b"Sec-WebSocket-Protocol", self.subprotocol.encode()))
        kept = [each for each in usual if each[0].lower() not in names]
        await connection.send(respond(101, [*kept, *fields]))


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """Read one frame, and keep it.

    Args:
        frames: where it is kept.
    """

    frames: list[Frame] = field(default_factory=list)

    async def run(self, connection: BackendConnection) -> None:
        self.frames.append(await read_frame(connection))


@dataclass(frozen=True, slots=True)
class EndWebSocket:
    """Read frames up to a close frame, and end the connection as a server should.

    Args:
        answer: whether to send one with the same code before; false where the script has sent one.
        frames: what was read is kept there, the close frame, too.
    """

    answer: bool = True
    frames: list[Frame] = field(default_factory=list)

    async def run(self, connection: BackendConnection) -> None:
        while True:
            received = await read_frame(connection)
            self.frames.append(received)
            if received.opcode == CLOSE:
                break
        if self.answer:
            await connection.send(frame(CLOSE, received.payload))
        connection.close()
        await connection.closed.wait()


def _masked(data: bytes, mask: bytes) -> bytes:
    whole = mask * (len(data) // 4 + 1)
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole[: len(data)], "big")).to_bytes(len(data), "big")
