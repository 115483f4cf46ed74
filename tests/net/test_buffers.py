"""What event loops hold of a connection is bounded, on either loop, plain and under TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aggmw.net.buffers import HIGH_WATER, bound_buffers
from aggmw.pki.make import issue_server, make_ca


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    folder: Path = tmp_path_factory.mktemp("buffers")
    authority = make_ca("buffers")
    pair = issue_server(authority, "server", names=["localhost"])
    (folder / "crt").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "crt", folder / "key")
    return serving, ssl.create_default_context(cadata=authority.certificate.decode())


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("tls", [False, True])
def test_bounds(factory: Callable[[], Any], tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Both event loops take the bounds, and a writer is told to stop at 64 KiB, where they would say 512 under TLS."""

    class Writer(asyncio.Protocol):
        paused = False

        def pause_writing(self) -> None:
            self.paused = True

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            deaf.append(transport)

        def data_received(self, data: bytes) -> None:
            deaf[-1].pause_reading()

    deaf: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving, asking = contexts if tls else (None, None)
        server = await loop.create_server(Deaf, "127.0.0.1", 0, ssl=serving)
        port = server.sockets[0].getsockname()[1]
        options: dict[str, Any] = {"ssl": asking, "server_hostname": "localhost"} if tls else {}
        transport, writer = await loop.create_connection(Writer, "127.0.0.1", port, **options)
        bound_buffers(transport, tls=tls)
        while not writer.paused:
            transport.write(bytes(1024))
            await asyncio.sleep(0)
        assert HIGH_WATER <= transport.get_write_buffer_size() < HIGH_WATER + 8192
        transport.abort()
        for each in deaf:
            each.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.02)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
