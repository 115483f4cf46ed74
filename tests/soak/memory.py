"""How much memory a front proxy needs for exchanges whose clients, or backends, take their time.

::

    python -m tests.soak.memory --exchanges 200 --mebibytes 50

prints a table for either event loop, plain and with TLS on both sides. The fast side sends as fast as it may; the slow
side reads a little now and then. What the kernel holds for sockets is not in these figures: it is bounded by
`net.ipv4.tcp_rmem` and `tcp_wmem`, twice for each exchange.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks.machine import peak_memory, resident
from tests.soak.site import THINGS, Certificates, front

from aggmw.server.sockets import reset_on_close

__all__ = ["Measured", "measure"]

_PIECE = bytes(65_536)
_RECEIVE = 16_384
_LARGE = THINGS + b"/large"


class Measured(NamedTuple):
    """Bytes of resident memory of the front proxy's process.

    Attributes:
        growth: at its worst, over what it was after as many small exchanges.
        again: the same in the last round.
        left: what it was more, once all was over.
        moved: what the fast side could send.
    """

    growth: int
    again: int
    left: int
    moved: int


class _Peer(asyncio.Protocol):
    """One end of an exchange: sends zeros as fast as it may, or reads `rest` seconds after the last time; or never."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._left = 0
        self._paused = False
        self._slow = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._run.peers.add(self)  # the loop forgets a transport that is not read, and it would be collected

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.peers.discard(self)
        self._left = 0

    def pour(self, size: int) -> None:
        """Send so many bytes."""
        self._left = size
        self.resume_writing()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        while self._left and not self._paused and not self.transport.is_closing():
            piece = _PIECE[: self._left]
            self.transport.write(piece)
            self._left -= len(piece)
            self._run.moved += len(piece)

    def dawdle(self) -> None:
        """Read no more for a while."""
        self._slow = True
        self.transport.pause_reading()
        if self._run.rest is not None:
            self._run.loop.call_later(self._run.rest, self._go_on)

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


class _Backend(_Peer):
    """Answers small requests at once, large ones with a large body; reads uploads slowly."""

    _head = b""

    def data_received(self, data: bytes) -> None:
        if self._slow:
            self.dawdle()
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        head, self._head = self._head, b""
        if head.startswith(b"POST"):
            self.dawdle()
        elif head.startswith(b"GET %b " % _LARGE):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._run.size)
            self.pour(self._run.size)
        else:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")


class _Client(_Peer):
    """Asks once."""

    def __init__(self, run: _Run, kind: str) -> None:
        super().__init__(run)
        self._kind = kind
        self.answered = run.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._kind in ("upload", "queue"):
            self.transport.write(
                b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (THINGS, self._run.size)
            )
            self.pour(self._run.size)
        else:
            target = _LARGE if self._kind == "download" else THINGS
            self.transport.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
        if self._kind == "download":
            self.dawdle()


