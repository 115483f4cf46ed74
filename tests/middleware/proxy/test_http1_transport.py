"""Http1Transport on real sockets: what is repeated and what is not, deadlines, both bodies, sharing, stopping."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.middleware.proxy.proxying import GET, backend_of, whole

from aggmw.contracts.backends import UpstreamRequest
from aggmw.contracts.drain import Drain
from aggmw.errors import StatusError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.testing import (
    Hold,
    ReadHead,
    ReadRequest,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    Send,
    VirtualClock,
    Wait,
    respond,
)

ANSWER = respond(body=b"hello")
POST = UpstreamRequest(b"POST", b"/a", content=b"body")


def limited(**limits: Any) -> Http1Transport:
    return Http1Transport(limits=TransportLimits(**limits))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def bodies(backend: ScriptedBackend) -> list[bytes]:
    return [ReceivedRequest.of(raw).body for each in backend.connections for raw in each.exchanges]


async def test_one_connection_again_and_again(transport: Http1Transport) -> None:
    """Requests one after the other share a connection, the target goes out byte for byte."""
    target = b"/a//../%2e%2e/%2F?x=%zz;&#"
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        for _ in range(3):
            assert await whole(await transport.send(backend_of(backend), replace(GET, target=target))) == b"hello"
    assert len(backend.connections) == 1
    assert backend.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\nHost: %b:%d\r\n\r\nGET " % where(backend))


def where(backend: ScriptedBackend) -> tuple[bytes, int]:
    return backend.host.encode(), backend.port


async def test_services_of_one_server_share_connections(transport: Http1Transport) -> None:
    """The name of a backend is for error messages: it does not part connections. Anything else does."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        for changed in ({}, {"name": "other"}, {"server_name": "else"}):
            await whole(await transport.send(backend_of(backend, **changed), GET))
    assert len(backend.connections) == 2


async def test_two_users_on_one_connection(transport: Http1Transport) -> None:
    """C5 3: whatever the backend answers and in whatever order requests come, each caller gets its own bytes."""

    def answer(raw: bytes) -> bytes:
        request = ReceivedRequest.of(raw)
        user = request.header("x-remote-user") or b""
        body = user + b" " + request.target + b" " + hashlib.sha256(user + request.target).digest()
        kind = int(request.target.rpartition(b"/")[2]) % 4
        if request.method == "HEAD" or kind == 3:
            return respond(304 if kind == 3 else 200, [("Content-Length", str(len(body)))])
        if kind == 0:
            return respond(body=body, chunked=True)[:-2] + b"X-Remote-User: eve\r\n\r\n"
        return (b"HTTP/1.1 103 Early Hints\r\n\r\n" if kind == 1 else b"") + respond(body=body)

    async def ask(user: bytes, number: int) -> None:
        target = b"/%d" % number
        method = b"HEAD" if number % 5 == 0 else b"GET"
        response = await transport.send(served, UpstreamRequest(method, target, ((b"X-Remote-User", user),)))
        body = await whole(response)
        if method == b"HEAD" or number % 4 == 3:
            assert body == b""
        else:
            assert body == user + b" " + target + b" " + hashlib.sha256(user + target).digest()

    async with ScriptedBackend(answer) as backend:
        served = backend_of(backend)
        for number in range(0, 60, 2):
            await ask(b"alice", number)
            await ask(b"bob", number + 1)
        assert len(backend.connections) == 1
        await asyncio.gather(*(ask(user, number) for number in range(40) for user in (b"alice", b"bob")))


