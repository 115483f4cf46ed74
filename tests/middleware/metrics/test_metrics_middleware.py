"""Metrics alone, around foreign applications: observes them, and answers the page itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.middleware.metrics.figures import Figures

from aggmw import FrontProxy
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.errors import MisplacedStage
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.metrics import Metrics, MetricsMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

IN_FLIGHT = "apiserver_current_inflight_requests"
LONG_RUNNING = "apiserver_longrunning_requests"
PODS = "/api/v1/namespaces/dev/pods/a"


def everything(group: str, version: str, resource: str, subresource: str) -> bool:
    return True


async def figures(client: Client, path: str = "/metrics") -> Figures:
    response = await client.request("GET", path)
    assert response.status == 200
    return Figures(response.text)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in two pieces, has no lifespan."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 203, "headers": []})
    await send({"type": "http.response.body", "body": b"hel", "more_body": True})
    await send({"type": "http.response.body", "body": b"lo"})


async def test_any_application() -> None:
    """Counted by method and status, with time and size; the page is the middleware's."""
    client = Client(MetricsMiddleware(hello))
    assert (await client.request("GET", "/x")).body == b"hello"
    await client.request("PUT", "/x")
    page = await figures(client)
    assert page.requests("verb", "resource", "scope", "code") == [("GET", "", "", "203"), ("PUT", "", "", "203")]
    assert page.one("apiserver_response_sizes_sum").value == 5
    assert page.sum("apiserver_request_duration_seconds_count") == 2
    assert page.sum(IN_FLIGHT) == 0


async def test_page_has_its_length_for_head() -> None:
    """HEAD tells what GET would give; other methods are refused."""
    client = Client(MetricsMiddleware(hello), strict_head=True)
    head = await client.request("HEAD", "/metrics")
    assert head.status == 200
    assert int(head.header(b"content-length") or 0) > 1000
    refused = await client.request("POST", "/metrics")
    assert (refused.status, refused.json()["reason"]) == (405, "MethodNotAllowed")
    assert (await figures(client)).requests("verb", "code") == [("GET", "200"), ("POST", "405")]


async def test_exception_is_500_and_goes_on() -> None:
    """An application that raises is for the server or the framework to answer, and counted as it will be."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 202, "headers": []})
        raise LookupError

    client = Client(MetricsMiddleware(failing))
    for path in ("/early", "/late"):
        with pytest.raises(LookupError):
            await client.request("GET", path)
    page = await figures(client)
    assert page.requests("code") == [("202",), ("500",)]
    assert page.sum(IN_FLIGHT) == 0


async def test_cancellation_is_an_abort() -> None:
    """A request that its server cancels was not answered, and is no longer in flight."""
    began = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.Event().wait()

    metrics = Metrics()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    task = asyncio.create_task(MetricsMiddleware(waiting, metrics=metrics)(scope, None, None))  # type: ignore[arg-type]
    await began.wait()
    assert Figures((await metrics.page()).body.decode()).sum(IN_FLIGHT) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    page = Figures((await metrics.page()).body.decode())
    assert (page.sum(IN_FLIGHT), page.sum("apiserver_request_aborts_total")) == (0, 1)


async def test_client_that_leaves_a_stream() -> None:
    """The gauge goes back when the client goes away in the middle of an answer."""

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    client = Client(MetricsMiddleware(endless))
    async with client.stream("GET", "/x") as response:
        assert (await figures(client)).one(IN_FLIGHT, request_kind="readOnly").value == 1
        await response.disconnect()
        await response.finished()
    page = await figures(client)
    assert page.sum(IN_FLIGHT) == 0
    assert ("200",) in page.requests("code")


async def test_websocket() -> None:
    """Long-running for as long as it is open, then counted as 101."""

    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    client = Client(MetricsMiddleware(chat))
    async with client.websocket("/ws"):
        assert (await figures(client)).one(LONG_RUNNING).labels["verb"] == "CONNECT"
        assert (await figures(client)).one(LONG_RUNNING).value == 1
    page = await figures(client)
    assert page.sum(LONG_RUNNING) == 0
    assert ("CONNECT", "101") in page.requests("verb", "code")


async def test_starlette() -> None:
    """By `Middleware(cls, **options)` in a foreign framework, below a mount, with that framework's own errors."""

    def broken(request: Request) -> PlainTextResponse:
        raise LookupError

    inner = Starlette(
        routes=[Route("/hello", lambda request: PlainTextResponse("hello")), Route("/broken", broken)],
        middleware=[Middleware(MetricsMiddleware, metrics=Metrics(path="/-/metrics"))],
    )
    client = Client(Starlette(routes=[Mount("/below", app=inner)]), raise_app_exceptions=False)
    for path in ("/below/hello", "/below/nothing", "/below/broken"):
        await client.request("GET", path)
    page = await figures(client, "/below/-/metrics")
    assert page.requests("code") == [("200",), ("404",), ("500",)]


