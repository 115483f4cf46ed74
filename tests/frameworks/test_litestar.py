"""Litestar: each middleware alone, by `DefineMiddleware` and by wrapping; a front proxy in its own mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, Request, asgi, get, route
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from tests.frameworks.alone import CHECKS, FAILS, TOKEN, TOKENS, Make, Stack, seen, wrapped
from tests.frameworks.mounted import check_example, check_mounted, check_without_lifespan, imported

from aggmw import FrontProxy
from aggmw.asgi.mounts import MountedAt
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware
from aggmw.testing import Client, ScriptedBackend, respond


@route(["/", "/{path:path}"], http_method=["GET", "POST"], status_code=200)
async def see(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return seen(request.scope)


@get(FAILS)
async def fail() -> None:
    raise LookupError("a fault of the route")


def by_options(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return Litestar(
        [see, fail],
        middleware=[DefineMiddleware(cls, **options) for cls, options in stack],
        lifespan=[] if opened is None else [lambda app: opened()],  # its middlewares get none
        openapi_config=None,
    )


def by_wrapping(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return wrapped(Litestar([see, fail], openapi_config=None), stack)


@pytest.mark.parametrize("make", [by_options, by_wrapping])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_alone(check: Callable[[Make], Awaitable[None]], make: Make) -> None:
    """Architecture rule 3: each middleware stands alone, with every input of another stage by keyword."""
    await check(make)


async def test_caller_in_a_handler() -> None:
    """`request.user`, `request.auth` and guards know the caller that AuthenticationMiddleware found."""

    def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if not connection.user.is_authenticated:
            raise PermissionDeniedException

    @get("/me", guards=[signed_in])
    async def me(request: Request[Any, Any, Any]) -> list[str]:
        return [request.user.display_name, *request.auth.scopes]

    middleware = DefineMiddleware(AuthenticationMiddleware, authenticators=[TOKENS], anonymous=Anonymous.everywhere())
    client = Client(Litestar([me], middleware=[middleware], openapi_config=None))
    response = await client.request("GET", "/me", TOKEN)
    assert response.json() == ["alice", "authenticated", "dev", "system:authenticated"]
    assert (await client.request("GET", "/me")).status == 403


async def test_options_by_route() -> None:
    """A handler with credentials of its own stands outside of the router that has the middleware."""

    @get("/own")
    async def own(request: Request[Any, Any, Any]) -> str:
        return request.headers["authorization"]

    @get("/ours", middleware=[DefineMiddleware(AuthenticationMiddleware, authenticators=[TOKENS])])
    async def ours(request: Request[Any, Any, Any]) -> str:
        return str(request.user.display_name)

    client = Client(Litestar([own, ours], openapi_config=None))
    assert (await client.request("GET", "/own", [("Authorization", "Bearer x")])).text == "Bearer x"
    assert (await client.request("GET", "/ours", [("Authorization", "Bearer x")])).status == 401
    assert (await client.request("GET", "/ours", TOKEN)).text == "alice"


def host(proxy: FrontProxy, *, opened: bool = True, tell: bool = True) -> Litestar:
    mounted = MountedAt(proxy, "/k8s") if tell else proxy

    @asgi("/k8s", is_mount=True, copy_scope=True)
    async def k8s(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted(scope, receive, send)

    @get("/own")
    async def own() -> str:
        return '"own"'

    return Litestar([k8s, own], lifespan=[proxy.lifespan()] if opened else [], openapi_config=None)


async def test_mounted() -> None:
    """`@asgi("/k8s", is_mount=True)` around `MountedAt(front_proxy, "/k8s")`, and its lifespan in Litestar's list."""
    await check_mounted(host)


async def test_mounted_without_lifespan() -> None:
    """Rule 4: Litestar's mounts get no lifespan, and the front proxy says what to do."""
    await check_without_lifespan(partial(host, opened=False))


async def test_mounted_without_saying_where() -> None:
    """§12.3: Litestar rewrites `path` and says nothing of the mount, so without MountedAt nothing is guessed: 400."""
    client = Client(host(FrontProxy(authentication=[TOKENS]), tell=False))
    response = await client.request("GET", "/k8s/version", TOKEN)
    assert (response.status, response.json()["reason"]) == (400, "BadRequest")


async def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """examples/frameworks/litestar_app.py, a server behind it."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        app = imported("litestar_app", tmp_path, server.url, monkeypatch)
        await check_example(Client(app), server)
