"""The scripted backend does what its steps say, and records what it got."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aggmw.testing import (
    BackendConnection,
    Close,
    Expect,
    Hold,
    PeerGone,
    ReadHead,
    ReadRequest,
    ReadToEnd,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    Send,
    VirtualClock,
    Wait,
    respond,
)

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def connection_to(
    backend: ScriptedBackend, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain client connection, closed at the end."""
    name = None if tls is None else "wardle.default.svc"
    reader, writer = await asyncio.open_connection(backend.host, backend.port, ssl=tls, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a trusting client's context, for the name wardle.default.svc."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wardle.default.svc")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("wardle.default.svc")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


async def test_script() -> None:
    """Steps run in order on every connection, which is then closed; all bytes are recorded."""
    async with ScriptedBackend([ReadHead(), Send(b"one"), b"two", Close()]) as backend:
        for _ in range(2):
            async with connection_to(backend) as (reader, writer):
                writer.write(HEAD[:5])
                writer.write(HEAD[5:] + b"rest")
                assert await reader.read() == b"onetwo"
    assert backend.requests == [HEAD + b"rest"] * 2
    assert backend.connections[0].sent == 6


async def test_per_connection() -> None:
    """Connections may have a script each; the last script is repeated."""
    async with ScriptedBackend.per_connection([b"first"], [b"later"]) as backend:
        answers = []
        for _ in range(3):
            async with connection_to(backend) as (reader, _):
                answers.append(await reader.read())
    assert answers == [b"first", b"later", b"later"]


async def test_own_steps() -> None:
    """A function of the connection is a step too, plain or async."""
    seen: list[object] = []

    async def step(connection: BackendConnection) -> None:
        seen.append(await connection.read_exactly(3))
        await connection.send(b"ok")

    async with (
        ScriptedBackend([lambda connection: seen.append(connection.peer[0]), step]) as backend,
        connection_to(backend) as (reader, writer),
    ):
        writer.write(b"abc")
        assert await reader.read() == b"ok"
    assert seen == ["127.0.0.1", b"abc"]


async def test_expect() -> None:
    """`Expect` reads until its bytes have come."""
    async with ScriptedBackend([Expect(b"c"), b"ok"]) as backend, connection_to(backend) as (reader, writer):
        writer.write(b"ab")
        await (await backend.connected()).received_at_least(2)
        writer.write(b"c")
        assert await reader.read() == b"ok"


async def test_expect_not_met() -> None:
    """When something else came, leaving the backend fails and says what."""
    backend = ScriptedBackend([Expect(b"abc")])
    await backend.__aenter__()
    async with connection_to(backend) as (reader, writer):
        writer.write(b"abd")
        writer.write_eof()
        await reader.read()
    with pytest.raises(AssertionError, match="expected b'abc', received b'abd'"):
        await backend.__aexit__(None, None, None)


async def test_failing_step() -> None:
    """What a step of the test's own raises fails the test, also from a handler."""

    async def step(connection: BackendConnection) -> None:
        raise KeyError("step")

    with pytest.raises(AssertionError, match="step"):
        async with ScriptedBackend([step]) as backend, connection_to(backend) as (reader, _):
            assert await reader.read() == b""


async def test_not_a_step() -> None:
    """What is no step is an error, not silence."""
    with pytest.raises(AssertionError, match="not a step: 5"):
        async with ScriptedBackend([5]) as backend, connection_to(backend) as (reader, _):
            await reader.read()


async def test_peer_gone() -> None:
    """A peer that leaves ends the script, and that is no failure."""
    async with ScriptedBackend([ReadHead(), b"unsent"]) as backend:
        async with connection_to(backend):
            connection = await backend.connected()
        await connection.gone()
        assert connection.ended
        with pytest.raises(PeerGone):
            await connection.read_exactly(1)


async def test_reset() -> None:
    """`Reset` is a TCP RST: the client gets an error, not an end."""
    async with ScriptedBackend([ReadHead(), b"some", Reset()]) as backend:
        async with connection_to(backend) as (reader, writer):
            writer.write(HEAD)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(5)
        assert backend.connections[0].closed.is_set()


async def test_wait_and_hold() -> None:
    """`Wait` waits for the test; `Hold` keeps the connection open until the peer goes."""
    go = asyncio.Event()
    async with ScriptedBackend([Wait(go), b"now", Hold()]) as backend:
        async with connection_to(backend) as (reader, _):
            answer = asyncio.create_task(reader.readexactly(3))
            await backend.connected()
            assert not answer.done()
            go.set()
            assert await answer == b"now"
            assert not backend.connections[0].closed.is_set()
        await backend.connections[0].closed.wait()


async def test_read_to_end() -> None:
    """`ReadToEnd` reads up to the peer's end, and can answer after it."""
    async with ScriptedBackend([ReadToEnd(), b"done"]) as backend, connection_to(backend) as (reader, writer):
        writer.write(b"x" * 200_000)
        writer.write_eof()
        assert await reader.read() == b"done"
        assert backend.connections[0].eof
        assert len(backend.requests[0]) == 200_000


async def test_slow_reader_stops_the_peer(clock: VirtualClock) -> None:
    """A backend that reads nothing takes in a bounded amount: the peer feels it."""
    go = asyncio.Event()
    async with ScriptedBackend([Wait(go), ReadToEnd(), b"done"]) as backend, connection_to(backend) as (reader, writer):
        writer.transport.set_write_buffer_limits(high=1)
        size = 30_000_000
        writer.write(bytes(size))
        drained = asyncio.create_task(writer.drain())
        await clock.settle()
        assert not drained.done()
        assert len(backend.connections[0].received) < 1_000_000
        go.set()
        await drained
        writer.write_eof()
        assert await reader.read() == b"done"
        assert len(backend.connections[0].received) == size


async def test_slow_peer_stops_the_backend(clock: VirtualClock) -> None:
    """`send` waits until the peer has made room."""
    async with ScriptedBackend([b"x" * 65536] * 1000) as backend, connection_to(backend) as (reader, _):
        connection = await backend.connected()
        await clock.settle()
        assert connection.sent < 65_536_000
        assert len(await reader.read()) == 65_536_000


async def test_handler() -> None:
    """A handler answers every request of a connection that is kept alive, however requests are framed and packed."""
    requests = [
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n",
    ]

    def handler(raw: bytes) -> bytes:
        request = ReceivedRequest.of(raw)
        return respond(body=request.target + request.body)

    async with ScriptedBackend(handler) as backend, connection_to(backend) as (reader, writer):
        writer.write(b"".join(requests))
        answer = await reader.read()
        assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")] == [
            b"",
            b"/aabc",
            b"/bdef",
            b"/c",
        ]
    assert backend.connections[0].exchanges == requests


