"""Applications in this process as backends: what they get, what comes back, and that nothing of theirs reaches us."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import ALICE, Before, core, proxied, whole

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.backends import Backend, LocalBackend, UpstreamRequest
from aggmw.contracts.drain import Drain
from aggmw.errors import StatusError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy import AsgiTransport, Http1Transport, ProxyMiddleware, Transports
from aggmw.testing import Client, IncompleteResponse, VirtualClock

NAME = "v1.notes.example.com"
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def http_only(handler: Handler) -> ASGIApp:
    """An application that knows no lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        await handler(scope, receive, send)

    return app


@asynccontextmanager
async def started(handler: Handler, **options: Any) -> AsyncIterator[tuple[AsgiTransport, LocalBackend]]:
    """A transport with one application, started."""
    transport = AsgiTransport(**options)
    backend = LocalBackend(NAME, http_only(handler))
    async with transport.applications.running([backend]):
        yield transport, backend
        await transport.aclose()


@asynccontextmanager
async def visited(handler: Handler, **options: Any) -> AsyncIterator[Client]:
    """A client of a proxy in front of one application."""
    async with started(handler) as (transport, backend):
        yield proxied(transport, backend, **options)


async def answer(send: Send, *chunks: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def test_scope_is_new() -> None:
    """C5.13: an application gets a listed set of keys and nothing that an outer stage or framework left."""
    seen: list[Scope] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await answer(send)

    outer = {"app": object(), "router": 1, "session": {}, "path_params": {"x": 1}, "user": "mallory", "auth": "all"}
    async with started(handler) as (transport, backend):
        proxy = Stages(ProxyMiddleware(core, transport=transport), Before(backend, ALICE, "id-1"))

        async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
            await proxy({**scope, **outer, "state": {"secret": 1}}, receive, send)

        await Client(mounted, host=b"front.example").request("GET", "/a%20b?c=%31", {"Accept": "*/*"})
    (scope,) = seen
    assert set(scope) == {
        "type",
        "asgi",
        "http_version",
        "method",
        "scheme",
        "path",
        "raw_path",
        "query_string",
        "root_path",
        "headers",
        "client",
        "server",
        "state",
        "extensions",
        "aggmw.identity",
    }
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%31")
    assert (scope["root_path"], scope["state"], scope["extensions"]) == ("", {}, {})
    assert scope["aggmw.identity"] is ALICE
    assert (b"host", b"front.example") in scope["headers"]


async def test_identity_is_told_by_type_and_by_header() -> None:
    """The caller is an object that no header can forge; the headers say the same as to a server."""
    seen: list[Scope] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await answer(send)

    async with visited(handler) as client:
        await client.request("GET", "/", {"X-Remote-User": "mallory", "x_remote_group": "system:masters"})
    headers = seen[0]["headers"]
    assert [value for name, value in headers if name == b"x-remote-user"] == [b"alice"]
    assert [value for name, value in headers if name == b"x-remote-group"] == [b"dev", b"ops"]
    assert all(name == name.lower() for name, _ in headers)


async def test_own_context() -> None:
    """What is bound outside is not seen inside, and what is bound inside not outside."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set("inside")
        await answer(send)

    async with visited(handler) as client:
        variable.set("outside")
        await client.request("GET", "/")
    assert seen == ["unset"]
    assert variable.get() == "outside"


@pytest.mark.parametrize("upload", [b"", b"whole"])
async def test_whole_bodies(upload: bytes) -> None:
    """A body that is at hand comes in one piece, with its length."""
    lengths: list[bytes] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        lengths.extend(value for name, value in scope["headers"] if name == b"content-length")
        await answer(send, await body_of(receive))

    async with visited(handler) as client:
        assert (await client.request("POST", "/", (), upload)).body == upload
    assert lengths == [str(len(upload)).encode()]


async def test_streams_the_request() -> None:
    """The application sees each piece of a body when it comes, not when it is whole."""
    seen: list[bytes] = []
    arrived = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await arrived.wait()
        yield b"second"

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            seen.append(message["body"])
            arrived.set()
            if not message["more_body"]:
                break
        await answer(send, b"done")

    async with visited(handler) as client:
        assert (await client.request("POST", "/", (), upload())).body == b"done"
    assert b"".join(seen) == b"firstsecond"
    assert seen[0] == b"first"


async def test_a_cancelled_receive_loses_nothing() -> None:
    """Frameworks cancel `receive` to look whether the client left: the piece on its way comes with the next call."""
    more = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b"second"

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        more.set()
        await answer(send, first["body"] + await body_of(receive))

    async with visited(handler) as client:
        assert (await client.request("POST", "/", (), upload())).body == b"firstsecond"


async def test_streams_the_answer() -> None:
    """A head goes on at once, and each piece of a watch when it comes."""
    go_on = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with visited(handler) as client, client.stream("GET", "/x?watch=1") as response:
        assert response.status == 200
        chunks = aiter(response)
        assert await anext(chunks) == b"first"
        go_on.set()
        assert await anext(chunks) == b"second"


async def test_backpressure() -> None:
    """An application that sends faster than its client reads waits: little is held between them."""
    sent = 0

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            sent += 10_000
        await send({"type": "http.response.body", "body": b""})

    async with started(handler) as (transport, backend):
        response = await transport.send(backend, UpstreamRequest(b"GET", b"/"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent <= 80_000
        assert len(await whole(response)) == 10_000_000


async def test_an_exception_is_its_500() -> None:
    """What an application raises is a Status for its client, and a log line with type and place, no trace."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("password=hunter2")

    with capture_logs() as logs:
        async with visited(handler) as client:
            response = await client.request("GET", "/")
    assert (response.status, response.json()["reason"]) == (500, "InternalError")
    assert NAME in response.json()["message"]
    assert "hunter2" not in response.text + str(logs)
    (line,) = [log for log in logs if log["event"] == "application failed"]
    assert (line["service"], line["error"]) == (NAME, "ValueError")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_nothing_it_raises_ends_the_front_proxy(error: BaseException) -> None:
    """`sys.exit` in a handler ends its request only."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise error
        await answer(send, b"fine")

    async with visited(handler) as client:
        assert (await client.request("GET", "/bad")).status == 500
        assert (await client.request("GET", "/good")).body == b"fine"


async def test_an_exception_in_the_middle_cuts_the_answer() -> None:
    """A response that is not whole must not look whole."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    async with visited(handler) as client:
        with pytest.raises(IncompleteResponse):
            await client.request("GET", "/")


async def test_no_answer_is_500() -> None:
    """An application that returns without a word."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    async with visited(handler) as client:
        assert (await client.request("GET", "/")).status == 500


BAD: list[list[Message]] = [
    [{"type": "http.response.body", "body": b"no head"}],
    [{"type": "http.response.start", "status": 103, "headers": []}],
    [{"type": "http.response.start", "status": 200, "headers": [(b"a b", b"")]}],
    [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nx-remote-user: root")]}],
    [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1"), (b"content-length", b"2")]}],
    [{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"-1")]}],
    [{"type": "http.response.start", "status": "200", "headers": []}],
    [{"type": "http.response.start", "status": 200, "headers": [("a", "text")]}],
]


@pytest.mark.parametrize("messages", BAD)
async def test_bad_heads_are_500(messages: list[Message]) -> None:
    """A head that could not be sent is the application's fault, seen where it sends it."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with visited(handler) as client:
        assert (await client.request("GET", "/")).status == 500


@pytest.mark.parametrize("chunks", [[b"123", b"456"], [b"12"], []])
async def test_wrong_lengths_cut_the_answer(chunks: list[bytes]) -> None:
    """A body longer or shorter than declared never passes as whole, and never runs into the next answer."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, *chunks, headers=[(b"content-length", b"4")])

    async with visited(handler) as client:
        with pytest.raises(IncompleteResponse):
            await client.request("GET", "/")


async def test_head_and_bodiless_statuses() -> None:
    """What is sent as the body of an answer that has none is dropped; the declared length of a HEAD stays."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/304":
            await answer(send, b"body", status=304)
        else:
            await answer(send, b"body", headers=[(b"content-length", b"4")])

    async with visited(handler) as client:
        response = await client.request("HEAD", "/")
        assert (response.status, response.body, response.header(b"content-length")) == (200, b"", b"4")
        assert (await client.request("GET", "/304")).body == b""


async def test_the_application_sees_its_client_leave() -> None:
    """`receive` gives http.disconnect as soon as the client is gone."""
    seen = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"nobody reads", "more_body": True})
        seen.set()

    async with visited(handler) as client:
        async with client.stream("GET", "/x?watch=1") as response:
            await anext(aiter(response))
            await response.disconnect()
        async with asyncio.timeout(60):
            await seen.wait()


