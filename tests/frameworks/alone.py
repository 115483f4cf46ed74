"""What every middleware does alone, in whichever framework: each framework's tests run all of these.

A framework makes an application whose every path says what its route sees, and one path that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from tests.middleware.audit.sinks import Collected, policy

from aggmw import APIService, Identity
from aggmw.asgi.types import ASGIApp, Scope
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.backends import Backend
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.audit import Audit, AuditMiddleware
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware, SelfSubjectReviews, StaticTokens
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware, DenyAll
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware
from aggmw.middleware.forward_auth import ForwardAuth, ForwardAuthMiddleware
from aggmw.middleware.impersonation import ImpersonationMiddleware
from aggmw.middleware.metrics import Metrics, MetricsMiddleware
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import RegistryMiddleware, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware, parse
from aggmw.middleware.resources import ResourcesMiddleware
from aggmw.testing import Client, ScriptedBackend, respond

ALICE = Identity("alice", groups=("dev",))
TOKENS = StaticTokens({"t0k": ALICE})
TOKEN = [("Authorization", "Bearer t0k")]
FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders"
FAILS = "/fails"

Stack: TypeAlias = list[tuple[Any, dict[str, Any]]]
"""Middlewares with their options, the outermost first."""


class Make(Protocol):
    """Makes the framework's application in a stack."""

    def __call__(
        self, stack: Stack, *, opened: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    ) -> ASGIApp:
        """The application.

        Args:
            stack: what is around it.
            opened: what must be open while it runs, for a framework that gives middlewares no lifespan.
        """
        ...


def seen(scope: Scope) -> dict[str, Any]:
    """What a route sees of the stages outside, as JSON."""
    return {
        "identity": getattr(scope.get("aggmw.identity"), "user", None),
        "path": getattr(scope.get("aggmw.request_info"), "path", None),
        "allowed": getattr(scope.get("aggmw.verdict"), "allowed", None),
        "backend": getattr(scope.get("aggmw.backend"), "name", None),
        "id": scope.get("aggmw.request_id"),
        "headers": [name.decode() for name, _ in scope["headers"]],
    }


def wrapped(app: ASGIApp, stack: Stack) -> ASGIApp:
    """The application in its stack, by calling one middleware after the other."""
    for middleware, options in reversed(stack):
        app = middleware(app, **options)
    return app


def info_of(exchange: Exchange) -> RequestInfo:
    """A request info for who has no request_info stage."""
    scope = exchange.scope
    return RequestInfo(False, scope["method"].lower(), scope["method"], scope["path"], scope["raw_path"])


def parsed(exchange: Exchange) -> RequestInfo:
    """The same, of what may be a resource."""
    scope = exchange.scope
    return parse(scope["method"], scope["raw_path"], scope["query_string"])


async def recovery(make: Make) -> None:
    """One id on every response, and on the scope."""
    client = Client(make([(RecoveryMiddleware, {})]))
    response = await client.request("GET", "/seen", [("Audit-ID", "id-7")])
    assert (response.json()["id"], response.header("audit-id")) == ("id-7", b"id-7")
    failed = await client.request("GET", FAILS)
    assert (failed.status, failed.header("audit-id") is not None) == (500, True)


async def request_info(make: Make) -> None:
    """One parse, and 400 for what is ambiguous."""
    client = Client(make([(RequestInfoMiddleware, {})]))
    assert (await client.request("GET", "/s%65en")).json()["path"] == "/seen"
    assert (await client.request("GET", "/a%2Fb")).status == 400


async def authentication(make: Make) -> None:
    """An identity, or 401; consumed credentials do not go on."""
    client = Client(make([(AuthenticationMiddleware, {"authenticators": [TOKENS]})]))
    response = await client.request("GET", "/seen", TOKEN)
    assert response.json()["identity"] == "alice"
    assert "authorization" not in response.json()["headers"]
    refused = await client.request("GET", "/seen")
    assert (refused.status, refused.json()["reason"]) == (401, "Unauthorized")


async def audit(make: Make) -> None:
    """An event a request, both inputs by keyword; the sink runs for as long as the application."""
    sink = Collected()
    recording = Audit(policy(omitStages=["RequestReceived"]), [sink])
    inputs = {"identity": lambda exchange: ALICE, "request_info": info_of}
    client = Client(make([(AuditMiddleware, {"audit": recording, **inputs})], opened=recording.running))
    async with client.lifespan():
        assert (await client.request("GET", "/seen")).status == 200
        assert sink.runs == 1
    assert [(event["user"]["username"], event["requestURI"]) for event in sink.events] == [("alice", "/seen")]


async def impersonation(make: Make) -> None:
    """Somebody else, where the authorizer lets one; both inputs by keyword; the headers do not go on."""
    inputs = {"identity": lambda exchange: ALICE, "request_info": info_of, "constrained": False}
    as_bob = [("Impersonate-User", "bob")]
    client = Client(make([(ImpersonationMiddleware, {"authorizer": AllowAll(), **inputs})]))
    response = await client.request("GET", "/seen", as_bob)
    assert response.json()["identity"] == "bob"
    assert "impersonate-user" not in response.json()["headers"]
    refused = await Client(make([(ImpersonationMiddleware, {"authorizer": DenyAll(), **inputs})])).request(
        "GET", "/seen", as_bob
    )
    assert (refused.status, refused.json()["reason"]) == (403, "Forbidden")


async def authorization(make: Make) -> None:
    """A verdict, or 403; both inputs by keyword."""
    inputs = {"identity": lambda exchange: ALICE, "request_info": info_of}
    client = Client(make([(AuthorizationMiddleware, {"authorizer": AllowAll(), **inputs})]))
    assert (await client.request("GET", "/seen")).json()["allowed"] is True
    refused = await Client(make([(AuthorizationMiddleware, {"authorizer": DenyAll(), **inputs})])).request("GET", "/a")
    assert (refused.status, refused.json()["reason"]) == (403, "Forbidden")


