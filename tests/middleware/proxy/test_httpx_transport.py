"""HttpxTransport beyond the suites: TLS, HTTP/2 and what is shared on it, objects of others, outbound proxies."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import uvloop
from starlette.applications import Starlette
from tests.conformance.http2_server import CA, http2_served
from tests.middleware.proxy.proxying import ALICE, GET, NAME, backend_of, proxied, whole
from tests.middleware.proxy.test_client_certificate_reload import der, install

from aggmw import APIService, FrontProxy
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import ServeDiscovery, resource
from aggmw.contracts.backends import Backend, LocalBackend, UpstreamRequest
from aggmw.contracts.drain import Drain
from aggmw.errors import StatusError, UpstreamBroken, UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.proxy import HttpxTransport, TransportLimits
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.testing import Client, Close, Hold, ReadHead, ReadRequest, ScriptedBackend, VirtualClock, respond
from aggmw.testing import Send as SendBytes
from aggmw.testing.model import Do, ModelBackend
from aggmw.testing.served import served
from aggmw.testing.transports import pieces_of

ANSWER = respond(body=b"hello")


@asynccontextmanager
async def reaching(*args: Any, **options: Any) -> AsyncIterator[HttpxTransport]:
    """A transport that leaves nothing."""
    transport = HttpxTransport(*args, **options)
    try:
        yield transport
    finally:
        await transport.aclose()
        gc.collect()


@pytest.fixture
def pair(tmp_path: Path) -> ClientCertificatePair:
    made = ClientCertificatePair(tmp_path / "front-proxy.crt", tmp_path / "front-proxy.key")
    install(issue_client(CA, "front-proxy"), made)
    return made


@pytest.fixture
def secure(tmp_path: Path) -> ssl.SSLContext:
    """A server that asks for our certificate."""
    return server_context(issue_server(CA, "api", names=["api.svc"]), tmp_path)


def server_context(made: KeyPair, directory: Path) -> ssl.SSLContext:
    (directory / "server.crt").write_bytes(made.certificate)
    (directory / "server.key").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.load_verify_locations(cadata=CA.certificate.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def tls(backend: ScriptedBackend, **changed: Any) -> Backend:
    return backend_of(backend, **{"tls": True, "server_name": "api.svc", "ca": CA.certificate, **changed})


# TLS


async def test_tls_as_the_backend_says(secure: ssl.SSLContext, pair: ClientCertificatePair) -> None:
    """CA, server name and our own certificate are those of the backend; it sees the name that it was asked for."""
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend, reaching(client_certificate=pair) as transport:
        assert await whole(await transport.send(tls(backend), GET)) == b"hello"
        (connection,) = backend.connections
        assert connection.server_name == "api.svc"
        assert connection.certificate is not None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"server_name": "other.svc"}, "its certificate is for another name"),
        ({"ca": make_ca("another").certificate}, "its certificate is not trusted"),
        ({"ca": b""}, "its certificate is not trusted"),
        ({"ca": b"-----BEGIN"}, "its CA bundle cannot be used"),
        ({"host": "bad name"}, "its name does not resolve"),
    ],
)
async def test_backends_that_are_not_reached(secure: ssl.SSLContext, changed: dict[str, Any], reason: str) -> None:
    """What is shown of it are the lane's words."""
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend, reaching() as transport:
        with pytest.raises(UpstreamUnreachable, match=reason):
            await transport.send(tls(backend, **changed), GET)
        assert transport.taken == 0


async def test_certificates_that_nobody_checks(secure: ssl.SSLContext) -> None:
    """insecure_skip_tls_verify is kept too."""
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend, reaching() as transport:
        unchecked = tls(backend, ca=b"", server_name="else", insecure_skip_tls_verify=True)
        assert await whole(await transport.send(unchecked, GET)) == b"hello"


