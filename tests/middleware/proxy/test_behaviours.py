"""What the tests of other proxies ask of one, where no other test of ours does: `docs/reference/behaviours.md`."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.proxy.proxying import backend_of, proxied

from aggmw.middleware.proxy import Http1Transport
from aggmw.middleware.proxy.headers import backwards, sift
from aggmw.pki.make import issue_server, make_ca
from aggmw.testing import (
    Hold,
    IncompleteResponse,
    ReadHead,
    ReadRequest,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    Send,
    Wait,
    respond,
)

NAME = "wardle.default.svc"
ANSWER = respond(body=b"hello")


@pytest.mark.parametrize("value", [b"", b",", b" , ,", b"close, ,", b"keep-alive,"])
def test_a_connection_field_without_a_name(value: bytes) -> None:
    """Empty elements of `Connection` name nothing, and the field goes no further, either way."""
    fields = ((b"connection", value), (b"x-a", b"b"))
    assert sift(fields).kept == [(b"x-a", b"b")]
    assert backwards(200, fields) == [(b"x-a", b"b")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "REPORT"])
async def test_methods_pass(transport: Http1Transport, method: str) -> None:
    """A method is what the client said, also one that nobody knows."""
    async with ScriptedBackend(lambda request: respond(204)) as backend:
        await proxied(transport, backend_of(backend)).request(method, "/a")
        assert ReceivedRequest.of(backend.connections[0].exchanges[0]).method == method


async def test_encoded_bodies_pass(transport: Http1Transport) -> None:
    """What is compressed stays so, with its length, both ways; no encoding is asked for that the client did not."""
    body = gzip.compress(b"hello" * 100)
    answer = respond(headers={"Content-Encoding": "gzip"}, body=body)
    async with ScriptedBackend(lambda request: answer) as backend:
        response = await proxied(transport, backend_of(backend)).request(
            "POST", "/a", headers={"Content-Encoding": "gzip"}, body=body
        )
        assert (response.body, response.header("content-encoding")) == (body, b"gzip")
        assert response.header("content-length") == str(len(body)).encode()
        request = ReceivedRequest.of(backend.connections[0].exchanges[0])
        assert (request.body, request.header("content-encoding")) == (body, b"gzip")
        assert request.values("content-length") == [str(len(body)).encode()]
        assert request.header("accept-encoding") is None


MANY = respond(headers={"Transfer-Encoding": "chunked"})
MANY += b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in [*range(1, 40), 0])
KINDS = {
    "a length": (ANSWER, b"hello"),
    "one chunk": (respond(body=b"hello", chunked=True), b"hello"),
    "many chunks": (MANY, b"x" * sum(range(40))),
    "no chunk": (respond(headers={"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", b""),
    "no byte": (respond(body=b""), b""),
    "204": (respond(204), b""),
    "304": (respond(304), b""),
    "304 with a length": (respond(304, {"Content-Length": "5"}), b""),
    "a 404": (respond(404, body=b"no"), b"no"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_kind_of_answer_keeps_the_connection(transport: Http1Transport, method: str) -> None:
    """One connection after answers of every kind, to GET and to HEAD: each gets its own body, or none."""

    def answer(raw: bytes) -> bytes:
        sent = KINDS[ReceivedRequest.of(raw).target[1:].decode().replace("_", " ")][0]
        return sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else sent

    async with ScriptedBackend(answer) as backend:
        client = proxied(transport, backend_of(backend))
        for name in [*KINDS, *reversed(KINDS)]:
            response = await client.request(method, "/" + name.replace(" ", "_"))
            assert response.body == (b"" if method == "HEAD" else KINDS[name][1])
        assert len(backend.connections) == 1


async def test_a_body_until_the_end(transport: Http1Transport) -> None:
    """An answer without any length is whole when its connection ends, and has none towards the client."""
    async with ScriptedBackend([ReadHead(), Send(b"HTTP/1.1 200 OK\r\n\r\nhello"), Send(b" world")]) as backend:
        response = await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert (response.body, response.header("content-length")) == (b"hello world", None)


@pytest.mark.parametrize("framing", [{"Content-Length": "2000000"}, {"Transfer-Encoding": "chunked"}])
async def test_a_large_body_that_is_cut(transport: Http1Transport, framing: dict[str, str]) -> None:
    """A body of a megabyte that breaks off does not look whole because much of it came."""
    half = b"x" * 1_000_000
    body = b"%x\r\n%b\r\n" % (len(half), half) if "Transfer-Encoding" in framing else half
    async with ScriptedBackend([ReadHead(), Send(respond(headers=framing) + body)]) as backend:
        with pytest.raises(IncompleteResponse):
            await proxied(transport, backend_of(backend)).request("GET", "/a")
        assert transport.taken == 0


@pytest.mark.parametrize(("status", "protocol"), [(200, "h2c"), (426, "TLS/1.3")])
async def test_an_offered_upgrade(transport: Http1Transport, status: int, protocol: str) -> None:
    """A backend that would rather speak another protocol says so to us: the answer passes, the offer does not."""
    raw = respond(status, {"Upgrade": protocol, "Connection": "Upgrade"}, b"hello")
    async with ScriptedBackend(lambda request: raw) as backend:
        client = proxied(transport, backend_of(backend))
        for _ in range(2):
            response = await client.request("GET", "/a")
            assert (response.status, response.body) == (status, b"hello")
            assert response.header("upgrade") is None
            assert response.header("connection") is None
        assert len(backend.connections) == 1


async def test_pieces_of_an_upload_go_on_one_by_one(transport: Http1Transport) -> None:
    """Each piece is with the backend before the client sends the next: nothing waits for the whole."""
    for framing in ({}, {"Content-Length": "6"}):
        async with ScriptedBackend([ReadRequest(), Send(ANSWER), Hold()]) as backend:

            async def pieces(backend: ScriptedBackend = backend) -> AsyncIterator[bytes]:
                yield b"one"
                connection = await backend.connected()
                async with asyncio.timeout(60):
                    while b"one" not in connection.received:
                        await connection.received_at_least(len(connection.received) + 1)
                assert b"two" not in connection.received
                yield b"two"

            client = proxied(transport, backend_of(backend))
            response = await client.request("POST", "/a", headers=framing, body=pieces())
            assert response.body == b"hello"
            assert ReceivedRequest.of(backend.connections[0].exchanges[0]).body == b"onetwo"


async def test_a_cut_answer_ends_the_upload(transport: Http1Transport) -> None:
    """A backend that breaks off while it is still sent to: the client is cut off, and asked for nothing more."""
    asked: list[int] = []
    begun, forever = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        asked.append(1)
        yield b"x" * 1000
        asked.append(2)
        begun.set()
        await forever.wait()
        yield b"never"

    begin = respond(headers={"Content-Length": "10"}, body=b"hello")
    async with ScriptedBackend([ReadHead(), Send(begin), Wait(begun), Reset()]) as backend:
        client = proxied(transport, backend_of(backend))
        with pytest.raises(IncompleteResponse):
            await client.request("POST", "/a", headers={"Content-Length": "5000"}, body=endless())
        assert asked == [1, 2]
        assert transport.taken == 0
        assert [connection.exchanges for connection in backend.connections] == [[]]


@pytest.mark.parametrize("trusted", ["CA bundle", "nobody, and verification off"])
async def test_as_the_caller_over_tls(transport: Http1Transport, tmp_path: Path, trusted: str) -> None:
    """Over TLS a backend gets the request and the caller, by its own CA's certificate or with verification off."""
    ca = make_ca("services")
    pair = issue_server(ca, "wardle", names=[NAME])
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    options: dict[str, Any] = {"ca": ca.certificate, "server_name": NAME}
    if trusted != "CA bundle":
        options = {"insecure_skip_tls_verify": True, "server_name": "somebody.else"}
    async with ScriptedBackend(lambda request: ANSWER, context) as backend:
        response = await proxied(transport, backend_of(backend, tls=True, **options)).request("GET", "/a")
        assert (response.status, response.body) == (200, b"hello")
        request = ReceivedRequest.of(backend.connections[0].exchanges[0])
        assert request.header("x-remote-user") == b"alice"
        assert request.values("x-remote-group") == [b"dev", b"ops"]
        assert backend.connections[0].server_name == options["server_name"]
