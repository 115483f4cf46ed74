"""Where an exchange is at a moment, seen from outside: what its task waits in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["PHASES", "frames", "phase"]

PHASES = {
    "queued": "for a connection to the backend: all that it may have are taken",
    "connecting": "for the connection: name, TCP and the TLS handshake",
    "sending": "for the client's body, or for the backend to take it",
    "waiting": "for the head of the answer; the request is sent",
    "streaming": "for the backend's next piece, or for the client to take one",
}
"""What the task of an exchange waits for in each phase."""

_INNERMOST = {
    "Pool._turn": "queued",
    "Pool._dial": "connecting",
    "Forwarding._take_body": "sending",
    "Connection.head": "waiting",
    "Connection.read": "streaming",
    "Cycle.send": "streaming",
    "Forwarding._pass_back": "streaming",
}


def phase(task: asyncio.Task[Any]) -> str | None:
    """One of `PHASES`, or None before the first and after the last."""
    uploading = False
    found: str | None = None
    for frame in frames(task):
        name = frame.f_code.co_qualname
        if name == "Http1Transport.send":
            exchange = frame.f_locals.get("exchange")
            upload = None if exchange is None else exchange._upload
            uploading = upload is not None and not upload.done()
        found = _INNERMOST.get(name, found)
    return "sending" if found == "waiting" and uploading else found


def frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The suspended frames of a task, outermost first."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None)
        if frame is not None:
            yield frame
        waiting = getattr(waiting, "cr_await", None)
