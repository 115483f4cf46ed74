"""Several endpoints behind one service, on sockets: which failures go on to another one, and which never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.middleware.proxy.proxying import ALICE, GET, NAME, dead_port, proxied, whole

from aggmw.contracts.backends import Backend, BalancedBackend, UpstreamRequest
from aggmw.contracts.balancing import Balancing
from aggmw.contracts.identity import Identity
from aggmw.contracts.websockets import Close, UpstreamWebSocket
from aggmw.errors import StatusError, UpstreamBroken, UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy import BalancedTransport, Http1Transport, HttpxTransport, TransportLimits, Transports
from aggmw.middleware.proxy.transports import AsgiTransport
from aggmw.net.addresses import AddressRules
from aggmw.testing import (
    Hold,
    IncompleteResponse,
    ReadHead,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    Send,
    VirtualClock,
    Wait,
    WebSocketClosed,
    respond,
)
from aggmw.testing.frames import TEXT, AcceptWebSocket, EndWebSocket, ReadFrame, close_frame, frame
from aggmw.testing.steps import Script

POST = UpstreamRequest(b"POST", b"/a", content=b"body", content_length=4)
BAD = respond(503, body=b"not now")
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def first(below: float = 0.0) -> Callable[[], float]:
    """Chance that takes the first endpoint of two that have the same under way, while there are so many."""
    return lambda: below


class Several:
    """Endpoints that do what their scripts say, behind one service.

    Attributes:
        servers: the endpoints; None for one at which nobody listens.
        transport: which reaches them; of those that have the same under way it takes the first.
    """

    def __init__(self, servers: Sequence[ScriptedBackend | None], ports: Sequence[int], **options: Any) -> None:
        limits = options.pop("limits", None)
        reached_by = options.pop("reached_by", Http1Transport)
        self.servers = servers
        endpoints = tuple(Backend("", "127.0.0.1", port, tls=False) for port in ports)
        self.backend = BalancedBackend(NAME, endpoints, Balancing(**options))
        self.transport = BalancedTransport(reached_by(limits=limits), chance=first())

    async def send(self, request: UpstreamRequest = GET) -> tuple[int, bytes]:
        response = await self.transport.send(self.backend, request)
        status = response.status
        return status, await whole(response)

    @property
    def heard(self) -> list[int]:
        """How many requests came to each."""
        return [sum(raw.count(b" HTTP/1.1\r\n") for raw in each.requests) if each else 0 for each in self.servers]

    @property
    def failed(self) -> list[int]:
        (balance,) = self.transport.balances
        assert balance.in_flight == 0
        return [each.failed for each in balance.endpoints]


@asynccontextmanager
async def several(*behaviours: Script | Callable[[bytes], Any] | None, **options: Any) -> AsyncIterator[Several]:
    async with AsyncExitStack() as stack:
        servers = [each and await stack.enter_async_context(ScriptedBackend(each)) for each in behaviours]
        ports = [each.port if each else await dead_port() for each in servers]
        made = Several(servers, ports, **options)
        yield made
        await made.transport.aclose()


def answers(body: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: respond(body=body)


# What goes on to another endpoint


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_nothing_was_sent(request_: UpstreamRequest) -> None:
    """Nobody listens at the first: whatever it is, it goes on, and arrives once."""
    async with several(None, answers(b"second")) as site:
        assert await site.send(request_) == (200, b"second")
        assert site.heard == [0, 1]
        assert site.failed == [1, 0]


@pytest.mark.parametrize("reached_by", [Http1Transport, HttpxTransport])
async def test_nothing_of_a_stream_was_sent(reached_by: Any) -> None:
    """A body that nobody has begun to read goes on whole."""

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with several(None, answers(b"second"), reached_by=reached_by) as site:
        assert await site.send(UpstreamRequest(b"POST", b"/a", body=body())) == (200, b"second")
        assert site.servers[1] is not None
        assert ReceivedRequest.of(site.servers[1].requests[0]).body == b"onetwo"


async def test_an_address_that_may_not_be_dialled() -> None:
    """An endpoint whose name leads to a denied address is never dialled, and left out like one that is down."""
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        writer.close()

    denied = await asyncio.start_server(arrive, "127.0.0.2", 0)
    port = denied.sockets[0].getsockname()[1]
    async with ScriptedBackend(answers(b"second")) as server:
        transport = BalancedTransport(Http1Transport(addresses=AddressRules(deny=["127.0.0.2/32"])), chance=first())
        backend = BalancedBackend.at([f"http://127.0.0.2:{port}", server.url], name=NAME)
        for request in (POST, GET, GET, GET, GET):
            assert await whole(await transport.send(backend, request)) == b"second"
        assert [each.out for each in transport.balances[0].endpoints] == [True, False]
        await transport.aclose()
    denied.close()
    await denied.wait_closed()
    assert not arrived.is_set()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
@pytest.mark.parametrize("failing", [[ReadHead(), Reset()], lambda raw: BAD], ids=["reset", "503"])
async def test_safe_requests_are_repeated(method: bytes, failing: Any) -> None:
    """One that breaks off, and one that answers 503: the client sees neither."""
    async with several(failing, answers(b"second")) as site:
        status, _ = await site.send(replace(GET, method=method))
        assert status == 200
        assert site.heard == [1, 1]
        assert site.failed == [1, 0]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_answers_that_are_failures(status: int) -> None:
    """Those of a server that stands in front of another one, or says that it cannot."""
    async with several(lambda raw: respond(status), answers(b"second")) as site:
        assert await site.send() == (200, b"second")


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 501])
async def test_answers_that_are_answers(status: int) -> None:
    """What a server says of the request is passed on, and no failure."""
    async with several(lambda raw: respond(status), answers(b"second")) as site:
        assert (await site.send())[0] == status
        assert site.heard == [1, 0]
        assert site.failed == [0, 0]


async def test_a_watch_goes_on_until_its_head_came() -> None:
    """Nothing of an answer was given to the client yet."""
    watch = replace(GET, long_running=True, timeout=None)
    async with several([ReadHead(), Reset()], [ReadHead(), Send(STREAM), Hold()]) as site:
        response = await site.transport.send(site.backend, watch)
        assert await response.read() == b"hello"
        (balance,) = site.transport.balances
        assert balance.in_flight == 1
        await response.aclose()
        assert site.failed == [1, 0]


class Recording:
    """A transport that is told what to do with each request, and remembers it.

    Attributes:
        requests: as they came.
    """

    def __init__(self, *outcomes: Callable[[UpstreamRequest], Any]) -> None:
        self._outcomes = list(outcomes)
        self.requests: list[UpstreamRequest] = []

    async def send(self, backend: Any, request: UpstreamRequest) -> Any:
        self.requests.append(request)
        return await self._outcomes.pop(0)(request)

    async def aclose(self) -> None: ...


TWO = BalancedBackend.at(["http://a:1", "http://b:1"], name=NAME)


@pytest.mark.parametrize("touch", ["__anext__", "aclose"])
async def test_a_body_that_was_begun_stays(touch: str) -> None:
    """Whatever a transport says: what was taken of a body, or given up, cannot be sent to another one."""

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def unreachable(request: UpstreamRequest) -> None:
        await getattr(request.body, touch)()
        raise UpstreamUnreachable("connection reset")

    transport = Recording(unreachable, unreachable)
    with pytest.raises(UpstreamUnreachable):
        await BalancedTransport(transport).send(TWO, UpstreamRequest(b"POST", b"/a", body=body()))
    assert len(transport.requests) == 1


async def test_all_attempts_share_the_time(clock: VirtualClock) -> None:
    """Who comes second has what the first one left, and never the request's time anew."""
    clock.time()

    async def late(request: UpstreamRequest) -> None:
        await asyncio.sleep(20)
        raise UpstreamBroken("it closed the connection without an answer")

    transport = Recording(late, late)
    sending = asyncio.create_task(BalancedTransport(transport).send(TWO, GET))
    await clock.advance(50)
    with pytest.raises(UpstreamBroken):
        await sending
    first, second = [request.timeout for request in transport.requests]
    assert first == 60.0
    assert second == pytest.approx(40.0, abs=0.5)


