"""Several addresses, some of which do not answer; and a dial that is given up at any point, on either event loop."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs
from tests.net.dialling import Peer, silent_address

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.net import dial as dialling
from aggmw.net.dial import dial
from aggmw.net.tls import upstream_context
from aggmw.pki.make import issue_server, make_ca
from aggmw.testing import Hold, ScriptedBackend, Send, VirtualClock
from aggmw.testing.hygiene import open_sockets

NAME = "many.example"
SILENT, REFUSING, GOOD = "127.0.0.2", "127.0.0.3", "127.0.0.1"


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where `NAME` leads."""
    known: list[str] = []

    async def resolve(host: str, port: int) -> list[Any]:
        assert host == NAME
        await asyncio.sleep(0)
        families = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in known]
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for family, address in families]

    monkeypatch.setattr(dialling, "_resolve", resolve)
    return known


async def met(peer: Peer) -> str:
    """At which address a connection was made, once it has spoken."""
    assert await peer.received == b"hi"
    address: str = peer.transport.get_extra_info("peername")[0]
    peer.transport.abort()
    return address


async def test_in_order(addresses: list[str]) -> None:
    """The first that answers, in the order of the answer from the resolver; who refuses holds nobody up."""
    async with (
        ScriptedBackend([Send(b"hi"), Hold()]) as backend,
        ScriptedBackend([Send(b"hi"), Hold()], host="127.0.0.4", port=backend.port),
    ):
        for order in ([GOOD, "127.0.0.4"], ["127.0.0.4", GOOD], [REFUSING, "127.0.0.4", GOOD]):
            addresses[:] = order
            assert await met(await dial(Peer, NAME, backend.port)) == next(each for each in order if each != REFUSING)


async def test_a_silent_address_costs_a_quarter_of_a_second(addresses: list[str], clock: VirtualClock) -> None:
    """An address that does not answer holds up the next by 250 ms, and nothing is left of the attempt."""
    async with ScriptedBackend([Send(b"hi"), Hold()]) as backend:
        addresses[:] = [SILENT, GOOD]
        with silent_address(SILENT, backend.port):
            before = open_sockets()
            attempt = asyncio.create_task(dial(Peer, NAME, backend.port))
            await clock.advance(0.2)
            assert not attempt.done()
            await clock.advance(0.1)
            assert len(open_sockets().keys() - before.keys()) == 2  # the connection's two ends
            assert await met(await attempt) == GOOD


async def test_a_family_that_leads_nowhere(addresses: list[str], clock: VirtualClock) -> None:
    """IPv6 and IPv4 take turns, so that however many addresses of one of them there are, the other is tried second."""
    async with ScriptedBackend([Send(b"hi"), Hold()]) as backend:
        addresses[:] = ["::1", "::1", "::1", GOOD]
        with silent_address("::1", backend.port):
            attempt = asyncio.create_task(dial(Peer, NAME, backend.port))
            await clock.advance(0.3)
            assert attempt.done()
            assert await met(await attempt) == GOOD


async def test_a_slow_address_may_still_win(addresses: list[str], clock: VirtualClock) -> None:
    """Who was tried first and is slow is not given up while the others are no better."""
    async with ScriptedBackend([Send(b"hi"), Hold()]) as backend:
        addresses[:] = [SILENT, REFUSING]
        with silent_address(SILENT, backend.port):
            attempt = asyncio.create_task(dial(Peer, NAME, backend.port))
            await clock.advance(4)
            assert not attempt.done()
            with capture_logs():
                await clock.advance(2)
                with pytest.raises(UpstreamUnreachable, match="timed out connecting"):
                    await attempt


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_nobody_answers(addresses: list[str], number: int) -> None:
    """All refuse: that is what is said, once; the log has the addresses."""
    async with ScriptedBackend([Hold()]) as backend:
        addresses[:] = [f"127.0.0.{3 + each}" for each in range(number)]
        with capture_logs() as logs, pytest.raises(UpstreamUnreachable) as caught:
            await dial(Peer, NAME, backend.port)
    assert str(caught.value) == "connection refused"
    (entry,) = logs
    assert all(address in entry["error"] for address in addresses)


