"""ProxyMiddleware: alone, in its stack, and what it does with whatever comes from either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from tests.middleware.proxy.proxying import ALICE, backend_of, core, parsed, proxied

from aggmw.asgi.types import Message, Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.backends import Backend, UpstreamRequest
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.testing import (
    Client,
    Hold,
    IncompleteResponse,
    ReadHead,
    ReadRequest,
    ReceivedRequest,
    ScriptedBackend,
    VirtualClock,
    Wait,
    respond,
)
from aggmw.testing import (
    Send as SendBytes,
)

ANSWER = respond(headers={"Content-Type": "text/plain"}, body=b"hello")
CHUNKED = respond(headers={"Transfer-Encoding": "chunked"})
NEVER = Backend("v1.x", "127.0.0.1", 1, tls=False)


def received(backend: ScriptedBackend) -> list[ReceivedRequest]:
    return [ReceivedRequest.of(raw) for each in backend.connections for raw in each.exchanges]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class NoTransport:
    """Fails the test if anything is sent."""

    async def send(self, backend: Backend, request: UpstreamRequest) -> Any:
        raise AssertionError("something was sent")

    async def aclose(self) -> None: ...


# Where it stands


async def test_passes_on_without_a_backend(transport: Http1Transport) -> None:
    """No backend, not ours: the scope that came is the scope that goes on."""
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        if scope["type"] == "http":
            await core(scope, receive, send)

    assert (await proxied(transport, None).request("GET", "/a")).body == b"core"
    proxy = ProxyMiddleware(inner, transport=transport, backend=lambda exchange: None)
    scope = {"type": "lifespan"}
    await proxy(scope, None, None)  # type: ignore[arg-type]  # nothing is received or sent
    assert seen[0] is scope
    await Client(proxy).request("GET", "/a")
    assert "aggmw.exchange" not in seen[1]


async def test_alone_before_one_backend(transport: Http1Transport) -> None:
    """Each input of another stage has a keyword: alone it is a plain reverse proxy."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        proxy = ProxyMiddleware(
            core, transport=transport, backend=backend_of(backend), request_info=parsed, anonymous=True
        )
        response = await Client(proxy).request("GET", "/a?b=c")
        assert (response.status, response.body) == (200, b"hello")
        assert received(backend)[0].target == b"/a?b=c"
        assert not [name for name, _ in received(backend)[0].headers if name.startswith(b"x-remote")]


async def test_alone_with_a_choice(transport: Http1Transport) -> None:
    """The backend may be found by a function."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)
        proxy = ProxyMiddleware(
            core,
            transport=transport,
            backend=lambda exchange: served if exchange.scope["path"].startswith("/api") else None,
            request_info=parsed,
            anonymous=True,
        )
        assert (await Client(proxy).request("GET", "/api")).body == b"hello"
        assert (await Client(proxy).request("GET", "/other")).body == b"core"


async def assert_missing(client: Client, text: str) -> None:
    """A 500 that says which stage is missing."""
    response = await client.request("GET", "/a")
    assert response.status == 500
    assert text in response.json()["message"]


async def test_missing_request_info() -> None:
    """Rule 3: without the request_info stage there is nothing authorised to send; both stages are named."""
    proxy = ProxyMiddleware(core, transport=NoTransport(), backend=NEVER, anonymous=True)
    await assert_missing(Client(proxy), "the request info, which request_info leaves")


async def test_missing_registry() -> None:
    """Rule 3: without a registry nobody has said that there is no backend: nothing passes to the application."""
    await assert_missing(Client(ProxyMiddleware(core, transport=NoTransport())), "put registry in front of proxy")


@pytest.mark.parametrize("verdict", [None, Verdict(), Verdict(Outcome.NO_OPINION)])
async def test_missing_verdict(verdict: Verdict | None) -> None:
    """Rule 7: what nobody allowed is not forwarded; both stages are named."""

    def undecided(exchange: Exchange) -> Backend:
        exchange.identity, exchange.verdict = ALICE, verdict
        return NEVER

    proxy = ProxyMiddleware(core, transport=NoTransport(), backend=undecided, request_info=parsed)
    await assert_missing(Client(proxy), "proxy needs a verdict that allows, which authorization leaves")


@pytest.mark.parametrize("stacked", [True, False])
async def test_missing_identity(stacked: bool) -> None:
    """Rule 3: nobody is forwarded as nobody; both stages are named."""
    client = (
        proxied(NoTransport(), NEVER, identity=None)
        if stacked
        else Client(ProxyMiddleware(core, transport=NoTransport(), backend=NEVER, request_info=parsed))
    )
    await assert_missing(client, "proxy needs an identity, which authentication leaves")


async def test_keywords_replace_the_stages(transport: Http1Transport) -> None:
    """Rule 3: an application that identifies and decides itself says so by keyword; a verdict that denies is none."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        decided = [Verdict(Outcome.ALLOW), Verdict(Outcome.DENY)]
        proxy = ProxyMiddleware(
            core,
            transport=transport,
            backend=backend_of(backend),
            request_info=parsed,
            identity=lambda exchange: ALICE,
            verdict=lambda exchange: decided.pop(0),
        )
        assert (await Client(proxy).request("GET", "/a")).body == b"hello"
        assert received(backend)[0].header("x-remote-user") == b"alice"
        await assert_missing(Client(proxy), "a verdict that allows")


