"""How much of an answer a client still has to take: what tells one that reads slowly from one that does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from aggmw.server.sockets import unsent

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_what_is_read_counts(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """It gets less with what the client reads, however full the kernel's own buffers still are."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as ends,
        ):
            ends.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            ends.setblocking(False)
            accepted, _ = listener.accept()
            transport, _ = await running.create_connection(asyncio.Protocol, sock=accepted)
            transport.write(bytes(30_000_000))
            before = -1
            while (full := unsent(transport)) != before:
                before = full
                await asyncio.sleep(0.01)
            waiting = transport.get_write_buffer_size()
            taken = 0
            while unsent(transport) == full:
                taken += len(await running.sock_recv(ends, 8_192))
            assert taken < 500_000
            assert transport.get_write_buffer_size() == waiting
            transport.abort()
            await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own
            assert unsent(transport) == 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@LOOPS
def test_nothing_waits(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What the kernel has altogether keeps nobody: it is sent whatever becomes of the connection here."""

    async def main() -> None:
        ours, other = socket.socketpair()
        with other:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
            transport.write(b"hello")
            await asyncio.sleep(0)
            assert unsent(transport) == 0
            transport.abort()
            await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
