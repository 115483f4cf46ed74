"""P12: what a request through FrontProxy costs as services and kinds grow; in one process, without sockets."""

from __future__ import annotations

import asyncio
import json
import time
from statistics import median

from aggmw import APIService, FrontProxy
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import AnyBackend, UpstreamRequest
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.metrics import Metrics
from aggmw.server import logs
from aggmw.server.serving import settle_memory
from benchmarks.micro import CALLER, receive, scope_of_a_request, send
from benchmarks.report import Figure, Report, Row, progress, ratio
from benchmarks.workspace import GROUP, TOKEN

__all__ = ["measure"]

_SERVICES = (10, 100, 1000, 5000)
_KINDS = (1, 10, 100, 1000)
_BATCHES = 15
_REQUESTS = 2000
_READY_SECONDS = 60


def measure(report: Report) -> None:
    """Two tables: µs per request by number of services with one kind each, and by number of kinds of ten services.

    The smallest and the largest are measured in turn, so that a machine that slows down slows both.
    """
    logs.configure("warning")
    for name, sizes in (("services", _SERVICES), ("kinds", _KINDS)):
        times = asyncio.run(_measure(name, sizes))
        smallest = median(times[sizes[0]])
        rows: list[Row] = [
            {
                name: f"{size:,}",
                "median µs": median(found),
                "least µs": min(found),
                "× the fewest": ratio(median(found), smallest),
            }
            for size, found in times.items()
        ]
        report.table(f"A request through FrontProxy by number of {name}", rows)
        grown = [ratio(most, least) or 0.0 for most, least in zip(times[sizes[-1]], times[sizes[0]], strict=True)]
        report.reached(f"{name} grown", Figure(median(grown), min(grown), max(grown)))


async def _measure(name: str, sizes: tuple[int, ...]) -> dict[int, list[float]]:
    proxies = {size: _proxy(size, 1) if name == "services" else _proxy(min(10, size), -(-size // 10)) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for size, proxy in proxies.items():
        progress(f"  {size:,} {name}")
        await proxy.__aenter__()
        await _ready(proxy)
    settle_memory()  # as `aggmw serve` does: a collection goes over the documents of all four
    try:
        for _ in range(_BATCHES + 1):
            for size, proxy in proxies.items():
                times[size].append(await _batch(proxy))
    finally:
        for proxy in proxies.values():
            await proxy.__aexit__(None, None, None)
    return {size: found[1:] for size, found in times.items()}


def _proxy(services: int, kinds: int) -> FrontProxy:
    groups = [GROUP, *(f"group-{number}.example.com" for number in range(1, services))]
    return FrontProxy(
        authentication=[StaticTokens({TOKEN: CALLER})],
        authorization=AllowAll(),
        services=[APIService.remote(group, "v1", "http://127.0.0.1:1") for group in groups],
        transport=_Listing(kinds),
        metrics=Metrics(),
    )


async def _ready(proxy: FrontProxy) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while not proxy.ready:
            await asyncio.sleep(0.01)


async def _batch(proxy: FrontProxy) -> float:
    """µs per request."""
    scope = scope_of_a_request()
    began = time.perf_counter()
    for _ in range(_REQUESTS):
        await proxy(scope, receive, send)
    return (time.perf_counter() - began) / _REQUESTS * 1e6


class _Listing:
    """An `UpstreamTransport` whose backends list some kinds, and answer everything else in the same way."""

    def __init__(self, kinds: int) -> None:
        self._resources = [
            {"name": f"things{number}" if number else "things", "namespaced": True, "kind": "Thing", "verbs": ["get"]}
            for number in range(kinds)
        ]

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> _Answer:
        parts = request.target.decode().split("/")
        if len(parts) == 4 and parts[1] == "apis":
            listed = {"kind": "APIResourceList", "groupVersion": "/".join(parts[2:]), "resources": self._resources}
            return _Answer(200, json.dumps(listed).encode())
        if request.target.startswith((b"/apis/", b"/api/")):
            return _Answer(200, b"{}")
        return _Answer(404, b"{}")

    async def aclose(self) -> None:
        pass


class _Answer:
    def __init__(self, status: int, content: bytes) -> None:
        self.status = status
        self.content = self._left = content
        self.headers: Headers = (
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        )

    async def read(self) -> bytes:
        left, self._left = self._left, b""
        return left

    def end(self) -> None:
        pass

    async def aclose(self) -> None:
        pass