async def test_a_renewed_certificate_is_shown(secure: ssl.SSLContext, pair: ClientCertificatePair) -> None:
    """After `reload` new exchanges show it; bad files leave everything as it was."""
    renewed = issue_client(CA, "front-proxy")
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend, reaching(client_certificate=pair) as transport:
        await whole(await transport.send(tls(backend), GET))
        install(renewed, pair)
        await whole(await transport.send(tls(backend), GET))
        transport.reload()
        await whole(await transport.send(tls(backend), GET))
        seen = [connection.certificate for connection in backend.connections]
        assert seen[0] == seen[1] != der(renewed) == seen[2]


async def test_an_end_without_goodbye_is_no_end(secure: ssl.SSLContext) -> None:
    """Over TLS a body that ends with the connection may have been cut: it never counts as whole."""
    script = [ReadHead(), SendBytes(b"HTTP/1.1 200 OK\r\n\r\nall of it"), Close()]
    async with ScriptedBackend(script, secure) as backend, reaching() as transport:
        response = await transport.send(tls(backend), GET)
        assert await response.read() == b"all of it"
        with pytest.raises(UpstreamBroken):
            await response.read()
        await response.aclose()


async def test_unix_socket(tmp_path: Path) -> None:
    """`unix:/path` backends."""
    path = tmp_path / "api.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, path), reaching() as transport:
        assert await whole(await transport.send(Backend.at(f"unix:{path}"), GET)) == b"hello"
    async with reaching() as transport:
        with pytest.raises(UpstreamUnreachable, match="its socket does not exist"):
            await transport.send(Backend.at(f"unix:{tmp_path / 'nobody'}"), GET)


# HTTP/2


@pytest.fixture
async def model() -> AsyncIterator[ModelBackend]:
    model = ModelBackend()
    yield model
    model.release()


def doing(do: Do, **request: Any) -> UpstreamRequest:
    return UpstreamRequest(b"GET", b"/a", (do.field(),), **request)


class Peers:
    """An application that counts who connects."""

    def __init__(self, model: ModelBackend) -> None:
        self.model = model
        self.peers: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["http_version"] == "2"
        self.peers.append(scope["client"])
        await self.model.asgi(scope, receive, send)


pytestmark = pytest.mark.allows("errors")  # hypercorn does not expect connections that are closed on it


async def test_short_exchanges_share_connections(model: ModelBackend, tmp_path: Path) -> None:
    """HTTP/2: many at once on one connection."""
    app = Peers(model)
    async with http2_served(app, tmp_path) as backend, reaching(http2=True) as transport:

        async def one() -> None:
            assert len(await whole(await transport.send(backend, doing(Do(pieces=(1000,)))))) == 1000

        await one()
        await asyncio.gather(*(one() for _ in range(50)))
        assert len(app.peers) == 51
        assert len(set(app.peers)) == 1


async def test_long_exchanges_have_their_own(model: ModelBackend, tmp_path: Path) -> None:
    """A watch and a streamed upload share no connection: each is ended by closing it, and holds up nobody."""
    app = Peers(model)
    hold = Do(pieces=(3,), length=False, then="hold")
    async with http2_served(app, tmp_path) as backend, reaching(http2=True) as transport:
        watches = [await transport.send(backend, doing(hold, long_running=True, timeout=None)) for _ in range(3)]
        upload = replace(doing(Do()), method=b"POST", body=pieces_of(b"one"), content_length=3)
        await whole(await transport.send(backend, upload))
        await whole(await transport.send(backend, doing(Do())))
        assert len(set(app.peers)) == 5
        for watch in watches:
            await watch.aclose()
        await model.until(lambda: model.running == 0, "the watches to end")


async def test_who_leaves_disturbs_nobody(model: ModelBackend, tmp_path: Path) -> None:
    """Half of those on shared connections leave at some moment; the others all get their whole answer."""
    async with http2_served(model.asgi, tmp_path) as backend, reaching(http2=True) as transport:

        async def one(number: int) -> int:
            body = b"%d " % number * 2000
            asked = replace(doing(Do(echo=True)), method=b"POST", content=body)
            return len(await whole(await transport.send(backend, asked))) - len(body)

        for turn in range(20):
            tasks = [asyncio.ensure_future(one(number)) for number in range(20)]
            for _ in range(turn * 3):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks)
            assert [task.result() for task in tasks[1::2]] == [0] * 10


