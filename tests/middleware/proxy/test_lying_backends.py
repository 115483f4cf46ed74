"""Backends that are down, silent or lying: what the client is told, word for word, and who else feels it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.middleware.proxy.proxying import GET, backend_of, proxied, whole

from aggmw.contracts.backends import Backend, UpstreamRequest
from aggmw.errors import UpstreamBroken
from aggmw.middleware.proxy import Http1Transport
from aggmw.pki.make import KeyPair, issue_server, make_ca
from aggmw.testing import (
    Client,
    Hold,
    IncompleteResponse,
    ReadHead,
    ReadRequest,
    Reset,
    ScriptedBackend,
    Send,
    Wait,
    respond,
)

SERVER_NAME = "wardle.default.svc"
WHO = "the server of APIService v1alpha1.wardle.example.com"
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # a fatal alert of TLS


class Lie(NamedTuple):
    """What a backend sends after a request, and what becomes of it."""

    sends: bytes
    text: str
    then: Any = Hold()


BROKEN = {
    "garbage": Lie(b"\x00\xff\x16\x03\x01garbage\r\n\r\n", "its answer is not HTTP/1.1"),
    "another protocol": Lie(b"SSH-2.0-OpenSSH_9.9\r\n", "its answer is not HTTP/1.1"),
    "HTTP/2": Lie(b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\nhello", "its answer is not HTTP/1.1"),
    "nothing": Lie(b"", "it closed the connection without an answer", Send(b"")),
    "a reset": Lie(b"", "it closed the connection without an answer", Reset()),
    "half a status line": Lie(b"HTTP/1.1 20", "it closed the connection in the middle of its answer", Send(b"")),
    "a reset in the status line": Lie(b"HTTP/1.1 20", "it closed the connection in the middle of its answer", Reset()),
    "half a head": Lie(OK + b"X-A", "it closed the connection in the middle of its answer", Send(b"")),
    "two lengths": Lie(OK + LENGTH + b"Content-Length: 6\r\n\r\nhello", "its answer is not HTTP/1.1"),
    "length and chunks": Lie(OK + LENGTH + CHUNKED + b"\r\n0\r\n\r\n", "its answer is not HTTP/1.1"),
    "gzip, chunked": Lie(
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "its answer has a transfer coding other than chunked"
    ),
    "endless fields": Lie(OK + b"X-A: b\r\n" * 300, "its answer has too many header fields"),
    "an endless field": Lie(OK + b"X-A: " + b"b" * 100_000, "the head of its answer is too long"),
    "endless hints": Lie(b"HTTP/1.1 103 H\r\nX: y\r\n\r\n" * 4000, "the head of its answer is too long"),
    "hints and nothing else": Lie(
        b"HTTP/1.1 103 H\r\nX: y\r\n\r\n", "it closed the connection in the middle of its answer", Send(b"")
    ),
    "101 unasked": Lie(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "it switched protocols unasked"),
    "101 with upgrade": Lie(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        "it switched protocols unasked",
    ),
    "a folded field": Lie(OK + b"X-A: b\r\n\tc\r\n" + LENGTH + b"\r\nhello", "its answer is not HTTP/1.1"),
    "a NUL": Lie(OK + b"X-A: b\0c\r\n" + LENGTH + b"\r\nhello", "its answer is not HTTP/1.1"),
    "line feeds only": Lie(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "its answer is not HTTP/1.1"),
}


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """The whole `Status`: no details, so no retryAfterSeconds."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nonsense_is_502(transport: Http1Transport, case: str, method: str) -> None:
    """The backend answered nonsense or broke off before a head: 502, in words, without Retry-After; the request was
    sent once, and the connection is closed."""
    lie = BROKEN[case]
    async with ScriptedBackend([ReadRequest(), lie.sends, lie.then]) as backend:
        client = proxied(transport, backend_of(backend))
        response = await client.request(method, "/a", body=b"{}" if method == "POST" else b"")
        assert response.status == 502
        assert response.json() == status(502, "InternalError", f"{WHO} failed: {lie.text}")
        assert response.header("retry-after") is None
        assert len(backend.connections) == 1
        await backend.connections[0].gone()
        assert transport.taken == 0


CUT = {
    "short": OK + LENGTH + b"\r\nhel",
    "no last chunk": OK + CHUNKED + b"\r\n3\r\nhel\r\n",
    "a broken chunk": OK + CHUNKED + b"\r\n3\r\nhel\r\nzz\r\n",
    "endless trailers": OK + CHUNKED + b"\r\n3\r\nhel\r\n0\r\n" + b"X-A: b\r\n" * 10_000,
}


