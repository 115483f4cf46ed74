"""`make soak`, or `python -m tests.soak`: mixed traffic through a real `aggmw serve`, and what it leaves behind.

TLS on both sides; clients that leave, read slowly, upload slowly, watch; a server that is killed and started again;
policies that change under way. Ends with 1, saying why, if any answer was wrong or anything grew.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.subprocess
import base64
import json
import os
import random
import re
import signal
import ssl
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import median

import uvloop
import yaml
from benchmarks.machine import resident
from tests.ports import free_port
from tests.soak.site import ROOT
from tests.soak.traffic import GROUPS, Broken, Conditions, Connection, Reply, Traffic

from aggmw.server.directory import CertificateFiles, Directory

CLIENTS = 40
CALM, SHAKEN = GROUPS
# Only what hangs takes so long, however busy the machine is.
START_SECONDS = 120.0
STOP_SECONDS = 60.0
REST_SECONDS = 60.0
SERVER_NAME = "soak.default.svc"
USERS = ("alice", "bob", "carol", "watcher")
MIB = 1 << 20

# What may be more in the late window of samples than in the early one, as a share and on top of it. What is resident
# does not tell: the allocator keeps the most that ever met at once, and takes its time to have seen it.
TOLERANCE = {
    "MiB allocated": (0.25, 48.0),
    "thousand blocks": (0.25, 40.0),
    "descriptors": (0.25, 20.0),
    "tasks": (0.25, 20.0),
    "taken": (0.5, 20.0),
}
# What each client may hold at once beside what there is at rest: how many come at the same time is no growth.
EACH = {"descriptors": 2, "tasks": 2, "taken": 1}
# What may be more at rest afterwards than before, likewise, when all was given back that can be.
AT_REST = {"resident MiB": (0.10, 16.0), "MiB allocated": (0.10, 8.0), "thousand blocks": (0.10, 20.0)}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the front proxy's process holds at a moment."""

    at: float
    figures: dict[str, float]


