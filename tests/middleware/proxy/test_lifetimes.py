"""Streams do not outlive the credential that opened them, nor the age that is configured (security cases C5.11)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.middleware.proxy.proxying import ALICE, NAME, Before, backend_of, core, proxied

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, LocalBackend
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Credential, Identity
from aggmw.middleware.proxy import AsgiTransport, Http1Transport, ProxyMiddleware
from aggmw.middleware.proxy.lifetimes import End, Lifetimes
from aggmw.testing import (
    Client,
    Hold,
    IncompleteResponse,
    ReadHead,
    ScriptedBackend,
    VirtualClock,
    WebSocketClosed,
    respond,
)
from aggmw.testing import Send as SendBytes

STREAM = respond(headers={"Transfer-Encoding": "chunked"}) + b"4\r\none\n\r\n"
LONG = respond(headers={"Content-Length": "8"}) + b"one\n"


def until(seconds: float) -> Identity:
    """Alice, by a credential that counts for so long."""
    return ALICE.known_by(Credential(expires=time.time() + seconds))


def aging(transport: Any, backend: AnyBackend, seconds: float, identity: Identity = ALICE) -> Client:
    """A client of a proxy whose streams get no older."""
    proxy = ProxyMiddleware(core, transport=transport, max_stream_seconds=seconds)
    return Client(Stages(proxy, Before(backend, identity, "")))


# In the proxy


async def test_c5_11_a_watch_ends_with_its_credential(transport: Http1Transport, clock: VirtualClock) -> None:
    """C5.11: it gets its final chunk, as at any other end, so that clients come back and are asked who they are."""
    async with ScriptedBackend([ReadHead(), SendBytes(STREAM), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), identity=until(60))
        async with client.stream("GET", "/a?watch=true") as response:
            assert await anext(response) == b"one\n"
            await clock.advance(58)
            assert not response.complete
            await clock.advance(2)
            assert await response.read() == b""
            assert response.complete
        await backend.connections[0].gone()


@pytest.mark.parametrize("answer", [STREAM, LONG], ids=["chunked", "length"])
async def test_c5_11_other_answers_are_cut(transport: Http1Transport, clock: VirtualClock, answer: bytes) -> None:
    """C5.11: what has an end of its own never looks as if that had come."""
    async with ScriptedBackend([ReadHead(), SendBytes(answer), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), identity=until(30))
        async with client.stream("GET", "/a") as response:
            assert await anext(response) == b"one\n"
            await clock.advance(30)
            with pytest.raises(IncompleteResponse):
                await response.read()
        await backend.connections[0].gone()


async def test_c5_11_a_long_running_answer_with_a_length(transport: Http1Transport, clock: VirtualClock) -> None:
    """C5.11: it cannot end before its end, so it is cut; of age, and when the process stops, it may go on."""
    drain = Drain()
    async with ScriptedBackend([ReadHead(), SendBytes(LONG), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), identity=until(30), drain=drain)
        async with client.stream("GET", "/a?watch=true") as response:
            assert await anext(response) == b"one\n"
            await clock.advance(30)
            with pytest.raises(IncompleteResponse):
                await response.read()
        async with aging(transport, backend_of(backend), 10).stream("GET", "/a?watch=true") as response:
            assert await anext(response) == b"one\n"
            await clock.advance(11)
            assert not response.complete


async def test_c5_11_a_watch_ends_of_age(transport: Http1Transport, clock: VirtualClock) -> None:
    """The configured age ends a watch properly, not before half of it; what is not long-running goes on."""
    async with ScriptedBackend([ReadHead(), SendBytes(STREAM), Hold()]) as backend:
        client = aging(transport, backend_of(backend), 20)
        async with client.stream("GET", "/a?watch=true") as watch, client.stream("GET", "/a") as other:
            assert (await anext(watch), await anext(other)) == (b"one\n", b"one\n")
            await clock.advance(9)
            assert not watch.complete
            await clock.advance(11)
            assert await watch.read() == b""
            assert watch.complete
            assert not other.complete


@pytest.mark.parametrize(("expires", "age", "end"), [(10, 100, 10), (100, 10, 10)])
async def test_c5_11_the_earliest_counts(
    transport: Http1Transport, clock: VirtualClock, expires: float, age: float, end: float
) -> None:
    """C5.11: whichever of the two comes first."""
    async with ScriptedBackend([ReadHead(), SendBytes(STREAM), Hold()]) as backend:
        client = aging(transport, backend_of(backend), age, until(expires))
        async with client.stream("GET", "/a?watch=true") as response:
            await anext(response)
            await clock.advance(end)
            assert await response.read() == b""


@pytest.mark.parametrize(
    ("expires", "age", "status", "message"),
    [(5, None, 401, "Unauthorized"), (None, 5, 504, "no answer came for as long as a stream may take")],
)
async def test_c5_11_no_head_yet(
    transport: Http1Transport, clock: VirtualClock, expires: float | None, age: float | None, status: int, message: str
) -> None:
    """C5.11: a watch that nothing came of is answered instead."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        identity = ALICE if expires is None else until(expires)
        proxy = ProxyMiddleware(core, transport=transport, max_stream_seconds=age)
        client = Client(Stages(proxy, Before(backend_of(backend), identity, "")))
        asking = asyncio.create_task(client.request("GET", "/a?watch=true"))
        await backend.connected()
        await clock.advance(5)
        response = await asking
        assert (response.status, response.json()["message"]) == (status, message)