async def test_watches_are_not_hurried(clock: VirtualClock) -> None:
    """The head of a watch may come with its first event: `attempt_seconds` is not for it."""
    clock.time()

    async def unreachable(request: UpstreamRequest) -> None:
        raise UpstreamUnreachable("connection refused")

    transport = Recording(*[unreachable] * 4)
    hurried = replace(TWO, balancing=Balancing(attempt_seconds=2))
    for request in (replace(GET, long_running=True, timeout=None), GET):
        with pytest.raises(UpstreamUnreachable):
            await BalancedTransport(transport).send(hurried, request)
    times = [request.timeout for request in transport.requests]
    assert times[:3] == [None, None, 2]
    assert times[3] == pytest.approx(60, abs=0.5)


async def test_answers_of_a_known_length() -> None:
    """One that went to a client whole is a success, although nobody reads past its length; one that was cut is none."""
    size = 300_000
    head = respond(headers={"Content-Length": str(size)})
    good, cut = [ReadHead(), Send(head + bytes(size))], [ReadHead(), Send(head + bytes(9)), Reset()]
    async with ScriptedBackend.per_connection(cut, cut, good, cut) as server:
        transport = BalancedTransport(Http1Transport())
        client = proxied(transport, BalancedBackend.at([server.url], name=NAME))
        for failures in (1, 2, 0, 1):
            if failures:
                with pytest.raises(IncompleteResponse):
                    await client.request("GET", "/a")
            else:
                assert len((await client.request("GET", "/a")).body) == size
            assert transport.balances[0].endpoints[0].failures == failures
        await transport.aclose()