class Site:
    """The processes of one run, in a directory of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self.directory = Directory.open(path / "state")
        self.certificates: CertificateFiles = self.directory.server("back", names=[SERVER_NAME])
        self.backends: dict[str, asyncio.subprocess.Process] = {}
        self.ports = dict.fromkeys(GROUPS, 0)
        self.context: ssl.SSLContext = ssl.create_default_context(cafile=str(self.directory.serving_ca))
        self.front: asyncio.subprocess.Process

    @property
    def log(self) -> Path:
        """What the front proxy says."""
        return self.path / "front.log"

    async def start_backend(self, group: str) -> None:
        """A server, on the port that it had before."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.soak.backend", group, f"--port={self.ports[group]}"),
            f"--certificate={self.certificates.certificate}",
            f"--key={self.certificates.key}",
            f"--client-ca={self.directory.front_proxy_ca}",
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self.backends[group] = process
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            self.ports[group] = int(await process.stdout.readline())

    async def start_front(self) -> None:
        """`aggmw serve`, until it is ready."""
        self._configure()
        with self.log.open("wb") as log:
            self.front = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "aggmw", "serve", "--config", self.path / "config.yaml", "--dir", self.path / "state"),
                *("--port", str(self.port)),
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self._ready():
                await asyncio.sleep(0.05)

    def write_policy(self, *, carol: bool, others: int) -> None:
        """A policy in which carol may, or may not, and so many others."""
        rules = [f"p, user:{user}, *, *, *, *, *" for user in ("alice", "bob", *["carol"] * carol)]
        rules += ["p2, user:watcher, get, /metrics|/figures/*|/readyz"]
        rules += [f"p, user:other-{number}, *, *, *, *, *" for number in range(others)]
        (self.path / "policy.new").write_text("\n".join(rules) + "\n")
        os.replace(self.path / "policy.new", self.path / "policy.csv")

    async def ask(self, target: str) -> str:
        """What the front proxy says of itself."""
        reply = await self._get(target, "watcher")
        if reply.status != 200:
            raise Broken(f"{target}: {reply.status} {reply.body!r}")
        return reply.body.decode()

    async def until(self, status: int, user: str, group: str) -> None:
        """Wait until somebody is told so at a server.

        Raises:
            Broken: that does not come.
        """
        target = f"/apis/{group}/v1/namespaces/dev/things/first?n=1&u={user}&s=0&k=whole"
        told = 0
        try:
            async with asyncio.timeout(START_SECONDS):
                while (told := (await self._get(target, user)).status) != status:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Broken(f"{user} at {group}: {told} for {START_SECONDS:.0f} seconds, not {status}") from None

    async def _get(self, target: str, user: str) -> Reply:
        connection = await Connection.open(self.port, self.context)
        try:
            return await connection.get(target, f"{user}-token")
        finally:
            connection.leave(politely=True)

    async def figures(self, *, collect: bool = False) -> dict[str, float]:
        """What the process holds now."""
        found: dict[str, float] = json.loads(await self.ask("/figures/?collect" if collect else "/figures/"))
        page = await self.ask("/metrics")
        for name, pattern in (
            ("taken", r'aggmw_upstream_connections\{[^}]*state="taken"\} (\S+)'),
            ("idle", r'aggmw_upstream_connections\{[^}]*state="idle"\} (\S+)'),
            ("waiting", r"aggmw_upstream_waiting_requests\{[^}]*\} (\S+)"),
            ("watches", r"apiserver_longrunning_requests\{[^}]*\} (\S+)"),
        ):
            found[name] = sum(float(each) for each in re.findall(pattern, page))
        found["descriptors"] = len(os.listdir(f"/proc/{self.front.pid}/fd"))
        found["resident MiB"] = resident(self.front.pid) / MIB
        return found

    async def end(self) -> None:
        """Kill what is left."""
        for process in (*self.backends.values(), *([self.front] if hasattr(self, "front") else [])):
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _ready(self) -> bool:
        if self.front.returncode is not None:
            raise RuntimeError(f"aggmw serve ended:\n{self.log.read_text()[-2000:]}")
        try:
            return await self.ask("/readyz") == "ok"
        except (OSError, Broken):
            return False

    def _configure(self) -> None:
        authority = base64.b64encode(self.directory.serving_ca.read_bytes()).decode()
        services = [
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {
                    "name": f"v1.{group}",
                    "annotations": {"aggmw/url": f"https://127.0.0.1:{self.ports[group]}"},
                },
                "spec": {
                    "group": group,
                    "version": "v1",
                    "caBundle": authority,
                    "groupPriorityMinimum": 1000,
                    "versionPriority": 15,
                    "service": {"namespace": "default", "name": "soak"},
                },
            }
            for group in GROUPS
        ]
        (self.path / "services.yaml").write_text(yaml.safe_dump_all(services))
        (self.path / "tokens.csv").write_text("".join(f"{user}-token,{user},{user}\n" for user in USERS))
        configuration = {
            "grace": "5s",
            "logLevel": "error",
            "authentication": {"tokenFile": "tokens.csv"},
            "authorization": {"policy": "policy.csv"},
            "services": {
                "files": ["services.yaml"],
                "paths": [{"path": "/figures/", "app": "tests.soak.figures:app"}],
            },
        }
        (self.path / "config.yaml").write_text(yaml.safe_dump(configuration))
        self.write_policy(carol=True, others=1000)


