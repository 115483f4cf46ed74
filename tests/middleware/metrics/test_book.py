"""The figures by labels: what is added where, and that callers cannot make more of them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.middleware.metrics.book import DURATIONS, OTHER, SIZES, Book, Row
from aggmw.middleware.metrics.labels import VERBS, Labels

PODS: Labels = ("GET", "", "", "v1", "pods", "", "namespace")
HEALTH: Labels = ("GET", "", "", "", "", "/healthz", "")
FOLDED = (OTHER, OTHER, OTHER, OTHER)


def everything(group: str, version: str, resource: str, subresource: str) -> bool:
    return True


def only_pods(group: str, version: str, resource: str, subresource: str) -> bool:
    """One resource of the core group."""
    return (group, version) == ("", "v1") and (resource, subresource) in (("pods", ""), ("pods", "log"), ("", ""))


def row(book: Book, labels: Labels) -> Row:
    (found,) = [each for each in book.snapshot().rows if each.labels == labels]
    return found


@pytest.mark.parametrize(("seconds", "at"), [(0.0, 0), (0.005, 0), (0.0051, 1), (60.0, 22), (60.1, 23), (1e9, 23)])
def test_durations(seconds: float, at: int) -> None:
    """A bound belongs to its own bucket; what is above all bounds has one, too."""
    book = Book([everything], 10)
    book.series(PODS).add(200, seconds, 0)
    found = row(book, PODS)
    assert [index for index, number in enumerate(found.durations) if number] == [at]
    assert len(found.durations) == len(DURATIONS) + 1
    assert found.seconds == seconds


@pytest.mark.parametrize(("size", "at"), [(0, 0), (1000, 0), (1001, 1), (10**9, 6), (10**9 + 1, 7)])
def test_sizes(size: int, at: int) -> None:
    """The same for bytes."""
    book = Book([everything], 10)
    book.series(PODS).add(200, 0.1, size)
    found = row(book, PODS)
    assert [index for index, number in enumerate(found.sizes) if number] == [at]
    assert (len(found.sizes), found.bytes) == (len(SIZES) + 1, size)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_only_reads_have_sizes(verb: str) -> None:
    """As in Kubernetes, the answers to GET and LIST are measured."""
    book = Book([everything], 10)
    labels = (verb, *PODS[1:])
    book.series(labels).add(200, 0.1, 5)
    assert bool(row(book, labels).sizes) is (verb in ("GET", "LIST"))


def test_without_an_answer() -> None:
    """Status 0 is an abort: no answer, no time, no size."""
    book = Book([everything], 10)
    book.series(PODS).add(0, 0.1, 5)
    found = row(book, PODS)
    assert (found.aborts, found.codes, sum(found.durations), sum(found.sizes)) == (1, (), 0, 0)


def test_codes_are_registered_ones() -> None:
    """A backend cannot make series of status codes: those that nobody registered are one."""
    book = Book([everything], 10)
    for status in range(100, 1000):
        book.series(PODS).add(status, 0.1, 0)
    codes = dict(row(book, PODS).codes)
    assert codes["200"] == codes["404"] == codes["503"] == 1
    assert codes[OTHER] == 900 - (len(codes) - 1)
    assert len(codes) < 70


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (PODS, PODS[2:6]),
        (("CONNECT", "", "", "v1", "pods", "log", "resource"), ("", "v1", "pods", "log")),
        (("GET", "", "", "v1", "pods", "nonsense", "resource"), ("", "v1", "", "")),
        (("GET", "", "", "v1", "nonsense", "", "resource"), ("", "v1", "", "")),
        (("GET", "", "", "v2", "pods", "", "resource"), ("", "", "", "")),
        (("GET", "", "nonsense.example.com", "v1", "pods", "", "resource"), ("", "", "", "")),
        (HEALTH, HEALTH[2:6]),
    ],
)
def test_names_are_shown_if_known(labels: Labels, shown: tuple[str, ...]) -> None:
    """All of the names, or group and version, or none; verb, dry run and scope stay."""
    book = Book([only_pods], 10)
    book.series(labels).add(200, 0.1, 0)
    (found,) = book.snapshot().rows
    assert found.labels == (*labels[:2], *shown, labels[6])


def test_nothing_is_known_by_default() -> None:
    """Without anybody who knows names, there are none."""
    book = Book([], 10)
    book.series(PODS).add(200, 0.1, 0)
    assert [each.labels[2:6] for each in book.snapshot().rows] == [("", "", "", "")]


def test_names_that_become_known() -> None:
    """What was learned later is shown from then on."""
    served: set[str] = set()
    book = Book([lambda group, version, resource, subresource: resource in served], 10)
    book.series(PODS).add(200, 0.1, 0)
    served.add("pods")
    book.series(PODS).add(200, 0.1, 0)
    assert [each.labels[4] for each in book.snapshot().rows] == ["", "pods"]


def test_too_many_are_folded() -> None:
    """Above the limit requests are counted as "other", and how many is told; what has its place keeps it."""
    book = Book([everything], 3)
    for number in range(10):
        for _ in range(2):
            book.series(("GET", "", "g.example.com", "v1", f"things-{number}", "", "cluster")).add(200, 0.1, 0)
    snapshot = book.snapshot()
    shown = {each.labels[4]: dict(each.codes)["200"] for each in snapshot.rows}
    assert shown == {"things-0": 2, "things-1": 2, "things-2": 2, OTHER: 14}
    assert snapshot.folded == 14


def test_folded_are_told_of_once() -> None:
    """A long-running request has its series looked up twice and is one request."""
    book = Book([everything], 0)
    book.series(PODS).running.value += 1
    book.series(PODS).add(200, 0.1, 0)
    book.series(PODS).add(0, 0.1, 0)
    assert book.snapshot().folded == 2


def test_limit_leaves_room_for_the_rest() -> None:
    """Paths without a resource, and names that nobody knows, are counted whatever the limit: they are bounded."""
    book = Book([only_pods], 0)
    book.series(HEALTH).add(200, 0.1, 0)
    book.series(("GET", "", "x", "v1", "y", "", "cluster")).add(403, 0.1, 0)
    assert [each.labels for each in book.snapshot().rows] == [HEALTH, ("GET", "", "", "", "", "", "cluster")]


WORDS = [sorted(VERBS), ["", "All", "invalid"], ["", "cluster", "namespace", "resource"]]
NAME = st.text(max_size=3)
LABELS = st.tuples(
    st.sampled_from(WORDS[0]), st.sampled_from(WORDS[1]), NAME, NAME, NAME, NAME, st.sampled_from(WORDS[2])
).filter(lambda labels: any(labels[2:5]))


@given(st.lists(LABELS, max_size=300), st.booleans(), st.integers(0, 20))
def test_series_stay_bounded(asked: list[Labels], known: bool, most: int) -> None:
    """Whatever names are asked for: `most` label sets with names, and a fixed number of words besides."""
    book = Book([lambda *names: known], most)
    for labels in asked:
        book.series(labels).add(200, 0.1, 0)
    rows = book.snapshot().rows
    named = [each for each in rows if any(each.labels[2:6]) and each.labels[2:6] != FOLDED]
    assert len(named) <= (most if known else 0)
    assert len(rows) <= most + len(list(product(*WORDS)))
    assert sum(number for each in rows for _, number in each.codes) == len(asked)
