"""A front proxy among what embedders use: foreign middlewares around it, several of it, test clients of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint  # noqa: TID251  embedders have it
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route
from starlette.testclient import TestClient
from tests.frameworks.alone import ALICE, TOKENS

from aggmw import APIService, FrontProxy, PathService
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.middleware.authentication import Anonymous, StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client, ScriptedBackend, respond

TOKEN = {"Authorization": "Bearer t0k"}
NOTES = "/apis/notes.example.com/v1/notes"


async def who(request: Request) -> Response:
    return JSONResponse([request.user.display_name, request.scope["root_path"], request.state.database])


def group() -> Starlette:
    """An API group with a lifespan that leaves something for its requests."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"database": "open"}

    async def notes(request: Request) -> Response:
        body = (await request.body()).decode()
        return JSONResponse([request.scope["aggmw.identity"].user, request.state.database, body])

    return Starlette(routes=[Route(NOTES, notes, methods=["GET", "POST"])], lifespan=lifespan)


def front(app: ASGIApp | None = None, *more: PathService, **options: Any) -> FrontProxy:
    """One that knows alice, allows everything, and has a group in this process."""
    services = [APIService.local("notes.example.com", "v1", app=group()), *more]
    return FrontProxy(
        app,
        **{
            "authentication": [TOKENS],
            "anonymous": Anonymous(["/healthz"]),
            "authorization": AllowAll(),
            "services": services,
            **options,
        },
    )


class Passing(BaseHTTPMiddleware):
    """Runs what is inside in a task of its own, behind streams of its own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response


AROUND: dict[str, Callable[[ASGIApp], ASGIApp]] = {
    "base": Passing,
    "base, three times": lambda app: Passing(Passing(Passing(app))),
    "gzip": lambda app: GZipMiddleware(app, minimum_size=1),
    "cors": lambda app: CORSMiddleware(app, allow_origins=["*"]),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
async def test_foreign_middlewares_around(around: Callable[[ASGIApp], ASGIApp]) -> None:
    """Bodies both ways, an error, and a lifespan that reaches it."""
    client = Client(around(front()))
    async with client.lifespan():
        posted = await client.request("POST", NOTES, TOKEN, b"x" * 100_000)
        assert (posted.status, posted.json()[:2]) == (200, ["alice", "open"])
        assert len(posted.json()[2]) == 100_000
        assert (await client.request("GET", NOTES)).status == 401
        assert (await client.request("GET", "/healthz")).text == "ok"


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
async def test_a_client_that_leaves_through_foreign_middlewares(around: Callable[[ASGIApp], ASGIApp]) -> None:
    """Events of a stream come one by one, and the service behind learns that nobody listens any more."""
    left = asyncio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    client = Client(around(front(None, PathService("/watched/", app=watched))))
    async with client.lifespan():
        async with client.stream("GET", "/watched/x", TOKEN) as stream:
            assert await anext(aiter(stream)) == b"first\n"
        async with asyncio.timeout(30):
            await left.wait()


async def test_as_a_middleware() -> None:
    """`Middleware(FrontProxy, **options)` is the same as around: the routes are what no stage took."""
    options = {"authentication": [TOKENS], "authorization": AllowAll()}
    services = [APIService.local("notes.example.com", "v1", app=group())]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"database": "own"}

    middleware = [Middleware(FrontProxy, services=services, **options)]
    client = Client(Starlette(routes=[Route("/who", who)], middleware=middleware, lifespan=lifespan))
    async with client.lifespan():
        assert (await client.request("GET", "/who", TOKEN)).json() == ["alice", "", "own"]
        assert (await client.request("GET", NOTES, TOKEN)).json()[0] == "alice"
        assert (await client.request("GET", "/who")).status == 401


async def test_several_in_one_application() -> None:
    """Two of them, one at two paths, at one with a parameter and by host: each with its own callers."""
    bobs = StaticTokens({"b0b": ALICE})
    one, two = front(), front(authentication=[bobs])
    app = Starlette(
        routes=[
            Host("api.example.com", app=one),
            Mount("/one", app=one),
            Mount("/again/here", app=one),
            Mount("/tenants/{tenant}", app=one),
            Mount("/two", app=Starlette(routes=[Mount("/below", app=two)])),
        ],
        lifespan=one.lifespan(two.lifespan()),
    )
    client = Client(app)
    async with client.lifespan():
        for path in ("/one", "/again/here", "/tenants/t%20n", "/tenants/%C3%A4"):
            assert (await client.request("GET", path + NOTES, TOKEN)).json()[0] == "alice"
            assert (await client.request("GET", path + NOTES, {"Authorization": "Bearer b0b"})).status == 401
        assert (await client.request("GET", NOTES, {**TOKEN, "Host": "api.example.com"})).status == 200
        assert (await client.request("GET", "/two/below" + NOTES, TOKEN)).status == 401
        assert (await client.request("GET", "/two/below" + NOTES, {"Authorization": "Bearer b0b"})).status == 200


def test_starlettes_test_client() -> None:
    """With a lifespan, once more, and without one: the last says what to do."""
    proxy = front()
    for _ in range(2):
        with TestClient(proxy) as client:
            assert client.get(NOTES, headers=TOKEN).json()[:2] == ["alice", "open"]
    refused = TestClient(proxy).get(NOTES, headers=TOKEN)
    assert (refused.status_code, refused.json()["reason"]) == (500, "InternalError")
    assert "async with front_proxy" in refused.json()["message"]


async def test_httpx_test_client() -> None:
    """`httpx.ASGITransport` runs no lifespan: whoever uses it opens the front proxy."""
    proxy = front()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://test", headers=TOKEN) as client:
        assert (await client.get(NOTES)).status_code == 500
        async with proxy:
            assert (await client.get(NOTES)).json()[:2] == ["alice", "open"]
        assert (await client.get(NOTES)).status_code == 500


async def test_httpx_without_background_work() -> None:
    """A web service behind a path needs no lifespan, so none is asked for."""
    async with ScriptedBackend(lambda request: respond(200, body=b"behind")) as server:
        proxy = front(services=[PathService("/b/", server.url)])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(proxy), base_url="http://test", headers=TOKEN
        ) as client:
            assert (await client.get("/b/x")).text == "behind"
        async with proxy:
            pass
