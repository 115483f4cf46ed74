"""What the tests of dialling share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast


class Peer(asyncio.Protocol):
    """What a dial makes."""

    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.received.done():
            self.received.set_result(data)


@contextmanager
def silent_address(host: str, port: int) -> Iterator[None]:
    """An address that answers no attempt to connect: its queue is full, and nobody takes anything out of it."""
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, port))
        listener.listen(0)
        stack.enter_context(socket.create_connection((host, port)))
        yield
