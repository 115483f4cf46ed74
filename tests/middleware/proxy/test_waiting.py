"""Waiting for a connection: first come, first served, whoever leaves in between; what is said to who waits in vain."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from tests.middleware.proxy.proxying import GET, NAME, backend_of, proxied, whole

from aggmw.contracts.backends import Backend, UpstreamRequest
from aggmw.errors import UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.middleware.proxy.errors import failure
from aggmw.testing import Hold, ReadHead, ReceivedRequest, ScriptedBackend, Send, VirtualClock, respond

FIRST = replace(GET, target=b"/0")
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHO = f"the server of APIService {NAME} cannot be reached"


async def send_whole(transport: Http1Transport, backend: Backend, request: UpstreamRequest) -> bytes:
    return await whole(await transport.send(backend, request))


async def test_leaving_as_the_turn_goes_by() -> None:
    """Who is cancelled, and passed over before it could take itself off the queue, ends as cancelled."""
    transport = Http1Transport(limits=TransportLimits(connections=1))
    async with ScriptedBackend(lambda request: respond(body=b"hello")) as scripted:
        backend = backend_of(scripted)
        holding = await transport.send(backend, FIRST)
        waiting = asyncio.create_task(transport.send(backend, FIRST))
        await asyncio.sleep(0)
        waiting.cancel()
        await whole(holding)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert transport.taken == 0
        await transport.aclose()


@pytest.mark.parametrize("connections", [1, 3])
async def test_many_waiters_and_cancellations(connections: int) -> None:
    """Who stays is served in the order of coming, also if others leave in the moment when their turn comes; no place
    is lost by that, so that afterwards as many connections as ever may be had."""
    chance = random.Random(connections)
    transport = Http1Transport(limits=TransportLimits(connections=connections))
    served: list[int] = []

    def answer(raw: bytes) -> bytes:
        served.append(int(ReceivedRequest.of(raw).target[1:]))
        return respond(body=b"hello")

    async with ScriptedBackend(answer) as scripted:
        backend = backend_of(scripted)
        number = 0
        for _ in range(30):
            holding = [await transport.send(backend, FIRST) for _ in range(connections)]
            served.clear()
            waiting: dict[int, asyncio.Task[bytes]] = {}
            for _ in range(20):
                number += 1
                request = replace(GET, target=b"/%d" % number)
                waiting[number] = asyncio.create_task(send_whole(transport, backend, request))
            await asyncio.sleep(0)
            leaving = chance.sample(sorted(waiting), 6)
            for each in leaving[:3]:
                waiting[each].cancel()
            for response in holding:
                await whole(response)  # gives turns away, and nobody has run since
            for each in [*leaving[3:], min(waiting)]:
                waiting[each].cancel()
            results = await asyncio.gather(*waiting.values(), return_exceptions=True)
            stayed = [each for each, result in zip(waiting, results, strict=True) if result == b"hello"]
            assert set(waiting) - set(stayed) == {*leaving, min(waiting)}
            assert served == stayed if connections == 1 else sorted(served) == stayed
            assert transport.taken == 0
        await transport.aclose()


async def test_queue_full() -> None:
    """Nothing was sent and room is expected: 503, to be tried again in a second."""
    transport = Http1Transport(limits=TransportLimits(connections=1, waiting=0))
    async with ScriptedBackend([ReadHead(), Send(STREAM), Hold()]) as scripted:
        client = proxied(transport, backend_of(scripted))
        async with client.stream("GET", "/a?watch=true"):
            response = await client.request("POST", "/a", body=b"body")
        assert_busy(response, "too many requests wait for it")
        assert len(scripted.connections) == 1
        assert b"POST" not in scripted.requests[0]
        await transport.aclose()


async def test_waiting_in_vain(clock: VirtualClock) -> None:
    """The same when no connection came free in time."""
    transport = Http1Transport(limits=TransportLimits(connections=1, wait_seconds=2))
    async with ScriptedBackend([ReadHead(), Send(STREAM), Hold()]) as scripted:
        client = proxied(transport, backend_of(scripted))
        async with client.stream("GET", "/a?watch=true"):
            asking = asyncio.create_task(client.request("GET", "/a"))
            await clock.advance(3)
            response = await asking
        assert_busy(response, "no connection came free in time")
        await transport.aclose()


def assert_busy(response: Any, text: str) -> None:
    status = response.json()
    assert (response.status, status["reason"]) == (503, "ServiceUnavailable")
    assert status["message"] == f"{WHO}: it is busy: {text}"
    assert status["details"] == {"retryAfterSeconds": 1}
    assert response.header("retry-after") == b"1"


@pytest.mark.parametrize("kind", [UpstreamUnreachable, UpstreamBroken, UpstreamTimeout])
def test_nothing_else_is_to_be_repeated(kind: type[UpstreamError]) -> None:
    """Clients repeat any 5xx with Retry-After up to ten times, POST included: no other failure has it."""
    answer = failure(Backend(NAME, "host", 1), kind("why"))
    assert b"retryAfterSeconds" not in answer.body
    assert b"retry-after" not in dict(answer.headers)


def test_busy_is_unreachable() -> None:
    """Whoever knows what unreachable means knows enough: nothing was sent."""
    assert issubclass(UpstreamBusy, UpstreamUnreachable)