async def test_handler_coroutine() -> None:
    """A handler may be a coroutine function, and answer with steps; its own `Connection: close` is kept."""

    async def handler(raw: bytes) -> list[object]:
        await asyncio.sleep(0)
        return [b"HTTP/1.1 200 OK\r\n", Send(b"\r\n"), Close()]

    async with ScriptedBackend(handler) as backend, connection_to(backend) as (reader, writer):
        writer.write(HEAD)
        assert await reader.read() == b"HTTP/1.1 200 OK\r\n\r\n"

    async with (
        ScriptedBackend(lambda _: respond(204, {"Connection": "close"})) as backend,
        connection_to(backend) as (reader, writer),
    ):
        writer.write(HEAD)
        assert await reader.read() == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


async def test_read_request() -> None:
    """`ReadRequest` reads a whole request and keeps it."""
    async with ScriptedBackend([ReadRequest(), b"ok"]) as backend, connection_to(backend) as (reader, writer):
        writer.write(HEAD)
        assert await reader.read() == b"ok"
        assert backend.connections[0].exchanges == [HEAD]


async def test_restart() -> None:
    """A backend can come back on its port."""
    backend = ScriptedBackend([b"ok"])
    async with backend, connection_to(backend) as (reader, _):
        assert await reader.read() == b"ok"
    port = backend.port
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection(backend.host, port)
    async with backend, connection_to(backend) as (reader, _):
        assert await reader.read() == b"ok"
    assert backend.port == port
    assert len(backend.connections) == 2


async def test_leaving_ends_everything() -> None:
    """Leaving ends scripts that wait for ever, and breaks their connections."""
    async with ScriptedBackend([Wait(asyncio.Event())]) as backend:
        reader, writer = await asyncio.open_connection(backend.host, backend.port)
        await backend.connected()
    assert await reader.read() == b""
    writer.close()


async def test_connected_limit() -> None:
    """Waiting for a connection that never comes fails."""
    async with ScriptedBackend([], limit=0.02) as backend:
        with pytest.raises(AssertionError, match="connection number 1"):
            await backend.connected()


async def test_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Over TLS the same, and the server name that was asked for is known."""
    server, client = tls
    async with ScriptedBackend([ReadHead(), b"secret"], server) as backend:
        assert backend.url.startswith("https://127.0.0.1:")
        async with connection_to(backend, client) as (reader, writer):
            writer.write(HEAD)
            assert await reader.read() == b"secret"
        assert backend.connections[0].server_name == "wardle.default.svc"
        assert backend.connections[0].certificate is None
    assert backend.requests == [HEAD]


async def test_tls_reset(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """`Reset` is a TCP RST over TLS too, without close_notify."""
    server, client = tls
    async with (
        ScriptedBackend([ReadHead(), Reset()], server) as backend,
        connection_to(backend, client) as (reader, writer),
    ):
        writer.write(HEAD)
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_tls_refused(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A client that does not trust the backend never becomes a connection; the failed handshake is kept."""
    async with ScriptedBackend([b"secret"], tls[0]) as backend:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(backend.host, backend.port, ssl=ssl.create_default_context())
        while not backend.handshake_failures:
            await asyncio.sleep(0)
    assert backend.connections == []


async def test_tls_stalled_handshake(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Leaving ends a handshake that the peer never finishes."""
    async with ScriptedBackend([], tls[0]) as backend:
        reader, writer = await asyncio.open_connection(backend.host, backend.port)
        writer.write(b"\x16\x03\x01")
        for _ in range(10):
            await asyncio.sleep(0)
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("answer", "raw"),
    [
        (respond(body=b"hi"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        (respond(404, [(b"A", "b")]), b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 0\r\n\r\n"),
        (respond(304), b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (respond(101), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (respond(299, reason="Odd"), b"HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n"),
        (respond(299), b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"),
        (respond(200, {"content-length": "9"}, b"x"), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"),
        (
            respond(body=b"hello world hello", chunked=True),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\nhello world hello\r\n0\r\n\r\n",
        ),
        (respond(chunked=True), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_respond(answer: bytes, raw: bytes) -> None:
    """`respond` writes a response; framing is added where it is needed and not given."""
    assert answer == raw


def test_received_request() -> None:
    """A raw request is taken apart: names in lower case, blanks trimmed, order and duplicates kept."""
    request = ReceivedRequest.of(b"PUT /a%2F?b HTTP/1.1\r\nX-A: 1\r\nx-a:\t2 \r\nContent-Length: 2\r\n\r\nhi")
    assert (request.method, request.target, request.body) == ("PUT", b"/a%2F?b", b"hi")
    assert request.headers == ((b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"2"))
    assert request.header("X-A") == b"1"
    assert request.header(b"none") is None
    assert request.values(b"X-a") == [b"1", b"2"]
