"""Django (ASGI): each middleware alone around `get_asgi_application()`; a front proxy beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.test import override_settings
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.frameworks.alone import CHECKS, FAILS, TOKEN, TOKENS, Make, Stack, seen, wrapped
from tests.frameworks.mounted import check_example, check_mounted, check_without_lifespan, imported

from aggmw import FrontProxy
from aggmw.asgi.exchanges import User
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client, ScriptedBackend, respond

ALICE_GROUPS = ("dev", "system:authenticated")

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="only for tests", ROOT_URLCONF="")


async def see(request: ASGIRequest, path: str) -> HttpResponse:
    return JsonResponse(seen(request.scope))


async def fail(request: ASGIRequest) -> HttpResponse:
    raise LookupError("a fault of the view")


async def own(request: ASGIRequest) -> HttpResponse:
    return JsonResponse("own", safe=False)


async def me(request: ASGIRequest) -> HttpResponse:
    user: User = request.scope["user"]
    if not user.is_authenticated:
        return HttpResponseForbidden()
    return JsonResponse([user.display_name, *user.groups, *request.scope["auth"].scopes], safe=False)


async def authorization(request: ASGIRequest) -> HttpResponse:
    return HttpResponse(request.headers.get("authorization", ""))


class Views:
    """A URLconf."""

    urlpatterns: ClassVar = [
        path(FAILS.strip("/"), fail),
        path("own", own),
        path("me", me),
        path("authorization", authorization),
        path("<path:path>", see),
    ]


@pytest.fixture(autouse=True)
def _views() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=Views):
        yield


def lowered(app: ASGIApp) -> ASGIApp:
    """Django capitalises the names of response fields, which ASGI forbids and servers put up with."""

    async def lowering(scope: Scope, receive: Receive, send: Send) -> None:
        async def lower(message: Message) -> None:
            if "headers" in message:
                message = {**message, "headers": [(name.lower(), value) for name, value in message["headers"]]}
            await send(message)

        await app(scope, receive, lower)

    return lowering


def by_wrapping(stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None) -> ASGIApp:
    return lowered(wrapped(get_asgi_application(), stack))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_alone(check: Callable[[Make], Awaitable[None]]) -> None:
    """Architecture rule 3: each middleware stands alone, with every input of another stage by keyword."""
    await check(by_wrapping)


async def test_caller_in_a_view() -> None:
    """`request.scope["user"]` and `["auth"]` know the caller that AuthenticationMiddleware found."""
    client = Client(
        by_wrapping([(AuthenticationMiddleware, {"authenticators": [TOKENS], "anonymous": Anonymous.everywhere()})])
    )
    response = await client.request("GET", "/me", TOKEN)
    assert response.json() == [
        *("alice", "dev", "system:authenticated"),
        "authenticated",
        "dev",
        "system:authenticated",
    ]
    assert (await client.request("GET", "/me")).status == 403


async def test_credentials_of_the_hosts_own_views() -> None:
    """C5.14: what no authenticator of ours has consumed reaches the view."""
    options = {"authenticators": [TOKENS], "anonymous": Anonymous(["/authorization"])}
    client = Client(by_wrapping([(AuthenticationMiddleware, options)]))
    basic = [("Authorization", "Basic Y2Fyb2w6cHc=")]
    assert (await client.request("GET", "/authorization", basic)).text == "Basic Y2Fyb2w6cHc="
    assert (await client.request("GET", "/authorization", TOKEN)).text == ""


def host(proxy: FrontProxy, *, opened: bool = True) -> ASGIApp:
    """Starlette's routing beside Django, which knows neither mounts nor lifespans."""
    routes = [Mount("/k8s", app=proxy), Mount("/", app=get_asgi_application())]
    return lowered(Starlette(routes=routes, lifespan=proxy.lifespan() if opened else None))


async def test_mounted() -> None:
    """Two mounts of a Starlette application: the front proxy and Django."""
    await check_mounted(host)


async def test_mounted_without_lifespan() -> None:
    """Rule 4: without its lifespan the front proxy says what to do."""
    await check_without_lifespan(partial(host, opened=False))


async def test_front_proxy_around_django() -> None:
    """The other way round: Django is what no stage takes, and its want of a lifespan is no obstacle."""
    proxy = FrontProxy(lowered(get_asgi_application()), authentication=[TOKENS], authorization=AllowAll())
    client = Client(proxy)
    async with client.lifespan():
        assert (await client.request("GET", "/own", TOKEN)).json() == "own"
        assert (await client.request("GET", "/own")).status == 401
        assert (await client.request("GET", "/apis", TOKEN)).json()["kind"] == "APIGroupList"


async def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """examples/frameworks/django_app.py, a server behind it."""
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        app = imported("django_app", tmp_path, server.url, monkeypatch)
        with override_settings(ROOT_URLCONF="examples.frameworks.django_app"):
            await check_example(Client(lowered(app)), server)