async def test_a_server_that_closed_meanwhile(model: ModelBackend, tmp_path: Path, clock: VirtualClock) -> None:
    """A kept connection whose server has gone away is not used again; nothing fails, whatever the method."""
    app = Peers(model)
    request = replace(doing(Do()), method=b"POST", content=b"x")
    async with http2_served(app, tmp_path, keep_alive_timeout=5) as backend, reaching(http2=True) as transport:
        for number in range(3):
            await whole(await transport.send(backend, request))
            assert len(set(app.peers)) == number + 1
            await clock.advance(6)


async def test_old_and_idle_connections_are_closed(model: ModelBackend, tmp_path: Path, clock: VirtualClock) -> None:
    """`max_age_seconds` and `idle_seconds` hold for what httpx keeps, too; a drain keeps nothing."""
    app, drain = Peers(model), Drain()
    limits = TransportLimits(max_age_seconds=100, idle_seconds=30)
    async with (
        http2_served(app, tmp_path, keep_alive_timeout=10_000) as backend,
        reaching(http2=True, limits=limits, drain=drain) as transport,
    ):

        async def ask() -> int:
            await whole(await transport.send(backend, doing(Do())))
            return len(set(app.peers))

        assert [await ask(), await ask()] == [1, 1]
        for _ in range(3):
            await clock.advance(25)
            assert await ask() == 1
        await clock.advance(26)
        assert await ask() == 2
        await clock.advance(31)
        assert repr(transport).count("0 lines") == 1
        assert await ask() == 3
        drain.begin()
        await ask()
        assert repr(transport).count("0 lines") == 1


def test_http2_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without h2 the mistake is seen when the transport is made, with the line that mends it."""
    monkeypatch.setattr("aggmw.middleware.proxy.transports.httpx.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'aggmw\[http2\]'"):
        HttpxTransport(http2=True)
    assert importlib.util.find_spec("h2") is not None


# Transports of others


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_objects_of_httpx_and_of_its_continuation(library: Any) -> None:
    """Whatever has the shape: here fakes, which see the request as it would be sent."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append((request.method, request.url.raw_path, request.headers.raw, request.content))
        return library.Response(201, headers=[("Set-Cookie", "a=b")], content=b"made")

    backend = Backend(NAME, "api.svc", 7443)
    async with reaching(library.MockTransport(answer)) as transport:
        request = UpstreamRequest(b"POST", b"/a/%2e%2e?x=1", ((b"X-A", b"b"),), b"body")
        response = await transport.send(backend, request)
        assert (response.status, await whole(response)) == (201, b"made")
        streamed = UpstreamRequest(b"PUT", b"/", body=pieces_of(b"one", b"two"))
        assert await whole(await transport.send(backend, streamed)) == b"made"
        await whole(await transport.send(backend, GET))
    host = (b"Host", b"api.svc:7443")
    assert seen[0] == ("POST", b"/a/%2e%2e?x=1", [host, (b"X-A", b"b"), (b"Content-Length", b"4")], b"body")
    assert seen[1] == ("PUT", b"/", [host, (b"Transfer-Encoding", b"chunked")], b"onetwo")
    assert seen[2] == ("GET", b"/a", [host], b"")


async def test_applications_through_httpx() -> None:
    """`httpx.ASGITransport`: an application of the user's tests stands for a server."""
    model = ModelBackend()
    async with reaching(httpx.ASGITransport(model.asgi)) as transport:
        request = replace(doing(Do(echo=True)), method=b"POST", content=b"body")
        assert await whole(await transport.send(Backend(NAME, "api.svc", 7443), request)) == b"body"


@pytest.mark.parametrize("target", [b"/a/../b", b"/a\xff", b'/a"b'])
async def test_no_other_target_than_was_authorised(target: bytes) -> None:
    """A transport of somebody else's that would send another target sends nothing."""
    sent: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    async with reaching(httpx.MockTransport(answer)) as transport:
        with pytest.raises(StatusError, match="cannot be sent"):
            await transport.send(Backend(NAME, "api.svc", 7443), replace(GET, target=target))
        assert (sent, transport.taken) == ([], 0)