async def test_who_leaves_in_the_middle_of_an_answer_says_nothing() -> None:
    """A server that stops in the middle of its answers does not work because its clients lose patience before we do."""
    head = respond(headers={"Content-Length": "9"})
    cut, stuck = [ReadHead(), Send(head + b"half"), Reset()], [ReadHead(), Send(head + b"half"), Hold()]
    async with ScriptedBackend.per_connection(cut, stuck) as server:
        transport = BalancedTransport(Http1Transport())
        backend = BalancedBackend.at([server.url], name=NAME)
        with pytest.raises(UpstreamBroken):
            await whole(await transport.send(backend, GET))
        response = await transport.send(backend, GET)
        assert await response.read() == b"half"
        await response.aclose()
        assert transport.balances[0].endpoints[0].failures == 1
        await transport.aclose()


class Heads:
    """A transport whose first request fails; the answer to another one has a length, no body, and an end to be read."""

    status, headers, content = 200, ((b"content-length", b"9"),), None

    def __init__(self) -> None:
        self.failed = False

    async def send(self, backend: Any, request: UpstreamRequest) -> Heads:
        if not self.failed:
            self.failed = True
            raise UpstreamBroken("it closed the connection")
        return self

    async def read(self) -> bytes:
        return b""

    def end(self) -> None:
        """There is an end."""

    async def aclose(self) -> None:
        """Holds nothing."""


async def test_an_answer_of_a_head_alone_is_a_success() -> None:
    """Nothing of its length is missing where the transport says that this was the end."""
    transport = BalancedTransport(Heads())
    backend = BalancedBackend.at(["http://127.0.0.1:1"], name=NAME)
    head = replace(GET, method=b"HEAD")
    with pytest.raises(UpstreamBroken):
        await transport.send(backend, head)
    assert await whole(await transport.send(backend, head)) == b""
    assert transport.balances[0].endpoints[0].failures == 0
    await transport.aclose()


async def test_a_whole_body_is_a_success() -> None:
    """An answer that is read to its end begins the row of failures anew; its head alone does not."""
    more = asyncio.Event()
    head, rest = respond(headers={"Transfer-Encoding": "chunked"}), b"5\r\nhello\r\n0\r\n\r\n"
    good, cut = [ReadHead(), Send(head), Wait(more), Send(rest)], [ReadHead(), Send(STREAM), Reset()]
    async with ScriptedBackend.per_connection(cut, cut, good) as server:
        transport = BalancedTransport(Http1Transport())
        backend = BalancedBackend.at([server.url], name=NAME)
        for _ in range(2):
            with pytest.raises(UpstreamBroken):
                await whole(await transport.send(backend, GET))
        (endpoint,) = transport.balances[0].endpoints
        response = await transport.send(backend, GET)
        assert endpoint.failures == 2
        more.set()
        assert await whole(response) == b"hello"
        assert endpoint.failures == 0
        await transport.aclose()