async def metrics(make: Make) -> None:
    """A page, and a count of what was asked for."""
    client = Client(make([(MetricsMiddleware, {"metrics": Metrics()})]))
    assert (await client.request("GET", "/seen")).status == 200
    page = await client.request("GET", "/metrics")
    assert "apiserver_request_total{" in page.text


async def discovery(make: Make) -> None:
    """Its documents, from a server that is asked in the background; the application's own paths pass."""
    async with ScriptedBackend(lambda request: respond(404)) as server:
        transport = Http1Transport()
        backend = Backend.at(server.url, name="v1alpha1.wardle.example.com")
        source = StaticRoutes(make_routes([APIService("wardle.example.com", "v1alpha1", backend)]))
        stage = Discovery(source, transport, request_info=info_of)
        client = Client(make([(DiscoveryMiddleware, {"discovery": stage})], opened=stage.running))
        async with client.lifespan():
            groups = (await client.request("GET", "/apis")).json()["groups"]
            assert "wardle.example.com" in [group["name"] for group in groups]
            assert (await client.request("GET", "/seen")).status == 200
            await server.connected()
        await transport.aclose()


async def registry(make: Make) -> None:
    """The backend of a group version, for what is inside."""
    service = APIService.remote("wardle.example.com", "v1alpha1", "http://127.0.0.1:1")
    source = StaticRoutes(make_routes([service]))
    client = Client(make([(RequestInfoMiddleware, {}), (RegistryMiddleware, {"source": source})]))
    assert (await client.request("GET", FLUNDERS)).json()["backend"] == "v1alpha1.wardle.example.com"
    assert (await client.request("GET", "/seen")).json()["backend"] is None


async def proxy(make: Make) -> None:
    """A plain reverse proxy in front of one server."""
    async with ScriptedBackend(lambda request: respond(200, body=b"behind")) as server:
        transport = Http1Transport()
        options = {
            "transport": transport,
            "backend": lambda exchange: backend if exchange.scope["path"].startswith("/behind") else None,
            "request_info": info_of,
            "anonymous": True,
        }
        backend = Backend.at(server.url)
        client = Client(make([(ProxyMiddleware, options)]))
        assert (await client.request("GET", "/behind")).text == "behind"
        assert (await client.request("GET", "/seen")).status == 200
        await transport.aclose()


async def resources(make: Make) -> None:
    """Kinds of ours, all three inputs by keyword; the application's own paths pass."""
    options = {
        "kinds": [SelfSubjectReviews()],
        "request_info": parsed,
        "identity": lambda exchange: ALICE,
        "verdict": lambda exchange: Verdict(Outcome.ALLOW),
    }
    client = Client(make([(ResourcesMiddleware, options)]))
    review = await client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=b"{}")
    assert (review.status, review.json()["status"]["userInfo"]["username"]) == (201, "alice")
    assert (await client.request("GET", "/seen")).json()["path"] is None


async def forward_auth(make: Make) -> None:
    """A question of another proxy is judged by the stages inside; nobody else may ask."""
    stack: Stack = [
        (ForwardAuthMiddleware, {"forward_auth": ForwardAuth("nginx", peers=["127.0.0.1"])}),
        (RequestInfoMiddleware, {}),
        (AuthenticationMiddleware, {"authenticators": [TOKENS]}),
        (AuthorizationMiddleware, {"authorizer": AllowAll()}),
    ]
    app = make(stack)
    nginx = Client(app, connection=Connection(("127.0.0.1", 40000)))
    question = [("X-Original-Method", "GET"), ("X-Original-URI", "/orders")]
    yes = await nginx.request("GET", "/auth", [*TOKEN, *question])
    assert (yes.status, yes.header("x-auth-request-user")) == (200, b"alice")
    assert (await nginx.request("GET", "/auth", question)).status == 401
    anybody = Client(app, connection=Connection(("192.0.2.1", 40000)))
    assert (await anybody.request("GET", "/auth", [*TOKEN, *question])).status == 403


async def together(make: Make) -> None:
    """All of them in their order forward as the caller; what no service takes is the application's."""
    async with ScriptedBackend(lambda request: respond(200, body=b"flunders")) as server:
        transport = Http1Transport()
        service = APIService.remote("wardle.example.com", "v1alpha1", server.url)
        source = StaticRoutes(make_routes([service]))
        stage = Discovery(source, transport)
        stack: Stack = [
            (RecoveryMiddleware, {}),
            (RequestInfoMiddleware, {}),
            (AuthenticationMiddleware, {"authenticators": [TOKENS], "anonymous": Anonymous(["/seen"])}),
            (AuthorizationMiddleware, {"authorizer": AllowAll()}),
            (DiscoveryMiddleware, {"discovery": stage}),
            (RegistryMiddleware, {"source": source}),
            (ProxyMiddleware, {"transport": transport}),
        ]
        client = Client(make(stack, opened=stage.running))
        async with client.lifespan():
            assert (await client.request("GET", FLUNDERS, TOKEN)).text == "flunders"
            assert (await client.request("GET", FLUNDERS)).status == 401
            assert (await client.request("GET", "/version", TOKEN)).json()["major"] == "1"
            assert (await client.request("GET", "/seen")).json()["identity"] == "system:anonymous"
        await transport.aclose()


CHECKS = [
    recovery,
    request_info,
    authentication,
    audit,
    impersonation,
    authorization,
    metrics,
    discovery,
    registry,
    proxy,
    resources,
    forward_auth,
    together,
]
"""A check a stage, by its name, and one of all."""
