"""StatusErrors: what a handler raises, as clients of Kubernetes understand it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import StatusErrors
from aggmw.errors import StatusError
from aggmw.testing import Client, IncompleteResponse

MISSING = StatusError(
    404,
    "NotFound",
    'notes.notes.example.com "n" not found',
    {"name": "n", "group": "notes.example.com", "kind": "notes"},
    headers=[(b"x-more", b"1")],
)


async def missing(request: Request) -> Response:
    raise MISSING


async def teapot(request: Request) -> Response:
    raise HTTPException(418)


async def broken(request: Request) -> Response:
    raise ZeroDivisionError


async def late(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        raise MISSING

    return StreamingResponse(body())


async def refusing(websocket: WebSocket) -> None:
    raise MISSING


async def accepting(websocket: WebSocket) -> None:
    await websocket.accept()
    raise MISSING


APP = Starlette(
    routes=[
        *(Route(f"/{handler.__name__}", handler) for handler in (missing, teapot, broken, late)),
        WebSocketRoute("/refusing", refusing),
        WebSocketRoute("/accepting", accepting),
    ],
    middleware=[Middleware(StatusErrors)],
)


async def test_a_status() -> None:
    """Code, reason, message, details and headers of the error."""
    response = await Client(APP).request("GET", "/missing")
    assert (response.status, response.header("content-type")) == (404, b"application/json")
    assert response.header("x-more") == b"1"
    assert response.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'notes.notes.example.com "n" not found',
        "reason": "NotFound",
        "details": {"name": "n", "group": "notes.example.com", "kind": "notes"},
        "code": 404,
    }


async def test_everything_else_is_left_alone() -> None:
    """Other exceptions are the framework's and the server's."""
    assert (await Client(APP).request("GET", "/teapot")).status == 418
    assert (await Client(APP).request("GET", "/nowhere")).text == "Not Found"
    with pytest.raises(ZeroDivisionError):
        await Client(APP).request("GET", "/broken")


async def test_too_late() -> None:
    """A response that has begun is cut, not continued with a second one."""
    async with Client(APP, raise_app_exceptions=False).stream("GET", "/late") as response:
        assert response.status == 200
        with pytest.raises(IncompleteResponse):
            await response.read()
    with pytest.raises(StatusError):
        await Client(APP).request("GET", "/late")


async def test_websockets() -> None:
    """A handshake is refused with the `Status`; what was accepted ends as the server ends it."""
    refused = await Client(APP).websocket("/refusing")
    assert (refused.status, json.loads(refused.body)["reason"]) == (404, "NotFound")
    accepted = await Client(APP, raise_app_exceptions=False).websocket("/accepting")
    assert accepted.accepted
    await accepted.finished()


async def test_lifespan_passes() -> None:
    """What is neither a request nor a handshake is not ours, also when it fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise MISSING

    with pytest.raises(StatusError):
        await StatusErrors(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


def test_repr() -> None:
    """The stack."""
    assert repr(StatusErrors(StatusErrorsFree())) == "StatusErrors → StatusErrorsFree"


class StatusErrorsFree:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