async def test_busy_ones_hand_on() -> None:
    """One whose connections are all in use is no failure, and another one is asked."""
    limits = TransportLimits(connections=1, waiting=0)
    held, done = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        held.set()

    async with several(
        [ReadHead(), hold, Wait(done), respond(body=b"first")], answers(b"second"), limits=limits
    ) as site:
        own = asyncio.create_task(site.transport.servers.send(site.backend.endpoints[0], GET))
        await held.wait()
        assert await site.send(POST) == (200, b"second")
        done.set()
        await whole(await own)
        assert site.failed == [0, 0]


# What does not


@pytest.mark.parametrize(
    ("failing", "error"),
    [([ReadHead(), Reset()], UpstreamBroken), ([ReadHead()], UpstreamBroken)],
    ids=["reset", "end"],
)
async def test_unsafe_requests_are_sent_once(failing: Any, error: type[Exception]) -> None:
    """Nobody knows what became of it."""
    async with several(failing, answers(b"second")) as site:
        with pytest.raises(error):
            await site.send(POST)
        assert site.heard == [1, 0]
        assert site.failed == [1, 0]


async def test_unsafe_requests_get_the_answer_that_there_is() -> None:
    """A 503 to a POST is passed on; it counts as a failure."""
    async with several(lambda raw: BAD, answers(b"second")) as site:
        assert await site.send(POST) == (503, b"not now")
        assert (site.heard, site.failed) == ([1, 0], [1, 0])


async def test_get_with_a_body_is_sent_once() -> None:
    """Only what is at hand can be sent again, and a GET with a body is anything."""
    async with several([ReadHead(), Reset()], answers(b"second")) as site:
        with pytest.raises(UpstreamBroken):
            await site.send(replace(POST, method=b"GET"))
        assert site.heard == [1, 0]


async def test_what_began_is_not_repeated() -> None:
    """An answer that breaks off is cut, whatever the method; the endpoint failed all the same."""
    async with several([ReadHead(), Send(CUT), Reset()], answers(b"second")) as site:
        with pytest.raises(UpstreamBroken):
            await site.send()
        assert site.heard == [1, 0]
        assert site.failed == [1, 0]


async def test_no_more_often_than_configured() -> None:
    """Two more, or as many as there are; the last failure is what is said."""
    for retries, asked in ((0, [1, 0, 0, 0]), (2, [1, 1, 1, 0]), (9, [1, 1, 1, 1])):
        async with several(*[lambda raw: BAD] * 4, retries=retries) as site:
            assert await site.send() == (503, b"not now")
            assert site.heard == asked
    async with several(None, None) as site:
        with pytest.raises(UpstreamUnreachable, match="connection refused"):
            await site.send()


async def test_the_budget_bounds_repetitions() -> None:
    """When it is used up, the answer that there is goes to the client; what was never sent does not use it."""
    async with several(
        lambda raw: BAD, answers(b"second"), retry_share=0.5, retries_per_second=0, failures=100
    ) as site:
        found = [(await site.send())[0] for _ in range(20)]
        assert (found.count(200), found.count(503)) == (10, 10)
        (balance,) = site.transport.balances
        assert (balance.endpoints[0].retried, balance.endpoints[0].refused) == (10, 10)
    async with several(None, answers(b"second"), retry_share=0, retries_per_second=0, failures=100) as site:
        assert [await site.send() for _ in range(10)] == [(200, b"second")] * 10


# Time


async def test_never_after_the_deadline(clock: VirtualClock) -> None:
    """All attempts together have the time of the request: who used it up leaves nothing for another one."""
    async with several([ReadHead(), Hold()], answers(b"second")) as site:
        sending = asyncio.create_task(site.send())
        await clock.advance(61)
        with pytest.raises(UpstreamTimeout):
            await sending
        assert site.heard == [1, 0]
        assert site.failed == [1, 0]


async def test_who_hangs_is_not_waited_for(clock: VirtualClock) -> None:
    """With `attempt_seconds`, what can be repeated goes on to another endpoint in time; a POST does not."""
    async with several([ReadHead(), Hold()], answers(b"second"), attempt_seconds=2) as site:
        sending = asyncio.create_task(site.send())
        await clock.advance(3)
        assert await sending == (200, b"second")
        assert site.failed == [1, 0]
        impatient = asyncio.create_task(site.send(replace(GET, timeout=4.0)))
        await clock.advance(3)
        assert await impatient == (200, b"second")
        assert site.failed == [2, 0]  # the operator's two seconds were over, not the caller's four
        posting = asyncio.create_task(site.send(POST))
        await clock.advance(50)
        assert not posting.done()
        await clock.advance(20)
        with pytest.raises(UpstreamTimeout):
            await posting


