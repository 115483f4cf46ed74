"""A stack that was put together wrongly refuses; it never forwards or serves what nobody allowed (rule 3)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from aggmw import APIService, Backend, FrontProxy, Identity
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Presented
from aggmw.middleware.authentication import AuthenticationMiddleware
from aggmw.middleware.authorization import AuthorizationMiddleware, DenyAll
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import RegistryMiddleware, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

PODS = "/apis/g.example.com/v1/namespaces/x/pods/y"


class Alice:
    """Everybody is alice."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("alice")


class OnlyPublic:
    """Allows to get one path."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        return Verdict(Outcome.ALLOW) if (attributes.verb, attributes.path) == ("get", "/public") else Verdict()


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it serves."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"served {scope['method']} {scope['path']}".encode()})


async def authorizing(scope: Scope, receive: Receive, send: Send) -> None:
    """Authorization behind the proxy, where no constructor sees it."""
    await AuthorizationMiddleware(core, authorizer=DenyAll())(scope, receive, send)


@pytest.mark.parametrize("inside", [core, authorizing])
async def test_proxy_without_authorization_in_front_of_it(inside: ASGIApp) -> None:
    """The proxy forwards nothing without a verdict that allows: authorization missing, or behind it."""
    routes = make_routes([APIService("g.example.com", "v1", Backend("v1.g.example.com", "127.0.0.1", 1, tls=False))])
    app: ASGIApp = ProxyMiddleware(inside, transport=Http1Transport())
    app = AuthenticationMiddleware(RegistryMiddleware(app, source=StaticRoutes(routes)), authenticators=[Alice()])
    response = await Client(RecoveryMiddleware(RequestInfoMiddleware(app))).request("DELETE", PODS)
    assert response.status == 500
    assert "put authorization in front of proxy" in response.json()["message"]


class Rewriting:
    """A foreign middleware that changes the path and the method."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "path": "/admin", "raw_path": b"/admin", "method": "DELETE"}, receive, send)


@pytest.mark.parametrize("stage", ["request_info", "authentication", "authorization"])
async def test_rewriting_behind_the_parser(stage: str) -> None:
    """Rule 6: what was parsed is what is served; a middleware that changes it behind the parser is an error."""
    front = FrontProxy(core, authentication=[Alice()], authorization=OnlyPublic(), after={stage: [Rewriting]})
    response = await Client(front).request("GET", "/public")
    assert response.status == 500
    assert b"served" not in response.body


async def test_rewriting_before_the_parser() -> None:
    """In front of the parser a middleware may change what it likes: the result is what is judged."""
    front = FrontProxy(core, authentication=[Alice()], authorization=OnlyPublic(), after={"recovery": [Rewriting]})
    response = await Client(front).request("GET", "/public")
    assert response.status == 403


class Batching:
    """A foreign middleware that makes two requests of one, at once."""

    def __init__(self, app: ASGIApp, *, answers: list[Any]) -> None:
        self.app = app
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def part(path: str) -> None:
            async def note(message: Message) -> None:
                self.answers.append((path, message.get("status"), message.get("body", b"")))

            await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, note)

        await asyncio.gather(part("/public"), part("/admin"), return_exceptions=True)
        await core(scope, receive, send)


async def test_two_callers_of_one() -> None:
    """No part of a batch is forwarded or served as the caller of another part, also while both are being identified."""

    class Slow:
        """Knows everybody by name, and takes its time."""

        async def authenticate(self, presented: Presented) -> Identity | None:
            await asyncio.sleep(0)
            return Identity(presented.header(b"authorization")[0].decode())

    served: list[str] = []

    class Twice:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def part(name: bytes) -> None:
                async def drop(message: Message) -> None: ...

                await self.app({**scope, "headers": [(b"authorization", name)]}, receive, drop)

            await asyncio.gather(part(b"alice"), part(b"bob"))
            await core(scope, receive, send)

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["aggmw.identity"].user)

    front = FrontProxy(inside, authentication=[Slow()], authorization=OnlyPublic(), after={"recovery": [Twice]})
    await Client(front).request("GET", "/public")
    assert len(served) <= 1


@pytest.mark.parametrize("stage", ["recovery", "request_info"])
async def test_two_requests_of_one(stage: str) -> None:
    """No part of a batch is judged by what another part asks for."""
    answers: list[Any] = []
    after = {stage: [partial(Batching, answers=answers)]}
    front = FrontProxy(core, authentication=[Alice()], authorization=OnlyPublic(), after=after)
    await Client(front).request("GET", "/public")
    assert not [answer for answer in answers if b"/admin" in answer[2] and b"served" in answer[2]]