@pytest.mark.parametrize("case", CUT)
async def test_a_cut_body_is_a_cut_response(transport: Http1Transport, case: str) -> None:
    """After the head nothing can be said any more: the response is not completed, so that nobody takes it for whole."""
    async with ScriptedBackend([ReadHead(), Send(CUT[case])]) as backend:
        client = proxied(transport, backend_of(backend))
        with pytest.raises(IncompleteResponse):
            await client.request("GET", "/a")
        assert transport.taken == 0


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED, b""])
async def test_a_reset_is_a_cut_response(transport: Http1Transport, framing: bytes) -> None:
    """A connection that is reset in the middle of a body, however that is framed: never a whole response."""
    seen = asyncio.Event()
    body = b"3\r\nhel\r\n" if framing == CHUNKED else b"hel"
    async with ScriptedBackend([ReadHead(), Send(OK + framing + b"\r\n" + body), Wait(seen), Reset()]) as backend:
        async with proxied(transport, backend_of(backend)).stream("GET", "/a") as response:
            assert await anext(response) == b"hel"
            seen.set()
            with pytest.raises(IncompleteResponse):
                await response.read()
        assert transport.taken == 0


async def test_silence_in_a_body_is_a_cut_response(transport: Http1Transport, clock: Any) -> None:
    """A body that stops coming is broken off after a minute, and looks it."""
    async with ScriptedBackend([ReadHead(), Send(OK + LENGTH + b"\r\nhel"), Hold()]) as backend:
        async with proxied(transport, backend_of(backend)).stream("GET", "/a") as response:
            assert await anext(response) == b"hel"
            reading = asyncio.create_task(response.read())
            await clock.advance(59)
            assert not reading.done()
            await clock.advance(2)
            with pytest.raises(IncompleteResponse):
                await reading
        await backend.connections[0].gone()


@pytest.mark.parametrize(
    ("method", "first"),
    [
        ("HEAD", respond(body=b"hello")),
        ("HEAD", respond(body=b"hello", chunked=True)),
        ("GET", respond(204) + b"hello"),
    ],
)
async def test_a_body_where_there_is_none(transport: Http1Transport, method: str, first: bytes) -> None:
    """What comes behind an answer without a body is not the next caller's: its connection is not used again."""
    scripts = [ReadHead(), Send(first), Hold()], [ReadHead(), Send(respond(body=b"mine")), Hold()]
    async with ScriptedBackend.per_connection(*scripts) as backend:
        client = proxied(transport, backend_of(backend))
        assert (await client.request(method, "/a")).body == b""
        assert (await client.request("GET", "/b")).body == b"mine"
        await backend.connections[0].gone()


async def test_not_modified_with_a_length(transport: Http1Transport) -> None:
    """304 says the length of what did not change: no body is waited for, and the connection goes on."""
    raw = respond(304, {"Content-Length": "5", "ETag": '"x"'})
    async with ScriptedBackend(lambda request: raw if b"/a " in request else respond(body=b"mine")) as backend:
        client = proxied(transport, backend_of(backend))
        response = await client.request("GET", "/a")
        assert (response.status, response.body, response.header("etag")) == (304, b"", b'"x"')
        assert (await client.request("GET", "/b")).body == b"mine"
        assert len(backend.connections) == 1


async def test_more_than_it_was_asked(transport: Http1Transport) -> None:
    """Bytes behind an answer are dropped with their connection; the answer itself is whole."""
    raw = respond(body=b"hello")
    async with ScriptedBackend([ReadHead(), Send(raw + raw), Hold()]) as backend:
        client = proxied(transport, backend_of(backend))
        for _ in range(2):
            assert (await client.request("GET", "/a")).body == b"hello"
        assert len(backend.connections) == 2


async def test_an_answer_to_nothing(transport: Http1Transport) -> None:
    """What comes while an upload waits for its first piece, before a byte of it was sent, is no answer to it.

    On a connection that another user has used, it could be the answer to anything.
    """
    async with ScriptedBackend(lambda request: respond(body=b"hello")) as scripted:
        backend = backend_of(scripted)
        assert await whole(await transport.send(backend, GET)) == b"hello"
        first = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            await first.wait()
            yield b"piece"

        sending = asyncio.create_task(transport.send(backend, UpstreamRequest(b"POST", b"/a", body=body())))
        while transport.taken == 0:
            await asyncio.sleep(0)
        connection = await scripted.connected()
        await connection.send(respond(body=b"poison"))
        with pytest.raises(UpstreamBroken, match="more than it was asked"):
            await sending
        assert len(scripted.connections) == 1
        await transport.aclose()


