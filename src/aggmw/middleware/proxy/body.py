"""The body of a request, taken from the client as the backend takes it."""

from __future__ import annotations

from collections.abc import Callable

from aggmw.asgi.types import Receive

__all__ = ["Body", "ClientGone"]


class ClientGone(Exception):
    """The client disconnected while it was still sending."""


class Body:
    """The chunks of a body, asked for one by one. Nothing is read ahead.

    Args:
        first: the chunk that is at hand.
        receive: gives the others.
        whole: called when the last chunk was taken.
        broken_off: called when the client left before that; iterating raises `ClientGone` then.
    """

    __slots__ = ("_broken_off", "_first", "_more", "_receive", "_whole")

    def __init__(
        self, first: bytes, receive: Receive, *, whole: Callable[[], None], broken_off: Callable[[], None]
    ) -> None:
        self._first = first
        self._receive = receive
        self._whole = whole
        self._broken_off = broken_off
        self._more = True

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            chunk, self._first = self._first, b""
            return chunk
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._broken_off()
                raise ClientGone
            self._more = message.get("more_body", False)
            if not self._more:
                self._whole()
            if chunk := message.get("body", b""):
                return bytes(chunk)
        raise StopAsyncIteration
