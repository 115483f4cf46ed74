"""A backend that takes its time in every phase, a different one each time."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

__all__ = ["Dawdling", "dawdling"]

_ACCEPTS = 0.01
_BACKLOG = 1  # who comes when two are waiting has to knock again, which takes the kernel a second
_LARGE = 1 << 20
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b"5\r\nevent\r\n"


class _Dawdler(asyncio.Protocol):
    """One connection. What is answered, the last part of the target says; see `_answer`."""

    def __init__(self, site: Dawdling) -> None:
        self._site = site
        self._head = b""
        self._target: bytes | None = None
        self._left: int | None = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._site.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._target is not None:
            self._take(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        self._head = b""
        self._target = head.split()[1].partition(b"?")[0].rpartition(b"/")[2]
        lowered = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lowered:
            self._left = None
        else:
            length = lowered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            self._left = int(length or 0)
        if self._target == b"deaf":
            self._transport.pause_reading()
        else:
            self._take(rest)

    def _take(self, data: bytes) -> None:
        """A part of the body; the answer is due a while after its end."""
        if self._left is None:
            if not data.endswith(b"0\r\n\r\n"):
                return
        else:
            self._left -= len(data)
            if self._left > 0:
                self._later(self._go_on, 0.01)
                self._transport.pause_reading()
                return
        self._left = 0
        self._later(self._answer, 0.0 if self._target == b"quick" else 0.06)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _later(self, call: object, longest: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._site.loop.call_later(self._site.chance.random() * longest, call)  # type: ignore[arg-type]

    def _answer(self) -> None:
        target, write = self._target, self._transport.write
        if target == b"never":
            return
        if target == b"watch":
            write(_CHUNKED + _EVENT)
            self._events()
            return
        if target == b"large":
            write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _LARGE)
            write(bytes(_LARGE))
        else:
            write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        self._target = None

    def _events(self) -> None:
        self._transport.write(_EVENT)
        self._later(self._events, 0.02)


class Dawdling:
    """What the connections of a slow backend share."""

    port = 0

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.loop = asyncio.get_running_loop()
        self.open: set[_Dawdler] = set()
        self.hands: set[asyncio.Task[None]] = set()

    async def close_all(self) -> None:
        """End every connection: who does not read does not see the other's end."""
        while self.open:
            for each in tuple(self.open):
                each.close()
            await asyncio.sleep(0.01)

    async def accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take connections, one now and then, and begin their handshakes some time later."""
        while True:
            await asyncio.sleep(self.chance.random() * _ACCEPTS)
            accepted, _ = await self.loop.sock_accept(listener)
            task = self.loop.create_task(self._shake(accepted, context))
            self.hands.add(task)
            task.add_done_callback(self.hands.discard)

    async def _shake(self, accepted: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            if context is not None:
                await asyncio.sleep(self.chance.random() * 0.03)
            await self.loop.connect_accepted_socket(lambda: _Dawdler(self), accepted, ssl=context)
        except OSError:  # the peer is gone
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise


@asynccontextmanager
async def dawdling(chance: random.Random, context: ssl.SSLContext | None) -> AsyncIterator[Dawdling]:
    """One that listens. With a context, handshakes are slow too."""
    site = Dawdling(chance)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        listener.setblocking(False)
        site.port = listener.getsockname()[1]
        accepting = site.loop.create_task(site.accept(listener, context))
        try:
            yield site
        finally:
            ending = {accepting, *site.hands}
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await site.close_all()