async def test_a_function_gets_backend_and_context(secure: ssl.SSLContext, pair: ClientCertificatePair) -> None:
    """One's own transports, with the TLS that reaches the backend."""
    asked: list[tuple[str, bool]] = []

    def make(backend: Backend, context: ssl.SSLContext | None) -> httpx.AsyncHTTPTransport:
        asked.append((backend.name, context is None))
        return httpx.AsyncHTTPTransport(verify=context or True)

    async with (
        ScriptedBackend(lambda _: ANSWER, secure) as secured,
        ScriptedBackend(lambda _: ANSWER) as plain,
        reaching(make, client_certificate=pair) as transport,
    ):
        for backend in (tls(secured), backend_of(plain)):
            for _ in range(2):
                assert await whole(await transport.send(backend, GET)) == b"hello"
        assert secured.connections[0].certificate is not None
    assert asked == [(NAME, False)] * 2 + [(NAME, True)] * 2


async def test_outbound_proxy(tmp_path: Path) -> None:
    """Through an HTTP proxy: a tunnel for https, the whole URL for http; a proxy that refuses is unreachable."""
    secure = server_context(issue_server(CA, "api", names=["127.0.0.1"]), tmp_path)
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend:

        async def tunnel(connection: Any) -> None:
            await connection.read_until(b"\r\n\r\n")
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            reader, writer = await asyncio.open_connection(backend.host, backend.port)
            back = asyncio.ensure_future(pump(reader, connection))
            while data := await connection.read_some():
                writer.write(data)
            writer.close()
            await back

        async def pump(reader: asyncio.StreamReader, connection: Any) -> None:
            while data := await reader.read(65_536):
                await connection.send(data)

        async with (
            ScriptedBackend([tunnel]) as proxy,
            reaching(lambda backend, context: httpx.AsyncHTTPTransport(verify=context, proxy=proxy.url)) as transport,
        ):
            assert await whole(await transport.send(tls(backend), replace(GET, target=b"/a?b=%2F"))) == b"hello"
            assert proxy.requests[0].startswith(b"CONNECT %b:%d HTTP/1.1\r\n" % (backend.host.encode(), backend.port))
        assert backend.requests[0].startswith(b"GET /a?b=%2F HTTP/1.1\r\n")
    async with (
        ScriptedBackend(lambda _: respond(403)) as proxy,
        reaching(lambda backend, context: httpx.AsyncHTTPTransport(verify=context or True, proxy=proxy.url)) as through,
    ):
        assert (await through.send(Backend(NAME, "api.svc", 8080, tls=False), GET)).status == 403
        assert proxy.requests[0].startswith(b"GET http://api.svc:8080/a HTTP/1.1\r\n")
        with pytest.raises(UpstreamUnreachable, match="the outbound proxy does not let it through"):
            await through.send(Backend(NAME, "api.svc", 7443, ca=CA.certificate), GET)


