"""The figures of several workers: they travel unchanged, and what is added up is what one would have counted."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.metrics.figures import Figures as Page

from aggmw import FrontProxy
from aggmw.contracts.metrics import Sample
from aggmw.errors import StatusError
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.metrics.book import Book
from aggmw.middleware.metrics.labels import Labels
from aggmw.middleware.metrics.sharing import (
    NOTHING,
    Figures,
    added,
    apart,
    left_behind,
    packed,
    unpacked,
    without_apart,
)
from aggmw.testing import Client

LABELS: tuple[Labels, ...] = (
    ("GET", "", "", "v1", "pods", "", "namespace"),
    ("POST", "All", "", "v1", "pods", "", "resource"),
    ("WATCH", "", "apps", "v1", "deployments", "", "cluster"),
    ("GET", "", "", "", "", "/healthz", ""),
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(LABELS),
        st.sampled_from([0, 200, 404, 503, 799]),
        st.integers(0, 500_000).map(lambda ms: ms / 1024),  # sums are exact
        st.integers(0, 10**10),
    )
)
SHARED = Sample("shared_total", "Shared.", "counter", (("a", "b"),), 2.0)
LEVEL = Sample("level", "Level.", "gauge", (), 3.0)
OWN = Sample("own", "Own.", "gauge", (("c", "d"),), 4.0, apart=True)


def everything(group: str, version: str, resource: str, subresource: str) -> bool:
    return True


def counted(requests: list[tuple[Labels, int, float, int]]) -> Figures:
    book = Book([everything], 1000)
    for labels, status, seconds, size in requests:
        book.series(labels).add(status, seconds, size)
    return Figures(book.snapshot(), ())


def sorted_rows(figures: Figures) -> list[Any]:
    """Rows in an order that does not depend on who was first."""
    rows = [row._replace(codes=tuple(sorted(row.codes))) for row in figures.snapshot.rows]
    return sorted(rows, key=lambda row: row.labels)


@given(REQUESTS)
def test_they_travel(requests: list[tuple[Labels, int, float, int]]) -> None:
    """What is unpacked is what was packed."""
    figures = counted(requests)._replace(samples=(SHARED, LEVEL, OWN))
    assert unpacked(packed(figures)) == figures


@given(st.lists(REQUESTS, max_size=4))
def test_sums(workers: list[list[tuple[Labels, int, float, int]]]) -> None:
    """Several workers together have counted what one would have that had all their requests."""
    together = added([counted(requests) for requests in workers])
    alone = counted([request for requests in workers for request in requests])
    assert sorted_rows(together) == sorted_rows(alone)
    assert together.snapshot.folded == alone.snapshot.folded


def test_samples() -> None:
    """Equal names and labels are added; what is apart has the number of its worker."""
    one, two = (Figures(NOTHING.snapshot, tuple(apart([SHARED, LEVEL, OWN], number))) for number in (1, 2))
    assert {(each.name, each.labels, each.value) for each in added([one, two]).samples} == {
        ("shared_total", (("a", "b"),), 4.0),
        ("level", (), 6.0),
        ("own", (("c", "d"), ("worker", "1")), 4.0),
        ("own", (("c", "d"), ("worker", "2")), 4.0),
    }


def test_who_is_gone() -> None:
    """What was counted stays; levels, and what is one worker's own, go with it."""
    book = Book([everything], 10)
    book.series(LABELS[2]).add(200, 1.0, 5)
    book.series(LABELS[2]).running.value = 7
    book.read_only.value = book.mutating.value = 3
    left = left_behind(Figures(book.snapshot(), (SHARED, LEVEL, OWN)))
    assert (left.snapshot.rows[0].running, left.snapshot.rows[0].codes) == (0, (("200", 1),))
    assert (left.snapshot.read_only, left.snapshot.mutating) == (0, 0)
    assert left.samples == (SHARED,)
    assert without_apart(Figures(NOTHING.snapshot, (SHARED, LEVEL, OWN))).samples == (SHARED, LEVEL)


class Others:
    """Colleagues that have counted something."""

    number = 3

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples
        self.shown: list[Figures] = []

    async def figures(self, own: bytes) -> bytes:
        self.shown.append(unpacked(own))
        if not self.samples:
            raise StatusError(503, "ServiceUnavailable", "not now")
        return packed(counted([(LABELS[0], 200, 1.0, 10)] * 5)._replace(samples=self.samples))


class Own:
    """A source."""

    def samples(self) -> list[Sample]:
        return [SHARED, OWN]


async def test_page_of_several() -> None:
    """The page shows the sum, every process by its number, and each name once."""
    metrics = Metrics(sources=[Own()])
    others = Others(SHARED)
    metrics.beside(others)
    page = Page((await metrics.page()).body.decode())
    assert page.sum("apiserver_request_total") == 5
    assert page.one("shared_total").value == 4
    assert page.one("own").labels == {"c": "d", "worker": "3"}
    assert page.one("process_resident_memory_bytes").labels == {"worker": "3"}
    assert len(list(page.of("python_info"))) == 1
    assert {sample.name for sample in others.shown[0].samples} > {"shared_total", "own", "process_cpu_seconds_total"}


async def test_page_of_who_leaves() -> None:
    """While a worker that leaves makes its last page there may be another one of its number: each shows its own."""
    metrics = Metrics(sources=[Own()])
    metrics.beside(Others(*apart([SHARED, OWN], 3), *apart([OWN], 4)))
    page = Page((await metrics.page()).body.decode())
    assert {sample.labels["worker"]: sample.value for sample in page.of("own")} == {"3": 4, "4": 4}
    assert page.one("shared_total").value == 4


async def test_page_without_the_others() -> None:
    """A page that lacked the others would look as if counters had begun anew: there is none then."""
    metrics = Metrics()
    metrics.beside(Others())
    front = FrontProxy(metrics=metrics, anonymous=Anonymous(["/metrics"]), authorization=AllowAll())
    async with front:
        answer = await Client(front).request("GET", "/metrics")
    assert (answer.status, answer.json()["message"]) == (503, "not now")