class Soak:
    """One run.

    Attributes:
        problems: why it failed, if it did.
    """

    def __init__(self, site: Site, seconds: float, chance: random.Random) -> None:
        self._site = site
        self._seconds = seconds
        self._chance = chance
        self._conditions = Conditions()
        self._traffic = Traffic(site.port, site.context, self._conditions, chance)
        self._samples: list[Sample] = []
        self._restarts = 0
        self._reloads = 0
        self._began = 0.0
        self._restarting = asyncio.Lock()
        self.problems: list[str] = []

    async def run(self) -> None:
        """Traffic and trouble, then rest, then the end."""
        await self._warm_up()
        at_rest = await self._rested()
        self._began = time.monotonic()
        clients = [asyncio.create_task(self._traffic.client()) for _ in range(CLIENTS)]
        others = [asyncio.create_task(each()) for each in (self._restart, self._reload, self._sample, self._tell)]
        await asyncio.wait([*clients, *others], timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION)
        self._traffic.stop()
        async with self._restarting:  # else nobody would know whether the server is there
            for task in others:
                task.cancel()
        async with asyncio.timeout(60):
            results = await asyncio.gather(*clients, *others, return_exceptions=True)
        self.problems += [f"{type(result).__name__}: {result}" for result in results if isinstance(result, Exception)]
        after = await self._rested()
        self._compare_windows(at_rest)
        self._compare_rest(at_rest, after)
        self.problems += self._traffic.wrong
        await self._end()
        self._summary(at_rest, after)

    # What happens

    async def _warm_up(self) -> None:
        """A first use of everything."""
        warming = Traffic(self._site.port, self._site.context, self._conditions, self._chance)
        clients = [asyncio.create_task(warming.client()) for _ in range(CLIENTS)]
        await asyncio.sleep(min(10.0, self._seconds / 8))
        warming.stop()
        await asyncio.gather(*clients)
        self.problems += warming.wrong

    async def _restart(self) -> None:
        """The shaken server is killed, or told to stop, and comes back some time later."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.0) * min(20.0, self._seconds / 5))
            process = self._site.backends[SHAKEN]
            outage = [time.monotonic(), inf]
            self._conditions.outages.append(outage)
            async with self._restarting:
                process.send_signal(self._chance.choice([signal.SIGKILL, signal.SIGTERM]))
                await process.wait()
                await asyncio.sleep(self._chance.uniform(0.0, 1.5))
                await self._site.start_backend(SHAKEN)
                await self._site.until(200, "alice", SHAKEN)
            outage[1] = time.monotonic()
            self._restarts += 1

    async def _reload(self) -> None:
        """Carol may, and may not."""
        may = True
        while True:
            await asyncio.sleep(self._chance.uniform(0.6, 1.0) * min(15.0, self._seconds / 4))
            may = not may
            self._conditions.carol = (inf, may)
            self._site.write_policy(carol=may, others=self._chance.randint(1, 2000))
            self._site.front.send_signal(signal.SIGHUP)
            await self._site.until(200 if may else 403, "carol", CALM)
            self._conditions.carol = (time.monotonic(), may)
            self._reloads += 1

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._seconds / 50))
            self._samples.append(Sample(time.monotonic() - self._began, await self._site.figures()))

    async def _tell(self) -> None:
        """A line now and then."""
        before = 0
        while True:
            await asyncio.sleep(5)
            number = self._traffic.done.total()
            figures = self._samples[-1].figures if self._samples else defaultdict(float)
            print(
                f"{time.monotonic() - self._began:6.0f} s  {number} exchanges ({(number - before) / 5:.0f}/s),"
                f" {self._restarts} restarts, {self._reloads} reloads, {len(self._traffic.wrong)} wrong;"
                f" {figures['resident MiB']:.1f} MiB, {figures['descriptors']:.0f} descriptors,"
                f" {figures['tasks']:.0f} tasks, {figures['taken']:.0f} slots, {figures['watches']:.0f} watches",
                flush=True,
            )
            before = number

    # What is left of it

    async def _rested(self) -> dict[str, float]:
        """Figures when nothing happens: no slot taken, nobody waiting, no watch."""
        until = time.monotonic() + REST_SECONDS
        while True:
            await asyncio.sleep(0.3)
            figures = await self._site.figures(collect=True)
            if not (figures["taken"] or figures["waiting"] or figures["watches"]) or time.monotonic() > until:
                figures["descriptors"] -= figures["idle"]  # connections that wait for a next use are no waste
                return figures

    def _compare_windows(self, at_rest: dict[str, float]) -> None:
        """An early window, past the growing up, and a late one: medians."""
        early, late = self._windows()
        for name, (share, more) in TOLERANCE.items():
            first, last = (median(each.figures[name] for each in window) for window in (early, late))
            most = at_rest[name] + EACH.get(name, 0) * CLIENTS
            if last > max(first * (1 + share) + more, most):
                self.problems.append(f"{name} grew from {first:.1f} to {last:.1f} under the same traffic")

    def _windows(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        """From a quarter to two fifths of the time, and the last seventh of it."""
        number = len(self._samples)
        return self._samples[number // 4 : number * 2 // 5 + 1], self._samples[number * 6 // 7 :]

    def _compare_rest(self, before: dict[str, float], after: dict[str, float]) -> None:
        for name in ("taken", "waiting", "watches"):
            if after[name]:
                self.problems.append(f"{after[name]:.0f} {name} are left when nobody asks")
        for name, (share, spare) in AT_REST.items():
            if after[name] > before[name] * (1 + share) + spare:
                self.problems.append(f"{name} grew from {before[name]:.1f} to {after[name]:.1f} when nobody asks")
        for name in before.keys() | after.keys():
            if name not in ("descriptors", "tasks") and not name.startswith("aggmw."):
                continue
            # Discovery may be asking: a task or two, and what belongs to one request. Idle connections are connections.
            more = 4 + (after["idle"] - before["idle"] if "transports" in name else 0)
            if after.get(name, 0) > before.get(name, 0) + max(4, more):
                self.problems.append(f"{name}: {before.get(name, 0):.0f} before, {after.get(name, 0):.0f} after")

    async def _end(self) -> None:
        """Told to stop, the front proxy ends open watches properly, and then itself with 0."""
        opened = [await self._last_watch() for _ in range(5)]
        watches = [asyncio.create_task(self._watch_to_the_end(each)) for each in opened]
        self._site.front.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                status = await self._site.front.wait()
                ends = await asyncio.gather(*watches, return_exceptions=True)
        except TimeoutError:
            self.problems.append(f"the front proxy did not end within {STOP_SECONDS:.0f} seconds")
            return
        if status:
            self.problems.append(f"the front proxy ended with status {status}")
        self.problems += [f"a watch did not end properly: {end}" for end in ends if end is not None]
        if said := self._site.log.read_text().strip():
            self.problems.append(f"the front proxy logged errors:\n{said[-3000:]}")

    async def _last_watch(self) -> Connection:
        """A watch that has begun."""
        connection = await Connection.open(self._site.port, self._site.context)
        target = f"/apis/{CALM}/v1/namespaces/dev/things?watch=true&n=1&u=alice&s=10&k=watch"
        connection.writer.write(
            f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alice-token\r\n\r\n".encode()
        )
        status, _ = await connection.head()
        if status != 200:
            self.problems.append(f"a last watch: {status}")
        return connection

    async def _watch_to_the_end(self, connection: Connection) -> None:
        try:
            while await connection.chunk():
                pass
        finally:
            connection.leave(politely=True)

    def _summary(self, before: dict[str, float], after: dict[str, float]) -> None:
        traffic = self._traffic
        print(f"{traffic.done.total()} exchanges: {_listed(traffic.done)}")
        print(f"outcomes: {_listed(traffic.outcomes)}")
        print(f"{self._restarts} restarts of a server, {self._reloads} changes of the policy")
        early, late = self._windows()
        for name in {**AT_REST, **TOLERANCE}:
            first, last = (median(each.figures[name] for each in window) for window in (early, late))
            print(
                f"{name}: {before[name]:.1f} at rest before, {first:.1f} early, {last:.1f} late,"
                f" {after[name]:.1f} at rest after"
            )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1]))


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="aggmw-soak-") as directory:
        site = Site(Path(directory))
        try:
            for group in GROUPS:
                await site.start_backend(group)
            await site.start_front()
            yield site
        finally:
            await site.end()


async def _run(seconds: float, seed: int) -> int:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(_site())
        soak = Soak(site, seconds, random.Random(seed))
        await soak.run()
    for problem in soak.problems:
        print(f"WRONG: {problem}")
    print("failed" if soak.problems else "all right")
    return 1 if soak.problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of traffic (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    options = parser.parse_args()
    if options.seconds < 10:
        parser.error("--seconds must be at least 10")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(options.seconds, options.seed))


if __name__ == "__main__":
    sys.exit(main())
