"""The page: every family in both formats, read back by prometheus-client's own parsers."""

from __future__ import annotations

import subprocess
import sys

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.metrics.figures import Figures

from aggmw.contracts.metrics import Sample
from aggmw.errors import ConfigurationError
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.metrics.book import Book, Row
from aggmw.middleware.metrics.exposition import Exposition
from aggmw.middleware.metrics.families import FAMILIES
from aggmw.middleware.metrics.labels import Labels

PODS: Labels = ("GET", "", "", "v1", "pods", "", "resource")
WATCH: Labels = ("WATCH", "", "", "v1", "pods", "", "cluster")
CREATE: Labels = ("POST", "", "", "v1", "pods", "", "resource")
DRY: Labels = ("POST", "All", "", "v1", "pods", "", "resource")
PROFILE: Labels = ("GET", "", "", "", "", "/debug/pprof", "")
KUBERNETES = {"group": "", "version": "v1", "resource": "pods", "subresource": "", "scope": "resource"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain"


def everything(group: str, version: str, resource: str, subresource: str) -> bool:
    return True


def page_of(book: Book, *samples: Sample, accept: str = "") -> Figures:
    content_type, page = Exposition().page(accept, book.snapshot(), samples)
    return Figures(page.decode(), openmetrics=content_type.startswith("application/openmetrics-text"))


@pytest.fixture
def book() -> Book:
    """A few requests of each kind."""
    book = Book([everything], 100)
    for seconds in (0.001, 0.03, 0.3, 70.0):
        book.series(PODS).add(200, seconds, 2000)
    book.series(PODS).add(404, 0.01, 100)
    book.series(WATCH).add(200, 600.0, 10)
    book.series(WATCH).running.value = 2
    book.series(CREATE).add(0, 0.01, 0)
    book.series(DRY).add(0, 0.01, 0)
    book.series(DRY).add(201, 0.2, 7)
    book.series(PROFILE).add(200, 30.0, 7)
    book.read_only.value, book.mutating.value = 3, 1
    return book


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_figures(book: Book, accept: str) -> None:
    """Counters, histograms and gauges with Kubernetes' labels, in either format."""
    page = page_of(book, accept=accept)
    common = {"verb": "GET", "component": "apiserver", **KUBERNETES}
    labels = page.one("apiserver_request_total", verb="GET", code="404").labels
    assert labels == {**common, "dry_run": "", "code": "404"}
    assert page.one("apiserver_request_total", code="200", **common).value == 4
    duration = "apiserver_request_duration_seconds"
    assert page.one(f"{duration}_count", **common).labels == {**common, "dry_run": ""}
    assert page.one(f"{duration}_count", **common).value == 5
    assert page.one(f"{duration}_sum", **common).value == pytest.approx(70.341)
    assert page.one("apiserver_response_sizes_sum", **common).labels == common
    assert page.one("apiserver_response_sizes_sum", **common).value == 8100
    assert page.one("apiserver_current_inflight_requests", request_kind="readOnly").value == 3
    assert page.one("apiserver_current_inflight_requests", request_kind="mutating").value == 1
    running = page.one("apiserver_longrunning_requests", verb="WATCH")
    assert (running.value, running.labels) == (
        2,
        {"verb": "WATCH", "component": "apiserver", **KUBERNETES, "scope": "cluster"},
    )


def test_buckets(book: Book) -> None:
    """Cumulative, with Kubernetes' bounds; the SLI's begin at 50 ms."""
    page = page_of(book)
    durations = {
        sample.labels["le"]: sample.value
        for sample in page.of("apiserver_request_duration_seconds_bucket", verb="GET", resource="pods")
    }
    assert list(durations) == [
        *("0.005", "0.025", "0.05", "0.1", "0.2", "0.4", "0.6", "0.8", "1.0", "1.25", "1.5", "2.0", "3.0", "4.0"),
        *("5.0", "6.0", "8.0", "10.0", "15.0", "20.0", "30.0", "45.0", "60.0", "+Inf"),
    ]
    assert [durations[le] for le in ("0.005", "0.025", "0.05", "0.2", "0.4", "60.0", "+Inf")] == [1, 2, 3, 3, 4, 4, 5]
    sli = {
        sample.labels["le"]: sample.value
        for sample in page.of("apiserver_request_sli_duration_seconds_bucket", verb="GET", resource="pods")
    }
    assert list(sli) == list(durations)[2:]
    assert sli == {le: durations[le] for le in sli}
    sizes = page.of("apiserver_response_sizes_bucket", verb="GET", resource="pods")
    assert [(sample.labels["le"], sample.value) for sample in sizes] == [
        *[("1000.0", 1), ("10000.0", 5), ("100000.0", 5), ("1e+06", 5), ("1e+07", 5), ("1e+08", 5), ("1e+09", 5)],
        ("+Inf", 5),
    ]


def test_sli_is_of_short_requests(book: Book) -> None:
    """Neither long-running requests nor dry runs tell how fast the service is."""
    page = page_of(book)
    assert [sample.labels["verb"] for sample in page.of("apiserver_request_sli_duration_seconds_count")] == ["GET"]
    assert "dry_run" not in page.one("apiserver_request_sli_duration_seconds_count").labels
    assert page.sum("apiserver_request_duration_seconds_count") == 8


def test_aborts_have_no_dry_run(book: Book) -> None:
    """What is no label there is added up, so that no line comes twice."""
    aborts = page_of(book).one("apiserver_request_aborts_total")
    assert (aborts.value, aborts.labels) == (2, {"verb": "POST", **KUBERNETES})


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_every_family_is_there(accept: str) -> None:
    """Also on a page of nothing: type and help of every metric, and those of the process."""
    page = page_of(Book([], 1), accept=accept)
    found = {family.name: (family.type, family.documentation) for family in page.families}
    for family in FAMILIES:
        assert found[family.name.removesuffix("_total")] == (family.kind, family.help)
    assert {"process_resident_memory", "process_cpu_seconds", "process_open_fds", "python_info", "python"} & set(found)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_samples_of_sources(accept: str) -> None:
    """Samples of one name become one family, whatever lies between them; label values are escaped."""
    samples = [
        Sample("x_connections", "Open ones.", "gauge", (("backend", 'a"\\\n'),), 3),
        Sample("x_sent_total", "Bytes sent.", "counter", (), 7),
        Sample("x_connections", "Open ones.", "gauge", (("backend", "b"),), 4),
    ]
    page = page_of(Book([], 1), *samples, accept=accept)
    (family,) = [family for family in page.families if family.name == "x_connections"]
    assert (family.type, family.documentation, len(family.samples)) == ("gauge", "Open ones.", 2)
    assert page.one("x_connections", backend='a"\\\n').value == 3
    assert page.one("x_sent_total").value == 7


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("text/plain;version=1.0.0;escaping=x", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
    ],
)
def test_negotiation(accept: str, content_type: str) -> None:
    """The format that the scraper asks for, plain text for who asks for none."""
    assert Exposition().page(accept, Book([], 1).snapshot(), [])[0] == content_type


