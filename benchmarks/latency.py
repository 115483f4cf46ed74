"""P4: what a proxy adds when there is next to nothing to do: 100 requests a second on one connection."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import quantiles

from benchmarks.client import Client, head
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.site import Missing, Server, Site
from benchmarks.workspace import ONE

__all__ = ["measure", "tabulate"]

_PERIOD = 0.01
_PER_ROUND = 150
_CUTS = {"p50": 49, "p99": 98}
_SERVERS = {
    "direct": "nothing (client → nginx)",
    "nginx": "nginx proxy_pass",
    "go": "Go ReverseProxy",
    "bare": "aggmw ProxyMiddleware",
    "compiled-bare": "ProxyMiddleware, compiled",
    "stack-1000": "aggmw FrontProxy, 1,000 rules",
    "compiled-stack-1000": "FrontProxy, 1,000 rules, compiled",
}

Rounds = Sequence[Sequence[float]]
"""Milliseconds of each request, round by round."""


def measure(site: Site, report: Report, rounds: int) -> None:
    """A table a side: milliseconds of each, and what they add to going direct."""
    for tls in (False, True):
        servers: list[Server] = []
        for name, title in _SERVERS.items():
            try:
                servers.append(site.server(name, tls=tls))
            except Missing as missing:
                report.note(title, missing)
        times: dict[str, list[list[float]]] = defaultdict(list)
        for number in range(rounds):
            progress(f"  latency, {'TLS' if tls else 'plain'}: round {number + 1} of {rounds}")
            for server in servers:
                times[server.name].append(_paced(server))
        tabulate(times, report, tls=tls)


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


def tabulate(times: Mapping[str, Rounds], report: Report, *, tls: bool) -> None:
    """Print the table of one side; say what the floors are compared with."""
    if not times:
        return
    side = "TLS" if tls else "plain"
    requests = max(sum(map(len, rounds)) for rounds in times.values())
    title = f"Latency at {1 / _PERIOD:.0f} requests/s, {'TLS on both sides' if tls else 'plain HTTP'}"
    title += f": {requests} requests each"
    direct, go = times.get("direct"), times.get("go")
    rows: list[Row] = []
    for name, found in times.items():
        whole = _percentiles(chain.from_iterable(found))
        row: dict[str, str | float | None] = {"what forwards": _SERVERS[name]}
        row |= {f"{cut} ms": figure for cut, figure in whole.items()}
        for cut in _CUTS:
            if direct is not None and name != "direct":
                row[f"{cut} added"] = _added(cut, found, direct)
        for cut in _CUTS:
            if direct is not None and go is not None and name != "direct":
                against = _against(cut, found, go, direct)
                row[f"{cut} × Go"] = None if against is None else against.value
                if against is not None:
                    report.reached(f"{name} {side} {cut} added × go", against)
        rows.append(row)
    report.table(title, rows)
    report.keep(title, {_SERVERS[name]: [_percentiles(each) for each in found] for name, found in times.items()})


def _percentiles(times: Iterable[float]) -> dict[str, float]:
    cuts = quantiles(times, n=100)
    return {cut: cuts[index] for cut, index in _CUTS.items()}


def _added(cut: str, ours: Rounds, direct: Rounds) -> float:
    return _percentiles(chain.from_iterable(ours))[cut] - _percentiles(chain.from_iterable(direct))[cut]


def _against(cut: str, ours: Rounds, go: Rounds, direct: Rounds) -> Figure | None:
    """How many times what Go adds; None where Go seems to add nothing: then the disturbance is larger than both."""
    theirs = _added(cut, go, direct)
    if theirs <= 0:
        return None
    each = [
        _added(cut, [mine], [nothing]) / added
        for mine, other, nothing in zip(ours, go, direct, strict=True)
        if (added := _added(cut, [other], [nothing])) > 0
    ]
    return Figure(_added(cut, ours, direct) / theirs, min(each, default=None), max(each, default=None))