async def test_nobody_is_hurried_without_an_alternative(clock: VirtualClock) -> None:
    """The last one that may be asked has all the time that is left; so has everybody when the budget is used up."""
    slow = [ReadHead(), Hold()]
    async with several(slow, slow, attempt_seconds=2) as site:
        sending = asyncio.create_task(site.send())
        await clock.advance(50)
        assert not sending.done()
        await clock.advance(20)
        with pytest.raises(UpstreamTimeout):
            await sending
        assert site.heard == [1, 1]
    async with several(slow, answers(b"second"), attempt_seconds=2, retry_share=0, retries_per_second=0) as site:
        sending = asyncio.create_task(site.send())
        await clock.advance(50)
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])


async def test_who_is_left_out_is_no_alternative(clock: VirtualClock) -> None:
    """The last of those that are not left out has all the time that there is, too."""
    slow = [ReadHead(), Hold()]
    async with several(None, slow, slow, attempt_seconds=1, failures=1, eject_share=0.3) as site:
        leaving = asyncio.create_task(site.send())
        assert site.servers[1] is not None
        await site.servers[1].connected()
        leaving.cancel()
        await asyncio.wait([leaving])
        assert [each.out for each in site.transport.balances[0].endpoints] == [True, False, False]
        sending = asyncio.create_task(site.send())
        await clock.advance(8)
        assert not sending.done()
        assert site.heard == [0, 2, 1]
        sending.cancel()
        await asyncio.wait([sending])


async def test_impatient_callers_eject_nobody(clock: VirtualClock) -> None:
    """Who asks with `?timeout=1s` and gets no answer in that time has shown nothing; or any caller could put a service
    out of work."""
    async with several([ReadHead(), Hold()], answers(b"second"), failures=1) as site:
        sending = asyncio.create_task(site.send(replace(GET, timeout=1.0)))
        await clock.advance(2)
        with pytest.raises(UpstreamTimeout):
            await sending
        assert site.failed == [0, 0]


# Endpoints that flap, hang, answer 503


async def test_a_dead_one_is_asked_no_more() -> None:
    """After five failures, nobody dials it; and no request of any kind has failed."""
    async with several(None, answers(b"second")) as site:
        for number in range(40):
            assert await site.send(POST if number % 2 else GET) == (200, b"second")
        assert site.failed == [5, 0]
        assert "left out for" in repr(site.transport)


async def test_one_that_comes_back(clock: VirtualClock) -> None:
    """One that answers 503 for a while is left out, and asked again after its time; flapping makes that longer."""
    well = False

    def flapping(raw: bytes) -> bytes:
        return respond(body=b"first") if well else BAD

    async with several(flapping, answers(b"second"), failures=2) as site:
        for _ in range(10):
            assert await site.send() == (200, b"second")
        assert site.heard[0] == 2
        await clock.advance(10)
        assert await site.send() == (200, b"second")  # asked once, and still unwell
        assert [await site.send() for _ in range(5)] == [(200, b"second")] * 5
        assert site.heard[0] == 3
        well = True
        await clock.advance(10)
        assert await site.send() == (200, b"second")
        await clock.advance(10)
        assert await site.send() == (200, b"first")
        assert (await site.send())[1] == b"first"


async def test_a_watch_does_not_find_out(clock: VirtualClock) -> None:
    """It has no time of its own: at a server that takes connections and answers nothing, it would wait for ever."""
    watch = replace(GET, long_running=True, timeout=None)
    async with several([ReadHead(), Reset()], answers(b"second"), failures=1) as site:
        await site.send()
        await clock.advance(10)
        assert await site.send(watch) == (200, b"second")
        assert site.heard == [1, 2]
        assert await site.send() == (200, b"second")
        assert site.heard == [2, 3]