async def test_around_a_stage() -> None:
    """With request info inside, its labels are used; what only it knows to be long-running counts as in flight."""
    metrics = Metrics(known=everything)
    client = Client(MetricsMiddleware(RequestInfoMiddleware(hello), metrics=metrics))
    await client.request("GET", PODS)
    await client.request("GET", "/a/../b")
    page = await figures(client)
    assert page.requests("verb", "resource", "scope", "code") == [
        ("GET", "", "", "400"),
        ("GET", "pods", "resource", "203"),
    ]
    assert page.sum(IN_FLIGHT) == 0


async def test_inside_of_a_stage() -> None:
    """Behind request info the whole of it is known from the beginning."""
    began, going = asyncio.Event(), asyncio.Event()

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await going.wait()
        await hello(scope, receive, send)

    metrics = Metrics(known=everything)
    client = Client(RequestInfoMiddleware(MetricsMiddleware(watching, metrics=metrics)))
    task = asyncio.create_task(client.request("GET", "/api/v1/pods?watch=1"))
    await began.wait()
    assert (await figures(client)).one(LONG_RUNNING, verb="WATCH", resource="pods").value == 1
    going.set()
    await task
    assert (await figures(client)).one(LONG_RUNNING, verb="WATCH", resource="pods").value == 0


@pytest.mark.parametrize("inside", [True, False])
async def test_two_at_once(inside: bool) -> None:
    """Two of them around one request, not neighbours: each counts what it sees, and both gauges go back."""
    one, other = Metrics(path="/one"), Metrics(path="/other")

    def front(app: ASGIApp) -> FrontProxy:
        return FrontProxy(app, anonymous=Anonymous.everywhere(), authorization=AllowAll(), metrics=one)

    def foreign(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        return middleware

    if inside:
        client = Client(front(foreign(MetricsMiddleware(hello, metrics=other))))
    else:
        client = Client(MetricsMiddleware(foreign(front(hello)), metrics=other))
    for method in ("GET", "POST"):
        await client.request(method, "/x")
    for path in ("/one", "/other"):
        page = await figures(client, path)
        assert page.sum(IN_FLIGHT) == 0
        assert page.sum("apiserver_request_total", code="203") == 2


async def test_page_on_a_port_of_its_own() -> None:
    """An application that serves nothing but the page of a front proxy."""
    metrics = Metrics(path=None)
    front = Client(FrontProxy(hello, anonymous=Anonymous.everywhere(), authorization=AllowAll(), metrics=metrics))
    assert (await front.request("GET", "/metrics")).status == 203

    async def page(request: Request) -> PlainTextResponse:
        answer = await metrics.page(request.headers.get("accept", "").encode())
        return PlainTextResponse(answer.body, headers={"content-type": answer.headers[0][1].decode()})

    alone = Client(Starlette(routes=[Route("/metrics", page)]))
    assert (await figures(alone)).requests("subresource", "code") == [("/metrics", "203")]


async def test_lifespan_passes() -> None:
    """Nothing of it is ours."""
    client = Client(MetricsMiddleware(Starlette(routes=[Route("/", lambda request: PlainTextResponse("x"))])))
    async with client.lifespan():
        assert (await client.request("GET", "/")).text == "x"


def test_twice_is_once_too_often() -> None:
    """A request would be counted twice."""
    with pytest.raises(MisplacedStage, match="metrics stands twice"):
        MetricsMiddleware(MetricsMiddleware(hello))
    with pytest.raises(MisplacedStage, match="metrics stands twice"):
        MetricsMiddleware(FrontProxy(hello, metrics=Metrics()))
    assert MetricsMiddleware(FrontProxy(hello))
    assert FrontProxy(MetricsMiddleware(hello))


def test_wrong_metrics() -> None:
    """The class in place of an instance is named at once."""
    with pytest.raises(TypeError, match="metrics takes Metrics"):
        MetricsMiddleware(hello, metrics=Metrics)  # type: ignore[arg-type]


def test_repr() -> None:
    """It reads as what it is."""
    assert repr(MetricsMiddleware(hello)) == "MetricsMiddleware(Metrics(path='/metrics')) → hello"