class Failing:
    """A transport that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def handle_async_request(self, request: Any) -> Any:
        raise self.error

    async def aclose(self) -> None:
        raise RuntimeError("and does not close")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectError("x"), UpstreamUnreachable, "it cannot be reached"),
        (httpx.ConnectTimeout("x"), UpstreamUnreachable, "timed out connecting"),
        (httpx.PoolTimeout("x"), UpstreamBusy, "it is busy: no connection came free in time"),
        (httpx.ProxyError("x"), UpstreamUnreachable, "the outbound proxy does not let it through"),
        (httpx.UnsupportedProtocol("x"), UpstreamUnreachable, "its transport does not know how to reach it"),
        (httpx.ReadTimeout("x"), UpstreamTimeout, "it did not answer in time"),
        (httpx.WriteError("x"), UpstreamBroken, "it closed the connection without an answer"),
        (anyio.EndOfStream(), UpstreamBroken, "it closed the connection without an answer"),
        (
            httpx.RemoteProtocolError("<ConnectionTerminated error_code:0, last_stream_id:5>"),
            UpstreamBroken,
            "it closed the connection without an answer",
        ),
        (httpx.RemoteProtocolError("illegal line"), UpstreamBroken, "its answer broke the protocol"),
        (httpx2.ConnectError("x"), UpstreamUnreachable, "it cannot be reached"),
        (ZeroDivisionError(), UpstreamBroken, "its transport failed"),
        (asyncio.CancelledError(), UpstreamBroken, "its transport failed"),
    ],
)
async def test_every_exception_in_our_words(error: BaseException, kind: type[Exception], words: str) -> None:
    """Whatever a transport raises is one of ours, with words that name nothing."""
    async with reaching(Failing(error)) as transport:
        with pytest.raises(kind) as caught:
            await transport.send(Backend(NAME, "api.svc", 80), GET)
        assert (type(caught.value), str(caught.value)) == (kind, words)
        assert transport.taken == 0


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (object(), {}, "transport: object has no method handle_async_request"),
        (httpx.AsyncHTTPTransport, {}, "transport: AsyncHTTPTransport is a class; make an instance of it"),
        (httpx.MockTransport(lambda _: httpx.Response(200)), {"http2": True}, "give it to the transport itself"),
        (
            httpx.MockTransport(lambda _: httpx.Response(200)),
            {"client_certificate": ClientCertificatePair(Path("a"), Path("b"))},
            "client_certificate would never be shown",
        ),
    ],
)
def test_misuse(given: Any, options: dict[str, Any], words: str) -> None:
    """What cannot work is said when the transport is made."""
    with pytest.raises(TypeError, match=words):
        HttpxTransport(given, **options)


# The rest


async def test_servers_only() -> None:
    """As the lane: an application in this process is not reached so."""
    async with reaching() as transport:
        with pytest.raises(UpstreamUnreachable, match="servers only"):
            await transport.send(LocalBackend(NAME, Starlette()), GET)


async def test_figures() -> None:
    """Those of the lane, for exchanges: taken, waiting, and the limits."""
    model = ModelBackend()
    limits = TransportLimits(connections=1, waiting=5)
    async with served(model.asgi) as server, reaching(limits=limits) as transport:
        backend = Backend.at(server.url, name=NAME)
        held = await transport.send(backend, doing(Do(pieces=(1,), length=False, then="hold"), long_running=True))
        waiting = asyncio.ensure_future(transport.send(replace(backend, name="other"), doing(Do())))
        await asyncio.sleep(0)
        (one,) = transport.statistics
        assert (one.address, one.taken, one.idle, one.waiting) == (backend.address, 1, 0, 1)
        values = {(each.name, *(value for _, value in each.labels)): each.value for each in transport.samples()}
        assert values == {
            ("aggmw_upstream_connections", backend.address, "taken"): 1,
            ("aggmw_upstream_connections", backend.address, "idle"): 0,
            ("aggmw_upstream_waiting_requests", backend.address): 1,
            ("aggmw_upstream_connections_limit",): 1,
            ("aggmw_upstream_waiting_requests_limit",): 5,
        }
        await held.aclose()
        await whole(await waiting)


def test_one_set_of_connections_per_loop(tmp_path: Path) -> None:
    """A transport serves several event loops, of either kind, one after the other, as the lane does."""
    transport = HttpxTransport(http2=True)

    async def once() -> None:
        model = ModelBackend()
        async with http2_served(model.asgi, tmp_path) as backend:
            assert len(await whole(await transport.send(backend, doing(Do(pieces=(100_000,)))))) == 100_000
            await transport.aclose()

    for loop in (asyncio.new_event_loop, uvloop.new_event_loop, asyncio.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(once())


async def test_departures_beside_others() -> None:
    """HTTP/1.1: who leaves is gone at once for the backend, whoever else is under way."""
    model = ModelBackend()
    async with served(model.asgi) as server, reaching() as transport:
        backend = Backend.at(server.url, name=NAME)
        first, second = (asyncio.ensure_future(transport.send(backend, doing(Do(answer=False)))) for _ in range(2))
        await model.until(lambda: model.running == 2, "both")
        first.cancel()
        await model.until(lambda: model.running == 1, "the one who left")
        assert not second.done()
        second.cancel()
        await asyncio.wait({first, second})
        await model.until(lambda: model.running == 0, "the other")


async def test_http2_that_is_not_taken(secure: ssl.SSLContext) -> None:
    """A server that speaks HTTP/1.1 only is spoken to so, also by many at once."""
    async with ScriptedBackend(lambda _: ANSWER, secure) as backend, reaching(http2=True) as transport:
        for number in (20, 5):
            answers = await asyncio.gather(*(ask(transport, tls(backend)) for _ in range(number)))
            assert answers == [b"hello"] * number


async def ask(transport: HttpxTransport, backend: Backend) -> bytes:
    return await whole(await transport.send(backend, GET))


async def test_a_deadline_while_dialling(clock: VirtualClock) -> None:
    """The request's own time-out holds for connecting, too, and nothing was sent then."""
    async with ScriptedBackend([Hold()]) as backend, reaching() as transport:
        sending = asyncio.ensure_future(transport.send(tls(backend), replace(GET, timeout=2)))
        await backend.connected()
        await clock.advance(3)
        with pytest.raises(UpstreamUnreachable, match="timed out connecting"):
            await sending
        await clock.advance(10)


