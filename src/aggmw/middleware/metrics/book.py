"""The figures of requests by their labels: plain numbers that are added to, and a frozen snapshot of them.

A snapshot is all that a worker has to send to whoever shows the page of several: it holds nothing but tuples of strings
and numbers, rows of equal labels are added number by number, and rows that only one worker has are taken over
(`sharing`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from aggmw.middleware.metrics.labels import Labels, blank

__all__ = ["DURATIONS", "OTHER", "SIZES", "Book", "Known", "Level", "Row", "Series", "Snapshot"]

Known: TypeAlias = Callable[[str, str, str, str], bool]
"""Whether group, version, resource and subresource are names of something that exists; the last two may be ""."""

DURATIONS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5),
    *(2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
"""Upper bounds in seconds, those of Kubernetes."""

SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
"""Upper bounds in bytes, those of Kubernetes."""

OTHER = "other"
"""In place of a resource's names once there are too many label sets, and of a status code that is not registered."""

_FOLDED = (OTHER, OTHER, OTHER, OTHER)
_CODES = frozenset(map(int, HTTPStatus))
_UNREGISTERED = -1
_SIZED = frozenset({"GET", "LIST"})


class Level:
    """How many there are at the moment."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Series:
    """The requests of one label set.

    Attributes:
        codes: number of answers by status code.
        durations: number of answers by time, one entry for each bound and one for what is above.
        sizes: the same by bytes; None unless these requests read.
        aborts: requests whose client left before an answer.
        running: those long-running requests that go on.
    """

    __slots__ = ("aborts", "bytes", "codes", "durations", "running", "seconds", "sizes")

    def __init__(self, *, sized: bool) -> None:
        self.codes: dict[int, int] = {}
        self.durations = [0] * (len(DURATIONS) + 1)
        self.seconds = 0.0
        self.sizes = [0] * (len(SIZES) + 1) if sized else None
        self.bytes = 0
        self.aborts = 0
        self.running = Level()

    def add(self, status: int, seconds: float, size: int) -> None:
        """Count one request that is over; status 0 is one without an answer."""
        codes = self.codes
        if status in codes:
            codes[status] += 1
        elif not status:
            self.aborts += 1
            return
        else:
            code = status if status in _CODES else _UNREGISTERED
            codes[code] = codes.get(code, 0) + 1
        self.durations[bisect_left(DURATIONS, seconds)] += 1
        self.seconds += seconds
        if self.sizes is not None:
            self.sizes[bisect_left(SIZES, size)] += 1
            self.bytes += size


class Row(NamedTuple):
    """A `Series` of one moment, and its labels."""

    labels: Labels
    codes: tuple[tuple[str, int], ...]
    durations: tuple[int, ...]
    seconds: float
    sizes: tuple[int, ...]
    bytes: int
    aborts: int
    running: int


class Snapshot(NamedTuple):
    """All figures of one moment.

    Attributes:
        read_only, mutating: requests in flight that are not long-running.
        folded: requests counted under `OTHER`, because there were too many label sets.
    """

    rows: tuple[Row, ...]
    read_only: int
    mutating: int
    folded: int


class Book:
    """Series by labels, their number bounded whatever callers ask for (CVE-2020-8552).

    A label set with names of a resource is opened only for names that are known, and only while there are fewer than
    `most` of them; after that, requests are counted under `OTHER`. All others are bounded by the words they consist of.

    Args:
        known: who knows names; asked once for a label set, and each time for names that nobody knows.
        most: label sets with names of resources.
    """

    __slots__ = ("_known", "_most", "_named", "_series", "mutating", "read_only")

    def __init__(self, known: list[Known], most: int) -> None:
        self._known = known
        self._most = most
        self._named = 0
        self._series: dict[Labels, Series] = {}
        self.read_only = Level()
        self.mutating = Level()

    def series(self, labels: Labels) -> Series:
        """Where a request with these labels is counted."""
        return self._series.get(labels) or self._admitted(labels)

    def snapshot(self) -> Snapshot:
        """The figures of this moment."""
        rows = tuple([_row(labels, series) for labels, series in self._series.items()])
        folded = sum(_requests(row) for row in rows if row.labels[2:6] == _FOLDED)
        return Snapshot(rows, self.read_only.value, self.mutating.value, folded)

    def _admitted(self, labels: Labels) -> Series:
        """The series of those labels that may be shown, opened if need be."""
        verb, dry_run, group, version, resource, subresource, scope = labels
        if not (group or version or resource):
            return self._opened(labels)
        if not self._is_known(group, version, resource, subresource):
            if not self._is_known(group, version, "", ""):
                return self._opened(blank(labels))
            labels = verb, dry_run, group, version, "", "", scope
            if labels in self._series:
                return self._series[labels]
        if self._named >= self._most:
            return self._opened((verb, dry_run, *_FOLDED, scope))
        self._named += 1
        return self._opened(labels)

    def _opened(self, labels: Labels) -> Series:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(sized=labels[0] in _SIZED)
        return series

    def _is_known(self, group: str, version: str, resource: str, subresource: str) -> bool:
        return any(known(group, version, resource, subresource) for known in self._known)


def _row(labels: Labels, series: Series) -> Row:
    return Row(
        labels,
        tuple([(OTHER if code == _UNREGISTERED else str(code), number) for code, number in series.codes.items()]),
        tuple(series.durations),
        series.seconds,
        tuple(series.sizes or ()),
        series.bytes,
        series.aborts,
        series.running.value,
    )


def _requests(row: Row) -> int:
    return row.aborts + sum(number for _, number in row.codes)
