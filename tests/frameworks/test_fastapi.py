"""FastAPI: each middleware alone, added and wrapped; beside security of its own; a front proxy mounted in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer
from starlette.authentication import requires
from tests.frameworks.alone import CHECKS, FAILS, TOKEN, TOKENS, Make, Stack, seen, wrapped
from tests.frameworks.mounted import check_example, check_mounted, check_without_lifespan, imported

from aggmw import FrontProxy
from aggmw.asgi.types import ASGIApp
from aggmw.errors import MisplacedStage
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client, ScriptedBackend, respond


def application() -> FastAPI:
    app = FastAPI()

    @app.get(FAILS)
    async def fail() -> None:
        raise LookupError("a fault of the route")

    @app.get("/{path:path}")
    async def see(request: Request) -> dict[str, Any]:
        return seen(request.scope)

    return app


def by_options(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    app = application()
    for middleware, options in reversed(stack):  # what is added last stands in front
        app.add_middleware(middleware, **options)
    return app


def by_wrapping(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return wrapped(application(), stack)


@pytest.mark.parametrize("make", [by_options, by_wrapping])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_alone(check: Callable[[Make], Awaitable[None]], make: Make) -> None:
    """Architecture rule 3: each middleware stands alone, with every input of another stage by keyword."""
    await check(make)


def test_added_in_the_order_of_the_way() -> None:
    """What is added last stands in front: who adds them in the order of the way is told so when the stack is made."""
    app = FastAPI()
    app.add_middleware(RequestInfoMiddleware)
    app.add_middleware(AuthenticationMiddleware, authenticators=[TOKENS])
    app.add_middleware(AuthorizationMiddleware, authorizer=AllowAll())
    with pytest.raises(MisplacedStage, match=r"authorization stands around request_info.*add_middleware"):
        app.build_middleware_stack()


def secured(**options: Any) -> Client:
    """Routes with security of FastAPI's own, in an application with AuthenticationMiddleware."""
    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, authenticators=[TOKENS], **options)

    @app.get("/me")
    @requires("authenticated")
    async def me(request: Request) -> list[str]:
        return [request.user.display_name, *request.auth.scopes]

    @app.get("/basic")
    async def basic(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> list[str]:
        return [given.username, given.password]

    @app.get("/hooks/bearer")
    async def bearer(request: Request, given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
        if given.credentials != "of-the-host":
            raise HTTPException(403)
        return f"{given.credentials} {'user' in request.scope}"

    return Client(app)


BASIC = [("Authorization", "Basic Y2Fyb2w6cHc=")]
OWN = [("Authorization", "Bearer of-the-host")]


async def test_caller_in_a_route() -> None:
    """`request.user`, `request.auth` and Starlette's `@requires` in FastAPI's routes."""
    client = secured(anonymous=Anonymous.everywhere())
    response = await client.request("GET", "/me", TOKEN)
    assert response.json() == ["alice", "authenticated", "dev", "system:authenticated"]
    assert (await client.request("GET", "/me")).status == 403


async def test_basic_credentials_of_the_host() -> None:
    """C5.14: credentials that no authenticator of ours consumes reach the route, where callers who present us nothing
    are let in."""
    client = secured(anonymous=Anonymous(["/basic"]))
    assert (await client.request("GET", "/basic", BASIC)).json() == ["carol", "pw"]
    assert (await client.request("GET", "/basic")).status == 401
    assert (await client.request("GET", "/me", BASIC)).status == 401


async def test_bearer_tokens_of_the_host() -> None:
    """C5.14: a token that our authenticators do not know is bad wherever they are responsible, so a route with tokens
    of its own is exempt, and what is exempt knows nobody."""
    client = secured(exempt=["/hooks/"], anonymous=Anonymous.everywhere())
    assert (await client.request("GET", "/hooks/bearer", OWN)).json() == "of-the-host False"
    assert (await client.request("GET", "/hooks/bearer", TOKEN)).status == 403
    assert (await client.request("GET", "/me", OWN)).status == 401
    for path in ("/hooks/bearer", "/me"):
        refused = await secured(anonymous=Anonymous.everywhere()).request("GET", path, OWN)
        assert (refused.status, refused.json()["reason"]) == (401, "Unauthorized")


async def test_security_scheme_beside_ours() -> None:
    """HTTPBearer on a route that our authenticator answers for finds no token: it was consumed."""
    client = secured(anonymous=Anonymous.everywhere())
    assert (await client.request("GET", "/hooks/bearer", TOKEN)).json() == {"detail": "Not authenticated"}


def host(proxy: FrontProxy, *, opened: bool = True) -> FastAPI:
    app = FastAPI(lifespan=proxy.lifespan() if opened else None)

    @app.get("/own")
    async def own() -> str:
        return "own"

    app.mount("/k8s", proxy)
    return app


async def test_mounted() -> None:
    """`app.mount("/k8s", front_proxy)` with `FastAPI(lifespan=front_proxy.lifespan())`."""
    await check_mounted(host)


async def test_mounted_without_lifespan() -> None:
    """Rule 4: FastAPI's mounts get no lifespan, and the front proxy says what to do."""
    await check_without_lifespan(partial(host, opened=False))


async def test_mounted_beside_authentication_of_the_host() -> None:
    """One application, the same tokens for both: the host's middleware exempts the front proxy's path. Without that
    the credentials would be consumed, which is an error that says so, not a 401."""

    def around(proxy: FrontProxy, **options: Any) -> FastAPI:
        app = host(proxy)
        options.setdefault("anonymous", Anonymous(["/own"]))
        app.add_middleware(AuthenticationMiddleware, authenticators=[TOKENS], **options)
        return app

    await check_mounted(partial(around, exempt=["/k8s/"]))
    client = Client(around(FrontProxy(authentication=[TOKENS], authorization=AllowAll())))
    response = await client.request("GET", "/k8s/version", TOKEN)
    assert response.status == 500
    assert "authentication stands twice" in response.json()["message"]


async def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """examples/frameworks/fastapi_app.py, a server behind it."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        app = imported("fastapi_app", tmp_path, server.url, monkeypatch)
        await check_example(Client(app), server)
        assert (await Client(app).request("GET", "/hook", [("Authorization", "Bearer of-the-hook")])).json() == "called"
