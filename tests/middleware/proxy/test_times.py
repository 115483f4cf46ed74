"""How long an exchange may take: until the head of the answer, in silence, and in all (wire contract §2.8).

The name and the connection: `tests/net/test_dial.py`; waiting for a connection: `test_waiting.py`; ages of streams:
`test_lifetimes.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import ALICE, NAME, Before, backend_of, core, parsed, proxied

from aggmw import FrontProxy, PathService
from aggmw.asgi.exchanges import Stages
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits
from aggmw.testing import (
    Client,
    Hold,
    IncompleteResponse,
    ReadHead,
    ScriptedBackend,
    Send,
    StreamedResponse,
    VirtualClock,
    respond,
)

STREAM = respond(headers={"Transfer-Encoding": "chunked"})
LONG = respond(headers={"Content-Length": "9999"})
SOON = 5  # seconds between two pieces of a slow answer


class Drip:
    """A step that goes on sending a piece whenever it is told to."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece
        self.more = asyncio.Event()

    async def run(self, connection: Any) -> None:
        while True:
            await self.more.wait()
            self.more.clear()
            await connection.send(self._piece)


async def dripping(drip: Drip, clock: VirtualClock, seconds: int, response: StreamedResponse) -> None:
    """A piece every five seconds, which the client takes."""
    for _ in range(0, seconds, SOON):
        drip.more.set()
        assert await anext(response)
        assert not response.complete
        await clock.advance(SOON)


@pytest.mark.parametrize("head", [STREAM, LONG], ids=["chunked", "length"])
async def test_the_whole_answer_of_an_api(transport: Http1Transport, clock: VirtualClock, head: bytes) -> None:
    """What is not long-running is over after its time, as in Kubernetes, however lively it is: cut, so that it does not
    look whole; the log says why, and the connection is nobody's next one."""
    clock.time()
    drip = Drip(b"3\r\none\r\n")
    async with ScriptedBackend([ReadHead(), Send(head), drip]) as backend:
        client = proxied(transport, backend_of(backend))
        with capture_logs() as logs:
            async with client.stream("GET", "/a") as response:
                await dripping(drip, clock, 55, response)
                await clock.advance(6)
                with pytest.raises(IncompleteResponse):
                    await response.read()
            await backend.connections[0].gone()
        assert [(each["event"], each["cause"]) for each in logs] == [
            ("answer cut", "the answer took longer than the request may")
        ]


async def test_as_long_as_the_caller_says(transport: Http1Transport, clock: VirtualClock) -> None:
    """`?timeout=2s` is for all of it: the head, and what comes after."""
    clock.time()

    def hurried(exchange: Exchange) -> RequestInfo:
        return parsed(exchange)._replace(timeout=2.0)

    async with ScriptedBackend([ReadHead(), Send(STREAM + b"3\r\none\r\n"), Hold()]) as backend:
        proxy = ProxyMiddleware(core, transport=transport, request_info=hurried)
        client = Client(Stages(proxy, Before(backend_of(backend), ALICE, "")))
        async with client.stream("GET", "/a") as response:
            assert await anext(response) == b"one"
            await clock.advance(1.5)
            assert not response.complete
            await clock.advance(1)
            with pytest.raises(IncompleteResponse):
                await response.read()


async def test_watches_take_their_time(transport: Http1Transport, clock: VirtualClock) -> None:
    """They are long-running."""
    clock.time()
    drip = Drip(b"3\r\none\r\n")
    async with ScriptedBackend([ReadHead(), Send(STREAM), drip]) as backend:
        client = proxied(transport, backend_of(backend))
        async with client.stream("GET", "/a?watch=1") as response:
            await dripping(drip, clock, 300, response)


async def test_a_path_service_takes_its_time(clock: VirtualClock) -> None:
    """Downloads and events of a plain service go on as long as something comes; only silence ends them."""
    clock.time()
    drip = Drip(b"3\r\none\r\n")
    async with ScriptedBackend([ReadHead(), Send(STREAM), drip]) as backend:
        front = FrontProxy(
            services=[PathService("/s/", backend.url)], anonymous=Anonymous(["/s/x"]), authorization=AllowAll()
        )
        async with front, Client(front).stream("GET", "/s/x") as response:
            await dripping(drip, clock, 300, response)
            await clock.advance(61)
            with pytest.raises(IncompleteResponse):
                await response.read()


async def test_a_service_without_identities_takes_its_time(transport: Http1Transport, clock: VirtualClock) -> None:
    """`anonymous=True` is for plain services, on paths that may look like an API's."""
    clock.time()
    drip = Drip(b"3\r\none\r\n")
    async with ScriptedBackend([ReadHead(), Send(STREAM), drip]) as backend:
        proxy = ProxyMiddleware(core, transport=transport, anonymous=True)
        client = Client(Stages(proxy, Before(backend_of(backend), None, "")))
        async with client.stream("GET", "/api/v1/events") as response:
            await dripping(drip, clock, 300, response)


async def test_no_head_in_time(transport: Http1Transport, clock: VirtualClock) -> None:
    """504 after the time of the request, which says who it was."""
    clock.time()
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        asking = asyncio.create_task(proxied(transport, backend_of(backend)).request("GET", "/a"))
        await clock.advance(59)
        assert not asking.done()
        await clock.advance(2)
        answer = await asking
        assert (answer.status, answer.json()["reason"]) == (504, "Timeout")
        assert answer.json()["message"].startswith(f"the server of APIService {NAME} timed out")


async def test_silence_within_a_body(clock: VirtualClock) -> None:
    """A body in which nothing comes for as long as is configured is cut, before its whole time is over."""
    transport = Http1Transport(limits=TransportLimits(silence_seconds=10))
    clock.time()
    async with ScriptedBackend([ReadHead(), Send(STREAM + b"3\r\none\r\n"), Hold()]) as backend:
        async with proxied(transport, backend_of(backend)).stream("GET", "/a") as response:
            assert await anext(response) == b"one"
            await clock.advance(9)
            assert not response.complete
            await clock.advance(2)
            with pytest.raises(IncompleteResponse):
                await response.read()
        await transport.aclose()