@pytest.mark.parametrize("more", [ANSWER, b"x"])
async def test_an_answer_too_many_reaches_nobody(transport: Http1Transport, more: bytes) -> None:
    """http-facts §5: an unsolicited answer on an idle connection is not the next user's."""
    sent = asyncio.Event()

    async def two(connection: Any) -> None:
        await connection.read_request()
        await connection.send(ANSWER)
        await sent.wait()
        await connection.send(more)
        await connection.gone()

    async with ScriptedBackend.per_connection([two], [ReadHead(), Send(respond(body=b"mine")), Hold()]) as backend:
        assert await whole(await transport.send(backend_of(backend), GET)) == b"hello"
        sent.set()
        await backend.connections[0].gone()
        assert await whole(await transport.send(backend_of(backend), GET)) == b"mine"


async def test_unread_bytes_are_seen_before_reuse(transport: Http1Transport) -> None:
    """Bytes that wait in the socket when the next request comes are not its answer, even if nobody read them yet."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        connection = backend.connections[0]
        connection._transport.write(respond(body=b"poison"))  # no step of the loop lies between this and the request
        assert await whole(await transport.send(backend_of(backend), GET)) == b"hello"
    assert len(backend.connections) == 2


# What is repeated, and what is not


GONE = (Reset(),)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_stale_connection_is_tried_again(transport: Http1Transport, method: bytes, end: str) -> None:
    """A kept connection that closes under a safe request without a byte is replaced, once."""
    last = [ReadHead(), *(GONE if end == "reset" else ())]
    first = [ReadRequest(), Send(ANSWER), *last]
    async with ScriptedBackend.per_connection(first, [ReadHead(), Send(respond(body=b"")), Hold()]) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        response = await transport.send(backend_of(backend), replace(GET, method=method))
        assert response.status == 200
        await response.aclose()
    assert len(backend.connections) == 2


async def test_stale_connections_are_tried_again_once(transport: Http1Transport) -> None:
    """The new connection is no stale one: what fails there, failed."""
    async with ScriptedBackend.per_connection([ReadRequest(), Send(ANSWER), ReadHead()], [ReadHead()]) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        with pytest.raises(UpstreamBroken, match="it closed the connection without an answer"):
            await transport.send(backend_of(backend), GET)
    assert len(backend.connections) == 2


NOT_AGAIN = {
    "POST": POST,
    "POST without a body": replace(POST, content=b""),
    "PUT": replace(POST, method=b"PUT"),
    "PATCH": replace(POST, method=b"PATCH"),
    "DELETE": replace(GET, method=b"DELETE"),
    "GET with a body": replace(GET, content=b"body"),
}


@pytest.mark.parametrize("case", NOT_AGAIN)
async def test_nothing_else_is_repeated(transport: Http1Transport, case: str) -> None:
    """What may have been done is never sent twice."""
    async with ScriptedBackend([ReadRequest(), Send(ANSWER), ReadHead(), *GONE]) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        with pytest.raises(UpstreamBroken, match="it closed the connection without an answer"):
            await transport.send(backend_of(backend), NOT_AGAIN[case])
    assert len(backend.connections) == 1


async def test_a_byte_of_an_answer_forbids_repeating(transport: Http1Transport) -> None:
    """Whoever began to answer has the request."""
    async with ScriptedBackend([ReadRequest(), Send(ANSWER), ReadHead(), b"HTTP/1.1 2"]) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        with pytest.raises(UpstreamBroken, match="in the middle of its answer"):
            await transport.send(backend_of(backend), GET)
    assert len(backend.connections) == 1


async def test_a_timeout_is_not_repeated(transport: Http1Transport, clock: VirtualClock) -> None:
    """Silence on a kept connection is no sign that nobody got the request."""
    async with ScriptedBackend([ReadRequest(), Send(ANSWER), Hold()]) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        second = asyncio.create_task(transport.send(backend_of(backend), replace(GET, timeout=3)))
        await clock.advance(4)
        with pytest.raises(UpstreamTimeout):
            await second
    assert len(backend.connections) == 1


async def test_connections_that_closed_while_idle_are_not_used(transport: Http1Transport) -> None:
    """A POST meets no connection of which it is known that it is closed; not even one that nobody looked at yet."""
    async with ScriptedBackend.per_connection(
        [ReadRequest(), Send(ANSWER)], [ReadRequest(), Send(ANSWER), Hold()]
    ) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        await backend.connections[0].closed.wait()
        assert await whole(await transport.send(backend_of(backend), POST)) == b"hello"


# Deadlines


async def test_no_answer_in_time(transport: Http1Transport, clock: VirtualClock) -> None:
    """The head has to come within the request's time-out; the connection is closed then."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        sending = asyncio.create_task(transport.send(backend_of(backend), replace(GET, timeout=5)))
        await backend.connected()
        await clock.advance(4.5)
        assert not sending.done()
        await clock.advance(1)
        with pytest.raises(UpstreamTimeout, match="it did not answer in time"):
            await sending
        await backend.connections[0].gone()


