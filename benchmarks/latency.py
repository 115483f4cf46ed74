"""P4: what a proxy adds when there is next to nothing to do: 100 requests a second on one connection."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import quantiles

from benchmarks.client import Client, head
from benchmarks.report import Report, Row, progress, ratio
from benchmarks.site import Missing, Server, Site
from benchmarks.workspace import ONE

__all__ = ["measure"]

_PERIOD = 0.01
_PER_ROUND = 150
_SERVERS = {
    "direct": "nothing (client → nginx)",
    "nginx": "nginx proxy_pass",
    "go": "Go ReverseProxy",
    "bare": "aggmw ProxyMiddleware",
    "stack-1000": "aggmw FrontProxy, 1,000 rules",
}


def measure(site: Site, report: Report, rounds: int) -> None:
    """Two tables: milliseconds of each, and what they add to going direct."""
    for tls in (False, True):
        servers: list[Server] = []
        for name, title in _SERVERS.items():
            try:
                servers.append(site.server(name, tls=tls))
            except Missing as missing:
                report.note(title, missing)
        times: dict[str, list[float]] = defaultdict(list)
        for number in range(rounds):
            progress(f"  latency, {'TLS' if tls else 'plain'}: round {number + 1} of {rounds}")
            for server in servers:
                times[server.name] += _paced(server)
        kind = "TLS on both sides" if tls else "plain HTTP"
        title = f"Latency at {1 / _PERIOD:.0f} requests/s, {kind}: {rounds * _PER_ROUND} requests each"
        report.table(title, _rows({name: _percentiles(found) for name, found in times.items()}))


def _paced(server: Server) -> list[float]:
    """Milliseconds of each request of one round, on a connection that is warm."""
    client, request = Client(server), head("GET", ONE)
    try:
        for _ in range(5):
            client.exchange(request)
        times = []
        due = time.perf_counter()
        for _ in range(_PER_ROUND):
            due += _PERIOD
            time.sleep(max(0.0, due - time.perf_counter()))
            before = time.perf_counter()
            client.exchange(request)
            times.append((time.perf_counter() - before) * 1e3)
        return times
    finally:
        client.close()


def _percentiles(times: list[float]) -> tuple[float, float]:
    cuts = quantiles(times, n=100)
    return cuts[49], cuts[98]


def _rows(found: dict[str, tuple[float, float]]) -> list[Row]:
    direct = found.get("direct")
    go = found.get("go")
    rows: list[Row] = []
    for name, (p50, p99) in found.items():
        row: dict[str, str | float | None] = {"what forwards": _SERVERS[name], "p50 ms": p50, "p99 ms": p99}
        if direct is not None and name != "direct":
            row["p50 added"], row["p99 added"] = p50 - direct[0], p99 - direct[1]
            if go is not None:
                row["p50 × Go"] = ratio(p50 - direct[0], go[0] - direct[0])
                row["p99 × Go"] = ratio(p99 - direct[1], go[1] - direct[1])
        rows.append(row)
    return rows
