"""Snapshot and samples → the page, in the format that the scraper prefers: the module that needs prometheus-client.

Encoding costs some 10 µs a line, so it is done in a thread, from values that do not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Literal, cast

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as Line
from prometheus_client.utils import floatToGoString

from aggmw.contracts.metrics import Sample
from aggmw.middleware.metrics import families
from aggmw.middleware.metrics.book import DURATIONS, SIZES, Row, Snapshot
from aggmw.middleware.metrics.families import Family
from aggmw.middleware.metrics.labels import tell_of_long_running

__all__ = ["Exposition"]

_COMPONENT = "apiserver"
_SLI_FROM = DURATIONS.index(0.05)


class Exposition:
    """Writes pages. Keeps no figures, and nothing in prometheus-client's global registry."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=None)
        self._platform = PlatformCollector(registry=None)

    def page(
        self, accept: str, snapshot: Snapshot, samples: Sequence[Sample], *, process: bool = True
    ) -> tuple[str, bytes]:
        """The content type and the page.

        Args:
            accept: the Accept field; the plain text format for one that says nothing usable.
            snapshot: the figures of requests.
            samples: those of sources.
            process: show this process's own figures, too; they are not among the samples.
        """
        registry = CollectorRegistry(auto_describe=False)
        for collector in (_Figures(snapshot, samples), *([self._process] if process else []), self._platform):
            registry.register(collector)
        encode, content_type = _chosen(accept)
        return content_type, encode(registry)

    def process(self) -> Iterator[Sample]:
        """This process's own figures. Reads files of `/proc`."""
        for metric in self._process.collect():
            kind: Literal["counter", "gauge"] = "counter" if metric.type == "counter" else "gauge"
            for line in metric.samples:
                yield Sample(line.name, metric.documentation, kind, tuple(line.labels.items()), line.value, apart=True)


def _chosen(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Encoder and content type. The library fails on a version that is none, and repeats some of what it was given."""
    with suppress(TypeError, ValueError):
        encode, content_type = choose_encoder(accept)
        if content_type.isascii() and content_type.isprintable():
            return encode, content_type
    return choose_encoder("")


class _Figures(Collector):
    """A snapshot and samples as prometheus-client wants them."""

    def __init__(self, snapshot: Snapshot, samples: Sequence[Sample]) -> None:
        self._snapshot = snapshot
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        for family, make in _LINES:
            metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            # One after the other while they are written: all at once would be work for the collector, which stops us.
            metric.samples = cast(list[Line], _Lines(make, self._snapshot))
            yield metric
        yield from _of_sources(self._samples)


class _Lines:
    """The samples of one family."""

    def __init__(self, make: Callable[[Snapshot], Iterable[Line]], snapshot: Snapshot) -> None:
        self._make = make
        self._snapshot = snapshot

    def __iter__(self) -> Iterator[Line]:
        return iter(self._make(self._snapshot))


def _requests(snapshot: Snapshot) -> Iterator[Line]:
    for row in snapshot.rows:
        labels = _labels(row, dry_run=True)
        for code, number in row.codes:
            yield Line(families.REQUESTS.name, {**labels, "code": code}, float(number))


def _durations(snapshot: Snapshot) -> Iterator[Line]:
    for row in snapshot.rows:
        if row.codes:
            labels = _labels(row, dry_run=True)
            yield from _histogram(families.DURATION.name, labels, DURATIONS, row.durations, row.seconds)


def _sli_durations(snapshot: Snapshot) -> Iterator[Line]:
    """The bounds are those of durations without the least two, as Kubernetes has it."""
    for row in snapshot.rows:
        if row.codes and not (tell_of_long_running(row.labels) or row.labels[1]):
            below, rest = sum(row.durations[: _SLI_FROM + 1]), row.durations[_SLI_FROM + 1 :]
            name = families.SLI_DURATION.name
            yield from _histogram(name, _labels(row), DURATIONS[_SLI_FROM:], (below, *rest), row.seconds)


def _sizes(snapshot: Snapshot) -> Iterator[Line]:
    for row in snapshot.rows:
        if row.codes and row.sizes:
            yield from _histogram(families.RESPONSE_SIZES.name, _labels(row), SIZES, row.sizes, row.bytes)


def _in_flight(snapshot: Snapshot) -> Iterator[Line]:
    for kind, number in (("readOnly", snapshot.read_only), ("mutating", snapshot.mutating)):
        yield Line(families.IN_FLIGHT.name, {"request_kind": kind}, float(number))


def _long_running(snapshot: Snapshot) -> Iterator[Line]:
    for row in snapshot.rows:
        if tell_of_long_running(row.labels):
            yield Line(families.LONG_RUNNING.name, _labels(row), float(row.running))


def _aborts(snapshot: Snapshot) -> Iterator[Line]:
    """Dry run is no label here, so its requests are added to the others."""
    totals: dict[tuple[str, ...], int] = {}
    for row in snapshot.rows:
        if row.aborts:
            key = (row.labels[0], *row.labels[2:])
            totals[key] = totals.get(key, 0) + row.aborts
    for values, number in totals.items():
        yield Line(families.ABORTS.name, dict(zip(families.ABORTS.labels, values, strict=True)), float(number))


def _folded(snapshot: Snapshot) -> Iterator[Line]:
    yield Line(families.FOLDED.name, {}, float(snapshot.folded))


_LINES: tuple[tuple[Family, Callable[[Snapshot], Iterable[Line]]], ...] = (
    (families.REQUESTS, _requests),
    (families.DURATION, _durations),
    (families.SLI_DURATION, _sli_durations),
    (families.RESPONSE_SIZES, _sizes),
    (families.IN_FLIGHT, _in_flight),
    (families.LONG_RUNNING, _long_running),
    (families.ABORTS, _aborts),
    (families.FOLDED, _folded),
)


def _histogram(
    name: str, labels: dict[str, str], bounds: Sequence[float], numbers: Iterable[int], total: float
) -> Iterator[Line]:
    """Cumulative buckets, their sum and their count."""
    bucket = f"{name}_bucket"
    reached = 0
    for bound, reached in zip((*map(floatToGoString, bounds), "+Inf"), accumulate(numbers), strict=True):
        yield Line(bucket, {**labels, "le": bound}, float(reached))
    yield Line(f"{name}_count", labels, float(reached))
    yield Line(f"{name}_sum", labels, float(total))


def _labels(row: Row, *, dry_run: bool = False) -> dict[str, str]:
    verb, dry, group, version, resource, subresource, scope = row.labels
    labels = {"verb": verb, "dry_run": dry} if dry_run else {"verb": verb}
    labels |= {"group": group, "version": version, "resource": resource, "subresource": subresource, "scope": scope}
    labels["component"] = _COMPONENT
    return labels


def _of_sources(samples: Iterable[Sample]) -> Iterator[Metric]:
    totals: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    firsts: dict[str, Sample] = {}
    for sample in samples:
        firsts.setdefault(sample.name, sample)
        found = totals.setdefault(sample.name, {})
        found[sample.labels] = found.get(sample.labels, 0.0) + sample.value
    for name, first in firsts.items():
        metric = Metric(name.removesuffix("_total"), first.help, first.kind)
        metric.samples = [Line(name, dict(labels), value) for labels, value in totals[name].items()]
        yield metric
