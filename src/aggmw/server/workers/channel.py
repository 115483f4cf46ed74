"""What the supervisor and a worker say to each other: frames of JSON over a pair of Unix sockets.

A worker says `up`, `mistakes`, `beat`, `leaving`, `figures` and `ask`; the supervisor `stop`, `now`, `stand in`,
`step back`, `figures?` and `answer`. The end of one of them is the end of the other's channel.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import suppress
from typing import Any, TypeAlias

__all__ = ["Channel", "Message", "framed", "read_frame"]

Message: TypeAlias = dict[str, Any]
"""`say` is its kind."""

_SIZE = struct.Struct("!I")


class Channel:
    """One end, on an event loop. Use `Channel.over`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connected: socket.socket) -> Channel:
        """The end that a connected socket is, which belongs to the channel from now on."""
        return cls(*await asyncio.open_unix_connection(sock=connected))

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message, whenever the other side takes it; nothing when there is no other side any more."""
        self.write(framed({"say": kind, **fields}))

    def write(self, frame: bytes) -> None:
        """Send a frame."""
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def hear(self) -> Message | None:
        """The next message; None at the end, and for what is none."""
        try:
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            message: Message = json.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return None
        return message

    def hang_up(self) -> None:
        """End at once."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is left, and end."""
        with suppress(OSError):
            await self._writer.drain()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def framed(message: Message | bytes) -> bytes:
    """A message, or bytes of another form, as a frame."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode("ascii")
    return _SIZE.pack(len(data)) + data


def read_frame(connected: socket.socket) -> bytes:
    """The next frame, without an event loop.

    Raises:
        EOFError: the other side is gone.
    """
    (size,) = _SIZE.unpack(_exactly(connected, _SIZE.size))
    return _exactly(connected, size)


def _exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
