"""The stage in a front proxy: whoever may reads the page; what was refused, forwarded and left is on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.middleware.metrics.figures import Figures

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.metrics import Metrics
from aggmw.objects.discovery import api_resource_list
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

ALICE = {"authorization": "Bearer alice"}
BOB = {"authorization": "Bearer bob"}
GROUP, LOCAL = "notes.example.com", "local.example.com"
NOTES = f"/apis/{GROUP}/v1/notes"
NOTE = GroupVersionKind(GROUP, "v1", "Note")
LISTED = api_resource_list(
    GROUP,
    "v1",
    (APIResource("notes", NOTE, False, "note", ("get", "list"), subresources=(APISubresource("status", NOTE),)),),
)
IN_FLIGHT = "apiserver_current_inflight_requests"
LONG_RUNNING = "apiserver_longrunning_requests"
NOTES_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "code")


class OnlyAlice:
    """Bob is known and may nothing."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        return Verdict(Outcome.ALLOW) if attributes.identity.user == "alice" else Verdict()


class Group:
    """An API group in this process: lists itself, streams watches, holds one path, waits for a departure on another."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.going = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        path, body = scope["path"], b"{}"
        if path.endswith("/held"):
            self.entered.set()
            await self.going.wait()
        if path.endswith("/left"):
            self.entered.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if path == f"/apis/{GROUP}/v1":
            body = json.dumps(LISTED).encode()
        watch = scope["query_string"] == b"watch=1"
        headers = [(b"content-type", b"application/json")]
        if not watch:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": watch})
        while watch and (await receive())["type"] != "http.disconnect":
            pass


class Front:
    """A front proxy with metrics before `Group`, its client, and its page."""

    def __init__(self, *services: Any) -> None:
        self.group = Group()
        self.metrics = Metrics()
        self.proxy = FrontProxy(
            authentication=[StaticTokens({"alice": Identity("alice"), "bob": Identity("bob")})],
            authorization=OnlyAlice(),
            services=[
                APIService.local(GROUP, "v1", app=self.group),
                APIService.local(LOCAL, "v1"),
                PathService("/billing/", app=self.group),
                *services,
            ],
            metrics=self.metrics,
        )
        self.client = Client(self.proxy)

    async def request(self, method: str, target: str, headers: Any = ALICE) -> int:
        return (await self.client.request(method, target, headers=headers)).status

    async def page(self) -> Figures:
        response = await self.client.request("GET", "/metrics", headers=ALICE)
        assert response.status == 200
        return Figures(response.text)

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while not self.proxy.ready:
                await asyncio.sleep(0.005)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    async with front.proxy:
        await front.ready()
        yield front


async def test_page_is_for_who_may(front: Front) -> None:
    """Rule 7: the page is a path like any other; without credentials 401, without a policy 403."""
    assert await front.request("GET", "/metrics", {}) == 401
    assert await front.request("GET", "/metrics", BOB) == 403
    assert await front.request("POST", "/metrics") == 405
    head = await front.client.request("HEAD", "/metrics", headers=ALICE)
    assert (head.status, head.body) == (200, b"")
    assert head.header(b"audit-id")
    shown = (await front.page()).requests("verb", "subresource", "code")
    assert shown == [("GET", "/metrics", code) for code in ("200", "401", "403")] + [("POST", "/metrics", "405")]


async def test_without_metrics_there_is_no_page() -> None:
    """The stage is left out unless it is given."""
    proxy = FrontProxy(authentication=[StaticTokens({"alice": Identity("alice")})], authorization=OnlyAlice())
    assert (await Client(proxy).request("GET", "/metrics", headers=ALICE)).status == 404


async def test_names_are_those_of_discovery(front: Front) -> None:
    """What a server listed is named; of a group of the wrapped application the group version; all else is blank."""
    for target in (
        NOTES,
        f"{NOTES}/a",
        f"{NOTES}/a/status",
        f"{NOTES}/a/unlisted",
        f"/apis/{GROUP}/v1/unlisted/a",
        f"/apis/{LOCAL}/v1/things",
        f"/apis/{GROUP}/v2/notes",
        "/apis/unlisted.example.com/v1/notes",
    ):
        await front.request("GET", target)
    shown = (await front.page()).requests(*NOTES_LABELS[1:6], version="v1")
    assert shown == [
        (LOCAL, "v1", "", "", "cluster"),
        (GROUP, "v1", "", "", "resource"),
        (GROUP, "v1", "notes", "", "cluster"),
        (GROUP, "v1", "notes", "", "resource"),
        (GROUP, "v1", "notes", "status", "resource"),
    ]


async def test_refused_requests_are_counted(front: Front) -> None:
    """400, 401 and 403 are there, under their verb and scope, without names."""
    assert await front.request("GET", NOTES, {}) == 401
    assert await front.request("DELETE", f"{NOTES}/a", BOB) == 403
    assert await front.request("GET", f"{NOTES}/../secrets") == 400
    page = await front.page()
    assert page.requests(*NOTES_LABELS, subresource="") == [
        ("DELETE", "", "", "", "", "resource", "403"),
        ("GET", "", "", "", "", "", "400"),
        ("LIST", "", "", "", "", "cluster", "401"),
    ]
    assert page.sum(IN_FLIGHT) == 0


async def test_answers_from_everywhere_are_counted(front: Front) -> None:
    """From memory, from a service at a path, and of the wrapped application, with their sizes."""
    for target in ("/version", "/apis", "/billing/x", "/unknown"):
        await front.request("GET", target)
    page = await front.page()
    assert page.requests("subresource", "code") == [
        ("", "404"),
        ("/apis", "200"),
        ("/billing/", "200"),
        ("/version", "200"),
    ]
    assert page.one("apiserver_response_sizes_sum", subresource="/billing/").value == 2


async def test_in_flight(front: Front) -> None:
    """A forwarded request is in flight until its answer is whole."""
    task = asyncio.create_task(front.request("GET", f"{NOTES}/held"))
    await front.group.entered.wait()
    assert (await front.page()).one(IN_FLIGHT, request_kind="readOnly").value == 1
    front.group.going.set()
    assert await task == 200
    assert (await front.page()).sum(IN_FLIGHT) == 0


async def test_watches(front: Front) -> None:
    """A watch is long-running, by resource, for as long as it goes on; then it is an answered WATCH."""
    async with front.client.stream("GET", f"{NOTES}?watch=1", headers=ALICE) as one:
        async with front.client.stream("GET", f"{NOTES}?watch=1", headers=ALICE) as other:
            assert (one.status, other.status) == (200, 200)
            gauge = (await front.page()).one(LONG_RUNNING, resource="notes")
            assert (gauge.value, gauge.labels["verb"], gauge.labels["group"]) == (2, "WATCH", GROUP)
        assert (await front.page()).one(LONG_RUNNING, resource="notes").value == 1
        await one.disconnect()
        await one.finished()
    page = await front.page()
    assert page.one(LONG_RUNNING, resource="notes").value == 0
    assert page.sum(IN_FLIGHT) == 0
    assert page.one("apiserver_request_total", verb="WATCH", code="200").value == 2
    assert not list(page.of("apiserver_request_sli_duration_seconds_count", verb="WATCH"))


async def test_client_that_leaves_before_an_answer(front: Front) -> None:
    """Counted as an abort; the gauge goes back."""
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    headers = [(b"authorization", b"Bearer alice")]
    scope = {"type": "http", "method": "GET", "path": f"{NOTES}/left", "query_string": b"", "headers": headers}
    task = asyncio.create_task(front.proxy(scope, receive, send))
    await front.group.entered.wait()
    left.set()
    await task
    page = await front.page()
    assert page.one("apiserver_request_aborts_total", resource="notes").value == 1
    assert page.sum(IN_FLIGHT) == 0
    assert not list(page.of("apiserver_request_total", resource="notes"))


async def test_cancelled_requests(front: Front) -> None:
    """A server that cancels at its end leaves no gauge standing."""
    tasks = [asyncio.create_task(front.request("GET", f"{NOTES}/held")) for _ in range(5)]
    await front.group.entered.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    front.group.going.set()
    assert (await front.page()).sum(IN_FLIGHT) == 0


async def test_upstream_connections() -> None:
    """Those of the transport, by backend, beside its limits."""
    going, entered = asyncio.Event(), asyncio.Event()

    async def answer(raw: bytes) -> bytes:
        if ReceivedRequest.of(raw).target == b"/slow/x":
            entered.set()
            await going.wait()
        return respond(200, body=b"{}")

    async with ScriptedBackend(answer) as backend:
        front = Front(PathService("/slow/", f"http://{backend.host}:{backend.port}"))
        async with front.proxy:
            task = asyncio.create_task(front.request("GET", "/slow/x"))
            await entered.wait()
            page = await front.page()
            authority = f"{backend.host}:{backend.port}"
            assert page.one("aggmw_upstream_connections", backend=authority, state="taken").value == 1
            assert page.one("aggmw_upstream_connections", backend=authority, state="idle").value == 0
            assert page.one("aggmw_upstream_waiting_requests", backend=authority).value == 0
            assert page.one("aggmw_upstream_connections_limit").value == 1000
            going.set()
            assert await task == 200
            page = await front.page()
            assert page.one("aggmw_upstream_connections", backend=authority, state="idle").value == 1


class Elsewhere:
    """A transport of somebody's own, without figures."""

    async def send(self, backend: Any, request: Any) -> Any:
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def test_transport_without_figures() -> None:
    """Any transport will do: what tells nothing is not shown."""
    proxy = FrontProxy(
        authentication=[StaticTokens({"alice": Identity("alice")})],
        authorization=OnlyAlice(),
        transport=Elsewhere(),
        metrics=Metrics(),
    )
    response = await Client(proxy).request("GET", "/metrics", headers=ALICE)
    assert response.status == 200
    assert "aggmw_upstream" not in response.text


async def test_foreign_middleware_beside_it() -> None:
    """What is put just inside of the stage runs, also where the stage is left out."""
    seen: list[str] = []

    def noting(app: Any) -> Any:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await app(scope, receive, send)

        return middleware

    for metrics in (Metrics(), None):
        proxy = FrontProxy(
            authentication=[StaticTokens({"alice": Identity("alice")})],
            authorization=OnlyAlice(),
            metrics=metrics,
            after={"metrics": [noting]},
        )
        assert (await Client(proxy).request("GET", "/x", headers=ALICE)).status == 404
    assert seen == ["/x", "/x"]