async def test_who_ignores_it_is_cancelled(clock: VirtualClock) -> None:
    """An application that goes on without its client has a second, then it is cancelled."""
    cancelled = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with started(handler) as (transport, backend):
        sending = asyncio.ensure_future(transport.send(backend, UpstreamRequest(b"GET", b"/")))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await clock.advance(0.9)
        assert not cancelled.is_set()
        await clock.advance(0.2)
        assert cancelled.is_set()


async def test_work_after_a_whole_answer_goes_on(clock: VirtualClock) -> None:
    """Background tasks of a framework run after the response: they are not cut short."""
    done = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"hello")
        await asyncio.sleep(60)
        done.set()

    async with started(handler) as (transport, backend):
        response = await transport.send(backend, UpstreamRequest(b"GET", b"/"))
        assert await whole(response) == b"hello"
        await clock.advance(61)
        assert done.is_set()


async def test_deadline(clock: VirtualClock) -> None:
    """A request without a head in time is a time-out; a long-running one has none."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async with started(handler) as (transport, backend):
        sending = asyncio.ensure_future(transport.send(backend, UpstreamRequest(b"GET", b"/", timeout=5)))
        watching = asyncio.ensure_future(transport.send(backend, UpstreamRequest(b"GET", b"/", timeout=None)))
        await clock.advance(6)
        with pytest.raises(UpstreamTimeout):
            await sending
        assert not watching.done()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await clock.advance(2)


async def test_a_body_that_breaks_off() -> None:
    """What the source of a body raises ends the exchange; the application sees a disconnect, never a whole body."""
    seen: list[Message] = []

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        while not seen or seen[-1]["type"] == "http.request":
            seen.append(await receive())

    async with started(handler) as (transport, backend):
        with pytest.raises(StatusError, match="broke off"):
            await transport.send(backend, UpstreamRequest(b"POST", b"/", body=broken()))
        await transport.aclose()
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]
    assert seen[0]["more_body"]


async def test_drain_ends_a_watch() -> None:
    """When the front proxy stops, a watch gets its proper end and the application a disconnect."""
    drain = Drain()
    left = asyncio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        await receive()
        left.set()

    async with visited(handler, drain=drain) as client, client.stream("GET", "/x?watch=1") as response:
        chunks = aiter(response)
        assert await anext(chunks) == b"event"
        drain.begin()
        assert [chunk async for chunk in chunks] == []
        async with asyncio.timeout(60):
            await left.wait()


async def test_a_thousand_departures_leave_no_task() -> None:
    """Clients leave in every phase; afterwards nothing runs."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await body_of(receive)
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x" * 20_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with started(handler) as (transport, backend):
        for number in range(1000):
            task = asyncio.ensure_future(_visit(transport, backend))
            for _ in range(number % 12):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert repr(transport).endswith("0 running)")


