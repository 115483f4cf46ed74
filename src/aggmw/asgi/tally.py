"""What an application answered, counted from the messages it sends."""

from __future__ import annotations

from time import perf_counter

from aggmw.asgi.types import Message

__all__ = ["Tally"]


class Tally:
    """Status, bytes and time of one response. Begins when it is made.

    Attributes:
        status: 0 until an answer began. 101 for a WebSocket that was accepted; 403 for one that was closed before that,
            which is what servers make of it.
        size: bytes of the response's body. What goes through a WebSocket is no body.
    """

    __slots__ = ("_began", "size", "status")

    def __init__(self) -> None:
        self._began = perf_counter()
        self.status = 0
        self.size = 0

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return perf_counter() - self._began

    def note(self, message: Message) -> None:
        """Count a message that the application sends."""
        kind = message["type"]
        if kind == "http.response.body":
            self.size += len(message.get("body", b""))
        elif kind == "http.response.start":
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.http.response.body":
            self.size += len(message.get("body", b""))
        elif kind == "websocket.close" and not self.status:
            self.status = 403
