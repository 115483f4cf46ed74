"""The same lane on uvloop, which the server runs on: reuse, staleness, cancellation, and where a TLS stream ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import GET, NAME, whole

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamBroken, UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport
from aggmw.pki.make import KeyPair, issue_server, make_ca
from aggmw.testing import respond

SERVER_NAME = "wardle.default.svc"
HELLO = respond(body=b"hello")
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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


def run(main: Coroutine[Any, Any, None]) -> None:
    """On uvloop, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


class Served:
    """A server of uvloop's own and what was seen of its connections."""

    def __init__(self, port: int, ca: KeyPair | None) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        tls = ca is not None
        self.backend = Backend(NAME, "127.0.0.1", port, tls, SERVER_NAME, ca.certificate if ca is not None else b"")


@asynccontextmanager
async def serving(serve: Serve, ca: KeyPair | None, context: ssl.SSLContext | None) -> AsyncIterator[Served]:
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        served.writers.append(writer)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    served = Served(server.sockets[0].getsockname()[1], ca)
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)


async def answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await reader.readuntil(b"\r\n\r\n")


BOTH = pytest.mark.parametrize("tls", [False, True])


@BOTH
def test_reuse_and_poison(tls: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """Connections are kept, and not used again when something waits in them that nobody asked for."""

    async def main() -> None:
        transport = Http1Transport()
        async with serving(answers, ca if tls else None, secure if tls else None) as served:
            for _ in range(3):
                assert await whole(await transport.send(served.backend, GET)) == b"hello"
            assert len(served.writers) == 1
            served.writers[0].write(respond(body=b"poison"))
            await asyncio.sleep(0)  # uvloop writes at the end of a step
            assert await whole(await transport.send(served.backend, GET)) == b"hello"
            assert len(served.writers) == 2
            await transport.aclose()

    run(main())


@BOTH
def test_stale_connections(tls: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """A kept connection that closes under a request is replaced."""

    async def main() -> None:
        transport = Http1Transport()
        async with serving(answers_once, ca if tls else None, secure if tls else None) as served:
            for _ in range(2):
                assert await whole(await transport.send(served.backend, GET)) == b"hello"
            assert len(served.writers) == 2
            await transport.aclose()

    run(main())


@pytest.mark.parametrize("goodbye", [True, False])
def test_where_a_tls_stream_ends(goodbye: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """http-facts §5: a body that ends with the connection is whole with close_notify, and cut without."""
    read = asyncio.Event()

    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UNTIL_CLOSE)
        await read.wait()
        if goodbye:
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        transport = Http1Transport()
        async with serving(ends, ca, secure) as served:
            response = await transport.send(served.backend, GET)
            assert await response.read() == b"hello"
            read.set()
            if goodbye:
                assert await response.read() == b""
            else:
                with pytest.raises(UpstreamBroken, match="in the middle of its answer"):
                    await response.read()
            await response.aclose()
            await transport.aclose()

    run(main())


@BOTH
def test_cancelled_at_every_step(tls: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """A cancelled request frees its slot and its socket, also while dialling."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        transport = Http1Transport()
        async with serving(silent, ca if tls else None, secure if tls else None) as served:
            for rounds in range(25):
                sending = asyncio.create_task(transport.send(served.backend, GET))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert transport.taken == 0
            await asyncio.sleep(0.02)  # what the kernel connected meanwhile is accepted, and seen to be gone
            await transport.aclose()

    run(main())


@pytest.mark.parametrize(
    ("trusted", "text"), [(False, "its certificate is not trusted"), (True, "its certificate is for another name")]
)
def test_what_is_said_of_certificates(trusted: bool, text: str, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """The same words on either loop."""

    async def main() -> None:
        transport = Http1Transport()
        async with serving(answers, ca, secure) as served:
            name = SERVER_NAME if not trusted else "other.default.svc"
            bundle = (ca if trusted else make_ca("others")).certificate
            backend = Backend(NAME, "127.0.0.1", served.backend.port, True, name, bundle)
            with pytest.raises(UpstreamUnreachable) as caught:
                await transport.send(backend, GET)
            assert str(caught.value) == text
            await transport.aclose()

    run(main())
