"""Clients that leave in every phase leave nothing behind: through the door, on real sockets, plain and with TLS.

With `test_cancellations.py` they are 1,000 in all, and 10,000 with `--whole`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop
from tests.soak.dawdling import Dawdling, dawdling
from tests.soak.front import GROUP, SERVER_NAME, VERSION
from tests.soak.site import THINGS, Certificates
from tests.soak.whereabouts import PHASES, coroutines, phase, variables

from aggmw import APIService, FrontProxy
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.net.tls import ClientCertificatePair
from aggmw.server.serving import Server, make_server
from aggmw.server.sockets import reset_on_close
from aggmw.server.tls import DoorTLS
from aggmw.testing.hygiene import open_sockets

AT_ONCE = 32
CONNECTIONS = 20
PATIENCE = 0.5  # seconds, as long as enough are in each phase; then ten times that
PROMPT = 9.0  # seconds, on a machine that has other things to do, and before any of the door's deadlines; usually 0.3
QUIET = 3.0
HELLO = bytes.fromhex("16030100ba010000b60303")
GET = b"GET %b/%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPLOAD = b"POST %b/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"PUT %b/%b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
TARGETS = {
    "waiting": [b"late", b"never"],
    "streaming": [b"watch", b"large"],
    None: [b"quick", b"late", b"never", b"watch", b"large"],
}
BEHAVIOURS = {"arriving": ["half", "nothing"], "sending": ["upload", "pieces", "deaf"], "behind": ["behind"]}
ANY = ["get", "get", "upload", "pieces"]
PLACES = (*PHASES, "streaming", "sending", "behind", "arriving", None)


class Visitors:
    """Clients of one front proxy, and what became of their exchanges.

    Attributes:
        phases: how many left in each phase; "arriving": before there was a whole head, or the handshake was done;
            "behind": with a second request behind the first; "over": when the answer was written.
        slowest: seconds from a departure to the end of its exchange, at most.
        patience: seconds to wait for the phase in which somebody is to leave, at most.
    """

    def __init__(self, server: Server, asking: ssl.SSLContext | None, chance: random.Random) -> None:
        self._server = server
        self._asking = asking
        self._chance = chance
        self.phases: Counter[str] = Counter()
        self.slowest = 0.0
        self.patience = PATIENCE

    def rarest(self) -> tuple[str, int]:
        """In which phase the fewest left, and how many."""
        name = min((*PHASES, "behind", "arriving"), key=lambda name: self.phases[name])
        return name, self.phases[name]

    async def visit(self) -> None:
        """Send a request, whole or in part, and leave in some phase, politely or not."""
        chance = self._chance
        rarest, _ = self.rarest()
        wanted = chance.choice([rarest, chance.choice(PLACES)])  # else there may be too few in one of them
        options: dict[str, Any] = {}
        if self._asking is not None and (wanted != "arriving" or chance.random() < 0.5):  # else: in the handshake
            options = {"ssl": self._asking, "server_hostname": "localhost"}
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port, **options)
        port = writer.get_extra_info("sockname")[1]
        behaviour = asyncio.create_task(self._behave(wanted, reader, writer))
        gives_up = time.monotonic() + chance.random() * self.patience
        while time.monotonic() < gives_up and (wanted is None or self._where(port, behaviour) != wanted):
            await asyncio.sleep(chance.random() * 0.008)
        await asyncio.sleep(chance.random() * 0.004)
        deaf = behaviour.get_name() == "deaf"
        self._note(port, behaviour)
        behaviour.cancel()
        await asyncio.wait({behaviour})
        # An end waits behind a body that nobody takes; a reset does not.
        if deaf or chance.random() < 0.5:
            reset_on_close(writer.transport)
            writer.transport.abort()
            return
        if self._asking is None and chance.random() < 0.3:
            with suppress(OSError):
                writer.write_eof()
            async with asyncio.timeout(PROMPT):
                while self._door(port) is not None:
                    await asyncio.sleep(0.01)
        writer.close()

    async def _behave(self, wanted: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whatever clients do, for as long as they are left to it. The task's name says what that was."""
        chance = self._chance
        kind = chance.choice(BEHAVIOURS.get(wanted or "", ANY))
        target = chance.choice(TARGETS.get(wanted, TARGETS[None]))
        task = asyncio.current_task()
        assert task is not None
        task.set_name(kind if kind == "deaf" else "")
        if kind == "upload":
            size = chance.randint(1, 100_000)
            writer.write(UPLOAD % (THINGS, target, size) + bytes(size))
        elif kind == "deaf":
            writer.write(UPLOAD % (THINGS, b"deaf", 1 << 30))
            for _ in range(60):
                writer.write(bytes(65_536))
                await asyncio.sleep(0.002)
        elif kind == "pieces":
            writer.write(CHUNKED % (THINGS, target))
            for _ in range(chance.randint(1, 20)):
                writer.write(b"5\r\nhello\r\n")
                await asyncio.sleep(0.005)
            writer.write(b"0\r\n\r\n")
        elif kind == "half":
            request = GET % (THINGS, target) if not self._asking or writer.get_extra_info("ssl_object") else HELLO
            writer.write(request[: chance.randint(1, len(request) - 1)])
        elif kind != "nothing":
            writer.write(GET % (THINGS, target))
            if kind == "behind":
                await asyncio.sleep(chance.random() * 0.01)
                writer.write(GET % (THINGS, b"late"))
                task.set_name("behind")
        if chance.random() < 0.5:
            await asyncio.sleep(2)  # does not read for now
        while await reader.read(65_536):
            await asyncio.sleep(chance.random() * 0.01)
        await asyncio.sleep(2)

    def _door(self, port: int) -> Any:
        """The server's side of the connection from `port`, while there is one."""
        connections: set[Any] = self._server.server_state.connections
        return next((door for door in connections if door.client is not None and door.client[1] == port), None)

    def _task(self, port: int) -> tuple[asyncio.Task[Any] | None, bool]:
        """What answers the request that came from `port`, and whether the answer is written."""
        cycle = getattr(self._door(port), "_current", None)
        for task in () if cycle is None else self._server.server_state.tasks:
            outermost = next(coroutines(task), None)
            if outermost is not None and any(value is cycle for value in variables(outermost)):
                return task, cycle.answered
        return None, cycle is not None

    def _where(self, port: int, behaviour: asyncio.Task[None]) -> str:
        task, answered = self._task(port)
        if answered:
            return "over"
        if task is None:
            return "arriving"
        return "behind" if behaviour.get_name() == "behind" else phase(task) or "arriving"

    def _note(self, port: int, behaviour: asyncio.Task[None]) -> None:
        """Somebody leaves now: where, and until when its exchange goes on."""
        self.phases[self._where(port, behaviour)] += 1
        left = time.monotonic()
        task, answered = self._task(port)
        if task is not None and not answered:
            task.add_done_callback(lambda _: self._over(left))

    def _over(self, left: float) -> None:
        self.slowest = max(self.slowest, time.monotonic() - left)


