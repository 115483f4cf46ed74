"""Other origins against the whole stack: what a page can do with its reader's cookie (security cases C5.10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.websockets import WebSocket

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.contracts.identity import Credential, Presented
from aggmw.middleware.authentication import Anonymous, StaticTokens, TokenCookie
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

TOKENS = StaticTokens({"t0k": Identity("alice")})
COOKIE = ("Cookie", "theme=dark; __Host-aggmw=t0k; a=b")
LISTED, EVIL = ("Origin", "https://console.example.com"), ("Origin", "https://evil.example")
FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/n/flunders"


class Core:
    """The wrapped application; keeps the scopes it saw."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if scope["type"] == "websocket":
            websocket = WebSocket(scope, receive, send)
            await websocket.accept()
            await websocket.close()
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def front(core: Core, server: ScriptedBackend | None = None, **options: Any) -> FrontProxy:
    services: list[APIService | PathService] = []
    if server is not None:
        services = [
            APIService.remote("wardle.example.com", "v1alpha1", server.url),
            PathService("/billing/", server.url),
        ]
    return FrontProxy(
        core,
        authentication=[TOKENS, TokenCookie("__Host-aggmw", TOKENS)],
        origins=[LISTED[1]],
        authorization=AllowAll(),
        services=services,
        **options,
    )


@pytest.mark.parametrize("target", [FLUNDERS, "/billing/pay", "/anything", "/healthz", "/apis"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_c5_10_nothing_arrives_from_another_origin(target: str, method: str) -> None:
    """C5.10: neither a server, nor an application, nor a stage behind it sees such a request."""
    arrived: list[bytes] = []

    def answer(request: bytes) -> bytes:
        arrived.append(request)
        return respond(200, body=b"{}")

    core = Core()
    async with ScriptedBackend(answer) as server, front(core, server) as proxy:
        response = await Client(proxy).request(method, target, [COOKIE, EVIL], body=b"x=1")
        assert (response.status, response.json()["reason"]) == (403, "Forbidden")
    assert [each for each in arrived if not each.startswith(b"GET ")] == []  # discovery asks by GET
    assert core.seen == []


@pytest.mark.parametrize("target", [FLUNDERS, "/billing/pay"])
async def test_c5_10_what_arrives_from_a_listed_origin(target: str) -> None:
    """C5.10, §12.5: as its reader, without the cookie that said so, and with the others."""
    arrived: list[ReceivedRequest] = []

    def answer(request: bytes) -> bytes:
        arrived.append(ReceivedRequest.of(request))
        return respond(200, body=b"{}")

    async with ScriptedBackend(answer) as server, front(Core(), server) as proxy:
        response = await Client(proxy).request("POST", target, [COOKIE, LISTED], body=b"x=1")
    assert response.status == 200
    (posted,) = [each for each in arrived if each.method == "POST"]
    assert posted.header(b"x-remote-user") == b"alice"
    assert posted.header(b"cookie") == b"theme=dark; a=b"


async def test_c5_10_websockets_of_the_application() -> None:
    """C5.10: decided before it is accepted; no Origin at all is no browser."""
    core = Core()
    client = Client(front(core))
    for headers, accepted, seen in (([COOKIE, EVIL], False, 0), ([COOKIE, LISTED], True, 1), ([COOKIE], True, 2)):
        async with client.websocket("/socket", headers) as websocket:
            assert websocket.accepted is accepted
            assert websocket.status == (101 if accepted else 403)
        assert len(core.seen) == seen


async def test_c5_10_websockets_that_are_forwarded() -> None:
    """C5.10, §12.5: no service sees a handshake of another origin; those that it sees are without the cookie."""
    core = Core()
    async with FrontProxy(
        authentication=[TOKENS, TokenCookie("__Host-aggmw", TOKENS)],
        origins=[LISTED[1]],
        authorization=AllowAll(),
        services=[PathService("/billing/", app=core)],
    ) as proxy:
        for headers, status, seen in (([COOKIE, EVIL], 403, 0), ([COOKIE, LISTED], 101, 1), ([COOKIE], 101, 2)):
            async with Client(proxy).websocket("/billing/socket", headers) as websocket:
                assert websocket.status == status
            sockets = [scope for scope in core.seen if scope["type"] == "websocket"]
            assert len(sockets) == seen
    assert [dict(scope["headers"])[b"cookie"] for scope in sockets] == [b"theme=dark; a=b"] * 2


PLANTED = [
    "__Host-aggmw=evil; Path=/; Secure",
    "__Host-aggmw = evil",
    " \t__Host-aggmw=evil",
    "=__Host-aggmw=evil",
    "__Host-aggmw",
]


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("target", [FLUNDERS, "/billing/x"])
async def test_no_service_sets_our_cookie(target: str, planted: str) -> None:
    """§12.5: a service that could would sign its caller in as somebody else; its other cookies pass."""
    fields = [("Set-Cookie", planted), ("Set-Cookie", "theme=__Host-aggmw=x"), ("Set-Cookie", "__host-aggmw=1")]
    async with ScriptedBackend(lambda request: respond(200, headers=fields)) as server, front(Core(), server) as proxy:
        response = await Client(proxy).request("GET", target, [COOKIE])
    assert [value for name, value in response.headers if name == b"set-cookie"] == [
        b"theme=__Host-aggmw=x",
        b"__host-aggmw=1",
    ]


CORS = {
    "Access-Control-Allow-Origin": "https://evil.example",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Expose-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


@pytest.mark.parametrize("origin", [LISTED, EVIL])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", FLUNDERS),
        ("OPTIONS", FLUNDERS),
        ("POST", FLUNDERS),
        ("GET", "/apis"),
        ("GET", "/openapi/v3"),
        ("GET", "/version"),
        ("GET", "/healthz"),
        ("GET", "/a%2fb"),
        ("OPTIONS", "/apis"),
    ],
)
async def test_c5_10_no_other_origin_may_read(method: str, target: str, origin: tuple[str, str]) -> None:
    """C5.10, §2.4: nothing of ours says that another origin may read it, and nothing that an API server says does."""
    preflight = ("Access-Control-Request-Method", "DELETE")
    async with (
        ScriptedBackend(lambda request: respond(200, headers=CORS, body=b"{}")) as server,
        front(Core(), server, anonymous=Anonymous.everywhere()) as proxy,
    ):
        for headers in ([COOKIE, origin, preflight], [origin, preflight]):
            response = await Client(proxy).request(method, target, headers)
            assert [name for name, _ in response.headers if name.startswith(b"access-control-")] == []


async def test_c5_11_expired_is_401_at_the_next_request() -> None:
    """C5.11: an authenticator is asked at each request; what ended meanwhile is not let in on an open connection."""

    class Until:
        """Knows alice for so long."""

        now = 0.0

        async def authenticate(self, presented: Presented) -> Identity | None:
            return Identity("alice", credential=Credential(expires=10.0)) if self.now < 10.0 else None

    until = Until()
    client = Client(FrontProxy(Core(), authentication=[until], authorization=AllowAll()))
    assert (await client.request("GET", "/a")).status == 200
    until.now = 10.0
    response = await client.request("GET", "/a")
    assert (response.status, json.loads(response.body)["reason"]) == (401, "Unauthorized")