async def test_silence_is_504(transport: Http1Transport, clock: Any) -> None:
    """The request was sent and no answer came in time: 504, without Retry-After."""
    async with ScriptedBackend([ReadHead(), Hold()]) as backend:
        asking = asyncio.create_task(proxied(transport, backend_of(backend)).request("GET", "/a"))
        await backend.connected()
        await clock.advance(61)
        response = await asking
    assert response.json() == status(504, "Timeout", f"{WHO} timed out: it did not answer in time")
    assert response.header("retry-after") is None


async def test_refused_is_503(transport: Http1Transport) -> None:
    """Nothing was sent: 503, without Retry-After."""
    async with ScriptedBackend([Hold()]) as backend:
        await backend.close()
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
    assert response.json() == status(503, "ServiceUnavailable", f"{WHO} cannot be reached: connection refused")
    assert response.header("retry-after") is None


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


@pytest.fixture(scope="module")
def secured(ca: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Callable[[KeyPair], ssl.SSLContext]:
    """The TLS context of a server with this certificate."""

    def context(pair: KeyPair) -> ssl.SSLContext:
        folder: Path = tmp_path_factory.mktemp("server")
        (folder / "cert").write_bytes(pair.certificate)
        (folder / "key").write_bytes(pair.key)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(folder / "cert", folder / "key")
        return made

    return context


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("another CA", "its certificate is not trusted"),
        ("another name", "its certificate is for another name"),
        ("expired", "its certificate expired"),
        ("no TLS", "the TLS handshake failed"),
        ("an alert", "the TLS handshake failed"),
        ("a bad bundle", "its CA bundle cannot be used"),
    ],
)
async def test_a_wrong_certificate_is_503(
    transport: Http1Transport, ca: KeyPair, secured: Any, case: str, text: str
) -> None:
    """Nothing is sent to somebody else, neither the caller's identity nor our certificate's use: 503."""
    pairs = {
        "another CA": issue_server(make_ca("others"), "wardle", names=[SERVER_NAME]),
        "another name": issue_server(ca, "wardle", names=["other.default.svc"]),
        "expired": issue_server(ca, "wardle", names=[SERVER_NAME], lifetime=timedelta(seconds=-1)),
    }
    context = secured(pairs[case]) if case in pairs else None
    bundle = b"no PEM" if case == "a bad bundle" else ca.certificate
    plain = HANDSHAKE_FAILURE if case == "an alert" else b"HTTP/1.1 400 Bad Request\r\n\r\n"
    async with ScriptedBackend([Send(plain), Hold()], context) as backend:
        served = backend_of(backend, tls=True, server_name=SERVER_NAME, ca=bundle)
        response = await proxied(transport, served).request("GET", "/a")
        assert response.json() == status(503, "ServiceUnavailable", f"{WHO} cannot be reached: {text}")
        assert b"alice" not in b"".join(backend.requests)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_our_certificate(
    transport: Http1Transport, ca: KeyPair, secured: Any, newest: ssl.TLSVersion
) -> None:
    """TLS 1.2 says so in the handshake, and nothing was sent; TLS 1.3 behind it, by an alert in place of an answer."""
    context = secured(issue_server(ca, "wardle", names=[SERVER_NAME]))
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca.certificate.decode())
    async with ScriptedBackend([ReadHead(), Send(respond(body=b"hello")), Hold()], context) as backend:
        served = backend_of(backend, tls=True, server_name=SERVER_NAME, ca=ca.certificate)
        response = await proxied(transport, served).request("POST", "/a", body=b"{}")
        code, told = response.status, response.json()["message"].removeprefix(f"{WHO} ")
        if newest == ssl.TLSVersion.TLSv1_2:
            reasons = ("the TLS handshake failed", "connection reset")  # the reset may overtake the alert
            assert (code, told) in [(503, f"cannot be reached: {reason}") for reason in reasons]
        else:
            assert (code, told) == (502, "failed: it closed the connection without an answer")
        assert backend.requests == []
        assert transport.taken == 0