@asynccontextmanager
async def proxying(
    backend: int, certificates: Certificates | None, loop: str
) -> AsyncIterator[tuple[Server, Http1Transport]]:
    """A front proxy on a real socket before a backend, and the transport between them."""
    tls = pair = None
    ca, scheme = b"", "http"
    if certificates is not None:
        path = certificates.path
        tls = DoorTLS(certificate=path / "front.crt", key=path / "front.key")
        pair = ClientCertificatePair(path / "front-proxy.crt", path / "front-proxy.key")
        ca, scheme = (path / "ca.crt").read_bytes(), "https"
    url = f"{scheme}://localhost:{backend}"  # a name, which takes a moment to be resolved
    transport = Http1Transport(client_certificate=pair, limits=TransportLimits(connections=CONNECTIONS))
    proxy = FrontProxy(
        anonymous=Anonymous.everywhere(),
        authorization=AllowAll(),
        services=[APIService.remote(GROUP, VERSION, url, ca=ca, server_name=SERVER_NAME)],
        transport=transport,
    )
    server = make_server(proxy, port=0, tls=tls, drain=proxy.drain, grace=2, loop=loop, signals=False)
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    try:
        yield server, transport
    finally:
        server.stop()
        await task
        await transport.aclose()


async def settled(server: Server, transport: Http1Transport) -> None:
    """Wait until no connection, no request and no slot is left, and nobody waits."""
    state = server.server_state
    async with asyncio.timeout(PROMPT):
        while state.tasks or state.connections or transport.taken or any(each.waiting for each in transport.statistics):
            await asyncio.sleep(0.01)


async def held(transport: Http1Transport, backend: Dawdling, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
    """How many sockets and tasks there are, once that is what is wanted, or a while has passed."""
    for pool in transport._state().pools:
        pool.sweep(time.monotonic() + 3600)  # connections that wait for a next use are no waste
    ends = time.monotonic() + (QUIET if wanted is None else PROMPT)
    while True:
        await backend.close_all()
        await asyncio.sleep(0.2)
        found = len(open_sockets()), len(asyncio.all_tasks())
        if found == wanted or time.monotonic() > ends:
            return found


async def still_answers(server: Server, asking: ssl.SSLContext | None) -> None:
    """And the next client is served as ever."""
    options: dict[str, Any] = {} if asking is None else {"ssl": asking, "server_hostname": "localhost"}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
    writer.write((GET % (THINGS, b"quick")).replace(b"Host", b"Connection: close\r\nHost"))
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"hello")


async def depart(number: int, certificates: Certificates | None, loop: str, chance: random.Random) -> Visitors:
    """At least so many clients leave, and one in 25 in each phase; then there is what there was before.

    On a busy machine some phases are over before anybody sees them, or come late: more have to try, and longer.
    """
    context, asking = (None, None) if certificates is None else (certificates.serving(), certificates.asking())
    async with (
        dawdling(chance, context) as backend,
        proxying(backend.port, certificates, loop) as (server, transport),
    ):
        await Visitors(server, asking, chance).visit()
        await settled(server, transport)
        before = await held(transport, backend)
        visitors = Visitors(server, asking, chance)
        left = number

        async def visit_again_and_again() -> None:
            nonlocal left
            while left > 0 or (visitors.rarest()[1] < number / 25 and left > -2 * number):
                left -= 1
                visitors.patience = PATIENCE if left >= 0 else 10 * PATIENCE
                await visitors.visit()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(visit_again_and_again())
        await settled(server, transport)
        assert await held(transport, backend, before) == before
        await still_answers(server, asking)
        return visitors


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For both sides."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_departures(
    loop: str,
    tls: bool,
    certificates: Certificates,
    whole: bool,
    record_property: Callable[[str, object], None],
) -> None:
    """Many clients leave in every phase, by an end or a reset; each exchange ends soon, and nothing is held after it.

    No socket, task, slot or place in the queue. Unretrieved exceptions, every test is watched for.
    """
    number = 2000 if whole else 200
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        visitors = runner.run(depart(number, certificates if tls else None, loop, random.Random(20)))
    figures = ", ".join(f"{count} {name}" for name, count in visitors.phases.most_common())
    record_property("figures", f"{figures}; the slowest end took {visitors.slowest:.2f} s")
    assert visitors.phases.total() >= number
    assert visitors.slowest < PROMPT
    name, fewest = visitors.rarest()
    assert fewest >= number / 25, f"too few left in the phase {name!r}: {visitors.phases}"
