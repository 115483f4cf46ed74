"""Starlette: each middleware alone, by `Middleware(cls, **options)` and by wrapping; a front proxy mounted in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware as StarlettesAuthentication
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.frameworks.alone import CHECKS, FAILS, FLUNDERS, TOKEN, TOKENS, Make, Stack, info_of, seen, wrapped
from tests.frameworks.mounted import check_example, check_mounted, check_without_lifespan, imported

from aggmw import APIService, FrontProxy
from aggmw.asgi.types import ASGIApp
from aggmw.contracts.authorization import Authorizer
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware, PrivilegedGroups, host_user
from aggmw.middleware.metrics import MetricsMiddleware
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import RegistryMiddleware, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

AUTHENTICATED = "system:authenticated"


async def see(request: Request) -> Response:
    return JSONResponse(seen(request.scope))


async def fail(request: Request) -> Response:
    raise LookupError("a fault of the route")


ROUTES = [Route(FAILS, fail), Route("/{path:path}", see)]


def by_options(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return Starlette(routes=ROUTES, middleware=[Middleware(cls, **options) for cls, options in stack])


def by_wrapping(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return wrapped(Starlette(routes=ROUTES), stack)


@pytest.mark.parametrize("make", [by_options, by_wrapping])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_alone(check: Callable[[Make], Awaitable[None]], make: Make) -> None:
    """Architecture rule 3: each middleware stands alone, with every input of another stage by keyword."""
    await check(make)


async def test_users_in_starlettes_convention() -> None:
    """`request.user`, `request.auth` and `@requires` know the caller that AuthenticationMiddleware found."""

    @requires(["authenticated", "dev"])
    async def dev(request: Request) -> Response:
        return JSONResponse([request.user.display_name, request.user.groups, request.auth.scopes])

    app = Starlette(
        routes=[Route("/dev", dev)],
        middleware=[
            Middleware(AuthenticationMiddleware, authenticators=[TOKENS], anonymous=Anonymous.everywhere()),
        ],
    )
    response = await Client(app).request("GET", "/dev", TOKEN)
    assert response.json() == ["alice", ["dev", AUTHENTICATED], ["authenticated", "dev", AUTHENTICATED]]
    assert (await Client(app).request("GET", "/dev")).status == 403


class Sessions(AuthenticationBackend):
    """The host's own: a header says who is signed in."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("session")
        return None if name is None else (AuthCredentials(["authenticated"]), SimpleUser(name))


def own_users(server: ScriptedBackend, authorizer: Authorizer, transport: Http1Transport, **options: Any) -> Client:
    """Starlette's own authentication in front of our authorization and proxy."""
    source = StaticRoutes(make_routes([APIService.remote("wardle.example.com", "v1alpha1", server.url)]))

    async def who(request: Request) -> Response:
        return JSONResponse([type(request.user).__name__, request.scope["aggmw.identity"].user])

    return Client(
        Starlette(
            routes=[Route("/who", who)],
            middleware=[
                Middleware(RecoveryMiddleware),
                Middleware(StarlettesAuthentication, backend=Sessions()),
                Middleware(RequestInfoMiddleware),
                Middleware(AuthorizationMiddleware, authorizer=authorizer, identity=partial(host_user, **options)),
                Middleware(RegistryMiddleware, source=source),
                Middleware(ProxyMiddleware, transport=transport),
            ],
        )
    )


async def test_users_of_the_hosts_own_authentication() -> None:
    """`identity=host_user`: who the host has signed in is judged, forwarded, and still the host's `request.user`."""
    transport = Http1Transport()
    async with ScriptedBackend(lambda request: respond(200, body=b"flunders")) as server:
        client = own_users(server, PrivilegedGroups(["ops"]), transport, groups=lambda user: [user.username, "ops"])
        signed_in = [("Session", "carol")]
        assert (await client.request("GET", "/who", signed_in)).json() == ["SimpleUser", "carol"]
        assert (await client.request("GET", FLUNDERS, signed_in)).text == "flunders"
        (request,) = [ReceivedRequest.of(raw) for each in server.connections for raw in each.exchanges]
        assert request.header("x-remote-user") == b"carol"
        assert request.values("x-remote-group") == [b"carol", b"ops", AUTHENTICATED.encode()]
        await transport.aclose()


