"""Backends that answer from a table, and the documents they answer with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Headers, Receive, Scope, Send
from aggmw.contracts.backends import APIService, Backend, UpstreamRequest
from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.discovery import Discovery
from aggmw.testing import Client, Response

V2 = b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBECTL = V2 + b",application/json"
GROUP, VERSION = "wardle.example.com", "v1alpha1"
FLUNDER = GroupVersionKind(GROUP, VERSION, "Flunder")
FLUNDERS = APIResource(
    "flunders",
    FLUNDER,
    True,
    "flunder",
    ("create", "delete", "get", "list", "patch", "update", "watch"),
    ("fl",),
    ("all",),
    (
        APISubresource("status", FLUNDER, ("get", "patch", "update")),
        APISubresource("scale", GroupVersionKind("autoscaling", "v1", "Scale"), ("get",)),
    ),
)


class FakeResponse:
    """An answer in pieces."""

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> None:
        self.status = status
        self.headers: Headers = tuple(headers)
        self._body = body
        self._pieces = [body[n : n + 65536] for n in range(0, len(body), 65536)]
        self.closed = False

    def fresh(self) -> FakeResponse:
        """The same answer, to be read from its beginning."""
        return FakeResponse(self.status, self.headers, self._body)

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def aclose(self) -> None:
        self.closed = True


Answering = Callable[[UpstreamRequest], FakeResponse | Exception | None]
"""What a backend does: an answer, an error to raise, or None to hang."""


class FakeTransport:
    """An `UpstreamTransport` over a table of backends by port."""

    def __init__(self) -> None:
        self.backends: dict[int, Answering] = {}
        self.requests: list[tuple[Backend, UpstreamRequest]] = []
        self.responses: list[FakeResponse] = []
        self.now = 0
        self.most = 0

    async def send(self, backend: Backend, request: UpstreamRequest) -> FakeResponse:
        self.requests.append((backend, request))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            answering = self.backends.get(backend.port)
            answer = answering(request) if answering else UpstreamUnreachable("connection refused")
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            assert answer is not None
            answer = answer.fresh()
            self.responses.append(answer)
            return answer
        finally:
            self.now -= 1

    async def aclose(self) -> None:
        pass

    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [request.target.decode() for _, request in self.requests]


def header(request: UpstreamRequest, name: bytes) -> list[bytes]:
    return [value for key, value in request.headers if key.lower() == name]


def json_answer(document: Any, content_type: bytes = b"application/json", etag: bytes = b"") -> FakeResponse:
    headers = [(b"content-type", content_type)]
    if etag:
        headers.append((b"etag", etag))
    return FakeResponse(200, headers, document if isinstance(document, bytes) else json.dumps(document).encode())


def remote(version: str = VERSION, group: str = GROUP, *, port: int = 1, host: str = "backend") -> APIService:
    return APIService(group, version, Backend(f"{version}.{group}", host, port))


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The wrapped application: 418 wherever discovery passes on."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def info_of(exchange: Exchange) -> RequestInfo:
    """What the request_info stage would say of a path that names no resource."""
    scope = exchange.scope
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    path = scope["path"].removeprefix(scope["root_path"])
    return RequestInfo(
        len(path.strip("/").split("/")) > 3 and path.startswith("/apis/"), "get", scope["method"], path, target
    )


class Parsed:
    """The stage in front."""

    async def decide(self, exchange: Exchange) -> None:
        exchange.request_info = info_of(exchange)


class Running:
    """A discovery and a client for it."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.client = Client(Stages(nothing, Parsed(), discovery))

    async def get(self, target: str, accept: bytes | None = None, method: str = "GET", **headers: bytes) -> Response:
        fields = [(b"accept", accept)] if accept is not None else []
        fields += [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        return await self.client.request(method, target, headers=fields)
