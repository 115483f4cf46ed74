"""WebSockets to backends over TLS and Unix sockets, on both event loops."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import NAME, backend_of, proxied
from tests.middleware.proxy.test_lane_on_uvloop import SERVER_NAME, ca, secure, serving

from aggmw.contracts.backends import Backend
from aggmw.middleware.proxy import Http1Transport
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.testing import ReceivedRequest, ScriptedBackend
from aggmw.testing.frames import CLOSE, AcceptWebSocket, EndWebSocket, frame, read_frame

__all__ = ["ca", "secure"]  # fixtures

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LARGE = b"x" * 1_000_000


def on(loop: str, main: Any) -> None:
    """Run a test on an event loop, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(limited())


class Streams:
    """A connection for the steps of a WebSocket, where the loop is not asyncio's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_request(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read_exactly(self, number: int) -> bytes:
        return await self._reader.readexactly(number)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def echo(connection: Any) -> None:
    while (received := await read_frame(connection)).opcode != CLOSE:
        await connection.send(frame(received.opcode, received.payload))
    await connection.send(frame(CLOSE, received.payload))


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that accepts, echoes, and closes when it is asked to."""
    connection: Any = Streams(reader, writer)
    await AcceptWebSocket().run(connection)
    await echo(connection)


async def echoing_then_closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await echoing(reader, writer)
    writer.close()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_messages(loop: str, tls: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """Large ones both ways, and an end that both sides know, plain and over TLS."""

    async def main() -> None:
        transport = Http1Transport()
        async with serving(echoing, ca if tls else None, secure if tls else None) as served:
            socket = await proxied(transport, served.backend).websocket("/a")
            for message in ("x", LARGE, b""):
                await socket.send(message)
                assert await socket.receive() == message
            await socket.close(4000)
            assert transport.taken == 0
            await transport.aclose()

    on(loop, main())


@pytest.mark.parametrize("trusted", ["CA bundle", "nobody, and verification off"])
async def test_as_the_caller(
    transport: Http1Transport, ca: KeyPair, secure: ssl.SSLContext, tmp_path: Path, trusted: str
) -> None:
    """§2.5: the same CA, server name and client certificate as for any request."""
    clients = make_ca("front-proxy")
    pair = issue_client(clients, "front-proxy")
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    secure.load_verify_locations(cadata=clients.certificate.decode())
    secure.verify_mode = ssl.CERT_REQUIRED
    options: dict[str, Any] = {"ca": ca.certificate, "server_name": SERVER_NAME}
    if trusted != "CA bundle":
        options = {"insecure_skip_tls_verify": True, "server_name": "somebody.else"}
    showing = Http1Transport(client_certificate=ClientCertificatePair(tmp_path / "cert", tmp_path / "key"))
    try:
        async with ScriptedBackend([AcceptWebSocket(), EndWebSocket()], secure) as server:
            socket = await proxied(showing, backend_of(server, tls=True, **options)).websocket("/a")
            assert socket.accepted
            connection = server.connections[0]
            assert connection.server_name == options["server_name"]
            assert connection.certificate is not None
            await socket.close()
            request = ReceivedRequest.of(server.requests[0])
            assert request.values("x-remote-user") == [b"alice"]
    finally:
        secure.verify_mode = ssl.CERT_NONE
        await showing.aclose()


async def test_a_wrong_certificate(transport: Http1Transport, secure: ssl.SSLContext) -> None:
    """Nothing is sent."""
    async with ScriptedBackend([AcceptWebSocket()], secure) as server:
        other = make_ca("other")
        backend = backend_of(server, tls=True, server_name=SERVER_NAME, ca=other.certificate)
        socket = await proxied(transport, backend).websocket("/a")
        assert socket.status == 503
        assert b"its certificate is not trusted" in socket.body
        assert server.connections == []


@pytest.mark.parametrize("loop", LOOPS)
def test_behind_a_unix_socket(loop: str, tmp_path: Path) -> None:
    """As for any request."""

    async def main() -> None:
        server = await asyncio.start_unix_server(echoing_then_closing, tmp_path / "s")
        transport = Http1Transport()
        backend = Backend.at(f"unix:{tmp_path}/s", name=NAME)
        socket = await proxied(transport, backend).websocket("/a")
        await socket.send(b"hello")
        assert await socket.receive() == b"hello"
        await socket.close()
        await transport.aclose()
        server.close()
        await server.wait_closed()

    on(loop, main())


async def test_a_new_client_certificate_disturbs_none(ca: KeyPair, secure: ssl.SSLContext, tmp_path: Path) -> None:
    """An open WebSocket goes on with what it was opened with."""
    clients = make_ca("front-proxy")

    def write(pair: KeyPair) -> None:
        (tmp_path / "cert").write_bytes(pair.certificate)
        (tmp_path / "key").write_bytes(pair.key)

    write(issue_client(clients, "front-proxy"))
    transport = Http1Transport(client_certificate=ClientCertificatePair(tmp_path / "cert", tmp_path / "key"))
    async with ScriptedBackend([AcceptWebSocket(), echo], secure) as server:
        backend = backend_of(server, tls=True, server_name=SERVER_NAME, ca=ca.certificate)
        socket = await proxied(transport, backend).websocket("/a")
        write(issue_client(clients, "front-proxy-2"))
        transport.reload()
        await socket.send("still here")
        assert await socket.receive() == "still here"
        await socket.close()
    await transport.aclose()


async def test_closing_the_transport_ends_it(ca: KeyPair, secure: ssl.SSLContext) -> None:
    """The client gets 1011, and no socket stays."""
    transport = Http1Transport()
    async with ScriptedBackend([AcceptWebSocket(), echo], secure) as server:
        backend = backend_of(server, tls=True, server_name=SERVER_NAME, ca=ca.certificate)
        socket = await proxied(transport, backend).websocket("/a")
        await transport.aclose()
        await socket.finished()
        await server.connections[0].gone()
