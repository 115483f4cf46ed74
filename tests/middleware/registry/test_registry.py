"""The registry stage: remote group versions get their backend, everything else passes."""

from __future__ import annotations

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import APIService, Backend
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput
from aggmw.middleware.registry import Registry, RegistryMiddleware, StaticRoutes, make_routes
from aggmw.testing import Client

WARDLE = Backend("v1.wardle.example.com", "127.0.0.1", 1)
CORE = Backend("v1.", "127.0.0.1", 2)
SOURCE = StaticRoutes(
    make_routes(
        [APIService("wardle.example.com", "v1", WARDLE), APIService("", "v1", CORE), APIService("local.io", "v1")]
    )
)


def document(path: str) -> RequestInfo:
    """A request that names no resource."""
    return RequestInfo(False, "get", "GET", path, path.encode())


def resource(group: str, version: str) -> RequestInfo:
    """A request for pods of a group version."""
    return RequestInfo(True, "list", "GET", "/x", b"/x", api_group=group, api_version=version, resource="pods")


async def backend_for(info: RequestInfo, source: StaticRoutes = SOURCE) -> Backend | None:
    """What the stage leaves for a request."""
    exchange = Exchange({"type": "http"}, (), request_info=info)
    assert await Registry(source).decide(exchange) is None
    return exchange.backend


@pytest.mark.parametrize(
    ("info", "backend"),
    [
        (resource("wardle.example.com", "v1"), WARDLE),
        (resource("wardle.example.com", "v2"), None),
        (resource("", "v1"), CORE),
        (resource("local.io", "v1"), None),
        (resource("unknown.io", "v1"), None),
        (document("/apis/wardle.example.com/v1"), WARDLE),
        (document("/apis/wardle.example.com/v1/"), WARDLE),
        (document("/apis/wardle.example.com"), None),
        (document("/apis/local.io/v1"), None),
        (document("/apis"), None),
        (document("/api"), CORE),
        (document("/api/"), CORE),
        (document("/api/v1"), CORE),
        (document("/api/v2"), None),
        (document("/openapi/v3/apis/wardle.example.com/v1"), WARDLE),
        (document("/openapi/v3/api/v1"), CORE),
        (document("/openapi/v3/apis/wardle.example.com"), None),
        (document("/openapi/v3/apis/wardle.example.com/v1/"), None),
        (document("/openapi/v3"), None),
        (document("/openapi/v3apis/wardle.example.com/v1"), None),
        (document("/x/apis/wardle.example.com/v1"), None),
        (document("/"), None),
    ],
)
async def test_routing(info: RequestInfo, backend: Backend | None) -> None:
    """§2.1: exactly `/apis/G/V`, what is below it, the core's paths, and the OpenAPI documents are routed."""
    assert await backend_for(info) == backend


async def test_swap_reaches_the_next_request() -> None:
    """Routes are read once per request, from whatever snapshot is current."""
    source = StaticRoutes()
    assert await backend_for(resource("wardle.example.com", "v1"), source) is None
    source.swap(SOURCE.routes)
    assert await backend_for(resource("wardle.example.com", "v1"), source) == WARDLE


async def test_missing_request_info_is_an_error() -> None:
    """Mounted without the stage before it, it says which one is missing."""
    with pytest.raises(MissingInput, match="put request_info in front of registry"):
        await Registry(SOURCE).decide(Exchange({"type": "http"}, ()))


async def test_alone_in_an_application() -> None:
    """With a keyword for its input it stands alone, and leaves the backend in the scope."""
    seen: list[Backend | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get("aggmw.backend"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    alone = RegistryMiddleware(app, source=SOURCE, request_info=lambda exchange: document(exchange.scope["path"]))
    assert (await Client(alone).request("GET", "/apis/wardle.example.com/v1")).status == 204
    assert (await Client(alone).request("GET", "/")).status == 204
    assert seen == [WARDLE, None]