async def test_no_address(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has no address, and a resolver that does not say so itself."""

    async def nothing(loop: Any, host: str, port: int, **options: Any) -> list[Any]:
        return []

    monkeypatch.undo()
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", nothing)
    with capture_logs(), pytest.raises(UpstreamUnreachable, match="its name does not resolve"):
        await dial(Peer, "empty.example", 443)


# Given up anywhere

WAYS = {
    "one": [GOOD],
    "refusing first": [REFUSING, GOOD],
    "silent first": [SILENT, GOOD],
    "two that answer": [GOOD, "127.0.0.4"],
}


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and ours."""
    folder: Path = tmp_path_factory.mktemp("server")
    ca = make_ca("services")
    pair = issue_server(ca, "wardle", names=[NAME])
    (folder / "cert").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert", folder / "key")
    return server, upstream_context(Backend(NAME, NAME, 443, ca=ca.certificate), None)


class Accepted(asyncio.Protocol):
    """The other end; `left` counts those that are open."""

    left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Accepted.left += 1

    def connection_lost(self, error: Exception | None) -> None:
        Accepted.left -= 1


@asynccontextmanager
async def listening(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Two addresses that answer, with the same port."""
    loop = asyncio.get_running_loop()
    first = await loop.create_server(Accepted, GOOD, 0, ssl=context)
    port: int = first.sockets[0].getsockname()[1]
    second = await loop.create_server(Accepted, "127.0.0.4", port, ssl=context)
    try:
        yield port
        while Accepted.left:
            await asyncio.sleep(0.001)
    finally:
        first.close()
        second.close()


def unharmed() -> None:
    """The next descriptors are those that were closed last: nobody closes them a second time."""
    pairs = [socket.socketpair() for _ in range(4)]
    gc.collect(0)
    for one, other in pairs:
        one.send(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("way", WAYS)
def test_cancelled_anywhere(
    loop: Callable[[], asyncio.AbstractEventLoop],
    secure: bool,
    way: str,
    addresses: list[str],
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dial that is given up after any number of steps of the loop, once or twice, leaves no socket and closes none of
    anybody else's; it is over when it says so."""
    monkeypatch.setattr(dialling, "_NEXT_ADDRESS_SECONDS", 1e-6)
    addresses[:] = WAYS[way]
    server, client = contexts if secure else (None, None)
    ends = {"cancelled": 0, "connected": 0}

    async def attempt(port: int, steps: int, *, twice: bool, patience: float = 0) -> None:
        task = asyncio.create_task(dial(Peer, NAME, port, context=client))
        for _ in range(steps):
            await asyncio.sleep(0)
        if patience:
            await asyncio.wait([task], timeout=patience)
        task.cancel()
        if twice:
            await asyncio.sleep(0)
            task.cancel()
        try:
            peer = await task
        except asyncio.CancelledError:
            ends["cancelled"] += 1
        else:
            ends["connected"] += 1
            peer.transport.abort()
        unharmed()

    async def main() -> None:
        async with listening(server) as port:
            with ExitStack() as stack:
                if way == "silent first":
                    stack.enter_context(silent_address(SILENT, port))
                before = open_sockets()
                for steps in range(100):
                    await attempt(port, steps, twice=steps % 2 == 1)
                    await attempt(port, steps, twice=steps % 2 == 0)
                for number in range(4):  # a hundred steps may be over before the kernel has done its part
                    await attempt(port, 0, twice=number % 2 == 0, patience=30)
                while Accepted.left:
                    await asyncio.sleep(0.001)
                while open_sockets().keys() - before.keys():
                    await asyncio.sleep(0.001)

    limited(loop, main())
    assert ends["cancelled"] >= 4
    assert ends["connected"] >= 4


def limited(loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    async def within_seconds() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(within_seconds())


async def test_a_cancellation_in_the_moment_of_winning(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The race of addresses waits for the losers when one has won, and swallows a cancellation then: it is not lost."""
    addresses[:] = [GOOD, GOOD]
    real = dialling.start_connection

    async def swallowing(*arguments: Any, **options: Any) -> socket.socket:
        connected = await real(*arguments, **options)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return connected
        raise AssertionError

    monkeypatch.setattr(dialling, "start_connection", swallowing)
    async with ScriptedBackend([Hold()]) as backend:
        attempt = asyncio.create_task(dial(Peer, NAME, backend.port))
        await backend.connected()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await backend.connections[0].gone()
