"""The handshake of a WebSocket to a backend: what is sent, what is believed, and what becomes of a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import NAME, backend_of, proxied, relayed
from tests.middleware.proxy.test_path_services import AtPath, core

from aggmw.asgi.exchanges import Stages
from aggmw.contracts.backends import PathService
from aggmw.contracts.drain import Drain
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits
from aggmw.testing import (
    BackendConnection,
    Client,
    Hold,
    ReadHead,
    ReadToEnd,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    VirtualClock,
    WebSocketClosed,
    respond,
)
from aggmw.testing.frames import TEXT, AcceptWebSocket, EndWebSocket, close_frame, frame

CHANNELS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


def handshake_of(backend: ScriptedBackend, number: int = 0) -> ReceivedRequest:
    return ReceivedRequest.of(backend.requests[number])


def message_of(body: bytes) -> str:
    return body.decode().partition('"message":"')[2].partition('"')[0]


# What is sent


async def test_what_a_backend_is_asked(transport: Http1Transport) -> None:
    """§2.5, §11.13: the exact target, the caller's identity, and a handshake of our own; end-to-end fields stay."""
    target = b"/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true"
    headers = [
        ("Origin", "https://a.example"),
        ("Cookie", "a=b"),
        ("X-Remote-User", "mallory"),
        ("X-Request-Thing", "1"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec_WebSocket_Extensions", "x-forged"),
        ("Sec-WebSocket-Accept", "x"),
        ("Connection", "Upgrade, X-Request-Thing"),
    ]
    script = [AcceptWebSocket(CHANNELS[1]), close_frame(1000), EndWebSocket(answer=False)]
    async with relayed(transport, *script, target=target, headers=headers, subprotocols=CHANNELS) as (backend, socket):
        assert socket.accepted
        assert socket.subprotocol == CHANNELS[1]
        with pytest.raises(WebSocketClosed):
            await socket.receive()
    request = handshake_of(backend)
    assert (request.method, request.target) == ("GET", target)
    assert request.values("host") == [f"{backend.host}:{backend.port}".encode()]
    assert request.values("upgrade") == [b"websocket"]
    assert request.values("connection") == [b"Upgrade"]
    assert request.values("sec-websocket-version") == [b"13"]
    (key,) = request.values("sec-websocket-key")
    assert key != b"MDEyMzQ1Njc4OWFiY2RlZg=="  # the client's
    assert request.values("sec-websocket-protocol") == [", ".join(CHANNELS).encode()]
    names = {name for name, _ in request.headers}
    assert not {"sec-websocket-extensions", "sec_websocket_extensions", "sec-websocket-accept"} & {
        name.decode() for name in names
    }
    assert b"x-request-thing" not in names
    assert request.values("x-remote-user") == [b"alice"]
    assert request.values("x-remote-group") == [b"dev", b"ops"]
    assert request.values("origin") == [b"https://a.example"]
    assert request.values("cookie") == [b"a=b"]
    assert request.values("x-forwarded-for") == [b"127.0.0.1"]
    assert request.values("audit-id") == [b"id-1"]


@pytest.mark.parametrize(("scheme", "proto"), [("http", b"http"), ("https", b"https")])
async def test_how_the_client_came(transport: Http1Transport, scheme: str, proto: bytes) -> None:
    """`ws` is http and `wss` is https: no backend knows another X-Forwarded-Proto."""
    async with ScriptedBackend([AcceptWebSocket(), close_frame(), EndWebSocket(answer=False)]) as backend:
        await (await proxied(transport, backend_of(backend), scheme=scheme).websocket("/a")).finished()
    request = handshake_of(backend)
    assert request.values("x-forwarded-proto") == [proto]
    assert request.header("sec-websocket-protocol") is None


async def test_fields_of_the_answer(transport: Http1Transport) -> None:
    """What a backend says with its 101 goes to the client, but for what belongs to one hop or to the front."""
    fields = {
        "X-Own": "1",
        "Set-Cookie": "a=b",
        "Access-Control-Allow-Origin": "*",
        "Audit-ID": "its-own",
        "Keep-Alive": "x",
        "Content-Length": "0",
    }
    async with relayed(transport, AcceptWebSocket(headers=fields), close_frame(), EndWebSocket(answer=False)) as (
        _backend,
        socket,
    ):
        assert set(socket.headers) == {(b"x-own", b"1"), (b"set-cookie", b"a=b")}


async def test_frames_right_behind_the_answer(transport: Http1Transport) -> None:
    """What comes in the packet of the 101, or behind early hints, is not lost."""

    async def step(connection: BackendConnection) -> None:
        pieces: list[bytes] = []

        class Collecting:
            async def read_request(self) -> bytes:
                return await connection.read_request()

            async def send(self, data: bytes) -> None:
                pieces.append(data)

        await AcceptWebSocket().run(Collecting())  # type: ignore[arg-type]
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        await connection.send(hints + pieces[0] + frame(TEXT, "early") + close_frame(1000))
        await EndWebSocket(answer=False).run(connection)

    async with relayed(transport, step) as (_backend, socket):
        assert await socket.receive() == "early"


# What is not believed


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (AcceptWebSocket(headers={"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}), "belongs to another"),
        (AcceptWebSocket(headers=[("Sec-WebSocket-Accept", "a"), ("Sec-WebSocket-Accept", "b")]), "belongs to another"),
        (AcceptWebSocket(headers={"Upgrade": "SPDY/3.1"}), "switched to another protocol"),
        (AcceptWebSocket(headers={"Upgrade": "websocket, h2c"}), "switched to another protocol"),
        (AcceptWebSocket(headers={"Connection": "keep-alive"}), "switched to another protocol"),
        (AcceptWebSocket(headers={"Sec-WebSocket-Extensions": "permessage-deflate"}), "extension that was not"),
        (AcceptWebSocket("chat"), "subprotocol that was not offered"),
        (AcceptWebSocket(CHANNELS[0].upper()), "subprotocol that was not offered"),
        (AcceptWebSocket(", ".join(CHANNELS)), "subprotocol that was not offered"),
        (AcceptWebSocket(headers=[("Sec-WebSocket-Protocol", each) for each in CHANNELS]), "subprotocol that was not"),
        (AcceptWebSocket(headers={"X": "\x01"}), "is not HTTP/1.1"),
        (AcceptWebSocket(headers={f"X-{n}": "y" for n in range(250)}), "too many header fields"),
        (AcceptWebSocket(headers={"X": "y" * 70_000}), "too long"),
        (
            [ReadHead(), b"HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
            "unasked",
        ),
        ([ReadHead(), b"garbage\r\n\r\n"], "is not HTTP/1.1"),
        ([ReadHead(), b"HTTP/1.1 101 Swi"], "in the middle of its answer"),
        ([ReadHead()], "without an answer"),
        ([ReadHead(), Reset()], "without an answer"),
    ],
)
async def test_answers_that_are_none(transport: Http1Transport, answer: Any, why: str) -> None:
    """C1, CVE-2018-1002105: it is a 502, the connection ends, and nothing of the client's is ever sent on it."""
    script = [*answer] if isinstance(answer, list) else [answer, frame(TEXT, "smuggled"), ReadToEnd()]
    async with ScriptedBackend(script) as backend:
        socket = await proxied(transport, backend_of(backend)).websocket("/a", subprotocols=CHANNELS)
        assert (socket.accepted, socket.status) == (False, 502)
        assert why in message_of(socket.body)
        assert message_of(socket.body).startswith(f"the server of APIService {NAME} failed: ")
        await backend.connections[0].gone()
        assert backend.requests[0].endswith(b"\r\n\r\n")
        assert len(backend.connections) == 1


@pytest.mark.parametrize("chosen", [None, *CHANNELS])
async def test_a_subprotocol_that_was_offered(transport: Http1Transport, chosen: str | None) -> None:
    """The backend chooses one of them, or none."""
    async with relayed(transport, AcceptWebSocket(chosen), EndWebSocket(), subprotocols=CHANNELS) as (_backend, socket):
        assert socket.subprotocol == chosen


async def test_none_was_offered(transport: Http1Transport) -> None:
    """Then there is none to choose."""
    async with ScriptedBackend([AcceptWebSocket("chat"), Hold()]) as backend:
        socket = await proxied(transport, backend_of(backend)).websocket("/a")
        assert socket.status == 502


# Refusals


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 500, 503])
@pytest.mark.parametrize("chunked", [False, True])
async def test_cve_2018_1002105_a_refusal_is_passed_on(transport: Http1Transport, status: int, chunked: bool) -> None:
    """C1, CVE-2018-1002105: a backend that does not switch has refused: the client gets its answer, whatever the
    status, and the connection is closed and not used again, though the backend would keep it."""
    body = b"" if status == 204 else b'{"kind":"Status"}'
    answer = respond(
        status, {"Content-Type": "application/json", "X-Own": "1"}, body, chunked=chunked and status != 204
    )
    async with ScriptedBackend([ReadHead(), answer, ReadToEnd()]) as backend:
        client = proxied(transport, backend_of(backend))
        socket = await client.websocket("/a")
        assert (socket.accepted, socket.status, socket.body) == (False, status, body)
        assert socket.header("content-type") == b"application/json"
        assert socket.header("x-own") == b"1"
        await backend.connections[0].gone()
        assert backend.requests[0].count(b"\r\n\r\n") == 1
        assert backend.requests[0].endswith(b"\r\n\r\n")
        await client.websocket("/a")
        assert len(backend.connections) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_cve_2020_8559_no_redirect_is_followed(transport: Http1Transport, status: int) -> None:
    """C1, CVE-2020-8559: a redirect of a handshake is 502, and nobody follows it with the proxy's credentials."""
    async with ScriptedBackend([ReadHead(), b"never"]) as other:
        answer = respond(status, {"Location": f"http://{other.host}:{other.port}/stolen"})
        async with ScriptedBackend(lambda request: answer) as backend:
            socket = await proxied(transport, backend_of(backend)).websocket("/a")
            assert socket.status == 502
            assert socket.header("location") is None
            assert message_of(socket.body) == ("the backend attempted to redirect this request, which is not permitted")
            assert len(backend.connections) == 1
        assert other.connections == []


async def test_a_path_service_may_redirect() -> None:
    """A plain service's redirect goes to the client as for any request, its own address taken off."""
    async with ScriptedBackend(lambda request: answer(request)) as server:

        def answer(request: bytes) -> bytes:
            return respond(302, {"Location": f"http://{server.host}:{server.port}/login"})

        transport = Http1Transport()
        service = PathService("/billing/", server.url)
        client = Client(Stages(ProxyMiddleware(core, transport=transport), AtPath(service)))
        socket = await client.websocket("/billing/live")
        await transport.aclose()
        assert len(server.connections) == 1
    assert (socket.status, socket.header("location")) == (302, b"/login")


async def test_a_path_service_learns_how_its_clients_call_it() -> None:
    """As for any request: its host, and the prefix that was cut."""
    async with ScriptedBackend([AcceptWebSocket(), close_frame(), EndWebSocket(answer=False)]) as server:
        transport = Http1Transport()
        service = PathService("/billing/", server.url, strip_prefix=True)
        proxy = Stages(ProxyMiddleware(core, transport=transport), AtPath(service))
        client = Client(proxy, host=b"front.example:6443", scheme="https")
        await (await client.websocket("/billing/live?x=1")).finished()
        await transport.aclose()
    request = handshake_of(server)
    assert request.target == b"/live?x=1"
    assert request.values("x-forwarded-host") == [b"front.example:6443"]
    assert request.values("x-forwarded-prefix") == [b"/billing"]


async def test_a_server_without_the_extension(transport: Http1Transport) -> None:
    """§7.4b: where the server offers no `websocket.http.response`, a refusal is a close before it is accepted."""
    sent: list[Any] = []
    async with ScriptedBackend(lambda request: respond(404)) as backend:

        def without(app: Any) -> Any:
            async def wrapped(scope: Any, receive: Any, send: Any) -> None:
                async def noting(message: Any) -> None:
                    sent.append(message)
                    await send(message)

                await app({**scope, "extensions": {}}, receive, noting)

            return wrapped

        inner = proxied(transport, backend_of(backend))
        socket = await Client(without(inner._app)).websocket("/a")
    assert socket.status == 403
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_refusal_without_end(transport: Http1Transport, clock: VirtualClock) -> None:
    """A body that does not end in ten seconds, or is longer than a megabyte, is no answer to a handshake: 502."""
    head = respond(200, {"Transfer-Encoding": "chunked"})
    async with ScriptedBackend.per_connection(
        [ReadHead(), head, b"1\r\nx\r\n", Hold()],
        [ReadHead(), head, *[b"10000\r\n" + b"x" * 65_536 + b"\r\n"] * 17, Hold()],
    ) as backend:
        client = proxied(transport, backend_of(backend))
        opening = asyncio.ensure_future(_opened(client))
        await (await backend.connected()).received_at_least(1)
        while transport.taken == 0:
            await asyncio.sleep(0)
        await clock.advance(9)
        assert not opening.done()
        await clock.advance(2)
        assert "does not end" in message_of((await opening).body)
        assert "is too long" in message_of((await _opened(client)).body)


async def _opened(client: Client) -> Any:
    return await client.websocket("/a")


# Backends that do not answer


async def test_nobody_listens(transport: Http1Transport) -> None:
    """503, as for any request."""
    async with ScriptedBackend([]) as gone:
        backend = backend_of(gone)
    socket = await proxied(transport, backend).websocket("/a")
    assert socket.status == 503
    assert "cannot be reached: connection refused" in message_of(socket.body)


@pytest.mark.parametrize(("target", "seconds"), [("/a", 60), ("/a?watch=1", 60)])
async def test_no_answer(transport: Http1Transport, clock: VirtualClock, target: str, seconds: int) -> None:
    """A handshake has a minute, also where the request itself may take any time: 504."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        opening = asyncio.ensure_future(_socket(proxied(transport, backend_of(backend)), target))
        await (await backend.connected()).received_at_least(1)
        await clock.advance(seconds - 1)
        assert not opening.done()
        await clock.advance(2)
        socket = await opening
        assert socket.status == 504
        await backend.connections[0].gone()


async def _socket(client: Client, target: str) -> Any:
    return await client.websocket(target)


async def test_as_many_as_there_are_connections() -> None:
    """A WebSocket holds one of a backend's connections, as a watch does, and gives it back."""
    transport = Http1Transport(limits=TransportLimits(connections=1, waiting=0))
    async with ScriptedBackend([AcceptWebSocket(), EndWebSocket()]) as backend:
        client = proxied(transport, backend_of(backend))
        async with client.websocket("/a") as socket:
            assert socket.accepted
            assert transport.taken == 1
            refused = await client.websocket("/a")
            assert refused.status == 503
            assert "it is busy" in message_of(refused.body)
        async with client.websocket("/a") as socket:
            assert socket.accepted
        await transport.aclose()


async def test_a_handshake_has_a_connection_of_its_own() -> None:
    """Who waits gets the right to a connection, and makes a new one: a kept one may have been given up by the backend,
    and a handshake that may have been read must not be sent again."""
    transport = Http1Transport(limits=TransportLimits(connections=1))
    entered, go = asyncio.Event(), asyncio.Event()

    async def first(connection: BackendConnection) -> None:
        await connection.read_request()
        entered.set()
        await go.wait()
        await connection.send(respond())
        await connection.read_to_end()

    async with ScriptedBackend.per_connection([first], [ReadHead()], [AcceptWebSocket(), EndWebSocket()]) as backend:
        client = proxied(transport, backend_of(backend))
        request = asyncio.ensure_future(client.request("GET", "/a"))
        await entered.wait()
        opening = asyncio.ensure_future(_socket(client, "/b"))
        while "1 waiting" not in repr(transport):
            await asyncio.sleep(0)
        go.set()
        assert (await request).status == 200
        socket = await opening
        assert socket.status == 502
        assert b"without an answer" in socket.body
        assert [raw.count(b"GET ") for raw in backend.requests] == [1, 1]
        assert transport.taken == 0
        await transport.aclose()


# When the front proxy stops


async def test_not_when_it_stops_already(transport: Http1Transport) -> None:
    """A handshake that comes while the front proxy stops is 503, without a word to the backend."""
    drain = Drain()
    drain.begin()
    async with ScriptedBackend([AcceptWebSocket()]) as backend:
        socket = await proxied(transport, backend_of(backend), drain=drain).websocket("/a")
        assert socket.status == 503
        assert message_of(socket.body) == "the front proxy is shutting down"
        assert backend.connections == []


async def test_it_stops_during_the_handshake(transport: Http1Transport) -> None:
    """The client gets a 503, the backend an end."""
    drain = Drain()
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        opening = asyncio.ensure_future(_socket(proxied(transport, backend_of(backend), drain=drain), "/a"))
        await (await backend.connected()).received_at_least(1)
        drain.begin()
        assert (await opening).status == 503
        await backend.connections[0].gone()


# Who waits may leave


@pytest.mark.parametrize(
    "script", [[Hold()], [ReadHead(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Hold()]]
)
async def test_the_client_leaves_during_the_handshake(transport: Http1Transport, script: Any) -> None:
    """Then the backend's connection ends, and nobody complains."""
    async with ScriptedBackend(script) as backend:
        client = proxied(transport, backend_of(backend))
        socket = client.websocket("/a")
        opening = asyncio.ensure_future(socket._open())
        await (await backend.connected()).received_at_least(1)
        with capture_logs() as logs:
            await socket.disconnect()
            await socket.finished()
        await asyncio.gather(opening, return_exceptions=True)
        await backend.connections[0].gone()
        assert logs == []
