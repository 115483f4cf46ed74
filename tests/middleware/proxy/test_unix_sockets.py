"""Backends behind Unix sockets, on either event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import GET, NAME, proxied, whole

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport, PoolStatistics
from aggmw.pki.make import issue_server, make_ca
from aggmw.testing import respond
from aggmw.testing.hygiene import open_sockets

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(loop: Loop, main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(limited())


def at(path: Path) -> Backend:
    return Backend.at(f"unix:{path}", name=NAME)


@asynccontextmanager
async def listening(path: Path, context: ssl.SSLContext | None = None) -> AsyncIterator[list[bytes]]:
    """A server that answers every request with the path of its socket; gives the heads it received."""
    heads: list[bytes] = []
    running = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running
        running += 1
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(respond(headers={"Location": "http://localhost/moved"}, body=str(path).encode()))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            running -= 1
            writer.transport.abort()

    server = await asyncio.start_unix_server(serve, path, ssl=context)
    try:
        yield heads
        while running:
            await asyncio.sleep(0.001)
    finally:
        server.close()


@LOOPS
def test_exchanges(loop: Loop, tmp_path: Path) -> None:
    """Requests share a kept connection; each socket has its own; Host says localhost; figures name the socket."""
    one, other = tmp_path / "one.sock", tmp_path / "other.sock"

    async def main() -> None:
        transport = Http1Transport()
        async with listening(one) as heads, listening(other):
            for path in (one, other, one):
                assert await whole(await transport.send(at(path), GET)) == str(path).encode()
            assert heads[0].startswith(b"GET /a HTTP/1.1\r\nHost: localhost\r\n")
            assert transport.statistics == (
                PoolStatistics(f"unix:{one}", taken=0, idle=1, waiting=0),
                PoolStatistics(f"unix:{other}", taken=0, idle=1, waiting=0),
            )
            await transport.aclose()

    run(loop, main())


async def test_through_the_proxy(transport: Http1Transport, tmp_path: Path) -> None:
    """§2.3: what the backend is told of itself is what it is called."""
    path = tmp_path / "app.sock"
    async with listening(path) as heads:
        response = await proxied(transport, at(path)).request("GET", "/a")
        assert response.body == str(path).encode()
        assert b"\r\nX-Forwarded-Host: localhost\r\n" in heads[0]
        assert b"\r\nX-Remote-User: alice\r\n" in heads[0]
        await transport.aclose()


@LOOPS
def test_tls(loop: Loop, tmp_path: Path) -> None:
    """TLS is spoken over a Unix socket where a backend is said to; the name verified is its server name."""
    ca = make_ca("services")
    pair = issue_server(ca, "wardle", names=["wardle.default.svc"])
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    path = tmp_path / "app.sock"

    async def main() -> None:
        transport = Http1Transport()
        async with listening(path, context):
            for name, text in (("wardle.default.svc", ""), ("other.svc", "its certificate is for another name")):
                backend = Backend(NAME, "localhost", 0, True, name, ca.certificate, unix=str(path))
                if text:
                    with pytest.raises(UpstreamUnreachable, match=text):
                        await transport.send(backend, GET)
                else:
                    assert await whole(await transport.send(backend, GET)) == str(path).encode()
            await transport.aclose()

    run(loop, main())


@LOOPS
def test_what_is_said(loop: Loop, tmp_path: Path) -> None:
    """No socket, one without a listener, a file that is none, one whose queue is full: nothing was sent, and why."""
    left, full = tmp_path / "left.sock", tmp_path / "full.sock"
    (tmp_path / "file").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))

    async def reason(path: Path) -> str:
        transport = Http1Transport()
        with pytest.raises(UpstreamUnreachable) as caught:
            await transport.send(at(path), GET)
        assert transport.taken == 0
        await transport.aclose()
        return str(caught.value)

    async def main() -> None:
        assert await reason(tmp_path / "none.sock") == "its socket does not exist"
        assert await reason(left) == "connection refused"
        assert await reason(tmp_path / "file") == "connection refused"
        assert await reason(full) == "it takes no more connections"

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(full))
        listener.listen(0)
        waiting.connect(str(full))
        run(loop, main())


@LOOPS
def test_cancelled_anywhere(loop: Loop, tmp_path: Path) -> None:
    """A request that is given up after any number of steps leaves no socket and frees its slot."""
    path = tmp_path / "app.sock"

    async def main() -> None:
        transport = Http1Transport()
        ends = set()
        async with listening(path):
            before = open_sockets()
            for steps in range(40):
                sending = asyncio.create_task(transport.send(at(path), GET))
                for _ in range(steps):
                    await asyncio.sleep(0)
                sending.cancel()
                try:
                    await (await sending).aclose()
                except asyncio.CancelledError:
                    ends.add("cancelled")
                else:
                    ends.add("answered")
                assert transport.taken == 0
            await transport.aclose()
            while open_sockets().keys() - before.keys():
                await asyncio.sleep(0.001)
        assert ends == {"cancelled", "answered"}

    run(loop, main())
