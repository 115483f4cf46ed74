"""Where the microseconds of a request go: what each further part of a server adds to its CPU time per request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.micro import DOOR, FUSED, PROXY, RECOVERY, STAGES
from benchmarks.report import Report, Row
from benchmarks.throughput import Sample, Samples

__all__ = ["split"]

_SERVERS = ("answer", "bare", "stack-1000")
_ADDED = (
    ("the client's side: event loop, door, task, answer", (DOOR,)),
    ("forwarding: middleware, transport, event loop, the backend's side", (PROXY,)),
    ("stages: recovery, metrics, and the deciding ones", (RECOVERY, FUSED)),
)
"""For each of the servers: what it adds, and the lines of `micro` that are the same work."""


def split(samples: Samples, single: Mapping[str, float], report: Report) -> None:
    """Print the table: of three servers each does what the one before does, and more.

    Args:
        samples: from `throughput`; without all three servers a side has no column, without any there is no table.
        single: µs of the same work alone, from `micro`; may be empty.
    """
    sides = {side: found for side, tls in (("plain", False), ("TLS", True)) if (found := _costs(samples, tls))}
    if not sides:
        return
    rows: list[Row] = []
    for index, (what, lines) in enumerate(_ADDED):
        added = {
            f"{side} µs": found[index].cpu - (found[index - 1].cpu if index else 0) for side, found in sides.items()
        }
        rows.append({"part": what, **added, "alone µs": sum(single.get(line, 0.0) for line in lines) or None})
    rows += [{"part": f"  {line}", "alone µs": single[line]} for line in (RECOVERY, *STAGES) if line in single]
    whole = {f"{side} µs": found[-1] for side, found in sides.items()}
    rows.append({"part": "a request through FrontProxy", **{side: cost.cpu for side, cost in whole.items()}})
    rows.append({"part": "  of that in the kernel", **{side: cost.system for side, cost in whole.items()}})
    under = "alone: the same work without a socket, on asyncio's own loop; the rest of a line is what that leaves out"
    report.table("Where the microseconds of a request go (CPU, medians)", rows, under=under)


class _Cost(NamedTuple):
    """Medians of a server: µs per request."""

    cpu: float
    system: float


def _costs(samples: Samples, tls: bool) -> list[_Cost]:
    """Of the servers, in order; none when one is missing."""
    found: dict[str, Sequence[Sample]] = {
        contender.server: each
        for (contender, with_tls), each in samples.items()
        if with_tls is tls and not contender.spread and each
    }
    if not all(server in found for server in _SERVERS):
        return []
    return [
        _Cost(median(sample.cpu for sample in found[server]), median(sample.system for sample in found[server]))
        for server in _SERVERS
    ]
