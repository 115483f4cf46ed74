"""Starlette and FastAPI behind a front proxy: their own conventions work."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from tests.pki.certificates import NOW, authority, connection, leaf

from aggmw.backend import RequestHeaderAuthentication, ServeDiscovery, StatusErrors, resource
from aggmw.contracts.connection import Connection
from aggmw.errors import StatusError
from aggmw.testing import Client

CA = authority("front proxies")
SHOWN = connection(leaf(CA), CA)
NO_CERTIFICATE = Connection(tls=True, trailers_apart=True)
ALICE = {"X-Remote-User": "alice", "X-Remote-Group": "dev"}
TRUST: dict[str, Any] = {"ca": CA.pem, "anonymous_paths": ["/open"], "clock": NOW.timestamp}
GROUPS = {"notes.example.com": {"v1": [resource("notes", "Note")]}}


async def who(request: Request) -> Response:
    return JSONResponse([request.user.is_authenticated, request.user.display_name, request.auth.scopes])


@requires("dev")
async def for_dev(request: Request) -> Response:
    return JSONResponse("dev")


@requires("authenticated")
async def signed_in(request: Request) -> Response:
    return JSONResponse("signed in")


async def missing(request: Request) -> Response:
    raise StatusError(404, "NotFound", 'notes.notes.example.com "n" not found')


STARLETTE = Starlette(
    routes=[
        Route("/who", who),
        Route("/open", who),
        Route("/dev", for_dev),
        Route("/signed-in", signed_in),
        Route("/missing", missing),
    ],
    middleware=[
        Middleware(RequestHeaderAuthentication, **TRUST),
        Middleware(StatusErrors),
        Middleware(ServeDiscovery, groups=GROUPS),
    ],
)


def fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    async def _(request: FastAPIRequest) -> list[Any]:
        return [request.user.is_authenticated, request.user.display_name, request.auth.scopes]

    @app.get("/open")
    async def _(request: FastAPIRequest) -> list[Any]:
        return [request.user.is_authenticated, request.user.display_name, request.auth.scopes]

    @app.get("/dev")
    @requires("dev")
    async def _(request: FastAPIRequest) -> str:
        return "dev"

    @app.get("/signed-in")
    @requires("authenticated")
    async def _(request: FastAPIRequest) -> str:
        return "signed in"

    @app.get("/missing")
    async def _() -> None:
        raise StatusError(404, "NotFound", 'notes.notes.example.com "n" not found')

    app.add_middleware(ServeDiscovery, groups=GROUPS)
    app.add_middleware(StatusErrors)
    app.add_middleware(RequestHeaderAuthentication, **TRUST)
    return app


@pytest.fixture(params=["Starlette", "FastAPI"])
def app(request: pytest.FixtureRequest) -> Any:
    return STARLETTE if request.param == "Starlette" else fastapi()


async def test_the_caller(app: Any) -> None:
    """`request.user` and `request.auth` are whom the front proxy names."""
    response = await Client(app, connection=SHOWN).request("GET", "/who", ALICE)
    assert response.json() == [True, "alice", ["authenticated", "dev", "system:authenticated"]]
    assert (await Client(app, connection=NO_CERTIFICATE).request("GET", "/who", ALICE)).status == 401


async def test_anonymous(app: Any) -> None:
    """Where nobody is needed, nobody is signed in."""
    response = await Client(app, connection=NO_CERTIFICATE).request("GET", "/open", ALICE)
    assert response.json() == [False, "system:anonymous", ["system:unauthenticated"]]


async def test_requires(app: Any) -> None:
    """Groups are scopes: `@requires("dev")` lets the group in."""
    client = Client(app, connection=SHOWN)
    assert (await client.request("GET", "/dev", ALICE)).status == 200
    assert (await client.request("GET", "/dev", {"X-Remote-User": "bob"})).status == 403
    assert (await client.request("GET", "/signed-in", {"X-Remote-User": "bob"})).status == 200
    anonymous = {"X-Remote-User": "system:anonymous", "X-Remote-Group": "system:unauthenticated"}
    assert (await client.request("GET", "/signed-in", anonymous)).status == 403


async def test_errors_and_discovery(app: Any) -> None:
    """The three stand together, trust outermost."""
    client = Client(app, connection=SHOWN)
    response = await client.request("GET", "/missing", ALICE)
    assert (response.status, response.json()["reason"]) == (404, "NotFound")
    assert (await client.request("GET", "/apis", ALICE)).json()["groups"][0]["name"] == "notes.example.com"
    assert (await Client(app, connection=NO_CERTIFICATE).request("GET", "/apis", ALICE)).status == 401


async def test_mounted() -> None:
    """Trust around one part of an application: the rest is not touched."""

    async def names(request: Request) -> Response:
        return JSONResponse(sorted(name for name in request.headers if name.startswith("x-remote")))

    inside = RequestHeaderAuthentication(Starlette(routes=[Route("/who", who)]), **TRUST)
    outside = Starlette(routes=[Mount("/notes", inside), Route("/names", names)])
    client = Client(outside, connection=SHOWN)
    assert (await client.request("GET", "/notes/who", ALICE)).json()[1] == "alice"
    assert (await client.request("GET", "/notes/who")).status == 401
    assert (await client.request("GET", "/names", ALICE)).json() == ["x-remote-group", "x-remote-user"]
