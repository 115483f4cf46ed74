"""P6: many idle watches held open, or as many WebSockets, and one event that has to reach all of them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import ssl
import time
from statistics import median
from typing import NamedTuple, cast

from benchmarks.client import head
from benchmarks.machine import resident, usage
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.site import Missing, Server, Site
from benchmarks.workspace import WATCH

__all__ = ["measure"]

_EVENTS = 5
_IDLE_SECONDS = 2.0
_AT_ONCE = 50
_PATIENCE = 30.0
_SERVERS = {
    "direct": "nothing (client → backend)",
    "nginx": "nginx proxy_pass",
    "go": "Go ReverseProxy",
    "bare": "aggmw ProxyMiddleware",
    "stack-10": "aggmw FrontProxy",
}


class _Found(NamedTuple):
    kib: float
    """Resident memory per watch."""
    reach: Figure
    """Milliseconds from the signal to the backend until the last watch has the event."""
    idle: float
    """Share of a core while nothing happens."""


class _Crowd:
    """All watches together: who has an answer, who has the current event."""

    def __init__(self) -> None:
        self.watches: list[_Watch] = []
        self.opened = 0
        self.broken = 0
        self.have = 0
        self.changed = asyncio.Event()

    async def until(self, count: int, what: str) -> None:
        """Wait until `opened` or `have` has come to a number.

        Raises:
            Missing: it did not in time, or a watch broke.
        """
        async with asyncio.timeout(_PATIENCE):
            while getattr(self, what) < count:
                if self.broken:
                    raise Missing(f"{self.broken} watches broke")
                self.changed.clear()
                await self.changed.wait()


class _Watch(asyncio.Protocol):
    """One watch, or a WebSocket: any bytes after the head are an event."""

    def __init__(self, crowd: _Crowd, request: bytes, status: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._status = status
        self._opened = False
        self._events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._opened:
            self._opened = True
            self._crowd.broken += not data.startswith(b"HTTP/1.1 " + self._status)
            self._crowd.opened += 1
        elif b"MODIFIED" in data:
            self._crowd.have += 1
        self._crowd.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.broken += 1
        self._crowd.changed.set()


def measure(site: Site, report: Report, count: int) -> None:
    """For watches and for WebSockets a table for plain and one for TLS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3 * count and soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # before the servers are started: they inherit it
    for sockets in (False, True):
        for tls in (False, True):
            _measure(site, report, count, sockets=sockets, tls=tls)


def _measure(site: Site, report: Report, count: int, *, sockets: bool, tls: bool) -> None:
    what = "WebSockets" if sockets else "watches"
    side = f"{'WebSocket ' if sockets else ''}{'TLS' if tls else 'plain'}"
    rows: list[Row] = []
    for name, title in _SERVERS.items():
        progress(f"  {what}, {'TLS' if tls else 'plain'}: {title}")
        try:
            server = site.server(name, tls=tls, fresh=True)
            found = asyncio.run(_held(server, count, site.streams_pid, sockets=sockets))
        except (Missing, OSError, TimeoutError) as error:
            report.note(f"{title}, {count} {what}", str(error) or type(error).__name__)
            continue
        direct = name == "direct"
        report.reached(f"{name} {side} KiB each", Figure(found.kib))
        report.reached(f"{name} {side} ms to all", found.reach)
        rows.append(
            {
                "what forwards": title,
                "KiB each": None if direct else found.kib,
                "ms to reach all": found.reach.value,
                "idle CPU %": None if direct else found.idle * 100,
            }
        )
    report.table(f"{count} idle {what}, {'TLS on both sides' if tls else 'plain HTTP'}", rows)


async def _held(server: Server, count: int, backend: int, *, sockets: bool) -> _Found:
    crowd = _Crowd()
    before = resident(server.pid)
    try:
        for at in range(0, count, _AT_ONCE):
            await asyncio.gather(*(_open(server, crowd, sockets) for _ in range(min(_AT_ONCE, count - at))))
            await crowd.until(min(at + _AT_ONCE, count), "opened")
        await asyncio.sleep(0.5)
        cpu = usage(server.pid).total
        await asyncio.sleep(_IDLE_SECONDS)
        idle = (usage(server.pid).total - cpu) / _IDLE_SECONDS
        reached = []
        for _ in range(_EVENTS):
            crowd.have = 0
            began = time.perf_counter()
            os.kill(backend, signal.SIGUSR1)
            await crowd.until(count, "have")
            reached.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.1)
        reach = Figure(median(reached), min(reached), max(reached))
        return _Found((resident(server.pid) - before) / count / 1024, reach, idle)
    finally:
        for watch in crowd.watches:
            watch.transport.abort()
        await asyncio.sleep(1.0)


async def _open(server: Server, crowd: _Crowd, sockets: bool) -> None:
    context = ssl._create_unverified_context() if server.tls else None
    _, watch = await asyncio.get_running_loop().create_connection(
        lambda: _Watch(crowd, head("GET", WATCH, upgrade=sockets), b"101" if sockets else b"200"),
        "127.0.0.1",
        server.streams,
        ssl=context,
    )
    crowd.watches.append(watch)