async def test_a_drip_of_bytes_does_not_help(transport: Http1Transport, clock: VirtualClock) -> None:
    """A head that comes byte by byte has no more time than any other."""

    async def drip(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        for byte in b"HTTP/1.1 200 OK\r\nX-A: bbbbbbbbbbbbbb":
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.5)
        await connection.gone()

    async with ScriptedBackend([drip]) as backend:
        sending = asyncio.create_task(transport.send(backend_of(backend), replace(GET, timeout=5)))
        await backend.connected()
        await clock.advance(6)
        with pytest.raises(UpstreamTimeout):
            await sending


async def test_silence_in_a_body(transport: Http1Transport, clock: VirtualClock) -> None:
    """Between two pieces of a body the backend may be silent for 60 seconds, each time anew."""
    more = asyncio.Event()
    script = [ReadHead(), respond(headers=[("Content-Length", "9")], body=b"one"), Wait(more), Send(b"two"), Hold()]
    async with ScriptedBackend(script) as backend:
        response = await transport.send(backend_of(backend), GET)
        assert await response.read() == b"one"
        for expected in (b"two", None):
            reading = asyncio.create_task(response.read())
            await clock.advance(50)
            assert not reading.done()
            if expected is not None:
                more.set()
                assert await reading == expected
        await clock.advance(11)
        with pytest.raises(UpstreamTimeout, match="it fell silent"):
            await reading
        await response.aclose()


async def test_a_slow_reader_is_not_the_backends_silence(transport: Http1Transport, clock: VirtualClock) -> None:
    """While nobody waits for the backend its time does not count."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        response = await transport.send(backend_of(backend), GET)
        await clock.advance(600)
        assert await whole(response) == b"hello"


async def test_a_head_in_time_is_in_time(transport: Http1Transport, clock: VirtualClock) -> None:
    """The time-out of the head is over with the head, also when nobody asks for the body yet."""
    more = asyncio.Event()
    script = [ReadHead(), respond(headers={"Content-Length": "6"}, body=b"one"), Wait(more), Send(b"two"), Hold()]
    async with ScriptedBackend(script) as backend:
        response = await transport.send(backend_of(backend), replace(GET, timeout=5))
        await clock.advance(30)
        more.set()
        assert await whole(response) == b"onetwo"


async def test_watches_have_all_the_time_there_is(transport: Http1Transport, clock: VirtualClock) -> None:
    """Nothing long-running has a deadline, before the head or between bytes."""
    head, event = asyncio.Event(), asyncio.Event()
    script = [
        ReadHead(),
        Wait(head),
        respond(headers={"Transfer-Encoding": "chunked"}),
        Wait(event),
        b"1\r\nx\r\n",
        Hold(),
    ]
    async with ScriptedBackend(script) as backend:
        request = replace(GET, long_running=True, timeout=None)
        sending = asyncio.create_task(transport.send(backend_of(backend), request))
        await clock.advance(300)
        head.set()
        response = await sending
        reading = asyncio.create_task(response.read())
        await clock.advance(300)
        event.set()
        assert await reading == b"x"
        await response.aclose()


async def test_no_timer_without_work(transport: Http1Transport, clock: VirtualClock) -> None:
    """The sweep closes idle connections, and stops with the last of them."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        await whole(await transport.send(backend_of(backend), GET))
        await clock.advance(59)
        assert not backend.connections[0].ended
        await clock.advance(2)
        await backend.connections[0].gone()
        await clock.advance(1)
        assert clock._next_timer() is None


