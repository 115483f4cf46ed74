"""FrontProxy as a whole: the order, the lifespan, what it wraps, and foreign middlewares inside it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from aggmw import APIService, Backend, FrontProxy, Identity
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import UpstreamRequest, UpstreamResponse
from aggmw.contracts.identity import Presented
from aggmw.contracts.metrics import Sample
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.authorization import AllowAll, DenyAll, Union
from aggmw.middleware.metrics import Metrics
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

TOKEN = {"authorization": "Bearer alice"}
GROUP_VERSION = ("wardle.example.com", "v1alpha1")
FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders"


class Tokens:
    """Believes one token."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("alice", groups=("dev",)) if presented.header(b"authorization") == [b"Bearer alice"] else None


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application without a lifespan that says who called."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body = f"hello {scope['user'].display_name}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


def front(app: ASGIApp | None = hello, **options: Any) -> FrontProxy:
    """A front proxy that knows alice and allows everything."""
    return FrontProxy(app, **{"authentication": [Tokens()], "authorization": AllowAll(), **options})


class Judge(AllowAll):
    """An authorizer with background work, a line of `/readyz`, and a figure."""

    name = "policy"

    def __init__(self) -> None:
        self.works = asyncio.Event()
        self.ends = asyncio.Event()
        self.problem: str | None = None
        self.controllers = (self,)
        self.checks = (self,)

    async def run(self) -> None:
        self.works.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ends.set()

    def check(self) -> str | None:
        return self.problem

    def samples(self) -> list[Sample]:
        return [Sample("policy_loads_total", "Loads.", "counter", (), 7.0)]


async def test_what_an_authorizer_brings_along() -> None:
    """Background work of those that an authorizer asks runs with the front proxy; readiness and metrics show them."""
    judge, later = Judge(), Judge()
    union = Union([DenyAll()])
    union.swap([judge])
    proxy = front(authorization=union, metrics=Metrics())
    client = Client(proxy)
    assert (await client.request("GET", "/healthz", headers=TOKEN)).status == 500
    async with proxy:
        await judge.works.wait()
        ready = await client.request("GET", "/readyz?verbose", headers=TOKEN)
        assert (ready.status, b"[+]policy ok" in ready.body) == (200, True)
        judge.problem = "broken"
        assert (await client.request("GET", "/readyz", headers=TOKEN)).status == 500
        assert b"policy_loads_total 7.0" in (await client.request("GET", "/metrics", headers=TOKEN)).body
        union.swap([judge, later])  # who is asked at the moment counts
        assert b"policy_loads_total 14.0" in (await client.request("GET", "/metrics", headers=TOKEN)).body
        assert not judge.ends.is_set()
    assert judge.ends.is_set()


async def test_nothing_configured_is_denied() -> None:
    """Rule 7: without authenticators nobody gets in, not even to health."""
    for path in ("/", "/healthz", "/apis", FLUNDERS):
        response = await Client(FrontProxy(hello)).request("GET", path, headers=TOKEN)
        assert (response.status, response.json()["reason"]) == (401, "Unauthorized")


async def test_without_authorizer_all_is_forbidden() -> None:
    """Rule 7: being known is not being allowed."""
    response = await Client(FrontProxy(hello, authentication=[Tokens()])).request("GET", "/x", headers=TOKEN)
    assert response.status == 403
    assert response.json()["message"] == 'forbidden: User "alice" cannot get path "/x": everything is forbidden'


async def test_what_no_stage_takes_is_the_applications() -> None:
    """The wrapped application gets the rest, and knows who asks."""
    response = await Client(front()).request("GET", "/x", headers=TOKEN)
    assert response.text == "hello alice"
    assert response.header(b"audit-id")


async def test_without_application_unknown_paths_are_404() -> None:
    """A Status, not plain text."""
    response = await Client(front(None)).request("GET", "/x", headers=TOKEN)
    assert (response.status, response.json()["reason"]) == (404, "NotFound")


