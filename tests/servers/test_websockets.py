"""A WebSocket through a front proxy under each server: it opens, is refused in words, and ends with its codes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.servers.processes import SERVERS

from aggmw.testing import ScriptedBackend, respond
from aggmw.testing.frames import CLOSE, TEXT, AcceptWebSocket, EndWebSocket, Frame, close_frame, frame, read_frame

MASK = b"\x01\x02\x03\x04"
OPENS = ("door", "uvicorn-httptools", "uvicorn-h11", "granian", "hypercorn")
"""Those that take WebSockets as the tests start them; uvicorn needs a library for that, and takes `websockets`."""

TOLD = {"granian": (4001, ""), "hypercorn": None}
"""What the backend is told of a client that closes with 4001 and a reason: granian keeps the reason to itself, and for
hypercorn the client is gone without a close frame."""


class Wire:
    """A client's end, for `read_frame`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_exactly(self, number: int) -> bytes:
        return await self._reader.readexactly(number)

    async def frame(self) -> Frame:
        connection: Any = self
        return await read_frame(connection)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def opened(port: int) -> tuple[int, Wire]:
    """The status of the answer to a handshake that offers two subprotocols."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /things/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n\r\n"
    )
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    if status == 101:
        assert b"sec-websocket-protocol: v4.channel.k8s.io" in head.lower()
    return status, Wire(reader, writer)


async def echo(connection: Any) -> None:
    received = await read_frame(connection)
    await connection.send(frame(received.opcode, received.payload))


@pytest.mark.parametrize("server", OPENS)
async def test_messages_and_the_client_s_end(port: int, things: int, server: str) -> None:
    """A subprotocol is chosen, a message comes back, and the client's close code arrives."""
    end = EndWebSocket()
    async with ScriptedBackend([AcceptWebSocket("v4.channel.k8s.io"), echo, end], port=things) as backend:
        status, wire = await opened(port)
        assert status == 101
        wire.send(frame(TEXT, "hello", mask=MASK))
        assert (await wire.frame()).payload == b"hello"
        wire.send(close_frame(4001, "bye", mask=MASK))
        answer = await wire.frame()
        assert (answer.opcode, answer.close[0]) == (CLOSE, 4001)
        await wire.close()
        async with asyncio.timeout(60):
            await backend.connections[0].closed.wait()
    told = end.frames[-1].close if end.frames else None
    assert told == TOLD.get(server, (4001, "bye"))


@pytest.mark.parametrize("server", OPENS)
async def test_the_backend_s_end(port: int, things: int, server: str) -> None:
    """Its code and reason reach the client."""
    script = [AcceptWebSocket("v4.channel.k8s.io"), close_frame(4002, "enough"), EndWebSocket(answer=False)]
    async with ScriptedBackend(script, port=things):
        status, wire = await opened(port)
        assert status == 101
        assert (await wire.frame()).close == (4002, "enough")
        wire.send(close_frame(4002, mask=MASK))
        await wire.close()


@pytest.mark.parametrize("server", OPENS)
async def test_a_refusal(port: int, things: int, server: str) -> None:
    """The backend's own status, by `websocket.http.response`, which all of them offer."""
    async with ScriptedBackend(lambda request: respond(418, body=b"no"), port=things):
        status, wire = await opened(port)
        assert status == 418
        await wire.close()


def test_servers_are_known() -> None:
    """Each is one of those that are compared."""
    assert set(OPENS) < set(SERVERS)
