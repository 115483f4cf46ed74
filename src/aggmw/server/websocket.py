"""Giving a connection to uvicorn's WebSocket protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from uvicorn.protocols.utils import ClientDisconnected

from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["fits", "hand_over"]

_log = structlog.get_logger("aggmw.server")

_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # of its own: it belongs to no hierarchy

_LINE = 8_000  # `websockets` reads lines of at most 8,192 bytes, and dies of longer ones
_FIELDS = 128


def fits(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the handshake is within what the WebSocket parser reads."""
    if len(target) > _LINE or len(headers) > _FIELDS:
        return False
    return all(len(name) + len(value) <= _LINE for name, value in headers)


def hand_over(
    protocol: Any,
    transport: asyncio.Transport,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    rest: bytes,
    lost: Callable[[], None],
) -> None:
    """Let `protocol` begin with the head as it was examined, and take all that follows.

    Args:
        protocol: a new instance of uvicorn's WebSocket protocol class.
        target: of the handshake.
        headers: of the handshake.
        rest: what came behind the head.
        lost: called when the connection ends.
    """
    head = [b"GET ", target, b" HTTP/1.1\r\n"]
    head += [name + b": " + value + b"\r\n" for name, value in headers]
    head += [b"\r\n", rest]
    protocol.app = partial(_quietly, protocol.app)
    protocol.connection_lost = partial(_connection_lost, protocol.connection_lost, lost)
    protocol.connection_made(transport)
    _silence(protocol)
    transport.set_protocol(protocol)
    protocol.data_received(b"".join(head))


def _silence(protocol: Any) -> None:
    """The library logs handshakes with every field of their heads, and targets with their queries: not with ours."""
    for owner in (protocol, getattr(protocol, "conn", None)):
        if owner is not None and hasattr(owner, "logger"):
            owner.logger = _SILENT


def _connection_lost(
    inner: Callable[[Exception | None], None], lost: Callable[[], None], exc: Exception | None
) -> None:
    lost()
    inner(exc)


async def _quietly(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application; an exception ends the connection and leaves one line, without a trace, in the log."""
    accepted = False

    async def sending(message: Message) -> None:
        nonlocal accepted
        await send(message)
        accepted = accepted or message["type"] == "websocket.accept"

    try:
        await app(scope, receive, sending)
    except ClientDisconnected:
        raise
    except Exception as error:  # noqa: BLE001  uvicorn would log a trace
        _log.error("application failed", error=type(error).__name__)
        if accepted:
            await send({"type": "websocket.close", "code": 1011})