async def _visit(transport: AsgiTransport, backend: LocalBackend) -> None:
    await whole(await transport.send(backend, UpstreamRequest(b"POST", b"/", content=b"body")))


async def test_each_transport_reaches_its_kind_only() -> None:
    """Nothing is sent to the wrong place; `Transports` asks the right one."""
    local = LocalBackend(NAME, http_only(lambda scope, receive, send: answer(send, b"hello")))
    servers, applications = Http1Transport(), AsgiTransport()
    with pytest.raises(UpstreamUnreachable):
        await servers.send(local, UpstreamRequest(b"GET", b"/"))
    with pytest.raises(UpstreamUnreachable):
        await applications.send(Backend("x", "127.0.0.1", 1), UpstreamRequest(b"GET", b"/"))
    both = Transports(servers, applications)
    async with applications.applications.running([local]):
        assert await whole(await both.send(local, UpstreamRequest(b"GET", b"/"))) == b"hello"
        with pytest.raises(UpstreamUnreachable, match="refused"):
            await both.send(Backend("x", "127.0.0.1", 1, tls=False), UpstreamRequest(b"GET", b"/"))
        await both.aclose()


async def test_not_started_is_unreachable() -> None:
    """An application whose lifespan nobody runs is not called: half of it would be missing."""
    with pytest.raises(UpstreamUnreachable, match="lifespan"):
        await AsgiTransport().send(LocalBackend(NAME, http_only(answer)), UpstreamRequest(b"GET", b"/"))  # type: ignore[arg-type]


async def test_broken_after_the_last_piece_is_told_to_the_reader() -> None:
    """The reader learns of a broken body after the pieces that came before."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        sys.exit()

    async with started(handler) as (transport, backend):
        response = await transport.send(backend, UpstreamRequest(b"GET", b"/"))
        assert await response.read() == b"half"
        with pytest.raises(UpstreamBroken):
            await response.read()
        await response.aclose()
        await response.aclose()
        assert await response.read() == b""