async def test_a_handshake_that_does_not_end(clock: VirtualClock) -> None:
    """`dial_seconds` hold for what httpx dials, too; who leaves meanwhile leaves no socket."""
    async with ScriptedBackend([Hold()]) as backend, reaching(limits=TransportLimits(dial_seconds=3)) as transport:
        sending = asyncio.ensure_future(transport.send(tls(backend), GET))
        leaving = asyncio.ensure_future(transport.send(tls(backend), GET))
        await backend.connected(2)
        leaving.cancel()
        await clock.advance(2)
        assert not sending.done()
        await clock.advance(2)
        with pytest.raises(UpstreamUnreachable, match="timed out connecting"):
            await sending
        await asyncio.wait({leaving})


async def test_in_a_front_proxy() -> None:
    """Discovery and forwarding go through it, and its figures are on the metrics page."""
    model = ModelBackend()

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        await ServeDiscovery(model.asgi, groups={"notes.example.com": {"v1": [resource("notes", "Note")]}})(
            scope, receive, send
        )

    async with served(api) as server:
        front = FrontProxy(
            authentication=[StaticTokens({"t0k": ALICE})],
            authorization=AllowAll(),
            services=[APIService.remote("notes.example.com", "v1", server.url)],
            transport=HttpxTransport(),
            metrics=Metrics(),
        )
        client, token = Client(front), {"Authorization": "Bearer t0k"}
        async with client.lifespan():
            assert (await client.request("GET", "/apis/notes.example.com/v1/notes", token)).status == 200
            page = await client.request("GET", "/metrics", token)
            assert f'aggmw_upstream_connections{{backend="{server.url.removeprefix("http://")}"' in page.text
    assert model.seen[-1].values(b"x-remote-user") == [b"alice"]


async def test_closing_ends_what_runs() -> None:
    """`aclose` leaves no connection: whoever still reads learns that his answer is broken."""
    model = ModelBackend()
    async with served(model.asgi) as server, reaching() as transport:
        backend = Backend.at(server.url, name=NAME)
        response = await transport.send(backend, doing(Do(pieces=(1,), length=False, then="hold"), long_running=True))
        assert await response.read() == bytes(1)
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(transport.aclose())
        with pytest.raises(UpstreamBroken):
            await reading
        await response.aclose()
        await closing
        await model.until(lambda: model.running == 0, "the application to notice")


async def test_through_the_proxy() -> None:
    """The proxy does with it what it does with the lane: identity goes along, the answer comes back."""
    async with ScriptedBackend([ReadRequest(), SendBytes(ANSWER), Close()]) as backend, reaching() as transport:
        response = await proxied(transport, backend_of(backend)).request("GET", "/apis/x?y=1")
        assert (response.status, response.body) == (200, b"hello")
    assert b"X-Remote-User: alice\r\n" in backend.requests[0]
