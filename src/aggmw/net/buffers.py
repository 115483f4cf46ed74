"""How much an event loop may hold of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["HIGH_WATER", "bound_buffers"]

HIGH_WATER = 65_536
"""Bytes from which on a buffer is full: nothing more is read into it, or nobody writes to it until it is nearly empty.

A single read may bring more, up to 256 KiB: that is the event loops' own.
"""


def bound_buffers(transport: asyncio.Transport, *, tls: bool) -> None:
    """Let a transport hold `HIGH_WATER` bytes each way. Under TLS, event loops hold 512 KiB out and 256 KiB in."""
    transport.set_write_buffer_limits(HIGH_WATER)
    if tls:
        secured: Any = transport  # asyncio's public class has no name for it
        secured.set_read_buffer_limits(HIGH_WATER)
