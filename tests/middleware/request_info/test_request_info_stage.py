"""The stage in a scope: mounts, servers that decode differently, unfit headers, and the middleware alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from aggmw.asgi.exchanges import enter
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import StatusError
from aggmw.middleware.request_info import RequestInfoMiddleware, RequestInfoResolver
from aggmw.testing import Client

OUTSIDE = "the request path is not below the path that this application is mounted at"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the middleware left."""
    info: RequestInfo = scope["aggmw.request_info"]
    await JSONResponse({**info._asdict(), "target": info.target.decode()})(scope, receive, send)


async def resolve(**scope: Any) -> RequestInfo:
    """What the stage leaves for this scope."""
    exchange = enter({"type": "http", "method": "GET", "headers": [], "query_string": b"", **scope})
    assert await RequestInfoResolver().decide(exchange) is None
    assert exchange.request_info is not None
    return exchange.request_info


async def refusal(**scope: Any) -> str:
    """The message of the 400 for this scope."""
    with pytest.raises(StatusError) as refused:
        await resolve(**scope)
    assert refused.value.code == 400
    return refused.value.message


async def test_alone_in_an_application() -> None:
    """The middleware leaves the value in the scope and answers nothing itself."""
    response = await Client(RequestInfoMiddleware(echo)).request("GET", "/apis/g/v1/namespaces/x/foos?watch=1")
    assert response.status == 200
    info = response.json()
    assert (info["verb"], info["api_group"], info["namespace"], info["resource"]) == ("watch", "g", "x", "foos")
    assert info["target"] == "/apis/g/v1/namespaces/x/foos?watch=1"


async def test_refusal_is_a_status() -> None:
    """An ambiguous target never reaches the application."""
    response = await Client(RequestInfoMiddleware(echo)).request("GET", "/api/v1/pods/%2e%2e/secrets")
    assert (response.status, response.json()["kind"], response.json()["reason"]) == (400, "Status", "BadRequest")
    assert response.json()["message"] == "the request path holds a dot segment"


async def test_options() -> None:
    """The options reach the parser."""
    app = RequestInfoMiddleware(echo, allow_proxy_prefix=True, request_timeout=7)
    assert (await Client(app).request("GET", "/api/v1/proxy/nodes/n/x")).json()["verb"] == "proxy"
    assert (await Client(app).request("GET", "/api/v1/pods?timeout=32s")).json()["timeout"] == 7
    with pytest.raises(ValueError, match="request_timeout must be more than 0 seconds"):
        RequestInfoMiddleware(echo, request_timeout=0)


async def test_websocket_is_a_get() -> None:
    """C5.10: a WebSocket scope has no method; it is authorised as get."""
    scope = {"type": "websocket", "path": "/api/v1/namespaces/x/pods/p/exec", "headers": [], "query_string": b"stdin=1"}
    exchange = enter(scope)
    await RequestInfoResolver().decide(exchange)
    assert exchange.request_info is not None
    info = exchange.request_info
    assert (info.verb, info.method, info.subresource, info.long_running) == ("get", "GET", "exec", True)


@pytest.mark.parametrize(
    ("root_path", "path", "raw_path", "inside", "target"),
    [
        ("/k8s", "/k8s/api/v1/pods", b"/k8s/api/v1/pods", "/api/v1/pods", b"/api/v1/pods"),
        ("/k8s/", "/k8s/api/v1/pods", b"/k8s/api/v1/pods", "/api/v1/pods", b"/api/v1/pods"),
        ("/a b", "/a b/api/v1/pods/", b"/a%20b/api/v1/pods/", "/api/v1/pods/", b"/api/v1/pods/"),
        ("/é", "/é/x%C3", None, "/x%C3", None),
        ("/api", "/api/api/v1/pods", b"/api/api/v1/pods", "/api/v1/pods", b"/api/v1/pods"),
        ("/k8s", "/k8s", b"/k8s", "/", b"/"),
        ("/k8s", "/k8s/", b"/k8s/", "/", b"/"),
        ("/", "/api/v1/pods", b"/api/v1/pods", "/api/v1/pods", b"/api/v1/pods"),
        ("", "/api/v1/pods", b"/api/v1/pods", "/api/v1/pods", b"/api/v1/pods"),
    ],
)
async def test_mounts(root_path: str, path: str, raw_path: bytes | None, inside: str, target: bytes | None) -> None:
    """§12.3: what is below the mount is parsed and forwarded."""
    if target is None:
        assert "slash" in await refusal(root_path=root_path, path=path, raw_path=raw_path)
        return
    info = await resolve(root_path=root_path, path=path, raw_path=raw_path)
    assert (info.path, info.target) == (inside, target)


