"""What the transport tells of its connections: as values, and as samples for the metrics page."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.middleware.proxy.proxying import GET, backend_of, whole

from aggmw.contracts.metrics import Source
from aggmw.middleware.proxy import Http1Transport, PoolStatistics, TransportLimits
from aggmw.testing import ScriptedBackend, respond

ANSWER = respond(body=b"hello")


async def send_whole(transport: Http1Transport, backend: Any) -> bytes:
    return await whole(await transport.send(backend, GET))


async def test_taken_waiting_idle() -> None:
    """A connection is taken until the answer is whole, who finds none free waits, and afterwards all are idle."""
    transport = Http1Transport(limits=TransportLimits(connections=1))
    async with ScriptedBackend(lambda request: ANSWER) as scripted:
        backend = backend_of(scripted)
        first = await transport.send(backend, GET)
        waiting = asyncio.create_task(send_whole(transport, backend))
        await asyncio.sleep(0)
        assert transport.statistics == (PoolStatistics(backend.authority, taken=1, idle=0, waiting=1),)
        await whole(first)
        assert await waiting == b"hello"
        assert transport.statistics == (PoolStatistics(backend.authority, taken=0, idle=1, waiting=0),)
        await transport.aclose()
    assert transport.statistics == ()


async def test_one_address_is_told_of_once() -> None:
    """Pools that differ in what is verified, not in the address, are one line: a page with two would be refused."""
    transport = Http1Transport(limits=TransportLimits(connections=7, waiting=9))
    async with ScriptedBackend(lambda request: ANSWER) as scripted:
        for name in ("one", "two"):
            await send_whole(transport, backend_of(scripted, server_name=name))
        authority = backend_of(scripted).authority
        assert transport.statistics == (PoolStatistics(authority, taken=0, idle=2, waiting=0),)
        assert isinstance(transport, Source)
        found = {(sample.name, sample.labels): sample.value for sample in transport.samples()}
        await transport.aclose()
    backend = ("backend", authority)
    assert found == {
        ("aggmw_upstream_connections", (backend, ("state", "taken"))): 0,
        ("aggmw_upstream_connections", (backend, ("state", "idle"))): 2,
        ("aggmw_upstream_waiting_requests", (backend,)): 0,
        ("aggmw_upstream_connections_limit", ()): 7,
        ("aggmw_upstream_waiting_requests_limit", ()): 9,
    }


def test_only_the_running_loop_is_told_of() -> None:
    """State is kept by loop; another loop's connections are none of this one's."""
    transport = Http1Transport()

    async def used() -> tuple[PoolStatistics, ...]:
        async with ScriptedBackend(lambda request: ANSWER) as scripted:
            await send_whole(transport, backend_of(scripted))
            statistics = transport.statistics
            await transport.aclose()
        return statistics

    async def unused() -> tuple[PoolStatistics, ...]:
        return transport.statistics

    assert len(asyncio.run(used())) == 1
    assert asyncio.run(unused()) == ()