# Limits


async def test_one_after_the_other(clock: VirtualClock) -> None:
    """Beyond the limit of connections requests wait for their turn, first come first served, and share connections."""
    transport = limited(connections=2)
    order: list[int] = []
    going = asyncio.Event()

    async def slow(raw: bytes) -> bytes:
        await going.wait()
        order.append(int(ReceivedRequest.of(raw).target[1:]))
        return ANSWER

    async with ScriptedBackend(slow) as backend:
        served = backend_of(backend)
        requests = [replace(GET, target=b"/%d" % number) for number in range(10)]
        tasks = [asyncio.create_task(send_whole(transport, served, request)) for request in requests]
        await backend.connected(2)
        await clock.settle()
        assert repr(transport).endswith("<Pool v1alpha1.wardle.example.com: 2 taken, 0 idle, 8 waiting>)")
        going.set()
        assert await asyncio.gather(*tasks) == [b"hello"] * 10
        assert order == sorted(order)
        assert len(backend.connections) == 2
        await transport.aclose()


async def send_whole(transport: Http1Transport, backend: Any, request: UpstreamRequest) -> bytes:
    return await whole(await transport.send(backend, request))


async def test_newcomers_do_not_overtake() -> None:
    """A connection that comes free belongs to who waits, also if somebody asks in the same moment."""
    transport = limited(connections=1)
    async with ScriptedBackend(lambda request: respond(body=ReceivedRequest.of(request).target)) as backend:
        served = backend_of(backend)
        first = await transport.send(served, GET)
        waiting = asyncio.create_task(send_whole(transport, served, replace(GET, target=b"/waits")))
        await asyncio.sleep(0)
        await whole(first)  # frees the connection without giving the waiting one a chance to run
        assert await send_whole(transport, served, replace(GET, target=b"/new")) == b"/new"
        assert await waiting == b"/waits"
        assert [raw.split()[1] for raw in backend.connections[0].exchanges] == [b"/a", b"/waits", b"/new"]
        assert len(backend.connections) == 1
        await transport.aclose()


async def test_queue_full() -> None:
    """So many may wait and no more."""
    transport = limited(connections=1, waiting=1)
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)
        first = await transport.send(served, GET)
        waiting = asyncio.create_task(send_whole(transport, served, GET))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamUnreachable, match="it is busy: too many requests wait for it"):
            await transport.send(served, GET)
        await first.aclose()
        assert await waiting == b"hello"
        await transport.aclose()


async def test_who_gave_up_waiting_leaves_its_place() -> None:
    """The queue counts those who wait, not those who went."""
    transport = limited(connections=1, waiting=1)
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)
        first = await transport.send(served, GET)
        for _ in range(3):
            waiting = asyncio.create_task(send_whole(transport, served, GET))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        waiting = asyncio.create_task(send_whole(transport, served, GET))
        await asyncio.sleep(0)
        await first.aclose()
        assert await waiting == b"hello"
        await transport.aclose()


@pytest.mark.parametrize(("timeout", "passed"), [(60.0, 5.0), (2.0, 2.0)])
async def test_waiting_too_long(clock: VirtualClock, timeout: float, passed: float) -> None:
    """The wait is bounded, by the limit and by what the request may take in all."""
    transport = limited(connections=1)
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        served = backend_of(backend)
        first = asyncio.create_task(transport.send(served, GET))
        await backend.connected()
        second = asyncio.create_task(transport.send(served, replace(GET, timeout=timeout)))
        await clock.advance(passed - 0.5)
        assert not second.done()
        await clock.advance(1)
        assert second.done()
        with pytest.raises(UpstreamUnreachable, match="it is busy: no connection came free in time"):
            await second
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert transport.taken == 0
        await transport.aclose()


