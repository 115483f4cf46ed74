"""Clients that leave whenever they like leave nothing behind: through the door, on real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from aggmw import APIService, Backend, FrontProxy
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy import Http1Transport
from aggmw.server.serving import Server, make_server

GROUP_VERSION = ("wardle.example.com", "v1alpha1")
FLUNDERS = b"/apis/wardle.example.com/v1alpha1/flunders"
REQUESTS = (
    b"GET %b HTTP/1.1\r\nHost: door\r\n\r\n" % FLUNDERS,
    b"GET %b?watch=true HTTP/1.1\r\nHost: door\r\n\r\n" % FLUNDERS,
    b"POST %b HTTP/1.1\r\nHost: door\r\nContent-Length: 2\r\n\r\n{}" % FLUNDERS,
    b"POST %b HTTP/1.1\r\nHost: door\r\nContent-Length: 9999\r\n\r\n{}" % FLUNDERS,
    b"PUT %b/a HTTP/1.1\r\nHost: door\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" % FLUNDERS,
    b"GET /healthz HTTP/1.1\r\nHo",
)


async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers some requests at once, some in pieces, some never."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"watch=true" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
                await reader.read()
            elif b"POST" in head or b"PUT" in head:
                await reader.read(2)
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}")
                await asyncio.sleep(0)
                writer.write(b"  ")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@pytest.fixture
async def door() -> AsyncIterator[tuple[Server, Http1Transport]]:
    """A front proxy on a real socket before a real server, and the transport between them."""
    upstream = await asyncio.start_server(backend, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    transport = Http1Transport()
    proxy = FrontProxy(
        anonymous=Anonymous.everywhere(),
        authorization=AllowAll(),
        services=[APIService(*GROUP_VERSION, Backend("wardle", "127.0.0.1", port, tls=False))],
        transport=transport,
    )
    server = make_server(proxy, port=0, drain=proxy.drain, grace=2, loop="asyncio", signals=False)
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    yield server, transport
    server.stop()
    await task
    upstream.close()
    await upstream.wait_closed()


async def leave(port: int, chance: random.Random) -> None:
    """Send a request, whole or in part, and leave at some moment, politely or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = chance.choice(REQUESTS)
    try:
        writer.write(request[: chance.randint(1, len(request))] if chance.random() < 0.3 else request)
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            async with asyncio.timeout(0.02 * chance.random()):
                await reader.read(100)
    finally:
        if chance.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()


async def test_a_thousand_departures_leave_nothing(door: tuple[Server, Http1Transport]) -> None:
    """1,000 clients leave at random moments; then no task and no slot is held, and the next request is answered.

    What is left of tasks and sockets at the end, every test is watched for.
    """
    server, transport = door
    port, state = server.port, server.server_state
    chance = random.Random(20)
    for _ in range(40):
        async with asyncio.TaskGroup() as group:
            for _ in range(25):
                group.create_task(_tolerant(port, chance))
    async with asyncio.timeout(10):
        while state.tasks or state.connections or transport.taken:
            await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n" % FLUNDERS)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def _tolerant(port: int, chance: random.Random) -> None:
    with suppress(TimeoutError, ConnectionError):
        await leave(port, chance)
