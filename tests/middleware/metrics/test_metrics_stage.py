"""The stage bare, with hand-made exchanges: what is in flight, what is answered, what is counted at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest
import structlog
from tests.middleware.metrics.figures import Figures

from aggmw.contracts.exchange import Exchange
from aggmw.contracts.metrics import Sample
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.request_info.parse import parse

IN_FLIGHT = "apiserver_current_inflight_requests"
LONG_RUNNING = "apiserver_longrunning_requests"
PODS = "/api/v1/pods"


class Connections:
    """A source of one figure."""

    def samples(self) -> Iterable[Sample]:
        return [Sample("x_connections", "Open ones.", "gauge", (), threading.get_ident())]


class Fixed:
    """A source of one figure of the test's choice."""

    def __init__(self, value: float) -> None:
        self.value = value

    def samples(self) -> Iterable[Sample]:
        return [Sample("x_connections", "Open ones.", "gauge", (), self.value)]


class Failing:
    """A source that fails after its first sample."""

    def samples(self) -> Iterable[Sample]:
        yield Sample("x_half", "Half of it.", "gauge", (), 1)
        raise RuntimeError("s3cr3t")


def exchange_of(method: str, target: str, kind: str = "http", accept: bytes = b"") -> Exchange:
    path, _, query = target.partition("?")
    headers = ((b"accept", accept),) if accept else ()
    exchange = Exchange({"type": kind, "method": method, "path": path, "headers": list(headers)}, headers)
    exchange.request_info = parse(method, path.encode(), query.encode())
    return exchange


def everything(group: str, version: str, resource: str, subresource: str) -> bool:
    return True


async def figures(metrics: Metrics) -> Figures:
    return Figures((await metrics.page()).body.decode())


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [("GET", PODS, "readOnly"), ("HEAD", "/x", "readOnly"), ("POST", PODS, "mutating"), ("DELETE", "/x", "mutating")],
)
async def test_in_flight(method: str, target: str, kind: str) -> None:
    """A request is in flight from the decision to let it through until it is over."""
    metrics = Metrics()
    exchange = exchange_of(method, target)
    assert await metrics.decide(exchange) is None
    assert (await figures(metrics)).one(IN_FLIGHT, request_kind=kind).value == 1
    assert (await figures(metrics)).sum(IN_FLIGHT) == 1
    metrics.ended(exchange, 200, 0.1, 10)
    page = await figures(metrics)
    assert (page.sum(IN_FLIGHT), page.sum("apiserver_request_total")) == (0, 1)
    assert exchange.in_flight is None


@pytest.mark.parametrize(
    ("target", "kind"), [(f"{PODS}?watch=1", "http"), ("/api/v1/namespaces/a/pods/b/log", "http"), ("/ws", "websocket")]
)
async def test_long_running(target: str, kind: str) -> None:
    """What may go on for ever is counted by itself, with its labels, and is not in flight."""
    metrics = Metrics(known=everything)
    exchanges = [exchange_of("GET", target, kind) for _ in range(2)]
    for exchange in exchanges:
        assert await metrics.decide(exchange) is None
    page = await figures(metrics)
    assert (page.one(LONG_RUNNING).value, page.sum(IN_FLIGHT)) == (2, 0)
    for exchange in exchanges:
        metrics.ended(exchange, 0, 0.1, 0)
    page = await figures(metrics)
    assert page.one(LONG_RUNNING).value == 0
    assert page.sum("apiserver_request_aborts_total") == 2


async def test_refused_requests_have_no_names() -> None:
    """What never came through authorization opens no label set with names, known or not; it is counted."""
    metrics = Metrics(known=everything)
    metrics.ended(exchange_of("GET", f"{PODS}?watch=1"), 403, 0.1, 10)
    page = await figures(metrics)
    assert page.requests("verb", "resource", "version", "scope", "code") == [("WATCH", "", "", "cluster", "403")]
    assert page.sum(LONG_RUNNING) == 0


async def test_told_without_request_info() -> None:
    """A request that nobody could parse is counted by its method."""
    metrics = Metrics()
    exchange = exchange_of("GET", "/x")
    exchange.request_info = None
    metrics.ended(exchange, 400, 0.1, 10)
    assert (await figures(metrics)).requests("verb", "code") == [("GET", "400")]


