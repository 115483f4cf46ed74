"""The steps of a scripted backend.

A step is one of the classes below, plain bytes (sent as they are), or a function of the test's own: `async def
step(connection: BackendConnection) -> None`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from aggmw.testing._connection import BackendConnection

__all__ = [
    "Close",
    "Expect",
    "Hold",
    "ReadHead",
    "ReadRequest",
    "ReadToEnd",
    "Reset",
    "Script",
    "Send",
    "Step",
    "Wait",
    "run_script",
]


@runtime_checkable
class Step(Protocol):
    """One thing a scripted backend does on a connection."""

    async def run(self, connection: BackendConnection) -> None:
        """Do it. A connection that is gone raises `PeerGone`, which ends the script without failing the test."""


Script: TypeAlias = Sequence[object]
"""Steps in order: `Step`, bytes to send, or functions of the connection."""


@dataclass(frozen=True, slots=True)
class Expect:
    """Read until `data` was received; what comes before it is read too. Else the test fails."""

    data: bytes

    async def run(self, connection: BackendConnection) -> None:
        await connection.expect(self.data)


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Read up to and including the empty line that ends a head."""

    async def run(self, connection: BackendConnection) -> None:
        await connection.read_until(b"\r\n\r\n")


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read one whole request, framed by Content-Length or chunks."""

    async def run(self, connection: BackendConnection) -> None:
        await connection.read_request()


@dataclass(frozen=True, slots=True)
class ReadToEnd:
    """Read until the peer ends its side, or breaks it."""

    async def run(self, connection: BackendConnection) -> None:
        await connection.read_to_end()


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes; done when the transport has room for more."""

    data: bytes

    async def run(self, connection: BackendConnection) -> None:
        await connection.send(self.data)


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until the event is set, however long it takes."""

    event: asyncio.Event

    async def run(self, connection: BackendConnection) -> None:
        await self.event.wait()


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the connection open until the peer is gone or the backend ends. What arrives is discarded."""

    async def run(self, connection: BackendConnection) -> None:
        await connection.read_to_end()


@dataclass(frozen=True, slots=True)
class Close:
    """Close properly: what was sent goes out first; over TLS with close_notify."""

    async def run(self, connection: BackendConnection) -> None:
        connection.close()
        await connection.closed.wait()


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection with a TCP RST."""

    async def run(self, connection: BackendConnection) -> None:
        connection.reset()
        await connection.closed.wait()


async def run_script(script: Script, connection: BackendConnection) -> None:
    """Run the steps in order."""
    for step in script:
        if isinstance(step, bytes):
            await connection.send(step)
        elif isinstance(step, Step):
            await step.run(connection)
        elif callable(step):
            result = step(connection)
            if inspect.isawaitable(result):
                await result
        else:
            raise TypeError(f"not a step: {step!r}")