@given(
    st.text()
    | st.sampled_from(["text/plain;version=", "application/openmetrics-text;version="]).flatmap(
        lambda head: st.text("0123456789.x;,= \r\né", max_size=8).map(lambda tail: head + tail)
    )
)
def test_any_accept_field(accept: str) -> None:
    """Whatever the field says, the answer is a page."""
    content_type, page = Exposition().page(accept, Book([], 1).snapshot(), [])
    assert b"apiserver_request_total" in page or b"apiserver_request " in page
    assert content_type.startswith(("text/plain; ", "application/openmetrics-text; "))
    assert content_type.isascii()
    assert content_type.isprintable()


ROW = st.builds(
    lambda verb, dry_run, names, scope, status: ((verb, dry_run if verb == "POST" else "", *names, scope), status),
    st.sampled_from(["GET", "LIST", "POST", "WATCH", "CONNECT", "other"]),
    st.sampled_from(["", "All", "invalid"]),
    st.tuples(st.text(max_size=2), st.text(max_size=2), st.text(max_size=2), st.text(max_size=2)),
    st.sampled_from(["", "cluster"]),
    st.sampled_from([0, 200, 404, 299]),
)


@given(st.lists(ROW, max_size=30), st.integers(0, 10))
def test_no_line_comes_twice(requests: list[tuple[Labels, int]], most: int) -> None:
    """A scraper refuses a page with two samples of one name and label set: no requests make one."""
    book = Book([everything], most)
    for labels, status in requests:
        book.series(labels).running.value += 1
        book.series(labels).add(status, 0.1, 10)
    page = page_of(book)
    assert page.sum("apiserver_request_total") + page.sum("apiserver_request_aborts_total") == len(requests)
    assert page.one("aggmw_metrics_folded_requests_total").value <= len(requests)


def test_nothing_global() -> None:
    """Two front proxies in one process have pages of their own; prometheus-client's registry gets nothing of ours."""
    one, other = Book([everything], 5), Book([everything], 5)
    one.series(PODS).add(200, 0.1, 0)
    assert page_of(one).sum("apiserver_request_total") == 1
    assert page_of(other).sum("apiserver_request_total") == 0
    assert b"apiserver" not in prometheus_client.generate_latest()


def test_rows_are_plain() -> None:
    """A row is tuples of strings and numbers all through: what one worker would send to another."""
    book = Book([everything], 5)
    book.series(PODS).add(200, 0.1, 10)
    (row,) = book.snapshot().rows
    assert isinstance(row, Row)

    def plain(value: object) -> bool:
        return isinstance(value, str | int | float) or (isinstance(value, tuple) and all(map(plain, value)))

    assert plain(tuple(book.snapshot()))


@pytest.mark.parametrize("code", ["import aggmw.middleware.metrics", "import aggmw.front_proxy"])
def test_library_is_loaded_when_it_is_needed(code: str) -> None:
    """Without a metrics stage nobody needs prometheus-client."""
    code = f"import sys; sys.modules['prometheus_client'] = None; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error when the stage is made, with the line that installs it."""
    monkeypatch.setitem(sys.modules, "aggmw.middleware.metrics.exposition", None)
    with pytest.raises(ConfigurationError, match=r"metrics: .* pip install 'aggmw\[metrics\]'"):
        Metrics()
