"""A backend that answers in the middle of an upload and breaks the connection at once: the answer is not lost.

The system gives what came before a reset to who reads, unless a write has failed before that and the event loop has
closed the connection for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import NAME, whole

from aggmw.contracts.backends import Backend, UpstreamRequest
from aggmw.errors import UpstreamBroken
from aggmw.middleware.proxy import Http1Transport
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.pki.make import KeyPair, issue_server, make_ca
from aggmw.testing import respond

SERVER_NAME = "wardle.default.svc"
ANSWER = respond(413, body=b"too long")
RESET = struct.pack("ii", 1, 0)  # linger on, for no time

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


@pytest.fixture(scope="module")
def secure(ca: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("server")
    pair = issue_server(ca, "wardle", names=[SERVER_NAME])
    (folder / "cert").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "cert", folder / "key")
    return made


def run(loop: Loop, main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(limited())


async def attempt(
    transport: Http1Transport, answer: bytes, tls: tuple[KeyPair, ssl.SSLContext] | None
) -> tuple[int, bytes]:
    """Upload to a backend that answers so and resets, and in the same step of the loop has the next piece ready."""

    def accept() -> socket.socket:
        accepted, _ = listener.accept()
        return tls[1].wrap_socket(accepted, server_side=True) if tls else accepted

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        accepted = await accepting
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.sendall(answer)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        accepted.close()
        for _ in range(20):
            yield b"x" * 65_536

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        backend = Backend(NAME, "127.0.0.1", port, tls is not None, SERVER_NAME, tls[0].certificate if tls else b"")
        accepting = asyncio.get_running_loop().run_in_executor(None, accept)
        response = await transport.send(backend, UpstreamRequest(b"POST", b"/a", body=body()))
        return response.status, await whole(response)


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_the_answer_is_read_first(loop: Loop, tls: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """Before more of a body is written, what the backend has sent is read, and what was read is the answer."""

    async def main() -> None:
        transport = Http1Transport()
        for _ in range(5):
            assert await attempt(transport, ANSWER, (ca, secure) if tls else None) == (413, b"too long")
            assert transport.taken == 0
        await transport.aclose()

    run(loop, main())


@LOOPS
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 413", b"HTTP/1.1 413 X\r\n\r\nunlimited", respond(413, [("Content-Length", "9")])]
)
def test_half_an_answer_is_none(loop: Loop, answer: bytes) -> None:
    """A reset in the middle of an answer, or of a body that would end with the connection, leaves it broken."""

    async def main() -> None:
        transport = Http1Transport()
        with pytest.raises(UpstreamBroken):
            await attempt(transport, answer, None)
        assert transport.taken == 0
        await transport.aclose()

    run(loop, main())


@LOOPS
def test_a_write_that_fails_first(loop: Loop) -> None:
    """Where the reset comes between looking and writing, what had come before it is read all the same."""

    async def main() -> None:
        lost: list[Connection] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = asyncio.get_running_loop()
            _, connection = await running.create_connection(
                lambda: Connection(running, lost.append), *listener.getsockname()
            )
            accepted, _ = listener.accept()
            connection.begin(False, None, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
            await asyncio.sleep(0)
            accepted.sendall(ANSWER)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            accepted.close()
            connection.write(b"x" * 50)
            await connection.head()
            assert (connection.status, await connection.read(None), await connection.read(None)) == (
                413,
                b"too long",
                b"",
            )
            connection.abort()
            await connection.lost()
            assert lost == [connection]

    run(loop, main())
