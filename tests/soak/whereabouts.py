"""Where an exchange is at a moment, seen from outside: what its task waits in."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

from aggmw.middleware.proxy.transports.exchange import Exchange

__all__ = ["PHASES", "coroutines", "phase", "variables"]

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
    for coroutine in coroutines(task):
        name = coroutine.__qualname__
        if name == "Http1Transport.send":
            uploads = [each._upload for each in variables(coroutine) if isinstance(each, Exchange)]
            uploading = any(upload is not None and not upload.done() for upload in uploads)
        found = _INNERMOST.get(name, found)
    return "sending" if found == "waiting" and uploading else found


def coroutines(task: asyncio.Task[Any]) -> Iterator[Any]:
    """The suspended coroutines of a task, outermost first, whether they are compiled or not."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        if hasattr(waiting, "cr_await"):
            yield waiting
            waiting = waiting.cr_await
        elif type(waiting).__name__ == "coroutine_wrapper":  # around one that is not compiled, in one that is
            (waiting,) = gc.get_referents(waiting)
        else:
            return


def variables(coroutine: Any) -> list[object]:
    """The values of a suspended coroutine's variables. Those of a compiled one are in an object of its own."""
    values = gc.get_referents(coroutine)
    inner = [gc.get_referents(value) for value in values if type(value).__name__.startswith("__pyx_scope")]
    return [*values, *(value for each in inner for value in each)]
