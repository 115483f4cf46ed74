"""The figures of several worker processes: how they travel, and how they are added up.

Counters and histograms are sums over all workers, also over those that are gone; so are gauges over those that are
there. What makes no sense as a sum (`Sample.apart`) carries the number of its worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple, cast

from aggmw.contracts.metrics import Sample
from aggmw.middleware.metrics.book import Row, Snapshot
from aggmw.middleware.metrics.labels import Labels

__all__ = ["NOTHING", "Figures", "added", "apart", "left_behind", "packed", "unpacked", "without_apart"]


class Figures(NamedTuple):
    """Everything that one worker shows, or several together."""

    snapshot: Snapshot
    samples: tuple[Sample, ...]


NOTHING = Figures(Snapshot((), 0, 0, 0), ())


def apart(samples: Iterable[Sample], number: int) -> Iterator[Sample]:
    """The samples; those that are not added up with the label of their worker."""
    for sample in samples:
        if sample.apart:
            yield replace(sample, labels=(*sample.labels, ("worker", str(number))))
        else:
            yield sample


def without_apart(figures: Figures) -> Figures:
    """What is left of a worker whose number another one has by now."""
    return figures._replace(samples=tuple([sample for sample in figures.samples if not sample.apart]))


def without_number(figures: Figures, number: int) -> Figures:
    """What several workers show, without what carries this number."""
    label = ("worker", str(number))
    return figures._replace(
        samples=tuple([each for each in figures.samples if not (each.apart and label in each.labels)])
    )


def left_behind(figures: Figures) -> Figures:
    """What stays of a worker that is gone: what it has counted, not what was going on in it."""
    snapshot = figures.snapshot
    rows = tuple([row._replace(running=0) for row in snapshot.rows])
    samples = [sample for sample in figures.samples if sample.kind == "counter" and not sample.apart]
    return Figures(Snapshot(rows, 0, 0, snapshot.folded), tuple(samples))


def added(several: Iterable[Figures]) -> Figures:
    """All of them together; those that are not to be added up have different labels."""
    rows: dict[Labels, Row] = {}
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
    read_only = mutating = folded = 0
    for snapshot, theirs in several:
        for row in snapshot.rows:
            known = rows.get(row.labels)
            rows[row.labels] = row if known is None else _sum(known, row)
        read_only += snapshot.read_only
        mutating += snapshot.mutating
        folded += snapshot.folded
        for sample in theirs:
            key = sample.name, sample.labels
            before = samples.get(key)
            samples[key] = sample if before is None else replace(before, value=before.value + sample.value)
    return Figures(Snapshot(tuple(rows.values()), read_only, mutating, folded), tuple(samples.values()))


def _sum(one: Row, other: Row) -> Row:
    codes = dict(one.codes)
    for code, number in other.codes:
        codes[code] = codes.get(code, 0) + number
    return Row(
        one.labels,
        tuple(codes.items()),
        _each(one.durations, other.durations),
        one.seconds + other.seconds,
        _each(one.sizes, other.sizes),
        one.bytes + other.bytes,
        one.aborts + other.aborts,
        one.running + other.running,
    )


def _each(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple([left + right for left, right in zip_longest(one, other, fillvalue=0)])


def packed(figures: Figures) -> bytes:
    """The figures as they travel between processes of one version: JSON."""
    snapshot = figures.snapshot
    samples = [[each.name, each.help, each.kind, each.labels, each.value, each.apart] for each in figures.samples]
    return json.dumps([snapshot, samples], separators=(",", ":")).encode("ascii")


def unpacked(data: bytes) -> Figures:
    """What `packed` made."""
    (rows, read_only, mutating, folded), samples = json.loads(data)
    return Figures(
        Snapshot(tuple([_row(*row) for row in rows]), read_only, mutating, folded),
        tuple(
            [
                Sample(name, text, kind, _pairs(labels), value, separate)
                for name, text, kind, labels, value, separate in samples
            ]
        ),
    )


def _row(
    labels: list[str],
    codes: list[list[object]],
    durations: list[int],
    seconds: float,
    sizes: list[int],
    size: int,
    aborts: int,
    running: int,
) -> Row:
    pairs = cast(tuple[tuple[str, int], ...], tuple([tuple(each) for each in codes]))
    return Row(cast(Labels, tuple(labels)), pairs, tuple(durations), seconds, tuple(sizes), size, aborts, running)


def _pairs(labels: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple([(name, value) for name, value in labels])