async def test_a_turn_is_never_lost() -> None:
    """Who is cancelled in the moment its turn comes hands it on."""
    transport = limited(connections=1)
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)
        first = await transport.send(served, GET)
        second, third = (asyncio.create_task(send_whole(transport, served, GET)) for _ in range(2))
        await asyncio.sleep(0)
        await first.aclose()
        second.cancel()
        assert await third == b"hello"
        assert second.cancelled()
        assert transport.taken == 0
        await transport.aclose()


async def test_failed_dials_free_their_slots() -> None:
    """A backend that is down does not use up its own limit."""
    transport = limited(connections=1)
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)
        await backend.close()
        failures = await asyncio.gather(*(transport.send(served, GET) for _ in range(5)), return_exceptions=True)
        assert {str(failure) for failure in failures} == {"connection refused"}
        assert transport.taken == 0
    async with backend:
        assert await send_whole(transport, served, GET) == b"hello"
        await transport.aclose()


async def test_many_backends_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose registration changes for ever does not fill the memory."""
    monkeypatch.setattr("aggmw.middleware.proxy.transports.http1._MANY_POOLS", 10)
    transport = Http1Transport()
    async with ScriptedBackend(lambda request: respond(headers={"Connection": "close"})) as backend:
        for number in range(40):
            response = await transport.send(backend_of(backend, server_name=str(number)), GET)
            await response.aclose()
            await backend.connections[-1].closed.wait()
        assert len(transport._state().pools) <= 11
        await transport.aclose()


# The body of the request


@pytest.mark.parametrize(
    ("request_", "head", "body"),
    [
        (GET, None, b""),
        (POST, b"Content-Length: 4", b"body"),
        (replace(POST, content=b"", content_length=0), b"Content-Length: 0", b""),
        (replace(POST, content=b"", content_length=9), b"Content-Length: 0", b""),
    ],
)
async def test_framing_of_whole_bodies(
    transport: Http1Transport, request_: UpstreamRequest, head: bytes | None, body: bytes
) -> None:
    """A body at hand has the length it has, whatever anybody says."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        await whole(await transport.send(backend_of(backend), request_))
        assert bodies(backend) == [body]
        framing = [
            line for line in backend.requests[0].split(b"\r\n") if line.lower().startswith((b"content-l", b"tran"))
        ]
        assert framing == ([] if head is None else [head])


@pytest.mark.parametrize("length", [11, None])
async def test_streamed_bodies(transport: Http1Transport, length: int | None) -> None:
    """A body that comes in pieces goes out in pieces, its length declared if it is known; the connection is kept."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        for _ in range(2):
            body = pieces(b"hello", b"", b", ", b"body")
            request = replace(POST, content=b"", body=body, content_length=length)
            assert await whole(await transport.send(backend_of(backend), request)) == b"hello"
        assert bodies(backend) == [b"hello, body"] * 2
        assert (b"Transfer-Encoding: chunked\r\n" in backend.requests[0]) is (length is None)
        assert len(backend.connections) == 1


@pytest.mark.parametrize("length", [0, None])
async def test_streamed_bodies_that_are_empty(transport: Http1Transport, length: int | None) -> None:
    """A stream without a byte is a body without a byte."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        request = replace(POST, content=b"", body=pieces(b""), content_length=length)
        assert await whole(await transport.send(backend_of(backend), request)) == b"hello"
        assert bodies(backend) == [b""]


async def fails() -> AsyncIterator[bytes]:
    yield b"hel"
    raise RuntimeError("of the body's own")


WRONG = "the request's body is not as long as its Content-Length says"