@pytest.mark.parametrize("session", [None, "", "system:masters", "system:node:a", "carol "])
async def test_host_users_that_are_nobody_here(session: str | None) -> None:
    """Who is not signed in is 401, and so is a name that only Kubernetes may give."""
    transport = Http1Transport()
    async with ScriptedBackend(lambda request: respond(200)) as server:
        client = own_users(server, AllowAll(), transport)
        headers = [] if session is None else [("Session", session)]
        for path in ("/who", FLUNDERS):
            response = await client.request("GET", path, headers)
            assert (response.status, response.json()["reason"]) == (401, "Unauthorized")
        assert server.connections == []


async def test_groups_of_host_users_may_not_be_kubernetes_own() -> None:
    """A host that calls a team `system:masters` gives nobody the cluster."""
    transport = Http1Transport()
    async with ScriptedBackend(lambda request: respond(200)) as server:
        client = own_users(server, PrivilegedGroups(), transport, groups=lambda user: ["system:masters"])
        assert (await client.request("GET", FLUNDERS, [("Session", "carol")])).status == 401


async def test_host_without_authentication() -> None:
    """`host_user` without anything that authenticates is an error that names the stage, not a guest."""
    app = AuthorizationMiddleware(
        RequestInfoMiddleware(Starlette(routes=ROUTES)), authorizer=AllowAll(), identity=host_user, request_info=info_of
    )
    response = await Client(app).request("GET", "/seen")
    assert response.status == 500
    assert "put authentication in front of authorization" in response.json()["message"]


def host(proxy: FrontProxy, *, opened: bool = True) -> Starlette:
    async def own(request: Request) -> Response:
        return JSONResponse("own")

    routes = [Route("/own", own), Mount("/k8s", app=proxy)]
    return Starlette(routes=routes, lifespan=proxy.lifespan() if opened else None)


async def test_mounted() -> None:
    """`Mount("/k8s", front_proxy)` with `lifespan=front_proxy.lifespan()`."""
    await check_mounted(host)


async def test_mounted_without_lifespan() -> None:
    """Rule 4: Starlette's mounts get no lifespan, and the front proxy says what to do."""
    await check_without_lifespan(partial(host, opened=False))


async def test_lifespans_nest() -> None:
    """`front_proxy.lifespan(inner)` is around the application's own lifespan, whose state arrives."""
    proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll())

    @asynccontextmanager
    async def inner(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"database": "open"}

    async def own(request: Request) -> Response:
        return JSONResponse(request.state.database)

    app = Starlette(routes=[Route("/own", own), Mount("/k8s", app=proxy)], lifespan=proxy.lifespan(inner))
    client = Client(app)
    async with client.lifespan():
        assert (await client.request("GET", "/own")).json() == "open"
        assert (await client.request("GET", "/k8s/version", TOKEN)).status == 200


async def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """examples/frameworks/starlette_app.py, a server behind it."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        app = imported("starlette_app", tmp_path, server.url, monkeypatch)
        await check_example(Client(app), server)


async def test_websockets() -> None:
    """A handshake is judged like a request: refused before it is accepted, else the endpoint knows the caller."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.user.display_name)
        await websocket.close()

    app = Starlette(
        routes=[WebSocketRoute("/ws", endpoint)],
        middleware=[
            Middleware(RecoveryMiddleware),
            Middleware(RequestInfoMiddleware),
            Middleware(AuthenticationMiddleware, authenticators=[TOKENS]),
            Middleware(AuthorizationMiddleware, authorizer=AllowAll()),
            Middleware(MetricsMiddleware),
        ],
    )
    refused = await Client(app).websocket("/ws")
    assert (refused.accepted, refused.status) == (False, 401)
    async with Client(app).websocket("/ws", TOKEN) as opened:
        assert await opened.receive() == "alice"
