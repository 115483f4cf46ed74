"""P1, P2 and P3: requests per second and CPU per request, all servers up at once, rounds in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.load import CONNECTIONS, Round, Wrk
from benchmarks.machine import Usage, settled, usage
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.site import Missing, Server, Site

__all__ = ["CASES", "Contender", "Sample", "Samples", "measure", "tabulate"]


class Contender(NamedTuple):
    """A line of the table.

    Attributes:
        title: as printed.
        server: which one, as `Site.server` calls it.
        spread: ask for many different objects, so that remembered verdicts do not help.
        tls: measured with TLS on both sides too.
        plain: measured with plain HTTP.
    """

    title: str
    server: str
    spread: bool = False
    tls: bool = True
    plain: bool = True


_BESIDE = (
    Contender("nothing (wrk → nginx)", "direct"),
    Contender("nginx proxy_pass", "nginx"),
    Contender("Go ReverseProxy", "go"),
)
_BARE = Contender("aggmw ProxyMiddleware", "bare")
_COMPILED = Contender("ProxyMiddleware, compiled", "compiled-bare")
_ANSWER = Contender("aggmw's door, answering itself", "answer")

CASES: Mapping[str, Sequence[Contender]] = {
    "P1": (
        *_BESIDE,
        Contender("asgiproxy", "asgiproxy"),
        Contender("fastapi-proxy-lib", "fastapi-proxy-lib"),
        _ANSWER,
        _BARE,
        _COMPILED,
    ),
    "P2": (
        *_BESIDE,
        Contender("granian, answering itself", "granian-answer", tls=False),
        Contender("aggmw ProxyMiddleware on granian", "granian-bare", tls=False),
        Contender("ProxyMiddleware on granian, compiled", "compiled-granian-bare", tls=False),
        Contender("aggmw FrontProxy on granian, 1,000 rules", "granian-stack-1000", tls=False),
    ),
    "P3": (
        *_BESIDE,
        _ANSWER,
        _BARE,
        _COMPILED,
        Contender("aggmw FrontProxy, 1,000 rules", "stack-1000"),
        Contender("FrontProxy, 1,000 rules, compiled", "compiled-stack-1000"),
        Contender("FrontProxy, 100,000 objects", "stack-1000", spread=True),
    ),
    # A case of its own: it never rests, which would disturb whatever else is on its core.
    "P3K": (
        Contender("Go ReverseProxy", "go"),
        Contender("kube-apiserver's aggregation layer, 1,000 bindings", "kube-apiserver", plain=False),
        Contender("aggmw FrontProxy, 1,000 rules", "stack-1000"),
        Contender("FrontProxy, 1,000 rules, compiled", "compiled-stack-1000"),
    ),
}
"""What is measured for each. A contender of several cases is measured once for all of them."""


class Sample(NamedTuple):
    """One round of one server.

    Attributes:
        round: what wrk saw.
        user, system: µs of the measured process per request.
    """

    round: Round
    user: float
    system: float

    @property
    def cpu(self) -> float:
        """µs per request, in user space and in the kernel."""
        return self.user + self.system


Samples = Mapping[tuple[Contender, bool], Sequence[Sample]]
"""(contender, with TLS) → its rounds, in the order in which they were taken."""


def measure(site: Site, report: Report, cases: Sequence[str], rounds: int, seconds: int) -> Samples:
    """Measure the cases together, and make their tables: plain, and TLS on both sides."""
    try:
        wrk = Wrk(site.workspace)
    except Missing as missing:
        report.note("wrk, so throughput", missing)
        return {}
    contenders = tuple(dict.fromkeys(contender for case in cases for contender in CASES[case]))
    running: dict[tuple[Contender, bool], Server] = {}
    for tls in (False, True):
        for contender in contenders:
            if not (contender.tls if tls else contender.plain):
                continue
            try:
                running[contender, tls] = site.server(contender.server, tls=tls)
            except Missing as missing:
                report.note(contender.title, missing)
    samples = _rounds(wrk, running, rounds, seconds)
    tabulate(samples, report, f"{CONNECTIONS} connections, {rounds} × {seconds} s")
    return samples


def _rounds(
    wrk: Wrk, running: Mapping[tuple[Contender, bool], Server], rounds: int, seconds: int
) -> dict[tuple[Contender, bool], list[Sample]]:
    samples: dict[tuple[Contender, bool], list[Sample]] = defaultdict(list)
    for number in range(rounds + 1):
        progress(f"  throughput: round {number} of {rounds}" if number else "  throughput: warming up")
        for key, server in running.items():
            before = usage(server.pid)
            seen = wrk.run(server, seconds, spread=key[0].spread)
            after = usage(server.pid)
            if number:
                samples[key].append(_sample(seen, before, after))
            settled(server.pid)
    return samples


def _sample(seen: Round, before: Usage, after: Usage) -> Sample:
    requests = max(1, seen.requests)
    return Sample(seen, (after.user - before.user) / requests * 1e6, (after.system - before.system) / requests * 1e6)


def tabulate(samples: Samples, report: Report, how: str) -> None:
    """Print a table for plain and one for TLS; note errors; say what the floors are compared with."""
    for tls in (False, True):
        of_kind = {contender: found for (contender, with_tls), found in samples.items() if with_tls is tls}
        by_server = {contender.server: found for contender, found in of_kind.items() if not contender.spread}
        title = f"Throughput, {'TLS on both sides' if tls else 'plain HTTP'}: {how}"
        go = by_server.get("go")
        report.table(title, [_row(contender, found, go) for contender, found in of_kind.items()])
        report.keep(title, {contender.title: [_kept(each) for each in found] for contender, found in of_kind.items()})
        for ours in by_server:
            for theirs in ("go", "nginx", "asgiproxy", "kube-apiserver"):
                if theirs in by_server:
                    name = f"{ours} {'TLS' if tls else 'plain'} × {theirs}"
                    report.reached(name, _compared(by_server[ours], by_server[theirs]))
                    report.reached(f"{name}, CPU", _compared_cpu(by_server[ours], by_server[theirs]))
        for contender, found in of_kind.items():
            if errors := sum(sample.round.errors for sample in found):
                report.note(f"{contender.title}, {'https' if tls else 'http'}", f"{errors} errors")


def _compared(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Figure:
    """The ratio of the medians, and the least and the most that one round gave."""
    rounds = [mine.round.rate / other.round.rate for mine, other in zip(ours, theirs, strict=True) if other.round.rate]
    return Figure(_rate(ours) / _rate(theirs), min(rounds), max(rounds))


def _compared_cpu(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Figure:
    """The same of CPU time per request, upside down: more is better."""
    rounds = [other.cpu / mine.cpu for mine, other in zip(ours, theirs, strict=True) if mine.cpu]
    return Figure(_cpu(theirs) / _cpu(ours), min(rounds), max(rounds))


def _cpu(samples: Sequence[Sample]) -> float:
    return median(sample.cpu for sample in samples)


def _rate(samples: Sequence[Sample]) -> float:
    return median(sample.round.rate for sample in samples)


def _row(contender: Contender, samples: Sequence[Sample], go: Sequence[Sample] | None) -> Row:
    rates = [sample.round.rate for sample in samples]
    cpu = [sample.cpu for sample in samples]
    direct = contender.server == "direct"
    row: dict[str, str | float | None] = {
        "what forwards": contender.title,
        "requests/s": median(rates),
        "least": min(rates),
        "best": max(rates),
    }
    if not direct and go is not None:
        against = _compared(samples, go)
        row |= {"× Go": against.value, "from": against.least, "to": against.most}
    if not direct:
        row |= {"CPU µs": median(cpu), "at best": min(cpu)}
        if go is not None:
            row["Go's CPU ×"] = _compared_cpu(samples, go).value
    row["p50 ms"] = median(sample.round.p50 for sample in samples)
    row["p99 ms"] = median(sample.round.p99 for sample in samples)
    return row


def _kept(sample: Sample) -> Row:
    seen = sample.round
    return {
        "requests/s": seen.rate,
        "user µs": sample.user,
        "system µs": sample.system,
        "p50 ms": seen.p50,
        "p99 ms": seen.p99,
        "errors": seen.errors,
    }