async def test_transport_of_its_own() -> None:
    """Without a transport it makes one, and closes it when the lifespan ends; one that was handed in stays open."""
    async with ScriptedBackend(lambda request: ANSWER) as backend, ScriptedBackend(lambda request: ANSWER) as other:
        options: Any = {"request_info": parsed, "anonymous": True}
        own = Client(ProxyMiddleware(Starlette(), backend=backend_of(backend), **options))
        async with own.lifespan():
            assert (await own.request("GET", "/a")).body == b"hello"
            assert not backend.connections[0].ended
        await backend.connections[0].gone()
        transport = Http1Transport()
        lent = Client(ProxyMiddleware(Starlette(), backend=backend_of(other), transport=transport, **options))
        async with lent.lifespan():
            assert (await lent.request("GET", "/a")).body == b"hello"
        assert (await lent.request("GET", "/a")).body == b"hello"
        assert len(other.connections) == 1
        await transport.aclose()


async def test_unfit_identity() -> None:
    """§12.4: an identity that cannot be written is an error of ours, and nothing is sent."""
    eve = Identity("eve")
    object.__setattr__(eve, "groups", (" system:masters",))
    with pytest.raises(InvalidIdentity):
        await proxied(NoTransport(), NEVER, identity=eve).request("GET", "/a")


async def test_discovery_chooses_the_target(transport: Http1Transport) -> None:
    """A target that discovery left goes out instead of the one that was asked for."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        served = backend_of(backend)

        def choose(exchange: Any) -> Backend:
            exchange.target = b"/openapi/v3/apis/g/v"
            return served

        proxy = ProxyMiddleware(core, transport=transport, backend=choose, request_info=parsed, anonymous=True)
        await Client(proxy).request("GET", "/openapi/v3/apis/g/v?hash=1")
        assert received(backend)[0].target == b"/openapi/v3/apis/g/v"


# What goes out


async def test_the_request_as_the_backend_sees_it(transport: Http1Transport) -> None:
    """§2.3: the caller, where it came from by the socket, the id, the backend's own Host; no credentials."""
    connection = Connection(peer=("192.0.2.7", 5), tls=True)
    headers = {"Authorization": "Bearer secret", "X-Forwarded-For": "198.51.100.1", "X-Remote-User": "eve"}
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        client = proxied(transport, backend_of(backend), connection=connection, scheme="https")
        await client.request("GET", "/a/b?c=d", headers=headers)
        request = received(backend)[0]
    place = f"{backend.host}:{backend.port}".encode()
    assert request.headers == (
        (b"host", place),
        (b"x-forwarded-uri", b"/a/b"),
        (b"x-forwarded-host", place),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b"198.51.100.1, 192.0.2.7"),
        (b"audit-id", b"id-1"),
        (b"x-remote-user", b"alice"),
        (b"x-remote-uid", b"uid-1"),
        (b"x-remote-group", b"dev"),
        (b"x-remote-group", b"ops"),
        (b"x-remote-extra-scopes", b"read"),
    )


SAFE = st.integers(33, 126).filter(lambda byte: byte != ord("?"))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.lists(SAFE, max_size=30).map(bytes), query=st.lists(st.integers(33, 126), max_size=20).map(bytes))
async def test_targets_are_sent_byte_for_byte(echo: Any, path: bytes, query: bytes) -> None:
    """C2: no path is collapsed, decoded or quoted again; the query is not sorted: what was parsed is sent."""
    target = b"/" + path + (b"?" + query if query else b"")
    response = await echo.request("GET", target)
    assert response.body == target


