"""A suite that every way to reach a backend passes: subclass it, and say where its backend is.

::

    class TestMyTransport(TransportSuite):
        cannot = {"early_answers": "it reads nothing before the whole request was sent"}

        @asynccontextmanager
        async def serving(self, model, limits):
            async with served(model.asgi) as server:
                transport = MyTransport(limits=limits)
                yield transport, Backend.at(server.url, name="v1.model")
                await transport.aclose()

With pytest-asyncio in its automatic mode, each method is a test; with `aggmw.testing.plugin` in the `conftest.py`, one
that fails says what it compared. Transports that speak HTTP/1.1 on a socket take `WireSuite` besides, which looks at
the bytes. A deadline is reached by moving a `VirtualClock`, so asyncio's own event loop is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any, ClassVar, TypeVar

from aggmw.contracts.backends import AnyBackend, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.errors import AggmwError, StatusError, UpstreamBroken, UpstreamBusy, UpstreamTimeout
from aggmw.middleware.proxy.transports.pool import TransportLimits
from aggmw.testing.clock import VirtualClock
from aggmw.testing.model import Do, ModelBackend

__all__ = ["CAPABILITIES", "Site", "TransportSuite", "needs", "pieces_of", "whole_of"]

CAPABILITIES: Mapping[str, str] = {
    "early_answers": "passes an answer on that comes before the whole request was sent",
    "unknown_lengths": "sends a body whose length nobody knows",
    "field_order": "keeps several fields of one name apart, and all in their order",
    "departures": "lets the backend see at once that its client is gone, also before it has answered",
    "silence": "ends an answer in which nothing comes any more",
    "busy": "holds requests back at its limits, and refuses more than may wait",
}
"""What not every transport can do. One that cannot says so in `TransportSuite.cannot`, and why."""

_S = TypeVar("_S", bound="TransportSuite")
_NAMES = {b"host", b"content-length", b"transfer-encoding"}
_SOON = 1.0
"""Seconds of real time to wait for what a transport is said not to do."""


def needs(capability: str) -> Callable[[Callable[[_S], Awaitable[None]]], Callable[[_S], Awaitable[None]]]:
    """A test of something that not every transport can do. Who says that it cannot has to fail it."""

    def decorate(test: Callable[[_S], Awaitable[None]]) -> Callable[[_S], Awaitable[None]]:
        @wraps(test)
        async def checked(self: _S) -> None:
            if capability not in self.cannot:
                await test(self)
                return
            try:
                await test(self)
            except (AssertionError, AggmwError):
                return
            raise AssertionError(f"cannot says {capability!r}, and it can: take it out")

        return checked

    return decorate


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body that comes in these pieces."""
    for piece in pieces:
        yield piece


async def whole_of(response: UpstreamResponse) -> bytes:
    """The rest of an answer's body; the response is closed."""
    try:
        read = []
        while piece := await response.read():
            read.append(piece)
        return b"".join(read)
    finally:
        await response.aclose()