async def test_page() -> None:
    """GET and HEAD get the page in the format that they accept; the request for it is not in flight on it."""
    metrics = Metrics()
    for method in ("GET", "HEAD"):
        exchange = exchange_of(method, "/metrics?x=1", accept=b"application/openmetrics-text;version=1.0.0")
        answer = await metrics.decide(exchange)
        assert answer is not None
        assert answer.status == 200
        assert answer.headers[0][1].startswith(b"application/openmetrics-text; version=1.0.0")
        assert answer.body.endswith(b"# EOF\n")
        assert Figures(answer.body.decode(), openmetrics=True).sum(IN_FLIGHT) == 0
        metrics.ended(exchange, 200, 0.1, len(answer.body))
    assert (await figures(metrics)).requests("verb", "subresource", "code") == [("GET", "/metrics", "200")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    """The page is only read."""
    answer = await Metrics().decide(exchange_of(method, "/metrics"))
    assert answer is not None
    assert answer.status == 405
    assert (b"allow", b"GET, HEAD") in answer.headers


@pytest.mark.parametrize("target", ["/metrics/", "/metrics/x", "/metricsx", "/x/metrics", "/"])
async def test_other_paths_pass(target: str) -> None:
    """One path is its own, and nothing below it."""
    assert await Metrics().decide(exchange_of("GET", target)) is None


async def test_websocket_is_no_request_for_the_page() -> None:
    """A handshake cannot be answered with a page."""
    assert await Metrics().decide(exchange_of("GET", "/metrics", "websocket")) is None


async def test_path_is_an_option() -> None:
    """Somewhere else, or nowhere: then somebody else serves `page`."""
    assert await Metrics(path="/-/metrics").decide(exchange_of("GET", "/-/metrics")) is not None
    for metrics in (Metrics(path="/-/metrics"), Metrics(path=None)):
        assert await metrics.decide(exchange_of("GET", "/metrics")) is None


async def test_request_info_is_an_option() -> None:
    """Rule 3: what another stage would leave can come from elsewhere."""
    info = RequestInfo(True, "list", "GET", "/y", b"/y", "apis", "g.example.com", "v1", resource="ys")
    metrics = Metrics(known=everything, request_info=lambda exchange: info)
    exchange = exchange_of("GET", "/x")
    await metrics.decide(exchange)
    metrics.ended(exchange, 200, 0.1, 0)
    assert (await figures(metrics)).requests("verb", "group", "resource") == [("LIST", "g.example.com", "ys")]


async def test_sources_are_asked_on_the_loop() -> None:
    """What a transport knows belongs to its loop; encoding goes to a thread."""
    metrics = Metrics(sources=[Connections()])
    metrics.include(sources=[])
    assert (await figures(metrics)).one("x_connections").value == threading.get_ident()


async def test_failing_source_takes_nothing_away() -> None:
    """It is left out whole and logged by its type; the page has all others."""
    metrics = Metrics(sources=[Failing(), Connections()])
    with structlog.testing.capture_logs() as logs:
        page = await figures(metrics)
    assert page.one("x_connections")
    assert not list(page.of("x_half"))
    (line,) = logs
    assert (line["event"], line["source"], line["error"]) == ("source of metrics failed", "Failing", "RuntimeError")
    assert "s3cr3t" not in str(logs)


async def test_included_names_are_known_besides() -> None:
    """Several front proxies may share one page; each knows its own names."""
    metrics = Metrics(known=lambda group, version, resource, subresource: resource == "pods")
    metrics.include(known=lambda group, version, resource, subresource: resource == "nodes")
    for resource in ("pods", "nodes", "secrets"):
        exchange = exchange_of("GET", f"/api/v1/{resource}")
        await metrics.decide(exchange)
        metrics.ended(exchange, 200, 0.1, 0)
    assert (await figures(metrics)).requests("resource") == [("",), ("nodes",), ("pods",)]


async def test_pages_are_made_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many scrapers at once do not fill the interpreter with encoding."""
    at_once: list[int] = []
    busy = threading.Semaphore(0)
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(accept: str, snapshot: Any, samples: Any) -> tuple[str, bytes]:
        at_once.append(1)
        loop.call_soon_threadsafe(entered.set)
        busy.acquire()
        at_once.pop()
        return "text/plain", b"%d" % len(at_once)

    metrics = Metrics()
    monkeypatch.setattr(metrics._exposition, "page", slow)
    tasks = [asyncio.create_task(metrics.page()) for _ in range(5)]
    await entered.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(at_once) == 1
    busy.release(5)
    assert [answer.body for answer in await asyncio.gather(*tasks)] == [b"0"] * 5


def test_pages_in_several_loops() -> None:
    """No state of one loop is left to the next."""
    metrics = Metrics()

    async def many() -> None:
        await asyncio.gather(*[metrics.page() for _ in range(3)])

    for _ in range(2):
        asyncio.run(many())


async def test_two_front_proxies_on_one_page() -> None:
    """Figures of equal name and labels are added up: a page with both would be refused. The same one twice is one."""
    one, other = Fixed(2), Fixed(3)
    metrics = Metrics(sources=[one])
    metrics.include(sources=[other, one])
    assert (await figures(metrics)).one("x_connections").value == 5


@pytest.mark.parametrize(
    "options", [{"sources": [object()]}, {"request_info": 3}, {"max_label_sets": "3"}, {"path": "metrics"}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    """A mistake is named when the stage is made."""
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        Metrics(**options)