@pytest.mark.parametrize(
    ("body", "length", "text"),
    [
        (lambda: pieces(b"hel", b"lo"), 4, WRONG),
        (lambda: pieces(b"hel"), 4, WRONG),
        (fails, 5, "the request's body broke off"),
        (fails, None, "the request's body broke off"),
    ],
)
async def test_bodies_that_are_not_whole(
    transport: Http1Transport, body: Callable[[], AsyncIterator[bytes]], length: int | None, text: str
) -> None:
    """A body that breaks off, or is longer or shorter than declared, never looks whole to the backend."""
    async with ScriptedBackend([ReadRequest()]) as backend:
        with pytest.raises(StatusError) as caught:
            await transport.send(
                backend_of(backend), replace(POST, content=b"", body=body(), content_length=length, timeout=3)
            )
        assert (caught.value.code, str(caught.value)) == (400, text)
        await backend.connections[0].gone()
    assert backend.connections[0].exchanges == []


async def test_an_early_answer_comes_early() -> None:
    """The answer does not wait for the upload; the connection is not used again unless both were completed."""
    transport = Http1Transport()
    stop = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await stop.wait()

    script = [ReadHead(), Send(respond(413, body=b"too much")), Hold()]
    async with ScriptedBackend(script) as backend:
        response = await transport.send(backend_of(backend), replace(POST, content=b"", body=endless()))
        assert response.status == 413
        assert await whole(response) == b"too much"
        await backend.connections[0].gone()
        assert transport.taken == 0
        await transport.aclose()


