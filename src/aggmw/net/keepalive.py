"""Noticing that the other machine is gone, by the kernel."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["keep_asking"]


def keep_asking(connection: Any) -> None:
    """Let a connection, or those that a listening socket accepts, notice within a minute that nobody is there any more.

    A watch or a WebSocket on which nothing happens would be held for a dead machine for ever.

    Args:
        connection: a TCP socket, or what an event loop shows in place of one.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