# Credentials that are no longer believed


def held() -> tuple[Drain, Identity]:
    """Alice, by a credential that can be withdrawn."""
    withdrawal = Drain()
    return withdrawal, ALICE.known_by(Credential(withdrawal=withdrawal))


@pytest.mark.parametrize(("target", "whole"), [("/a?watch=true", True), ("/a", False)])
async def test_c5_4_streams_end_with_their_credential(transport: Http1Transport, target: str, *, whole: bool) -> None:
    """C5.4: a watch gets its final chunk, and anything else is cut, as when the credential expires."""
    withdrawal, alice = held()
    async with ScriptedBackend([ReadHead(), SendBytes(STREAM), Hold()]) as backend:
        async with proxied(transport, backend_of(backend), identity=alice).stream("GET", target) as response:
            assert await anext(response) == b"one\n"
            withdrawal.begin()
            if whole:
                assert await response.read() == b""
            else:
                with pytest.raises(IncompleteResponse):
                    await response.read()
        await backend.connections[0].gone()
    assert not withdrawal._callbacks


async def test_c5_4_no_head_yet(transport: Http1Transport) -> None:
    """C5.4: a watch that nothing came of is 401, and one that begins too late is asked of nobody."""
    withdrawal, alice = held()
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), identity=alice)
        asking = asyncio.create_task(client.request("GET", "/a?watch=true"))
        await backend.connected()
        withdrawal.begin()
        assert (await asking).status == 401
        assert (await client.request("GET", "/a?watch=true")).status == 401
        assert len(backend.connections) == 1


async def test_c5_4_a_websocket_ends() -> None:
    """C5.4: both sides are told to come back with another credential."""
    withdrawal, alice = held()
    echo, transport = Echo(), AsgiTransport()
    local = LocalBackend(NAME, echo)
    async with transport.applications.running([local]):
        async with proxied(transport, local, identity=alice).websocket("/a") as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            withdrawal.begin()
            with pytest.raises(WebSocketClosed) as closed:
                await websocket.receive()
            assert (closed.value.code, closed.value.reason) == (1008, "the credential is no longer believed")
        assert echo.ended == [(1008, "the credential is no longer believed")]
    await transport.aclose()


async def test_c5_11_an_application_in_this_process(clock: VirtualClock) -> None:
    """C5.11: the same for a local service; it sees its client go."""
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    local, transport = LocalBackend(NAME, app), AsgiTransport()
    async with transport.applications.running([local]):
        async with proxied(transport, local, identity=until(60)).stream("GET", "/a?watch=true") as response:
            assert await anext(response) == b"one\n"
            await clock.advance(60)
            assert await response.read() == b""
        await left.wait()
    await transport.aclose()