async def test_all_answer_503() -> None:
    """The client is told what they say; nobody is kept from being asked."""
    async with several(*[lambda raw: BAD] * 3, failures=2) as site:
        assert [await site.send() for _ in range(30)] == [(503, b"not now")] * 30
        (balance,) = site.transport.balances
        assert balance.desperate
        assert sum(each.out for each in balance.endpoints) == 2


async def test_a_client_that_leaves() -> None:
    """Nothing stays under way, and it says nothing of the endpoint."""
    held = asyncio.Event()

    async def hold(connection: Any) -> None:
        held.set()

    async with several([ReadHead(), hold, Hold()], answers(b"second")) as site:
        sending = asyncio.create_task(site.send())
        await held.wait()
        sending.cancel()
        await asyncio.wait([sending])
        assert site.failed == [0, 0]


# Sharing, limits, callers that stay


async def test_services_of_the_same_endpoints_share_what_is_known() -> None:
    """Versions of one group are mostly served by the same servers."""
    async with several(None, answers(b"second")) as site:
        other = replace(site.backend, name="v1.other.io")
        await site.send()
        await whole(await site.transport.send(other, GET))
        assert len(site.transport.balances) == 1
        different = replace(other, balancing=Balancing(failures=9))
        await whole(await site.transport.send(different, GET))
        assert len(site.transport.balances) == 2


async def test_so_many_requests_at_once() -> None:
    """Over all endpoints, streams included; the next one is refused and told to come back."""
    async with several([ReadHead(), Send(STREAM), Hold()], [ReadHead(), Send(STREAM), Hold()], requests=2) as site:
        watch = replace(GET, long_running=True, timeout=None)
        held = [await site.transport.send(site.backend, watch) for _ in range(2)]
        with pytest.raises(UpstreamBusy, match="too many requests are under way"):
            await site.transport.send(site.backend, GET)
        answer = await proxied(site.transport, site.backend).request("GET", "/a")
        assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"1")
        for each in held:
            await each.aclose()
        assert site.heard == [1, 1]


@pytest.mark.parametrize("sticky", ["identity", "client"])
async def test_callers_stay(sticky: str) -> None:
    """One caller is at one endpoint, and others at others."""
    async with several(answers(b"0"), answers(b"1"), answers(b"2"), sticky=sticky) as site:

        async def asked(number: int) -> bytes:
            caller = replace(
                GET, identity=Identity(f"user-{number}"), client=(f"192.0.2.{number}", 1000 + len(site.heard))
            )
            return (await site.send(caller))[1]

        homes = [await asked(number) for number in range(20)]
        assert [await asked(number) for number in range(20)] == homes
        assert set(homes) == {b"0", b"1", b"2"}


async def test_who_is_nobody_stays_by_address() -> None:
    """A path service without authentication still has clients; without even that, anybody is asked."""
    async with several(answers(b"0"), answers(b"1"), answers(b"2"), sticky="identity") as site:
        found = {(await site.send(replace(GET, client=(f"192.0.2.{number}", 1))))[1] for number in range(20)}
        assert found == {b"0", b"1", b"2"}
        assert await site.send() == (200, b"0")


# The rest of the contract


async def test_websockets_go_on_only_when_nothing_was_sent() -> None:
    """A command may be behind a handshake. Its WebSocket is under way until it is closed."""
    async with several(None, [ReadHead(), respond(403, body=b"no")]) as site:
        answer: Any = await site.transport.connect(site.backend, GET, ())
        assert (answer.status, await whole(answer)) == (403, b"no")
    async with several([ReadHead(), Reset()], answers(b"second")) as site:
        with pytest.raises(UpstreamBroken):
            await site.transport.connect(site.backend, GET, ())
        assert (site.heard, site.failed) == ([1, 0], [1, 0])


async def test_websockets() -> None:
    """One that opens carries messages both ways, is under way until it is closed, and shows that its endpoint works."""
    script = [AcceptWebSocket(), ReadFrame(), frame(TEXT, b"back"), EndWebSocket()]
    async with several(None, script, failures=1) as site:
        socket: Any = await site.transport.connect(site.backend, GET, ())
        assert isinstance(socket, UpstreamWebSocket)
        assert (socket.subprotocol, socket.fault) == (None, "")
        (balance,) = site.transport.balances
        assert [each.in_flight for each in balance.endpoints] == [0, 1]
        await socket.send("there")
        assert await socket.receive() == "back"
        await socket.close(Close(1000))
        assert await socket.receive() == Close(1000)
        await socket.aclose()
        assert site.failed == [1, 0]


