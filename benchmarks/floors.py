"""What each point should reach, and what the aim is: a target to compare with, never a reason to fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.report import Figure, Row

__all__ = ["FLOORS", "Floor", "summary"]


class Floor(NamedTuple):
    """One target.

    Attributes:
        case: the point that it belongs to.
        what: as printed.
        figure: its name in `Report.figures`.
        floor: what should be reached.
        aim: what we are after; None where there is nothing beyond the floor.
        at_least: whether more is better.
    """

    case: str
    what: str
    figure: str
    floor: float
    aim: float | None = None
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether a figure is on the right side of the floor."""
        return value >= self.floor if self.at_least else value <= self.floor


def _at_most(case: str, what: str, figure: str, floor: float, aim: float | None = None) -> Floor:
    return Floor(case, what, figure, floor, aim, at_least=False)


FLOORS = (
    Floor("P1", "ProxyMiddleware, plain: requests/s × Go", "bare plain × go", 1.2, 1.5),
    Floor("P1", "… × asgiproxy", "bare plain × asgiproxy", 3.0),
    Floor("P1", "… × nginx", "bare plain × nginx", 0.25),
    Floor("P1", "ProxyMiddleware, TLS: requests/s × Go", "bare TLS × go", 0.8, 1.0),
    Floor("P1", "compiled, plain: requests/s × Go", "compiled-bare plain × go", 1.2, 1.5),
    Floor("P1", "compiled, TLS: requests/s × Go", "compiled-bare TLS × go", 0.8, 1.0),
    Floor("P2", "ProxyMiddleware on granian, plain: requests/s × Go", "granian-bare plain × go", 1.6, 2.0),
    Floor("P2", "compiled, plain: requests/s × Go", "compiled-granian-bare plain × go", 1.6, 2.0),
    Floor("P3", "FrontProxy, plain: requests/s × bare Go", "stack-1000 plain × go", 0.8, 1.0),
    Floor("P3", "FrontProxy, TLS: requests/s × bare Go", "stack-1000 TLS × go", 0.6, 1.0),
    Floor("P3", "compiled, plain: requests/s × bare Go", "compiled-stack-1000 plain × go", 0.8, 1.0),
    Floor("P3", "compiled, TLS: requests/s × bare Go", "compiled-stack-1000 TLS × go", 0.6, 1.0),
    Floor("P3", "FrontProxy, TLS: requests/s × kube-apiserver's", "stack-1000 TLS × kube-apiserver", 2.0),
    *(
        _at_most("P4", f"{title}, {side}: {cut} added × Go's", f"{server} {side} {cut} added × go", floor, 1.0)
        for title, server in (
            ("ProxyMiddleware", "bare"),
            ("ProxyMiddleware, compiled", "compiled-bare"),
            ("FrontProxy", "stack-1000"),
            ("FrontProxy, compiled", "compiled-stack-1000"),
        )
        for side in ("plain", "TLS")
        for cut, floor in (("p50", 1.4), ("p99", 1.5))
    ),
    *(
        Floor("P5", f"one {way}, {side}: MiB/s × nginx", f"stack-10 {side} {way} × nginx", 0.7, 1.0)
        for side in ("plain", "TLS")
        for way in ("response", "upload")
    ),
    _at_most("P5", "MiB of memory that a large body needs", "stack-10 MiB grown", 16),
    _at_most("P6", "an idle watch, plain: KiB", "stack-10 plain KiB each", 40, 20),
    _at_most("P6", "an idle watch, TLS: KiB", "stack-10 TLS KiB each", 110, 55),
    _at_most("P6", "an event to all watches, plain: ms", "stack-10 plain ms to all", 100, 50),
    _at_most("P6", "an event to all watches, TLS: ms", "stack-10 TLS ms to all", 250, 125),
    _at_most("P7", "10,000 rules, 50 groups, allow, cold: µs", "allow cold", 50, 10),
    _at_most("P7", "10,000 rules, 50 groups, deny, cold: µs", "deny cold", 50, 10),
    _at_most("P7", "10,000 rules, 50 groups, remembered: µs", "remembered", 3),
    _at_most("P7", "loading 10,000 rules: s", "loading", 1.0),
    _at_most("P7", "a million different callers: MiB more", "strangers", 2),
    _at_most("P7", "a timer during a reload of 100,000 rules, p99: ms late", "reload lag p99", 10),
    _at_most("P7", "… the latest", "reload lag max", 100),
    _at_most("P7", "RBAC, 10,000 bindings, 50 groups, allow: µs", "RBAC allow", 50, 10),
    _at_most("P7", "RBAC, 10,000 bindings, 50 groups, deny: µs", "RBAC deny", 50, 10),
    _at_most("P7", "loading 10,000 roles and bindings: s", "loading bindings", 1.0),
    _at_most("P8", "a token, remembered among 100,000: µs", "token remembered", 3),
    _at_most("P8", "a token, RS256, for the first time: µs", "RS256 token cold", 120),
    _at_most("P8", "a token, ES256, for the first time: µs", "ES256 token cold", 200),
    _at_most("P11", "import aggmw: ms", "import", 40, 20),
    _at_most("P11", "/readyz with an existing directory: s", "ready again", 1.0, 0.5),
    _at_most("P11", "/readyz on the first start: s", "ready first", 3.0, 1.5),
    _at_most("P11", "idle: MiB", "idle MiB", 80, 40),
    _at_most("P12", "5,000 services: µs × 10 services", "services grown", 1.1, 1.0),
    _at_most("P12", "1,000 kinds: µs × 1 kind", "kinds grown", 1.1, 1.0),
)
"""From the project's performance targets; docs/reference/performance.md says what each figure is."""


def summary(figures: Mapping[str, Figure], floors: Iterable[Floor] = FLOORS) -> list[Row]:
    """A row for each floor that was measured.

    Ratios of throughput stand beside the same ratio of CPU time per request, which other programs disturb less.
    """
    rows: list[Row] = []
    for floor in floors:
        figure = figures.get(floor.figure)
        if figure is None:
            continue
        cpu = figures.get(f"{floor.figure}, CPU")
        sign = "≥" if floor.at_least else "≤"
        rows.append(
            {
                "what": f"{floor.case} {floor.what}",
                "floor": f"{sign} {floor.floor:g}",
                "aim": None if floor.aim is None else f"{sign} {floor.aim:g}",
                "reached": figure.value,
                "from": figure.least,
                "to": figure.most,
                "by CPU time": None if cpu is None else cpu.value,
                "so": "reached" if floor.met(figure.value) else "not yet",
            }
        )
    return rows