async def test_a_slow_backend_stops_the_upload(transport: Http1Transport) -> None:
    """Backpressure: no more of a body is asked for than the backend takes."""
    given = 0
    taken = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(500):
            given += 1
            yield b"x" * 65_536

    async def slowly(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        await taken.wait()
        for _ in range(500):
            await connection.read_exactly(65_536)
        await connection.send(ANSWER)

    async with ScriptedBackend([slowly]) as backend:
        request = replace(POST, content=b"", body=source(), content_length=500 * 65_536)
        sending = asyncio.create_task(send_whole(transport, backend_of(backend), request))
        await backend.connected()
        before = -1
        while before != given:
            before = given
            await asyncio.sleep(0.02)
        assert given < 300
        taken.set()
        assert await sending == b"hello"
    assert given == 500


async def test_a_slow_reader_stops_the_backend(transport: Http1Transport) -> None:
    """Backpressure: what nobody reads is not taken from the backend."""
    size = 64 * 1024 * 1024

    async def much(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(respond(headers={"Content-Length": str(size)}))
        while connection.sent < size:
            await connection.send(b"x" * 65_536)

    async with ScriptedBackend([much]) as backend:
        response = await transport.send(backend_of(backend), GET)
        connection, before = backend.connections[0], -1
        while before != connection.sent:
            before = connection.sent
            await asyncio.sleep(0.02)
        assert connection.sent < size / 2
        assert len(await whole(response)) == size


# The last guard


@pytest.mark.parametrize(
    "request_",
    [
        replace(GET, target=b"/a b"),
        replace(GET, target=b"/a\r\nX-Remote-User: eve"),
        replace(GET, target=b"/a\x00"),
        replace(GET, method=b"GET /other"),
        replace(GET, headers=((b"x", b"a\r\nX-Remote-User: eve"),)),
        replace(GET, headers=((b"x", b"a\n b"),)),
        replace(GET, headers=((b"x", b"a\rb"),)),
        replace(GET, headers=((b"x", b"a\0"),)),
        replace(GET, headers=((b"x\r\nY", b"a"),)),
    ],
)
async def test_no_line_of_its_own(transport: Http1Transport, request_: UpstreamRequest) -> None:
    """C5 8: nothing in a head can have brought a line or a word of its own; such a request is not sent."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        with pytest.raises(StatusError, match="cannot be sent"):
            await transport.send(backend_of(backend), request_)
    assert backend.connections == []


# The end


async def test_stopping_ends_what_is_open() -> None:
    """Closing the transport ends exchanges as broken, wherever they are, and waits until every socket is gone."""
    transport = Http1Transport()
    script = [ReadHead(), respond(headers={"Content-Length": "9"}, body=b"one"), Hold()]
    async with ScriptedBackend.per_connection(script, [ReadHead(), Hold()]) as backend:
        response = await transport.send(backend_of(backend), GET)
        assert await response.read() == b"one"
        reading = asyncio.create_task(response.read())
        sending = asyncio.create_task(transport.send(backend_of(backend), GET))
        await backend.connected(2)
        await transport.aclose()
        for task in (reading, sending):
            with pytest.raises(UpstreamBroken, match="the connection was closed"):
                await task
        await response.aclose()
        assert transport.taken == 0


async def test_what_is_closed_touches_nobody() -> None:
    """An answer that was closed reads nothing and ends nothing: its connection is another's by now."""
    transport = Http1Transport()
    more = asyncio.Event()
    second_answer = [ReadRequest(), respond(headers={"Content-Length": "6"}, body=b"one"), Wait(more), Send(b"two")]
    async with ScriptedBackend([ReadRequest(), Send(ANSWER), *second_answer, Hold()]) as backend:
        first = await transport.send(backend_of(backend), GET)
        await first.aclose()
        second = await transport.send(backend_of(backend), GET)
        assert await second.read() == b"one"
        assert await first.read() == b""
        first.end()
        await first.aclose()
        more.set()
        assert await whole(second) == b"two"
        assert len(backend.connections) == 1
        await transport.aclose()


async def test_a_dial_that_outlives_the_transport() -> None:
    """A connection that stands only after the transport was closed is not kept."""
    transport = Http1Transport()
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        sending = asyncio.create_task(send_whole(transport, backend_of(backend), GET))
        await asyncio.sleep(0)
        await transport.aclose()
        assert await sending == b"hello"
        await backend.connections[0].gone()


async def test_nothing_is_kept_while_draining() -> None:
    """Once the drain begins connections end with their exchange."""
    drain = Drain()
    transport = Http1Transport(drain=drain)
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        response = await transport.send(backend_of(backend), GET)
        drain.begin()
        assert await whole(response) == b"hello"
        await backend.connections[0].gone()
        await transport.aclose()


async def test_cancelled_before_anything() -> None:
    """A cancelled request closes its connection and frees its slot, also while dialling."""
    transport = Http1Transport()
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        for rounds in range(12):
            sending = asyncio.create_task(transport.send(backend_of(backend), GET))
            for _ in range(rounds):
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert transport.taken == 0
        await transport.aclose()


def test_state_per_loop() -> None:
    """One transport serves several event loops, one after the other."""
    transport = Http1Transport()

    async def once() -> None:
        async with ScriptedBackend(lambda request: ANSWER) as backend:
            assert await send_whole(transport, backend_of(backend), GET) == b"hello"
            await transport.aclose()

    for _ in range(2):
        asyncio.run(once())


UNUSABLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"tls": True, "ca": b"no pem"}, "its CA bundle cannot be used"),
    ({"host": "a" * 70}, "its name does not resolve"),
    ({"host": "bad\0name"}, "its name does not resolve"),
    ({"host": "two names"}, "its name does not resolve"),
    ({"host": "bad\r\nX-A: b"}, "its name does not resolve"),
    ({"port": 70_000}, "it cannot be reached"),
    ({"tls": True, "server_name": ".example.com"}, "its name does not resolve"),
)


@pytest.mark.parametrize(("changed", "text"), UNUSABLE)
async def test_unusable_backends(transport: Http1Transport, changed: dict[str, Any], text: str) -> None:
    """Whatever is wrong with a registration is its own: unreachable, never a crash, never the caller's fault."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        with pytest.raises(UpstreamUnreachable) as caught:
            await transport.send(backend_of(backend, **changed), GET)
        assert str(caught.value) == text