async def test_websockets_of_clients() -> None:
    """Through the whole stage, a WebSocket of a service with several endpoints is as any other."""
    script = [AcceptWebSocket(), frame(TEXT, b"hello"), close_frame(1000), EndWebSocket(answer=False)]
    async with (
        several(None, script) as site,
        proxied(Transports(site.transport.servers, AsgiTransport()), site.backend).websocket("/a") as socket,
    ):
        assert socket.accepted
        assert await socket.receive() == "hello"
        with pytest.raises(WebSocketClosed):
            await socket.receive()


async def test_transports_without_websockets() -> None:
    """501, before any endpoint is asked."""

    class Plain:
        def __init__(self) -> None:
            self.asked = 0

        async def send(self, backend: Any, request: Any) -> Any:
            self.asked += 1
            raise UpstreamUnreachable("why")

        async def aclose(self) -> None: ...

    plain = Plain()
    backend = BalancedBackend.at(["http://a:1", "http://b:1"], name=NAME)
    with pytest.raises(StatusError, match="Plain, which reaches the backend, carries no WebSockets"):
        await BalancedTransport(plain).connect(backend, GET, ())
    assert plain.asked == 0


async def test_others_pass() -> None:
    """What is no service of several endpoints passes; a transport that does not know those says so."""
    async with ScriptedBackend(answers(b"alone")) as server:
        alone = Backend(NAME, server.host, server.port, tls=False)
        transport = Transports(Http1Transport(), AsgiTransport())
        for reaching in (transport, transport.balanced):
            assert await whole(await reaching.send(alone, GET)) == b"alone"
        assert transport.balanced.balances == ()
        await transport.aclose()
    several_ = BalancedBackend(NAME, (alone, replace(alone, port=1)))
    with pytest.raises(UpstreamUnreachable, match="put BalancedTransport around it"):
        await Http1Transport().send(several_, GET)


async def test_state_per_loop() -> None:
    """What one event loop knows is not told on another one, and closing forgets it."""
    async with several(answers(b"0"), answers(b"1")) as site:
        await site.send()
        assert len(site.transport.balances) == 1
        assert await asyncio.to_thread(lambda: asyncio.run(_balances(site.transport))) == 0
    assert site.transport.balances == ()


async def _balances(transport: BalancedTransport) -> int:
    return len(transport.balances)


async def test_what_nobody_asks_for_is_forgotten(clock: VirtualClock) -> None:
    """After ten minutes, so that servers that a service had once are not on the metrics page for ever; what is still
    under way keeps it."""
    clock.time()

    def shown(site: Several) -> bool:
        return any(each.name.startswith("aggmw_endpoint") for each in site.transport.samples())

    async with several([ReadHead(), Send(STREAM), Hold()], answers(b"second")) as site:
        watch = await site.transport.send(site.backend, replace(GET, long_running=True, timeout=None))
        await clock.advance(700)
        assert shown(site)
        assert await site.send() == (200, b"second")
        await watch.aclose()
        await clock.advance(599)
        assert shown(site)
        await clock.advance(2)
        assert not shown(site)
        assert site.transport.balances == ()


async def test_what_metrics_are_told() -> None:
    """Of each endpoint by its address; a name that any caller could make is none of the labels."""
    async with several(None, lambda raw: BAD, answers(b"third"), failures=1) as site:
        for _ in range(3):
            await site.send(replace(GET, identity=ALICE))
        found = {(each.name, each.labels): each.value for each in site.transport.samples()}
        addresses = [each.address for each in site.backend.endpoints]
        told = {
            name: [found[f"aggmw_endpoint_{name}", (("backend", each),)] for each in addresses]
            for name in ("requests_total", "failures_total", "ejections_total", "ejected", "retries_total")
        }
        assert told == {
            "requests_total": [1, 1, 3],
            "failures_total": [1, 1, 0],
            "ejections_total": [1, 1, 0],
            "ejected": [1, 1, 0],
            "retries_total": [1, 1, 0],
        }
        assert found["aggmw_balanced_requests_refused_total", (("service", NAME),)] == 0