class _Run:
    """The two ends of all exchanges, and what they share."""

    def __init__(self, size: int, rest: float | None) -> None:
        self.size = size
        self.rest = rest
        self.moved = 0
        self.loop = asyncio.get_running_loop()
        self.peers: set[_Peer] = set()

    @asynccontextmanager
    async def backend(self, certificates: Certificates | None) -> AsyncIterator[int]:
        """Listens; gives the port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
        context = certificates.serving() if certificates is not None else None
        server = await self.loop.create_server(lambda: _Backend(self), sock=listener, ssl=context)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            await self.leave()

    async def ask(self, kind: str, number: int, port: int, certificates: Certificates | None) -> list[_Client]:
        """So many clients, each on a connection of its own."""
        options: dict[str, Any] = {}
        if certificates is not None:
            options = {"ssl": certificates.asking(), "server_hostname": "localhost"}
        clients = []
        for _ in range(number):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
            sock.setblocking(False)
            await self.loop.sock_connect(sock, ("127.0.0.1", port))
            _, client = await self.loop.create_connection(lambda: _Client(self, kind), sock=sock, **options)
            clients.append(client)
        return clients

    async def leave(self) -> None:
        """End every connection, by a reset: an end would wait behind what was sent and not been read."""
        async with asyncio.timeout(60):
            while self.peers:
                for peer in tuple(self.peers):
                    reset_on_close(peer.transport)
                    peer.transport.abort()
                await asyncio.sleep(0.01)


async def measure(
    loop: str,
    kind: str,
    certificates: Certificates | None,
    *,
    exchanges: int,
    size: int,
    rounds: int = 1,
    rest: float | None = None,
    seconds: float = 0.0,
) -> Measured:
    """Let so many exchanges run into slow readers.

    Args:
        loop: the front proxy's.
        kind: "download", with slow clients; "upload", with a slow backend; "queue": uploads of which all but one wait
            for a connection to the backend.
        certificates: TLS on both sides.
        exchanges: how many at once.
        size: bytes of each body.
        rounds: how many times, one after the other; all clients leave in between.
        rest: seconds between two reads of a slow peer; None: it reads no more at all.
        seconds: at least so long; and until nothing moves any more, where nobody reads.
    """
    run = _Run(size, rest)
    connections = 1 if kind == "queue" else 1000
    async with (
        run.backend(certificates) as backend,
        front(loop, backend, certificates, connections=connections) as proxy,
    ):
        for _ in range(2):  # what a first use of everything costs is nobody's exchange
            clients = await run.ask("small", exchanges, proxy.port, certificates)
            await asyncio.gather(*[client.answered for client in clients])
        await run.leave()
        before = resident(proxy.pid)
        growths = []
        for _ in range(rounds):
            run.moved = 0
            with peak_memory(proxy.pid) as growth:
                begun = resident(proxy.pid)
                clients = await run.ask(kind, exchanges, proxy.port, certificates)
                await asyncio.sleep(seconds)
                if rest is None:
                    await _until_still(lambda: run.moved, proxy.pid)
                growths.append(begun + growth() - before)
                lost = sum(client.transport.is_closing() for client in clients)
                assert not lost, f"{lost} exchanges were broken off"
            moved = run.moved
            await run.leave()
        return Measured(growths[0], growths[-1], resident(proxy.pid) - before, moved)


async def _until_still(figure: Callable[[], int], pid: int) -> None:
    """Wait until a figure has been the same for a third of a second, in which a process had nothing to do."""
    async with asyncio.timeout(60):
        since, last = time.monotonic(), figure()
        while time.monotonic() - since < 0.33:
            await asyncio.sleep(0.02)
            if (now := figure()) != last or _runs(pid):
                since, last = time.monotonic(), now


def _runs(pid: int) -> bool:
    """Whether a process does something, or waits for its turn."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


async def _table(exchanges: int, size: int, rest: float | None, seconds: float) -> None:
    print("| loop | TLS | slow | KiB an exchange | in a second round | kept | MiB taken from the fast side |")
    print("|---|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="aggmw-memory-") as directory:
        made = Certificates.make(Path(directory))
        for loop in ("uvloop", "asyncio"):
            for certificates in (None, made):
                for kind, slow in (("download", "clients"), ("upload", "backend"), ("queue", "queue")):
                    found = await measure(
                        loop, kind, certificates, exchanges=exchanges, size=size, rounds=2, rest=rest, seconds=seconds
                    )
                    figures = " | ".join(f"{figure / exchanges / 1024:.0f}" for figure in found[:3])
                    tls = "yes" if certificates else "no"
                    print(f"| {loop} | {tls} | {slow} | {figures} | {found.moved >> 20} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=200, help="at once (default: %(default)s)")
    parser.add_argument("--mebibytes", type=int, default=50, help="of each body (default: %(default)s)")
    parser.add_argument("--rest", type=float, help="seconds between two reads of a slow peer (default: it never reads)")
    parser.add_argument("--seconds", type=float, default=0.0, help="at least so long (default: %(default)s)")
    options = parser.parse_args()
    asyncio.run(_table(options.exchanges, options.mebibytes << 20, options.rest, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
