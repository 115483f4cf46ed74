"""Three servers behind one service under load: one is killed and comes back, one is slow, one is well."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aggmw import Balancing, FrontProxy, PathService
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.proxy.balance import Endpoint
from aggmw.testing import Client

ROOT = Path(__file__).parents[2]
AT_ONCE = 24
KILLED, SLOW, WELL = 0.002, 0.5, 0.002  # seconds for an answer
POSTS = 0.2  # of all requests
EJECT = 1.0


class Server:
    """A process, which can be killed and started again where it was: the port is nobody else's meanwhile."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._process: asyncio.subprocess.Process | None = None
        self._port = socket.socket()  # bound, and never listening
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        self.port: int = self._port.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.endpoint", str(self._delay), str(self.port)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline()

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def end(self) -> None:
        await self.kill()
        self._port.close()


@asynccontextmanager
async def servers(*delays: float) -> AsyncIterator[list[Server]]:
    found = [Server(delay) for delay in delays]
    try:
        await asyncio.gather(*(each.start() for each in found))
        yield found
    finally:
        await asyncio.gather(*(each.end() for each in found))


class Load:
    """Requests without pause, and what became of them.

    Attributes:
        phase: of the run, for what begins now.
        answered: how many by method, phase and status.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._chance = random.Random(7)
        self._going = True
        self.phase = "well"
        self.answered: Counter[tuple[str, str, int]] = Counter()

    async def run(self) -> None:
        while self._going:
            method = "POST" if self._chance.random() < POSTS else "GET"
            phase = self.phase
            answer = await self._client.request(method, "/s/x", body=b"body" if method == "POST" else b"")
            self.answered[method, phase, answer.status] += 1

    def stop(self) -> None:
        self._going = False

    def count(self, *, method: str = "", phase: str = "", failed: bool = False) -> int:
        return sum(
            number
            for (each, when, status), number in self.answered.items()
            if method in ("", each) and phase in ("", when) and (status != 200 or not failed)
        )


async def until(true: Callable[[], bool]) -> float:
    """Wait for it; seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_three_servers(whole: bool, record_property: Callable[[str, object], None]) -> None:
    """No safe request fails, whatever happens to the servers; of the others those only that were under way at the one
    that was killed, and after it was left out, no more than one in a thousand. When it is back, it is asked again."""
    seconds = 20.0 if whole else 2.0
    async with servers(KILLED, SLOW, WELL) as (killed, slow, well):
        service = PathService(
            "/s/", [each.url for each in (killed, slow, well)], balancing=Balancing(eject_seconds=EJECT)
        )
        front = FrontProxy(services=[service], anonymous=Anonymous(["/s/x"]), authorization=AllowAll())
        async with front:
            load = Load(Client(front))
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(load.run())
                await asyncio.sleep(seconds / 2)
                (balance,) = front._transport.balanced.balances
                first: Endpoint = balance.endpoints[0]
                load.phase = "failing"
                ending = asyncio.create_task(killed.kill())
                ejected = await until(lambda: first.out)
                await ending
                load.phase = "left out"
                await asyncio.sleep(seconds)
                assert first.out
                await killed.start()
                restored = await until(lambda: not first.out)
                load.phase = "back"
                before = first.requests
                await asyncio.sleep(seconds / 2)
                load.stop()
            took = time.monotonic() - began
            total = load.count()
            unsafe = load.count(method="POST", failed=True)
            later = sum(load.count(phase=phase, failed=True) for phase in ("left out", "back"))
            share = later / max(1, load.count(phase="left out") + load.count(phase="back"))
            retried = sum(each.retried for each in balance.endpoints)
            safe = load.count(method="GET", failed=True)
            record_property(
                "figures",
                f"{total} requests in {took:.0f} s, {AT_ONCE} at once; killed server left out after"
                f" {ejected * 1000:.0f} ms; failed: GET {safe} of {load.count(method='GET')}, POST {unsafe} of"
                f" {load.count(method='POST')}; after it was left out {later} ({share:.2%}); {retried} went on to"
                f" another server; the slow one got {balance.endpoints[1].requests / total:.1%}; asked again"
                f" {restored:.1f} s after it was back",
            )
            assert safe == 0, load.answered
            assert share <= 0.001, load.answered
            assert unsafe <= AT_ONCE
            assert balance.endpoints[1].requests < 0.15 * total  # usually a twentieth, also where everybody is slow
            assert first.requests - before > 0.1 * load.count(phase="back")
            assert balance.in_flight == 0
            assert sum(each.refused for each in balance.endpoints) == 0