@pytest.mark.parametrize("garbage", [HANDSHAKE_FAILURE, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_broken_tls_stream_is_a_cut_response(
    transport: Http1Transport, ca: KeyPair, secured: Any, garbage: bytes
) -> None:
    """An alert or bytes that are no TLS in the middle of a body: never a whole response."""
    context = secured(issue_server(ca, "wardle", names=[SERVER_NAME]))
    seen = asyncio.Event()

    async def break_it(connection: Any) -> None:
        os.write(connection._transport.get_extra_info("socket").fileno(), garbage)  # past the TLS that is on it
        await connection.gone()

    script = [ReadHead(), Send(OK + LENGTH + b"\r\nhel"), Wait(seen), break_it]
    async with ScriptedBackend(script, context) as backend:
        served = backend_of(backend, tls=True, server_name=SERVER_NAME, ca=ca.certificate)
        async with proxied(transport, served).stream("GET", "/a") as response:
            assert await anext(response) == b"hel"
            seen.set()
            with pytest.raises(IncompleteResponse):
                await response.read()
        assert transport.taken == 0


async def test_tls_until_the_end_is_cut(transport: Http1Transport, ca: KeyPair, secured: Any) -> None:
    """http-facts §5: a body over TLS that ends with the connection cannot be told from a cut one: broken."""
    context = secured(issue_server(ca, "wardle", names=[SERVER_NAME]))
    async with ScriptedBackend([ReadHead(), Send(OK + b"\r\nhello")], context) as backend:
        served = backend_of(backend, tls=True, server_name=SERVER_NAME, ca=ca.certificate)
        with pytest.raises(IncompleteResponse):
            await proxied(transport, served).request("GET", "/a")


async def test_nothing_leaks(transport: Http1Transport) -> None:
    """No address, no port, no host name and nothing of the request in what the client reads."""
    async with ScriptedBackend([ReadHead()]) as backend:
        for served in (backend_of(backend), Backend("v1.x", "secret.internal", 1, tls=False)):
            response = await proxied(transport, served).request("GET", "/a?token=secret-token")
            for secret in (backend.host, str(backend.port), "secret"):
                assert secret not in response.text


async def test_a_backend_without_a_name(transport: Http1Transport) -> None:
    """A plain backend is called that."""
    async with ScriptedBackend([ReadHead()]) as backend:
        response = await proxied(transport, backend_of(backend, name="")).request("GET", "/a")
    assert response.json()["message"] == "the backend failed: it closed the connection without an answer"


# The healthy service beside it

BAD = [*BROKEN, *CUT, "silent", "refused", "wrong CA"]


@asynccontextmanager
async def bad_backend(case: str, ca: KeyPair, secured: Any) -> AsyncIterator[Backend]:
    lies = {name: [ReadRequest(), lie.sends, lie.then] for name, lie in BROKEN.items()}
    lies |= {name: [ReadRequest(), raw] for name, raw in CUT.items()}
    context = secured(issue_server(make_ca("others"), "w", names=[SERVER_NAME])) if case == "wrong CA" else None
    async with ScriptedBackend(lies.get(case, [ReadHead(), Hold()]), context) as backend:
        if case == "refused":
            await backend.close()
        yield backend_of(backend, tls=context is not None, server_name=SERVER_NAME, ca=ca.certificate)


@pytest.mark.parametrize("case", BAD)
async def test_a_healthy_service_is_undisturbed(
    transport: Http1Transport, ca: KeyPair, secured: Any, case: str
) -> None:
    """Whatever one backend does, 100 requests to another one beside it, on the same transport, are answered."""
    async with AsyncExitStack() as stack:
        bad = await stack.enter_async_context(bad_backend(case, ca, secured))
        healthy = await stack.enter_async_context(ScriptedBackend(lambda request: respond(body=b"well")))
        client, other = proxied(transport, backend_of(healthy)), proxied(transport, bad)

        async def load() -> None:
            for _ in range(20):
                response = await client.request("GET", "/a")
                assert (response.status, response.body) == (200, b"well")

        disturbing = [asyncio.create_task(_disturb(other)) for _ in range(10)]
        await asyncio.gather(*(load() for _ in range(5)))
        for task in disturbing:
            task.cancel()
        await asyncio.gather(*disturbing, return_exceptions=True)


async def _disturb(client: Client) -> None:
    for _ in range(10):
        try:
            response = await client.request("GET", "/a")
        except IncompleteResponse:
            continue
        assert response.status in (502, 503)