async def test_forwards_with_identity() -> None:
    """A registered group goes to its server, with the caller's identity and without the credentials."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        backend = Backend("v1alpha1.wardle.example.com", server.host, server.port, tls=False)
        proxy = front(services=[APIService(*GROUP_VERSION, backend)])
        async with proxy:
            response = await Client(proxy).request("GET", FLUNDERS, headers=TOKEN)
        assert (response.status, response.body) == (200, b"{}")
        requests = [ReceivedRequest.of(bytes(raw)) for one in server.connections for raw in one.exchanges]
    (request,) = [one for one in requests if one.header("x-remote-user") == b"alice"]
    assert request.target == FLUNDERS.encode()
    assert request.values("x-remote-group") == [b"dev", b"system:authenticated"]
    assert request.header("authorization") is None
    assert request.header("audit-id") == response.header(b"audit-id")


async def test_unopened_says_how_to_open() -> None:
    """Rule 4: with background work and no lifespan, every request is 500 naming the two ways out."""
    proxy = front(services=[APIService(*GROUP_VERSION, Backend("x", "127.0.0.1", 1, tls=False))])
    response = await Client(proxy).request("GET", "/x", headers=TOKEN)
    assert response.status == 500
    message = response.json()["message"]
    assert "async with front_proxy" in message
    assert "lifespan=front_proxy.lifespan" in message


async def test_lifespan_is_answered_for_an_application_without_one() -> None:
    """Rule 4: a server with lifespan support starts it."""
    proxy = front(services=[APIService(*GROUP_VERSION, Backend("x", "127.0.0.1", 1, tls=False))])
    client = Client(proxy)
    async with client.lifespan():
        response = await client.request("GET", "/x", headers=TOKEN)
    assert response.text == "hello alice"


async def test_mounted_under_a_path() -> None:
    """Below a mount of another application, with that application's lifespan."""
    proxy = front(services=[APIService(*GROUP_VERSION, Backend("x", "127.0.0.1", 1, tls=False))])
    outer = Starlette(
        routes=[Route("/plain", lambda request: PlainTextResponse("outer")), Mount("/k8s", app=proxy)],
        lifespan=proxy.lifespan(),
    )
    client = Client(outer)
    async with client.lifespan():
        assert (await client.request("GET", "/plain")).text == "outer"
        assert (await client.request("GET", "/k8s/version", headers=TOKEN)).json()["major"] == "1"
        assert (await client.request("GET", "/k8s/version")).status == 401


async def test_foreign_middleware_between_stages() -> None:
    """Rule 10: what is put after a stage sees what that stage left and not what later ones leave."""
    seen: list[tuple[bool, bool]] = []

    class Foreign:
        def __init__(self, app: ASGIApp, *, name: str) -> None:
            self.app, self.name = app, name

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(("aggmw.identity" in scope, "aggmw.verdict" in scope))
            await self.app({**scope, "headers": [*scope["headers"], (b"x-foreign", self.name.encode())]}, receive, send)

    after = {"authentication": [partial(Foreign, name="one")]}
    response = await Client(front(after=after)).request("GET", "/x", headers=TOKEN)
    assert response.text == "hello alice"
    assert seen == [(True, False)]


def test_unknown_stage_is_named() -> None:
    """A slip of the pen in `after` is an error at once, with the names there are."""
    with pytest.raises(ValueError, match="there is no stage autorization; the stages are recovery, request_info"):
        front(after={"autorization": []})


class Remembering:
    """A transport that fails every exchange and notes what is bound where it is called."""

    bound: ContextVar[str] = ContextVar("bound", default="nothing")

    def __init__(self) -> None:
        self.seen: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, backend: Backend, request: UpstreamRequest) -> UpstreamResponse:
        self.seen.put_nowait(self.bound.get())
        raise UpstreamUnreachable("not here")

    async def aclose(self) -> None:
        pass


async def test_background_work_has_an_empty_context() -> None:
    """http-facts §4: nothing that is bound where the front proxy is opened leaks into its tasks."""
    transport = Remembering()
    services = [APIService(*GROUP_VERSION, Backend("x", "127.0.0.1", 1, tls=False))]
    Remembering.bound.set("a request's id")
    async with front(services=services, transport=transport):
        assert await transport.seen.get() == "nothing"


async def test_opened_twice() -> None:
    """By its own server and by a lifespan outside, say: it works from the first opening to the last closing, and what
    is closed in between closes nothing."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        proxy = front(services=[APIService.remote(*GROUP_VERSION, server.url)])
        client = Client(proxy)
        async with proxy:
            async with proxy, client.lifespan():
                assert (await client.request("GET", FLUNDERS, headers=TOKEN)).body == b"{}"
                assert [task.get_name() for task in asyncio.all_tasks()].count("discovery") == 1
            assert not any(connection.ended for connection in server.connections)
            assert (await client.request("GET", FLUNDERS, headers=TOKEN)).body == b"{}"
        assert (await client.request("GET", FLUNDERS, headers=TOKEN)).status == 500