class Site:
    """A transport, its backend, and what stands there.

    Args:
        transport, backend: under test.
        model: the application.
    """

    def __init__(self, transport: UpstreamTransport, backend: AnyBackend, model: ModelBackend) -> None:
        self.transport = transport
        self.backend = backend
        self.model = model
        self._responses: list[UpstreamResponse] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def send(self, do: Do | None = None, method: bytes = b"GET", target: bytes = b"/a", **request: Any) -> Any:
        """Send a request that says what is to be done."""
        headers = (*request.pop("headers", ()), (do or Do()).field())
        response = await self.transport.send(self.backend, UpstreamRequest(method, target, headers, **request))
        self._responses.append(response)
        return response

    async def close(self) -> None:
        """End what a test that failed left under way, close every answer, and let the application end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for response in self._responses:
            await response.aclose()
        self.model.release()
        await self.model.until(lambda: self.model.running == 0, "the application to end")

    def sending(self, do: Do, **request: Any) -> asyncio.Task[Any]:
        """The same, as a task."""
        return self.begin(self.send(do, **request))

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with the test at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task


class TransportSuite:
    """What `contracts.backends.UpstreamTransport` promises, tried against an application behind it.

    Attributes:
        cannot: capability → why the transport does not have it. Tests of it must fail.
        most_held: bytes of an answer that nobody reads which may be on their way, the system's buffers included.
    """

    cannot: ClassVar[Mapping[str, str]] = {}
    most_held: ClassVar[int] = 16 * 2**20

    def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AbstractAsyncContextManager[tuple[UpstreamTransport, AnyBackend]]:
        """The transport under test, in front of the model; closed afterwards.

        Args:
            model: its `asgi` or `wsgi` is what is to stand behind the transport.
            limits: for the transport.
        """
        raise NotImplementedError

    @asynccontextmanager
    async def _site(self, **limits: Any) -> AsyncIterator[Site]:
        model = ModelBackend()
        async with self.serving(model, TransportLimits(**limits)) as (transport, backend):
            site = Site(transport, backend, model)
            try:
                yield site
            finally:
                await site.close()
        assert getattr(transport, "taken", 0) == 0

    async def test_what_is_declared_is_known(self) -> None:
        """Only what is a capability can be declared as missing, and with a reason."""
        assert set(self.cannot) <= set(CAPABILITIES)
        assert all(self.cannot.values())

    async def test_target_byte_for_byte(self) -> None:
        """Nothing is decoded, encoded, collapsed or sorted."""
        targets = [b"/a%2Fb/%2e%2e/c;d=1?x=%zz&y=%20&&", b"/a//b/", b"/%E4%BD%A0?%E4%BD=%A0", b"/a/../b", b"/?a?b"]
        async with self._site() as site:
            for target in targets:
                await whole_of(await site.send(target=target))
            assert [seen.target for seen in site.model.seen] == targets

    async def test_no_field_of_its_own(self) -> None:
        """Host and framing are all that a transport adds."""
        async with self._site() as site:
            await whole_of(await site.send(headers=((b"X-A", b"1"), (b"Accept", b"*/*"))))
            await whole_of(await site.send(method=b"POST", content=b"body"))
            first, second = site.model.seen
            assert {name for name, _ in first.headers} - _NAMES == {b"x-a", b"accept"}
            assert {name for name, _ in second.headers} - _NAMES == set()
            assert first.values(b"content-length") == []
            assert second.values(b"content-length") == [b"4"]

    @needs("field_order")
    async def test_fields_in_their_order(self) -> None:
        """Repeated fields stay apart, and all stay in order."""
        fields = ((b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3, 4"), (b"x-c", b"\xc3\xa4 x"))
        async with self._site() as site:
            await whole_of(await site.send(headers=fields))
            (seen,) = site.model.seen
            assert tuple(each for each in seen.headers if each[0] not in _NAMES) == fields

    async def test_fields_of_the_answer(self) -> None:
        """They come as they were sent, in order, cookies apart; what is coded stays coded."""
        fields = (("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "b=2"), ("Content-Encoding", "gzip"))
        async with self._site() as site:
            response = await site.send(Do(headers=fields, pieces=(5,)))
            wanted = [(name.lower().encode(), value.encode()) for name, value in fields]
            assert [each for each in response.headers if each in wanted] == wanted
            assert await whole_of(response) == bytes(5)
            await whole_of(await site.send())
            assert site.model.seen[1].values(b"cookie") == []

    async def test_redirects_are_answers(self) -> None:
        """Nobody follows them."""
        async with self._site() as site:
            response = await site.send(Do(status=302, headers=(("Location", "/b"),)))
            assert response.status == 302
            await whole_of(response)
            assert len(site.model.seen) == 1

    async def test_bodies_of_requests(self) -> None:
        """Every size at hand and as a stream of known length arrives whole, and comes back."""
        async with self._site() as site:
            for size in (0, 1, 65_535, 65_537, 1_000_000):
                body = bytes(range(256)) * (size // 256) + bytes(size % 256)
                given: list[dict[str, Any]] = [{"content": body, "content_length": size}]
                if size:
                    halves = pieces_of(body[: size // 2], b"", body[size // 2 :])
                    given.append({"body": halves, "content_length": size})
                for request in given:
                    assert await whole_of(await site.send(Do(echo=True), method=b"POST", **request)) == body
                    seen = site.model.seen[-1]
                    assert (bytes(seen.body), seen.whole) == (body, True)
                    assert seen.values(b"content-length") == [b"%d" % size]

    @needs("unknown_lengths")
    async def test_bodies_of_unknown_length(self) -> None:
        """A stream ends where it ends, also one without a piece."""
        async with self._site() as site:
            for pieces in ((b"one", b"two" * 50_000), (), (b"", b"x")):
                response = await site.send(Do(echo=True), method=b"POST", body=pieces_of(*pieces))
                assert (response.status, await whole_of(response)) == (200, b"".join(pieces))

    async def test_bodies_of_answers(self) -> None:
        """Every size, with a length and without one, in one piece and in many."""
        async with self._site() as site:
            for pieces in ((), (1,), (65_537,), (1,) * 200, (300_000,) * 10):
                for length in (True, False):
                    response = await site.send(Do(pieces=pieces, length=length))
                    expected = b"".join([bytes([number % 251]) * size for number, size in enumerate(pieces)])
                    assert await whole_of(response) == expected

    async def test_answers_without_a_body(self) -> None:
        """HEAD, 204 and 304 have none, whatever is said of its length; what follows is not disturbed."""
        async with self._site() as site:
            for method, status in ((b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 404)):
                response = await site.send(Do(status=status, pieces=(5,) if method == b"HEAD" else ()), method=method)
                if method == b"HEAD":
                    assert (b"content-length", b"5") in response.headers
                assert (response.status, await whole_of(response)) == (status, b"")
                assert await whole_of(await site.send(Do(pieces=(3,)))) == bytes(3)

    async def test_errors_are_answers(self) -> None:
        """What a backend says of a failure comes with its body."""
        async with self._site() as site:
            for status in (400, 404, 418, 500, 503):
                response = await site.send(Do(status=status, pieces=(9,)))
                assert (response.status, len(await whole_of(response))) == (status, 9)

    async def test_both_bodies_are_streamed(self) -> None:
        """What was sent arrives before the rest is there, both ways."""
        async with self._site() as site:
            arrived = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield b"one"
                await site.model.until(lambda: site.model.seen and site.model.seen[-1].body, "the first piece")
                arrived.set()
                yield b"two"

            do = Do(pieces=(3, 4), gate=True, length=False)
            response = await site.send(do, method=b"POST", body=body(), content_length=6, long_running=True)
            assert arrived.is_set()
            assert await response.read() == bytes(3)
            site.model.go()
            assert await whole_of(response) == b"\x01" * 4

    async def test_an_answer_that_nobody_reads_is_held_back(self) -> None:
        """The backend waits; memory does not fill with what it could send."""
        async with self._site() as site:
            response = await site.send(Do(pieces=(2**20,) * 64, length=False), long_running=True)
            async with VirtualClock() as clock:
                for _ in range(20):
                    await clock.settle()
            assert site.model.sent <= self.most_held
            assert len(await whole_of(response)) == 64 * 2**20

    async def test_body_of_the_wrong_length(self) -> None:
        """A stream that is longer or shorter than it should be fails, and is not whole for anybody."""
        async with self._site() as site:
            for pieces in ((b"abc",), (b"abc", b"defgh")):
                body = pieces_of(*pieces)
                error = await _raised(site.send(method=b"POST", body=body, content_length=5))
                assert isinstance(error, StatusError)
                assert error.code == 400
            await site.model.until(lambda: site.model.running == 0, "the application to notice")
            assert [seen.whole for seen in site.model.seen if len(seen.body) != 5] in ([], [False], [False, False])

    async def test_body_that_breaks_off(self) -> None:
        """What the body raises ends the request; for the backend it is not whole."""

        async def broken() -> AsyncIterator[bytes]:
            yield b"half"
            raise OSError("gone")

        async with self._site() as site:
            error = await _raised(site.send(method=b"POST", body=broken(), content_length=9))
            assert isinstance(error, StatusError)
            assert error.code == 400
            await site.model.until(lambda: site.model.running == 0, "the application to notice")
            assert not any(seen.whole for seen in site.model.seen)

    @needs("early_answers")
    async def test_early_answers(self) -> None:
        """Who answers without having read the body is heard."""

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)

        async with self._site() as site:
            request: dict[str, Any] = {"body": endless(), "content_length": 2**40, "timeout": _SOON}
            response = await site.send(Do(read=False, status=413, pieces=(3,)), method=b"POST", **request)
            assert (response.status, await whole_of(response)) == (413, bytes(3))

    async def test_answers_that_are_cut(self) -> None:
        """An answer that is broken off never ends as if it were whole; what came before is passed on."""
        async with self._site() as site:
            for length in (True, False):
                response = await site.send(Do(pieces=(7,), length=length, then="break"))
                read = bytearray()

                async def rest(response: UpstreamResponse = response, read: bytearray = read) -> None:
                    while piece := await response.read():
                        read.extend(piece)

                assert isinstance(await _raised(rest()), UpstreamBroken)
                assert read in (b"", bytes(7))
                await response.aclose()
            assert await whole_of(await site.send(Do(pieces=(3,)))) == bytes(3)

    async def test_no_answer_in_time(self) -> None:
        """The head has to come within the time-out of the request; a long-running one has time."""
        async with self._site() as site, VirtualClock() as clock:
            patient = site.sending(Do(answer=False), timeout=None, long_running=True)
            sending = site.sending(Do(answer=False), timeout=5)
            await site.model.until(lambda: site.model.running == 2, "both requests")
            await clock.advance(4)
            assert not sending.done()
            await clock.advance(2)
            assert isinstance(await _raised(sending), UpstreamTimeout)
            await clock.advance(120)
            assert not patient.done()
            patient.cancel()
            await asyncio.wait({patient})
            await clock.advance(2)

    @needs("silence")
    async def test_silence(self) -> None:
        """In the middle of an answer a backend may be silent for so long, unless the request is long-running."""
        async with self._site(silence_seconds=10) as site, VirtualClock() as clock:
            for long_running in (False, True):
                response = await site.send(Do(pieces=(3,), length=False, then="hold"), long_running=long_running)
                assert await response.read() == bytes(3)
                reading = site.begin(response.read())
                await clock.advance(9)
                assert not reading.done()
                await clock.advance(2)
                assert reading.done() is not long_running
                if not long_running:
                    assert isinstance(await _raised(reading), UpstreamTimeout)
                response.end()
                await asyncio.wait({reading})
                await response.aclose()
                await clock.advance(2)

    async def test_a_stream_that_is_ended_here(self) -> None:
        """After `end` whoever reads sees a proper end, also who is waiting."""
        async with self._site() as site, VirtualClock() as clock:
            response = await site.send(Do(pieces=(3,), length=False, then="hold"), long_running=True, timeout=None)
            assert await response.read() == bytes(3)
            reading = site.begin(response.read())
            await clock.settle()
            response.end()
            assert await reading == b""
            assert await response.read() == b""
            await response.aclose()
            await clock.advance(2)

    @needs("departures")
    async def test_leaving_before_the_head(self) -> None:
        """Who gives up waiting leaves nothing: the backend sees it, and everything is free again."""
        async with self._site() as site, VirtualClock() as clock:
            sending = site.sending(Do(answer=False))
            await site.model.until(lambda: site.model.seen and site.model.seen[-1].whole, "the request")
            sending.cancel()
            await asyncio.wait({sending})
            await clock.advance(2)
            await site.model.until(lambda: site.model.running == 0, "the application to notice", limit=_SOON)

    async def test_leaving_while_sending(self) -> None:
        """The same in the middle of the request's body, which is not whole then."""
        async with self._site() as site, VirtualClock() as clock:

            async def stuck() -> AsyncIterator[bytes]:
                yield b"half"
                await asyncio.Event().wait()

            request: dict[str, Any] = {"method": b"POST", "body": stuck(), "content_length": 9}
            sending = site.sending(Do(), **request)
            await site.model.until(lambda: site.model.seen and site.model.seen[-1].body, "the first piece")
            sending.cancel()
            await asyncio.wait({sending})
            await clock.advance(2)
            await site.model.until(lambda: site.model.running == 0, "the application to notice")
            assert not site.model.seen[0].whole

    async def test_leaving_in_the_middle_of_an_answer(self) -> None:
        """The same while the answer comes: whoever reads is cancelled, or nobody reads and it is closed."""
        async with self._site() as site, VirtualClock() as clock:
            for cancelled in (True, False):
                response = await site.send(Do(pieces=(3,), length=False, then="hold"), long_running=True)
                assert await response.read() == bytes(3)
                if cancelled:
                    reading = site.begin(response.read())
                    await clock.settle()
                    reading.cancel()
                    await asyncio.wait({reading})
                await response.aclose()
                await response.aclose()
                await clock.advance(2)
                await site.model.until(lambda: site.model.running == 0, "the application to notice")
            assert await whole_of(await site.send(Do(pieces=(3,)))) == bytes(3)

    async def test_leaving_at_any_moment(self) -> None:
        """A hundred departures, each a little later than the one before; then all is as it was."""
        async with self._site() as site, VirtualClock() as clock:
            for moment in range(100):
                task = site.begin(self._visit(site))
                for _ in range(moment):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
            await clock.advance(2)
            await site.model.until(lambda: site.model.running == 0, "the application to notice")
            await self._visit(site)
            assert getattr(site.transport, "taken", 0) == 0

    async def _visit(self, site: Site) -> None:
        request: dict[str, Any] = {"method": b"POST", "content": b"body"}
        assert await whole_of(await site.send(Do(pieces=(1000,) * 3, length=False), **request)) != b""

    async def test_many_at_once(self) -> None:
        """Each gets its own answer."""

        async def one(site: Site, number: int) -> None:
            body = b"%d " % number * (number * 37 % 5000 + 1)
            response = await site.send(Do(echo=True, length=number % 2 == 0), method=b"POST", content=body)
            assert await whole_of(response) == body

        async with self._site() as site:
            for _ in range(3):
                await asyncio.gather(*(one(site, number) for number in range(40)))

    @needs("busy")
    async def test_limits(self) -> None:
        """So many at a time, so many wait, the others are refused at once; who waits too long, too."""
        async with self._site(connections=2, waiting=1, wait_seconds=5) as site, VirtualClock() as clock:
            hold = Do(pieces=(1,), length=False, then="hold")
            held = [await site.send(hold, long_running=True, timeout=None) for _ in range(2)]
            third = site.sending(Do(pieces=(2,)))
            await clock.settle()
            assert not third.done()
            assert isinstance(await _raised(site.send()), UpstreamBusy)
            held[0].end()
            await held[0].aclose()
            await clock.advance(2)
            assert len(await whole_of(await third)) == 2
            held[0] = await site.send(hold, long_running=True, timeout=None)
            late = site.sending(Do())
            await clock.advance(6)
            assert isinstance(await _raised(late), UpstreamBusy)
            for each in held:
                await each.aclose()
            await clock.advance(2)


async def _raised(work: Awaitable[Any]) -> BaseException | None:
    """What awaiting this raises."""
    try:
        await work
    except AggmwError as error:
        return error
    return None