@pytest.fixture
async def echo(transport: Http1Transport) -> AsyncIterator[Client]:
    """A client whose backend answers with the target it got."""
    async with ScriptedBackend(lambda request: respond(body=request.split(b" ", 2)[1])) as backend:
        yield proxied(transport, backend_of(backend))


async def test_no_cookie_jar(transport: Http1Transport) -> None:
    """C2: a cookie that a backend sets for one caller is not sent for the next."""
    async with ScriptedBackend(
        lambda request: respond(headers=[("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    ) as backend:
        client = proxied(transport, backend_of(backend))
        response = await client.request("GET", "/a")
        assert [value for name, value in response.headers if name == b"set-cookie"] == [b"a=b", b"c=d"]
        await client.request("GET", "/a")
        assert received(backend)[1].values("cookie") == []


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", b"", None),
        ("DELETE", b"", None),
        ("DELETE", b"{}", b"2"),
        ("POST", b"", b"0"),
        ("PATCH", b"hello", b"5"),
        ("PUT", b"x" * 100_000, b"100000"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_bodies(transport: Http1Transport, method: str, body: bytes, framing: bytes | None, version: str) -> None:
    """A body arrives as it was sent, with exactly one framing; what has none gets none."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        client = proxied(transport, backend_of(backend), http_version=version)
        assert (await client.request(method, "/a", body=body)).status == 200
        request = received(backend)[0]
        assert request.body == body
        assert request.values("content-length") == ([] if framing is None else [framing])
        assert request.values("transfer-encoding") == []


async def test_post_without_a_length(transport: Http1Transport) -> None:
    """A POST whose client sent neither body nor length says so upstream: some servers answer 411 else."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        scope_headers = [(b"host", b"x")]

        async def no_length(scope: Scope, receive: Receive, send: Send) -> None:
            await proxied(transport, backend_of(backend))._app({**scope, "headers": scope_headers}, receive, send)

        await Client(no_length).request("POST", "/a")
        assert received(backend)[0].values("content-length") == [b"0"]


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_streamed_uploads(transport: Http1Transport, version: str) -> None:
    """A body in pieces is passed on in pieces; on HTTP/2 nothing in the head announces it."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        client = proxied(transport, backend_of(backend), http_version=version)
        response = await client.request("POST", "/a", body=pieces(b"hel", b"lo", b"!"))
        assert response.status == 200
        assert received(backend)[0].body == b"hello!"
        assert received(backend)[0].values("transfer-encoding") == [b"chunked"]


async def test_streamed_upload_with_a_length(transport: Http1Transport) -> None:
    """A declared length is kept, so the backend can refuse at once."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        client = proxied(transport, backend_of(backend))
        await client.request("POST", "/a", headers={"Content-Length": "5"}, body=pieces(b"hel", b"lo"))
        assert received(backend)[0].body == b"hello"
        assert received(backend)[0].values("content-length") == [b"5"]


WRONG_LENGTH = "the request's body is not as long as its Content-Length says"


@pytest.mark.parametrize("parts", [(b"hel",), (b"hel", b"lo!"), (b"hello!",)])
async def test_bodies_that_lie_about_their_length(transport: Http1Transport, parts: tuple[bytes, ...]) -> None:
    """A body that is not what its head says never looks whole to the backend."""
    async with ScriptedBackend([ReadRequest(), SendBytes(ANSWER)]) as backend:
        client = proxied(transport, backend_of(backend))
        response = await client.request("POST", "/a", headers={"Content-Length": "5"}, body=pieces(*parts))
        assert (response.status, response.json()["message"]) == (400, WRONG_LENGTH)
        assert all(connection.exchanges == [] for connection in backend.connections)


async def test_whole_bodies_that_lie_about_their_length() -> None:
    """The same for a body that comes in one message: nothing is sent at all."""
    client = proxied(NoTransport(), NEVER)
    response = await client.request("POST", "/a", headers={"Content-Length": "5"}, body=b"hello!")
    assert (response.status, response.json()["message"]) == (400, WRONG_LENGTH)


async def test_conflicting_framing() -> None:
    """§ C2 smuggling: both Content-Length and Transfer-Encoding, from a server that lets that in: 400, nothing sent.

    RFC 9112 §6.1: the connection ends with the answer, so that such a server reads nothing more from it.
    """
    headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
    response = await proxied(NoTransport(), NEVER).request("POST", "/a", headers=headers, body=b"hello")
    assert response.status == 400
    assert response.json()["message"] == (
        "the request cannot be forwarded: Content-Length and Transfer-Encoding exclude each other"
    )
    assert response.header("connection") == b"close"


@pytest.mark.parametrize("protocol", ["SPDY/3.1", "h2c"])
async def test_upgrades_are_refused(protocol: str) -> None:
    """§2.5: an upgrade in a plain request is not forwarded; the client learns what works, and nothing more is read."""
    headers = {"Connection": "Upgrade", "Upgrade": protocol}
    response = await proxied(NoTransport(), NEVER).request("POST", "/a", headers=headers)
    assert response.status == 400
    assert response.json()["message"] == (
        "this upgrade is not supported; use a WebSocket, as kubectl does by default since 1.31"
    )
    assert response.header("connection") == b"close"


@pytest.mark.parametrize("protocol", ["websocket", "WebSocket", "h2c, websocket"])
async def test_handshakes_that_came_as_plain_requests(protocol: str) -> None:
    """By another method, over HTTP/1.0, without Connection, by a server without WebSockets: it is said what to do."""
    response = await proxied(NoTransport(), NEVER).request("GET", "/a", headers={"Upgrade": protocol})
    assert response.status == 400
    assert response.json()["message"].startswith("this did not come as a WebSocket: the handshake is a GET of HTTP/1.1")
    assert response.header("connection") == b"close"


async def test_websockets_need_a_transport_that_carries_them() -> None:
    """A WebSocket that the transport cannot carry is never handed to the application behind, nor anywhere else."""
    socket = await proxied(NoTransport(), NEVER).websocket("/a")
    assert not socket.accepted
    assert socket.status == 501
    assert b"NoTransport, which reaches the backend, carries no WebSockets" in socket.body


# What comes back


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 399])
async def test_redirects_are_refused(transport: Http1Transport, status: int) -> None:
    """CVE-2022-3172, CVE-2018-1002102: no redirect is passed on or followed: the client's credentials stay here."""
    async with ScriptedBackend(lambda request: respond(status, {"Location": "https://evil.example/"})) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert len(received(backend)) == 1
    assert response.status == 502
    assert response.header("location") is None
    assert response.json()["message"] == "the backend attempted to redirect this request, which is not permitted"


@pytest.mark.parametrize(
    ("status", "headers"), [(304, {"Location": "/b", "ETag": '"x"'}), (300, {}), (302, {}), (201, {"Location": "/b"})]
)
async def test_what_is_no_redirect(transport: Http1Transport, status: int, headers: dict[str, str]) -> None:
    """304 passes, and whatever redirects nobody."""
    async with ScriptedBackend(lambda request: respond(status, headers)) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert response.status == status
        assert response.header("location") == (headers["Location"].encode() if "Location" in headers else None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
async def test_errors_of_the_backend_pass(transport: Http1Transport, status: int) -> None:
    """§2.4: what the backend says is its own, Retry-After included."""
    raw = respond(status, {"Retry-After": "1", "Warning": '299 - "old"'}, b"its own words")
    async with ScriptedBackend(lambda request: raw) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert (response.status, response.body) == (status, b"its own words")
        assert (response.header("retry-after"), response.header("warning")) == (b"1", b'299 - "old"')


async def test_head(transport: Http1Transport) -> None:
    """HEAD: the length the body would have, no body, and the connection goes on."""
    async with ScriptedBackend(lambda request: respond(headers={"Content-Length": "5"})) as backend:
        client = proxied(transport, backend_of(backend), strict_head=True)
        for _ in range(2):
            response = await client.request("HEAD", "/a")
            assert (response.header("content-length"), response.body) == (b"5", b"")
        assert len(backend.connections) == 1


async def test_hints_are_not_the_answer(transport: Http1Transport) -> None:
    """1xx is never forwarded."""
    async with ScriptedBackend(lambda request: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert (response.status, response.body, response.header("link")) == (200, b"hello", None)


async def test_trailers_are_dropped(transport: Http1Transport) -> None:
    """C5 2: a backend's trailer `Set-Cookie` does not come out as a header."""
    raw = respond(body=b"hello", chunked=True)[:-2] + b"Set-Cookie: a=b\r\n\r\n"
    async with ScriptedBackend(lambda request: raw) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert response.body == b"hello"
        assert response.header("set-cookie") is None
        assert response.trailers == ()


async def test_events_are_passed_on_at_once(transport: Http1Transport) -> None:
    """A watch: the head at once, with an empty chunk for servers that hold it back; each event as it comes."""
    go = asyncio.Event()
    sent: list[Message] = []
    script = [ReadHead(), SendBytes(CHUNKED), Wait(go), b"4\r\none\n\r\n", Hold()]
    async with ScriptedBackend(script) as backend:
        app = proxied(transport, backend_of(backend))._app

        async def remembered(scope: Scope, receive: Receive, send: Send) -> None:
            async def remember(message: Message) -> None:
                sent.append(message)
                await send(message)

            await app(scope, receive, remember)

        async with Client(remembered).stream("GET", "/a?watch=true") as response:
            assert response.status == 200
            async with asyncio.timeout(60):
                while len(sent) < 2:
                    await asyncio.sleep(0)
            assert sent[1] == {"type": "http.response.body", "body": b"", "more_body": True}
            go.set()
            assert await anext(response) == b"one\n"


async def test_a_slow_client_stops_the_backend(transport: Http1Transport) -> None:
    """Backpressure: what the client does not read is not taken from the backend."""
    size = 64 * 1024 * 1024

    async def much(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        await connection.send(respond(headers={"Content-Length": str(size)}))
        while connection.sent < size:
            await connection.send(b"x" * 65_536)

    async with ScriptedBackend([much]) as backend:
        client = proxied(transport, backend_of(backend))
        async with client.stream("GET", "/a") as response:
            connection, before = backend.connections[0], -1
            while before != connection.sent:
                before = connection.sent
                await asyncio.sleep(0.02)
            assert connection.sent < size / 2
            assert sum([len(chunk) async for chunk in response]) == size


async def test_a_slow_backend_stops_the_client(transport: Http1Transport) -> None:
    """Backpressure: no more is received than the backend takes."""
    given = 0
    go = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(500):
            given += 1
            yield b"x" * 65_536

    async def slowly(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        await go.wait()
        for _ in range(500):
            await connection.read_exactly(65_536)
        await connection.send(ANSWER)

    async with ScriptedBackend([slowly]) as backend:
        headers = {"Content-Length": str(500 * 65_536)}
        client = proxied(transport, backend_of(backend))
        sending = asyncio.create_task(client.request("POST", "/a", headers=headers, body=source()))
        await backend.connected()
        before = -1
        while before != given:
            before = given
            await asyncio.sleep(0.02)
        assert given < 300
        go.set()
        assert (await sending).body == b"hello"


# When somebody leaves


async def test_a_client_that_leaves_a_watch(transport: Http1Transport, clock: VirtualClock) -> None:
    """The client's leaving closes the watch at the backend, with nothing said."""
    async with ScriptedBackend([ReadHead(), SendBytes(CHUNKED), Hold()]) as backend:
        async with proxied(transport, backend_of(backend)).stream("GET", "/a?watch=true") as response:
            await clock.advance(1)
            assert not backend.connections[0].ended
            await response.disconnect()
            await response.finished()
        await backend.connections[0].gone()
        assert transport.taken == 0


async def test_a_client_that_leaves_before_the_head(transport: Http1Transport, clock: VirtualClock) -> None:
    """A backend that still works on an answer is told that nobody waits."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        app = proxied(transport, backend_of(backend))._app
        exchange = asyncio.create_task(_leaving(app, after=backend.connected))
        connection = await backend.connected()
        await clock.advance(0.2)
        assert await exchange == []
        await connection.gone()
        assert transport.taken == 0


async def _leaving(app: Any, *, after: Any) -> list[Message]:
    """A request whose client leaves; what was sent to it."""
    sent: list[Message] = []
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await after()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    return sent


async def test_a_client_that_leaves_while_sending(transport: Http1Transport) -> None:
    """An upload that breaks off is never whole for the backend."""
    gone = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"hel"
        await gone.wait()
        raise ConnectionError("the client left")

    async with ScriptedBackend([ReadRequest(), SendBytes(ANSWER)]) as backend:
        client = proxied(transport, backend_of(backend))
        exchange = asyncio.create_task(client.request("POST", "/a", body=source()))
        connection = await backend.connected()
        gone.set()
        with pytest.raises((ConnectionError, IncompleteResponse)):
            await exchange
        await connection.gone()
        assert connection.exchanges == []


async def test_send_that_fails(transport: Http1Transport) -> None:
    """A server whose `send` raises once the client is gone: the exchange ends silently, its connection closed."""
    async with ScriptedBackend([ReadHead(), SendBytes(CHUNKED + b"1\r\nx\r\n"), Hold()]) as backend:
        app = proxied(transport, backend_of(backend))._app

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            async def failing(message: Message) -> None:
                if message.get("body"):
                    raise OSError("the client is gone")
                await send(message)

            await app(scope, receive, failing)

        with pytest.raises(IncompleteResponse):
            await Client(broken).request("GET", "/a?watch=true")
        await backend.connections[0].gone()
        assert transport.taken == 0


async def test_an_application_that_is_cancelled(transport: Http1Transport) -> None:
    """A foreign cancellation passes through, and closes what was open."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        app = proxied(transport, backend_of(backend))._app
        exchange = asyncio.create_task(_leaving(app, after=asyncio.Event().wait))
        connection = await backend.connected()
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        await connection.gone()
        assert transport.taken == 0


async def test_no_task_and_no_timer_for_a_quick_request(
    transport: Http1Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Performance §3.3: requests that are answered at once start no task of ours, and share two timers."""
    loop = asyncio.get_running_loop()
    tasks: list[str] = []
    timers: list[str] = []
    call_later = loop.call_later

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    def later(delay: float, callback: Any, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(callback.__qualname__)
        return call_later(delay, callback, *arguments, **options)

    async with ScriptedBackend(lambda request: ANSWER) as backend:
        client = proxied(transport, backend_of(backend))
        await client.request("GET", "/a")
        monkeypatch.setattr(loop, "call_later", later)
        loop.set_task_factory(factory)
        for _ in range(5):
            await client.request("GET", "/a")
            await client.request("POST", "/a", body=b"{}")
        loop.set_task_factory(None)
    assert set(tasks) == {"AppTask.start.<locals>.run"}
    assert len([timer for timer in timers if timer != "real_time_is_up"]) <= 2


# The drain


async def test_a_watch_ends_properly_when_draining(transport: Http1Transport, clock: VirtualClock) -> None:
    """http-facts §3: an open watch gets its final chunk when the process stops; the backend's side is closed."""
    drain = Drain()
    async with ScriptedBackend([ReadHead(), SendBytes(CHUNKED + b"4\r\none\n\r\n"), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), drain=drain)
        async with client.stream("GET", "/a?watch=true") as response:
            assert await anext(response) == b"one\n"
            drain.begin()
            assert await response.read() == b""
            assert response.complete
        await backend.connections[0].gone()


async def test_finished_watches_are_forgotten(transport: Http1Transport) -> None:
    """A drain keeps nothing of watches that ended before it."""
    drain = Drain()
    async with ScriptedBackend(lambda request: respond(body=b"one", chunked=True)) as backend:
        client = proxied(transport, backend_of(backend), drain=drain)
        assert (await client.request("GET", "/a?watch=true")).body == b"one"
    assert drain._callbacks == set()


async def test_other_requests_are_finished_when_draining(transport: Http1Transport) -> None:
    """What is not long-running gets its whole answer."""
    drain, go = Drain(), asyncio.Event()
    script = [ReadHead(), SendBytes(CHUNKED + b"3\r\nhel\r\n"), Wait(go), SendBytes(b"2\r\nlo\r\n0\r\n\r\n")]
    async with ScriptedBackend(script) as backend:
        client = proxied(transport, backend_of(backend), drain=drain)
        async with client.stream("GET", "/a") as response:
            drain.begin()
            go.set()
            assert await response.read() == b"hello"


@pytest.mark.parametrize("begun", [True, False])
async def test_a_watch_without_a_head_when_draining(transport: Http1Transport, begun: bool) -> None:
    """A watch that has no answer yet, or comes too late, is told so instead of holding up the end."""
    drain = Drain()
    if begun:
        drain.begin()
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        client = proxied(transport, backend_of(backend), drain=drain)
        asking = asyncio.create_task(client.request("GET", "/a?watch=true"))
        if not begun:
            await backend.connected()
            drain.begin()
        response = await asking
        assert (response.status, response.json()["message"]) == (503, "the front proxy is shutting down")
        assert response.header("retry-after") is None
    assert drain._callbacks == set()