@pytest.mark.parametrize(
    ("root_path", "path", "raw_path"),
    [
        ("/k8s", "/api/v1/pods", b"/api/v1/pods"),
        ("/k8s", "/k8s/api/v1/pods", b"/api/v1/pods"),
        ("/k8s", "/api/v1/pods", b"/k8s/api/v1/pods"),
        ("/k8s", "/k8sapi/v1/pods", b"/k8sapi/v1/pods"),
        ("/k8s", "/k8s/api", b"/%6b8s/api"),
        ("/a", "/a/a", b"/%61"),
        ("/k8s", "/k8sx", b"/k8s/x"),
        ("/k8s", "", b""),
    ],
)
async def test_mounts_that_do_not_fit(root_path: str, path: str, raw_path: bytes) -> None:
    """C5.6: where a server sets `root_path` alone, a resource path would be judged as non-resource: never guess."""
    assert await refusal(root_path=root_path, path=path, raw_path=raw_path) == OUTSIDE


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/api/v1/pods/a", b"/api/v1/pods/b"),
        ("/api/v1/pods/%61", b"/api/v1/pods/%61"),
        ("/api/v1/pods/a b", b"/api/v1/pods/a+b"),
        ("/api/v1/pods", b"/api/v1/pods/"),
        ("/healthz", b"/admin"),
    ],
)
async def test_two_forms_that_disagree(path: str, raw_path: bytes) -> None:
    """§12.1: a `raw_path` whose decoding is not `path` is refused."""
    assert await refusal(path=path, raw_path=raw_path) == "the request path and its decoded form do not agree"


async def test_missing_raw_path() -> None:
    """§12.3: `raw_path` is optional in ASGI; it is rebuilt by quoting."""
    info = await resolve(path="/api/v1/nodes/system:é b|", query_string=b"a=b")
    assert info.target == b"/api/v1/nodes/system:%C3%A9%20b%7C?a=b"
    assert info.path == "/api/v1/nodes/system:é b|"
    assert (await resolve(path="/k8s/version", root_path="/k8s")).target == b"/version"


@pytest.mark.parametrize(
    "path", ["/a/../b", "/a//b", "/a%2fb", "/a\nb", "/a\\b", "/a\ufffdb", f"/a{chr(0xDC80)}b", "a", ""]
)
async def test_missing_raw_path_of_an_ambiguous_path(path: str) -> None:
    """§12.3: a rebuilt path meets the same rules; U+FFFD stands for bytes that are lost."""
    await refusal(path=path)


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="ab/.%;\\ é\n\ufffd", max_size=12), st.sampled_from(["", "/a", "/b/a", "/é"]))
async def test_rebuilt_path_is_the_path(text: str, root_path: str) -> None:
    """§12.3: whatever is rebuilt decodes to `path`, or is refused."""
    exchange = enter({"type": "http", "method": "GET", "headers": [], "path": f"{root_path}/{text}"})
    exchange.scope["root_path"] = root_path
    code = 200
    try:
        await RequestInfoResolver().decide(exchange)
    except StatusError as refused:
        code = refused.code
    assert code in (200, 400)
    assert (exchange.request_info is not None) == (code == 200)
    assert exchange.request_info is None or exchange.request_info.path == f"/{text}"


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ((b"x y", b""), "a header name is not a token"),
        ((b"x-remote-user ", b"admin"), "a header name is not a token"),
        ((b"", b""), "a header name is not a token"),
        ((b"x\r\ny", b""), "a header name is not a token"),
        ((b"x\ny", b""), "a header name is not a token"),
        ((b"x", b"a\r\nb: c"), "a header value holds a control character"),
        ((b"x", b"a\x00"), "a header value holds a control character"),
    ],
)
async def test_unfit_headers(field: tuple[bytes, bytes], complaint: str) -> None:
    """C5.8: names are tokens and values hold no controls, at entry; C2: a trailing blank in a name is no token."""
    assert await refusal(path="/healthz", headers=[(b"host", b"h"), field]) == complaint


async def test_inside_a_mount() -> None:
    """Under Starlette's Mount, and under a server's root path at the same time."""
    inner = RequestInfoMiddleware(echo)
    app = Starlette(routes=[Mount("/k8s", app=inner)])
    for client in (Client(app), Client(app, root_path="/outer")):
        info = (await client.request("GET", "/k8s/api/v1/nodes/a%3Ab/?x=y")).json()
        assert (info["resource"], info["name"], info["target"]) == ("nodes", "a:b", "/api/v1/nodes/a%3Ab/?x=y")


async def test_lifespan_and_application_are_untouched() -> None:
    """A foreign application keeps its lifespan, its routes and its own reading of the path."""

    async def item(request: Request) -> Response:
        return JSONResponse({"name": request.path_params["name"], "verb": request.scope["aggmw.request_info"].verb})

    client = Client(RequestInfoMiddleware(Starlette(routes=[Route("/items/{name}", item)])))
    async with client.lifespan():
        assert (await client.request("GET", "/items/a%20b")).json() == {"name": "a b", "verb": "get"}


async def test_nothing_is_remembered() -> None:
    """Callers choose paths: parsing the same one twice makes two values, and no cache grows."""
    first, second = [await resolve(path="/api/v1/pods") for _ in range(2)]
    assert first == second
    assert first is not second