class Echo:
    """Echoes on WebSockets; keeps how each ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("no lifespan here")
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.ended.append((message["code"], message.get("reason", "")))


@pytest.mark.parametrize(
    ("expires", "age", "code", "reason"),
    [
        (60, 1000, 1008, "the credential has expired"),
        (1000, 60, 1001, "the stream is as old as it may be"),
    ],
)
async def test_c5_11_a_websocket_ends(clock: VirtualClock, expires: float, age: float, code: int, reason: str) -> None:
    """C5.11: both sides are told why: 1008 asks for another credential, 1001 to come back."""
    echo, transport = Echo(), AsgiTransport()
    local = LocalBackend(NAME, echo)
    client = aging(transport, local, age, until(expires))
    async with transport.applications.running([local]):
        async with client.websocket("/a") as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            await clock.advance(29)
            await websocket.send("still there")
            assert await websocket.receive() == "still there"
            await clock.advance(31)
            with pytest.raises(WebSocketClosed) as closed:
                await websocket.receive()
            assert (closed.value.code, closed.value.reason) == (code, reason)
        assert echo.ended == [(code, reason)]
    await transport.aclose()


async def test_finished_streams_are_forgotten(transport: Http1Transport) -> None:
    """Nothing is kept of what is over, for whichever reason it could have ended."""
    drain = Drain()
    proxy = ProxyMiddleware(core, transport=transport, drain=drain, max_stream_seconds=60)
    async with ScriptedBackend(lambda request: respond(body=b"one", chunked=True)) as backend:
        client = Client(Stages(proxy, Before(backend_of(backend), until(60), "")))
        for target in ("/a?watch=true", "/a"):
            assert (await client.request("GET", target)).body == b"one"
        (calendar,) = proxy._lifetimes._calendars.values()
        assert calendar._streams == set()
        assert drain._callbacks == set()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_ages_that_are_none(seconds: float) -> None:
    """A mistake is found at once."""
    with pytest.raises(ValueError, match="max_stream_seconds must be more than 0 seconds, or None"):
        ProxyMiddleware(core, max_stream_seconds=seconds)


# By themselves


class WallClock:
    """Seconds since the epoch, until somebody sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """What is called at the end."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def test_c5_11_a_jump_of_the_wall_clock(clock: VirtualClock) -> None:
    """C5.11: forwards it ends nothing that goes on, backwards it prolongs nothing; what begins then goes by it."""
    wall = WallClock()
    lifetimes, caller = Lifetimes(clock=wall), ALICE.known_by(Credential(expires=1_000_100.0))
    stream, told = lifetimes.of(caller, long_running=True), Told()
    assert stream is not None
    stream.then(told)
    wall.now += 10_000_000
    await clock.advance(99)
    assert told.times == 0
    wall.now -= 20_000_000
    await clock.advance(1)
    assert (told.times, stream.ended) == (1, End.EXPIRED)
    wall.now = 1_000_200.0
    late = lifetimes.of(caller, long_running=True)
    assert late is not None
    late.then(told)
    await clock.advance(0.3)
    assert (told.times, late.ended) == (2, End.EXPIRED)


async def test_one_timer_for_all(clock: VirtualClock) -> None:
    """A thousand streams with an end of their own cost one timer, and each ends when it has to."""
    lifetimes, ended = Lifetimes(clock=lambda: 0.0), []
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]  # asyncio has no public way to ask
    streams = []
    for seconds in range(1000, 0, -1):
        stream = lifetimes.of(ALICE.known_by(Credential(expires=float(seconds))), long_running=True)
        assert stream is not None
        stream.then(lambda seconds=seconds: ended.append(seconds))
        streams.append(stream)
    live = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert len(live) <= before + 1
    for stream in streams[::2]:
        stream.close()
    await clock.advance(10.5)
    assert ended == [1, 3, 5, 7, 9]
    await clock.advance(990)
    assert len(ended) == 500


async def test_ages_differ(clock: VirtualClock) -> None:
    """Those that began together do not come back together: between half of the age and all of it."""
    spread = iter([0.0, 0.25, 1.0])
    lifetimes = Lifetimes(None, 100.0, spread=lambda: next(spread))
    now = clock.time()
    dues = []
    for _ in range(3):
        stream = lifetimes.of(None, long_running=True)
        assert stream is not None
        dues.append(stream.due - now)
    assert dues == pytest.approx([100, 87.5, 50])
    random = Lifetimes(None, 100.0)
    some = [random.of(None, long_running=True) for _ in range(20)]
    assert len({stream.due for stream in some if stream is not None}) == 20


async def test_nothing_that_ends_it() -> None:
    """Then there is no lifetime, and nothing to pay for: no drain, no age, no end of the credential."""
    assert Lifetimes().of(ALICE, long_running=True) is None
    assert Lifetimes().of(None, long_running=True) is None
    assert Lifetimes(Drain(), 60.0).of(ALICE, long_running=False) is None
    assert Lifetimes().of(ALICE.known_by(Credential(expires=float("inf"))), long_running=True) is None


async def test_told_once() -> None:
    """Whoever asks after the end is told at once; two reasons tell once; a closed one tells nobody."""
    drain = Drain()
    first, closed = Told(), Told()
    stream = Lifetimes(drain).of(None, long_running=True)
    other = Lifetimes(drain).of(None, long_running=True)
    assert stream is not None
    assert other is not None
    stream.then(first)
    other.then(closed)
    other.close()
    drain.begin()
    stream.expire()
    assert (first.times, closed.times, stream.ended) == (1, 0, End.STOPPING)
    again = Told()
    stream.then(again)
    assert again.times == 1
    late = Lifetimes(drain).of(None, long_running=True)
    assert late is not None
    assert late.ended is End.STOPPING


def test_each_loop_has_its_own() -> None:
    """One proxy under several event loops, one after the other."""
    lifetimes = Lifetimes(None, 60.0)

    async def one() -> None:
        assert lifetimes.of(None, long_running=True) is not None

    for _ in range(3):
        asyncio.run(one())
    assert len(lifetimes._calendars) == 1
