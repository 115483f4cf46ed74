"""P1 and P3: requests per second and CPU per request, all servers up at once, rounds in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.load import CONNECTIONS, Round, Wrk
from benchmarks.machine import usage
from benchmarks.report import Report, Row, progress, ratio
from benchmarks.site import Missing, Server, Site

__all__ = ["FORWARDING", "STACK", "Contender", "measure"]


class Contender(NamedTuple):
    """A line of the table.

    Attributes:
        title: as printed.
        server: which one, as `Site.server` calls it.
        spread: ask for many different objects, so that remembered verdicts do not help.
    """

    title: str
    server: str
    spread: bool = False


_DIRECT = Contender("nothing (wrk → nginx)", "direct")
_PEERS = (
    Contender("nginx proxy_pass", "nginx"),
    Contender("Go ReverseProxy", "go"),
)
FORWARDING = (
    _DIRECT,
    *_PEERS,
    Contender("aggmw's door, answering itself", "answer"),
    Contender("aggmw ProxyMiddleware", "bare"),
)
STACK = (
    _DIRECT,
    *_PEERS,
    Contender("aggmw FrontProxy, 10 rules", "stack-10"),
    Contender("aggmw FrontProxy, 1,000 rules", "stack-1000"),
    Contender("the same, 100,000 objects", "stack-1000", spread=True),
)


class _Sample(NamedTuple):
    round: Round
    cpu: float
    """µs of the measured process per request."""


def measure(site: Site, report: Report, contenders: Sequence[Contender], rounds: int, seconds: int) -> None:
    """Two tables, plain and TLS on both sides."""
    try:
        wrk = Wrk(site.workspace)
    except Missing as missing:
        report.note("wrk, so throughput", missing)
        return
    running: list[tuple[Contender, Server]] = []
    for tls in (False, True):
        for contender in contenders:
            try:
                running.append((contender, site.server(contender.server, tls=tls)))
            except Missing as missing:
                report.note(contender.title, missing)
    samples = _rounds(wrk, running, rounds, seconds)
    for tls in (False, True):
        kind = "TLS on both sides" if tls else "plain HTTP"
        title = f"Throughput, {kind}: {CONNECTIONS} connections, {rounds} × {seconds} s"
        of_kind = [(contender, server) for contender, server in running if server.tls is tls]
        go = next((samples[pair] for pair in of_kind if pair[0].server == "go"), None)
        report.table(title, [_row(pair, samples[pair], go) for pair in of_kind])
    for (contender, server), found in samples.items():
        if errors := sum(sample.round.errors for sample in found):
            report.note(f"{contender.title}, {server.scheme}", f"{errors} errors")


def _rounds(
    wrk: Wrk, running: Sequence[tuple[Contender, Server]], rounds: int, seconds: int
) -> dict[tuple[Contender, Server], list[_Sample]]:
    samples: dict[tuple[Contender, Server], list[_Sample]] = defaultdict(list)
    for number in range(rounds + 1):
        progress(f"  throughput: round {number} of {rounds}" if number else "  throughput: warming up")
        for contender, server in running:
            before = usage(server.pid).total
            seen = wrk.run(server, seconds, spread=contender.spread)
            spent = usage(server.pid).total - before
            if number:
                samples[contender, server].append(_Sample(seen, spent / max(1, seen.requests) * 1e6))
    return samples


def _row(pair: tuple[Contender, Server], samples: Sequence[_Sample], go: Sequence[_Sample] | None) -> Row:
    contender, server = pair
    rates = [sample.round.rate for sample in samples]
    cpu = [sample.cpu for sample in samples]
    direct = server.name == "direct"
    return {
        "what forwards": contender.title,
        "requests/s": median(rates),
        "best": max(rates),
        "× Go": None if direct or go is None else ratio(median(rates), median(each.round.rate for each in go)),
        "CPU µs": None if direct else median(cpu),
        "least": None if direct else min(cpu),
        "Go's CPU ×": None if direct or go is None else ratio(median(each.cpu for each in go), median(cpu)),
        "p50 ms": median(sample.round.p50 for sample in samples),
        "p99 ms": median(sample.round.p99 for sample in samples),
    }
