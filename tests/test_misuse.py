"""Misuse by embedders: an error when the stack is made, or a 500 `Status` that says what to do; never access."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Mount
from structlog.testing import capture_logs

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.asgi.mounts import MountedAt
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Verdict
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Presented
from aggmw.errors import CompositionError, ConfigurationError, MisplacedStage
from aggmw.middleware.audit import Audit, AuditMiddleware, AuditPolicy
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware, AuthenticatorUnion, StaticTokens
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware, DenyAll, Union
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware
from aggmw.middleware.impersonation import ImpersonationMiddleware
from aggmw.middleware.metrics import Metrics, MetricsMiddleware
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import Registry, RegistryMiddleware, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client, ScriptedBackend, respond

TOKENS = StaticTokens({"t0k": Identity("alice")})
TOKEN = [("Authorization", "Bearer t0k")]
FLUNDERS = "/apis/wardle.example.com/v1alpha1/flunders"
NOWHERE = APIService.remote("wardle.example.com", "v1alpha1", "http://127.0.0.1:1")
ROUTES = StaticRoutes(make_routes([NOWHERE]))


async def unreachable(scope: Scope, receive: Receive, send: Send) -> None:
    """What a stack that was put together wrongly must not reach."""
    raise AssertionError("the application was reached")


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers everybody."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


class Foreign:
    """A middleware of somebody else's: nothing behind it is seen when the stack is made."""

    def __init__(self, app: ASGIApp) -> None:
        self.inside = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.inside(scope, receive, send)


class Marking(Foreign):
    """One whose work is seen."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-marked", b"yes")]}
            await send(message)

        await self.inside(scope, receive, mark)


# --- options ---------------------------------------------------------------------------------------------------------


class Plain:
    """Its methods are no coroutine functions."""

    def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("alice")

    def authorize(self, attributes: Attributes) -> Verdict:
        return Verdict()

    def send(self, backend: object, request: object) -> object: ...


def wsgi(environ: object, start_response: object) -> list[bytes]:
    """An application of the other kind."""
    return []


async def later(exchange: Exchange) -> Any:
    """A look-up that nobody would await."""


AUTHENTICATION = partial(AuthenticationMiddleware, unreachable)
AUTHORIZATION = partial(AuthorizationMiddleware, unreachable)
PROXY = partial(ProxyMiddleware, unreachable)
LOCAL_GROUP = partial(APIService.local, "a.io", "v1")

OPTIONS: list[tuple[str, Callable[..., Any], dict[str, Any], str]] = [
    ("string of authenticators", AUTHENTICATION, {"authenticators": "x"}, "authenticators takes a list, not str"),
    ("one authenticator", AUTHENTICATION, {"authenticators": TOKENS}, "authenticators takes a list, not StaticTokens"),
    ("mapping of authenticators", AUTHENTICATION, {"authenticators": {"a": TOKENS}}, "takes a list, not dict"),
    ("no authenticators", AUTHENTICATION, {"authenticators": None}, "authenticators takes a list, not None"),
    (
        "class of an authenticator",
        AUTHENTICATION,
        {"authenticators": [TOKENS, StaticTokens]},
        "authenticators[1]: StaticTokens is a class; make an instance of it: StaticTokens(…)",
    ),
    (
        "something that does not authenticate",
        AUTHENTICATION,
        {"authenticators": [AllowAll()]},
        "authenticators[0]: AllowAll has no method authenticate()",
    ),
    (
        "authenticate is no coroutine function",
        AUTHENTICATION,
        {"authenticators": [Plain()]},
        "authenticators[0]: Plain.authenticate must be a coroutine function: async def authenticate(…)",
    ),
    ("anonymous by a flag", AUTHENTICATION, {"authenticators": [], "anonymous": True}, "takes Anonymous, not bool"),
    ("anonymous by its class", AUTHENTICATION, {"authenticators": [], "anonymous": Anonymous}, "takes Anonymous, not"),
    ("one exempt path", AUTHENTICATION, {"authenticators": [], "exempt": "/own/"}, "exempt takes a list of paths"),
    (
        "exempt by a number",
        AUTHENTICATION,
        {"authenticators": [], "path": "/"},
        "path takes a function of the exchange",
    ),
    ("no authorizer", AUTHORIZATION, {"authorizer": None}, "authorizer: None has no method authorize()"),
    ("class of an authorizer", AUTHORIZATION, {"authorizer": AllowAll}, "authorizer: AllowAll is a class"),
    (
        "authorize is no coroutine function",
        AUTHORIZATION,
        {"authorizer": Plain()},
        "Plain.authorize must be a coroutine",
    ),
    (
        "identity by value",
        AUTHORIZATION,
        {"authorizer": AllowAll(), "identity": Identity("alice")},
        "identity takes a function of the exchange, not Identity",
    ),
    (
        "identity by a coroutine function",
        AUTHORIZATION,
        {"authorizer": AllowAll(), "identity": later},
        "identity takes a plain function: it is not awaited",
    ),
    (
        "request info by a coroutine function",
        AUTHORIZATION,
        {"authorizer": AllowAll(), "request_info": later},
        "request_info takes a plain function",
    ),
    ("class of a transport", PROXY, {"transport": Http1Transport}, "transport: Http1Transport is a class"),
    ("send is no coroutine function", PROXY, {"transport": Plain()}, "Plain.send must be a coroutine function"),
    (
        "backend by its URL",
        PROXY,
        {"backend": "http://127.0.0.1"},
        "backend takes Backend or LocalBackend or BalancedBackend, not str",
    ),
    (
        "backend by a class",
        PROXY,
        {"backend": APIService},
        "backend takes Backend or LocalBackend or BalancedBackend, not the class",
    ),
    ("backend by a coroutine function", PROXY, {"backend": later}, "backend takes a plain function"),
    (
        "services for a source",
        partial(RegistryMiddleware, unreachable),
        {"source": [NOWHERE]},
        "StaticRoutes(make_routes(",
    ),
    ("class of a source", Registry, {"source": StaticRoutes}, "source takes a RouteSource, not the class StaticRoutes"),
    (
        "class of a stage",
        partial(DiscoveryMiddleware, unreachable),
        {"discovery": Discovery},
        "takes Discovery, not the",
    ),
    (
        "class of metrics",
        partial(MetricsMiddleware, unreachable),
        {"metrics": Metrics},
        "metrics takes Metrics, not the",
    ),
    (
        "transport of discovery",
        Discovery,
        {"source": ROUTES, "transport": None},
        "transport: None has no method send()",
    ),
    ("application by its class", RecoveryMiddleware, {"app": Starlette}, "must be an ASGI application, not the class"),
    ("no application", RequestInfoMiddleware, {"app": None}, "app must be an ASGI application, not None"),
    ("WSGI application", RecoveryMiddleware, {"app": wsgi}, "aggmw.backend.WsgiApplication(…) makes one of a WSGI"),
    ("function that makes one", FrontProxy, {"app": lambda: unreachable}, "takes no scope, receive and send"),
    ("mounted: class", partial(MountedAt, path="/k8s"), {"app": FrontProxy}, "not the class FrontProxy"),
    ("group: class", LOCAL_GROUP, {"app": Starlette}, "v1.a.io: app must be an ASGI application, not the class"),
    ("group: WSGI application", LOCAL_GROUP, {"app": wsgi}, "v1.a.io: app must be an ASGI application, and function"),
    ("group: backend", partial(APIService, "a.io", "v1"), {"backend": "http://h"}, "v1.a.io: backend takes Backend or"),
    ("path: class", partial(PathService, "/a/"), {"app": Starlette}, "PathService('/a/'): app must be an ASGI"),
    (
        "front proxy: class",
        FrontProxy,
        {"authentication": [StaticTokens]},
        "authentication[0]: StaticTokens is a class",
    ),
    ("front proxy: authenticator", FrontProxy, {"authentication": TOKENS}, "authentication takes a list, not Static"),
    ("front proxy: authorizer", FrontProxy, {"authorization": AllowAll}, "authorization: AllowAll is a class"),
    ("front proxy: no list", FrontProxy, {"services": NOWHERE}, "services takes a RouteSource, not APIService"),
    ("front proxy: dict", FrontProxy, {"services": [{"group": "a"}]}, "services must hold APIService and PathService"),
    ("front proxy: mapping", FrontProxy, {"services": {"a": "b"}}, "services must hold APIService and PathService"),
    ("front proxy: class of services", FrontProxy, {"services": StaticRoutes}, "services takes a RouteSource, not the"),
    ("front proxy: transport", FrontProxy, {"transport": Http1Transport}, "transport: Http1Transport is a class"),
    ("front proxy: metrics", FrontProxy, {"metrics": True}, "metrics takes Metrics, not bool"),
    ("front proxy: anonymous", FrontProxy, {"anonymous": ["/healthz"]}, "anonymous takes Anonymous, not list"),
    ("front proxy: class of application", FrontProxy, {"app": Starlette}, "ASGI application, not the class Starlette"),
    ("front proxy: after", FrontProxy, {"after": {"recovery": ["x"]}}, "after['recovery'] must hold middlewares"),
    ("front proxy: after by a list", FrontProxy, {"after": [Foreign]}, "after takes Mapping, not list"),
    (
        "front proxy: one after",
        FrontProxy,
        {"after": {"recovery": Foreign}},
        "after['recovery'] takes Iterable, not the class",
    ),
    ("front proxy: audit", FrontProxy, {"audit": True}, "audit takes Audit, not bool"),
    ("front proxy: impersonation", FrontProxy, {"impersonation": AllowAll()}, "impersonation takes bool, not AllowAll"),
    ("front proxy: forward auth", FrontProxy, {"forward_auth": ["/auth"]}, "forward_auth takes Mapping, not list"),
    (
        "forward auth by its kind",
        FrontProxy,
        {"forward_auth": {"/a": "nginx"}},
        "forward_auth takes ForwardAuth, not str",
    ),
    ("policy by its path", Audit, {"policy": "policy.yaml", "sinks": []}, "policy takes AuditPolicy, not str"),
    ("one sink", partial(Audit, AuditPolicy.everything()), {"sinks": AllowAll()}, "sinks takes a list, not AllowAll"),
    (
        "something that is no sink",
        partial(Audit, AuditPolicy.everything()),
        {"sinks": [AllowAll()]},
        "sinks[0]: AllowAll has no method run()",
    ),
    (
        "audit by its policy",
        partial(AuditMiddleware, unreachable),
        {"audit": AuditPolicy},
        "audit takes Audit, not the",
    ),
    (
        "class of an authorizer of impersonation",
        partial(ImpersonationMiddleware, unreachable),
        {"authorizer": AllowAll},
        "authorizer: AllowAll is a class",
    ),
    (
        "impersonation by a flag",
        PROXY,
        {"backend": NOWHERE.backend, "impersonation": True},
        "impersonation takes Impersonate, not bool",
    ),
    ("union of strings", AuthenticatorUnion, {"authenticators": ["x"]}, "authenticators[0]: str has no method"),
]


@pytest.mark.parametrize(("make", "options", "text"), [case[1:] for case in OPTIONS], ids=[case[0] for case in OPTIONS])
def test_option(make: Callable[..., Any], options: dict[str, Any], text: str) -> None:
    """An option of the wrong kind is a TypeError when the stage is made, with its name and what to write."""
    with pytest.raises(TypeError) as caught:
        make(**options)
    assert text in str(caught.value)


def test_values_are_not_shown() -> None:
    """What is wrong may be a secret in the wrong place: it is named by its type."""
    mistakes = [
        partial(AUTHENTICATION, authenticators="s3cr3t"),
        partial(PROXY, backend="https://u:s3cr3t@x"),
        partial(RecoveryMiddleware, "s3cr3t"),
    ]
    for make in mistakes:
        with pytest.raises(TypeError) as caught:
            make()
        assert "s3cr3t" not in str(caught.value)


def test_unions_of_authorizers_are_checked() -> None:
    """A member that does not authorize is found when the union is made."""
    with pytest.raises(TypeError, match=r"authorizers\[1\]: AllowAll is a class"):
        Union([DenyAll(), AllowAll])  # type: ignore[list-item]


def test_service_that_shadows_a_path_of_the_front_proxy() -> None:
    """A path service may not be asked for an API."""
    with pytest.raises(ConfigurationError, match="/apis is the front proxy's own"):
        PathService("/apis/x/", "http://127.0.0.1:1")


def test_applications_that_are_hard_to_see() -> None:
    """What could be an application is not refused: wrappers, any arguments, an endpoint's class, a call by a slot, and
    one whose signature cannot be told, as where annotations name what only a type checker imports.
    """

    class Slot:
        __slots__ = ("__call__",)

        def __init__(self) -> None:
            self.__call__ = core

    @wraps(wsgi)
    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None: ...

    async def anything(*args: object, **options: object) -> None: ...

    class Endpoint(HTTPEndpoint):
        """Made for each request."""

    class Annotated(Foreign):
        @property
        def __signature__(self) -> object:
            raise NameError("Scope")

    apps: list[Any] = [
        Slot(),
        wrapper,
        anything,
        Endpoint,
        Annotated(core),
        partial(anything, 1),
        Foreign(core),
        Foreign(core).__call__,
    ]
    for app in apps:
        RecoveryMiddleware(app)
        PathService("/a/", app=app)


# --- the order, when the stack is made -------------------------------------------------------------------------------


def test_authorization_around_authentication() -> None:
    """The wrong order is an error at once, in words that name both."""
    inside = AuthenticationMiddleware(unreachable, authenticators=[TOKENS])
    with pytest.raises(MisplacedStage, match="authorization stands around authentication, whose findings it needs"):
        AuthorizationMiddleware(inside, authorizer=AllowAll())
    AuthorizationMiddleware(inside, authorizer=AllowAll(), identity=lambda exchange: None)


@pytest.mark.parametrize("needed", ["request_info", "authentication", "authorization", "registry"])
def test_proxy_around_what_it_needs(needed: str) -> None:
    """Also where other stages stand between the two."""
    inside: dict[str, ASGIApp] = {
        "request_info": RequestInfoMiddleware(unreachable),
        "authentication": AuthenticationMiddleware(unreachable, authenticators=[]),
        "authorization": AuthorizationMiddleware(unreachable, authorizer=DenyAll()),
        "registry": RegistryMiddleware(unreachable, source=ROUTES),
    }
    with pytest.raises(MisplacedStage, match=f"proxy stands around {needed}"):
        ProxyMiddleware(RecoveryMiddleware(inside[needed]))


def test_stage_twice() -> None:
    """A stage around itself is one too many."""
    once = AuthenticationMiddleware(unreachable, authenticators=[TOKENS])
    with pytest.raises(MisplacedStage, match="authentication stands twice: take one of the two away"):
        AuthenticationMiddleware(RecoveryMiddleware(once), authenticators=[TOKENS])
    with pytest.raises(MisplacedStage, match="authentication stands twice"):
        FrontProxy(once)


def test_front_proxy_around_front_proxy() -> None:
    """The inner one would find no credentials: the error says how to join them."""
    with pytest.raises(MisplacedStage, match="a front proxy stands around another one: join their services in one"):
        FrontProxy(FrontProxy())
    with pytest.raises(MisplacedStage, match="recovery stands twice"):
        RecoveryMiddleware(FrontProxy())


# --- the order, where no constructor sees it -------------------------------------------------------------------------


async def misused(app: ASGIApp, path: str = "/a") -> str:
    """The message of the 500 that a request gets, whether or not recovery stands outside; it is in the log, too."""
    for stack in (app, RecoveryMiddleware(Foreign(app))):
        with capture_logs() as logs:
            response = await Client(stack).request("GET", path, TOKEN)
        assert (response.status, response.json()["reason"]) == (500, "InternalError")
        message = response.json()["message"]
        assert [entry["log_level"] for entry in logs if entry["error"] in message] == ["error"]
    return str(message)


async def test_authorization_behind_a_foreign_middleware() -> None:
    """Authorization outside of authentication finds nobody: 500, not a guest."""
    inside = Foreign(AuthenticationMiddleware(unreachable, authenticators=[TOKENS]))
    app = RequestInfoMiddleware(AuthorizationMiddleware(inside, authorizer=AllowAll()))
    assert "put authentication in front of authorization" in await misused(app)


@pytest.mark.parametrize(
    ("stage", "app"),
    [
        ("authorization", AuthorizationMiddleware(unreachable, authorizer=AllowAll())),
        ("discovery", DiscoveryMiddleware(unreachable, discovery=Discovery(ROUTES, Http1Transport()))),
        ("registry", RegistryMiddleware(unreachable, source=ROUTES)),
        ("proxy", ProxyMiddleware(unreachable, backend=NOWHERE.backend, anonymous=True)),
    ],
)
async def test_without_request_info(stage: str, app: ASGIApp) -> None:
    """Whoever needs the parse says so, and nothing passes."""
    assert f"put request_info in front of {stage}" in await misused(app)


async def test_without_registry() -> None:
    """Without a registry nobody said that there is no backend: nothing passes to the application unjudged."""
    assert "put registry in front of proxy" in await misused(ProxyMiddleware(unreachable))


async def test_registry_behind_the_proxy() -> None:
    """The proxy would pass on what the registry then routes, and the application would answer for another's group."""
    app: ASGIApp = ProxyMiddleware(Foreign(RegistryMiddleware(unreachable, source=ROUTES)))
    app = AuthorizationMiddleware(app, authorizer=AllowAll())
    app = RequestInfoMiddleware(AuthenticationMiddleware(app, authenticators=[TOKENS]))
    assert "put registry in front of proxy" in await misused(app, FLUNDERS)


async def test_registry_twice() -> None:
    """Two registries would disagree; one takes the services of both."""
    inside = Foreign(RegistryMiddleware(unreachable, source=ROUTES))
    app = RequestInfoMiddleware(RegistryMiddleware(inside, source=ROUTES))
    assert "registry stands twice: give one of them the services of both" in await misused(app)


async def test_authentication_twice() -> None:
    """The second finds the credentials consumed: 500 in words, not a 401 that nobody understands."""
    inside = Foreign(AuthenticationMiddleware(unreachable, authenticators=[TOKENS]))
    app = AuthenticationMiddleware(inside, authenticators=[TOKENS])
    assert "authentication stands twice, and the credentials are consumed" in await misused(app)


async def test_authentication_behind_a_host_user() -> None:
    """Who was judged is who goes on: a second opinion on the caller, after the verdict, is an error."""
    inside = Foreign(AuthenticationMiddleware(unreachable, authenticators=[TOKENS]))
    app = AuthorizationMiddleware(inside, authorizer=AllowAll(), identity=lambda exchange: Identity("carol"))
    assert "authentication stands twice" in await misused(RequestInfoMiddleware(app))


async def test_front_proxy_mounted_in_a_front_proxy() -> None:
    """Behind foreign routing it is found by the first request."""
    inside = Starlette(routes=[Mount("/k8s", app=FrontProxy(unreachable, authentication=[TOKENS]))])
    app = FrontProxy(inside, authentication=[TOKENS], authorization=AllowAll())
    assert "authentication stands twice" in await misused(app, "/k8s/version")


async def test_application_that_opens_the_front_proxy_that_starts_it() -> None:
    """Its group is 503 and the log says why; it is not started twice, and nothing waits for itself at the end."""
    served = Starlette()
    proxy = FrontProxy(
        core,
        authentication=[TOKENS],
        authorization=AllowAll(),
        services=[APIService.local("a.io", "v1", app=served)],
    )
    starts: list[object] = []

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with proxy.lifespan()(app):
            starts.append(app)
            yield

    served.router.lifespan_context = lifespan
    served.mount("/k8s", proxy)
    client = Client(served)
    with capture_logs() as logs:
        async with client.lifespan():
            response = await client.request("GET", "/k8s/apis/a.io/v1/x", TOKEN)
            assert (await client.request("GET", "/k8s/x", TOKEN)).body == b"served"
    assert (response.status, response.json()["reason"]) == (503, "ServiceUnavailable")
    assert starts == [served]
    assert {"an application in this process opens the front proxy that starts it"} <= {each["event"] for each in logs}
    assert not [each for each in logs if "did not stop" in each["event"]]


async def test_identity_of_another_kind() -> None:
    """What only looks like an identity was never checked, so it is none."""
    app = AuthorizationMiddleware(unreachable, authorizer=AllowAll(), identity=lambda exchange: "alice")  # type: ignore[arg-type, return-value]
    assert "identity= gave a value that is a str" in await misused(RequestInfoMiddleware(app))


# --- what is no misuse -----------------------------------------------------------------------------------------------


async def test_options_that_can_be_read_once() -> None:
    """Iterators do for lists: nobody is left out of the stack that `repr` shows."""
    proxy = FrontProxy(
        core,
        authentication=iter([TOKENS]),  # type: ignore[arg-type]
        authorization=AllowAll(),
        services=iter([PathService("/a/", "http://127.0.0.1:1")]),
        after={"request_info": iter([Marking])},  # type: ignore[dict-item]
    )
    assert "request_info → Marking → authentication" in repr(proxy)
    response = await Client(proxy).request("GET", "/x", TOKEN)
    assert (response.status, response.body, response.header("x-marked")) == (200, b"served", b"yes")


async def test_front_proxy_behind_a_front_proxy() -> None:
    """Across an application in this process there is a new scope, so it is a server of its own."""
    inner = FrontProxy(core, anonymous=Anonymous.everywhere(), authorization=AllowAll())
    outer = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), services=[PathService("/inner/", app=inner)])
    async with outer:
        response = await Client(outer).request("GET", "/inner/x", TOKEN)
    assert (response.status, response.body) == (200, b"served")


async def test_authorization_twice() -> None:
    """Two opinions are one more chance to refuse, never one less."""

    def both(outer: object, inner: object) -> Client:
        app: ASGIApp = Foreign(AuthorizationMiddleware(core, authorizer=inner))  # type: ignore[arg-type]
        app = AuthorizationMiddleware(app, authorizer=outer)  # type: ignore[arg-type]
        return Client(RequestInfoMiddleware(AuthenticationMiddleware(app, authenticators=[TOKENS])))

    statuses = [
        (await both(outer, inner).request("GET", "/a", TOKEN)).status
        for outer in (AllowAll(), DenyAll())
        for inner in (AllowAll(), DenyAll())
    ]
    assert statuses == [200, 403, 403, 403]


async def test_recovery_twice() -> None:
    """A front proxy in an application with recovery: one id, one set of warnings, and it still recovers."""

    class Warns:
        async def authenticate(self, presented: Presented) -> Identity | None:
            presented.warnings.append("be careful")
            return Identity("alice")

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    proxy = FrontProxy(fails, authentication=[Warns()], authorization=AllowAll())
    response = await Client(RecoveryMiddleware(Foreign(proxy))).request("GET", "/a", [("Audit-ID", "id-7")])
    assert (response.status, response.json()["reason"]) == (500, "InternalError")
    assert [name for name, _ in response.headers].count(b"audit-id") == 1
    assert [value for name, value in response.headers if name == b"warning"] == [b'299 - "be careful"']


async def test_verdict_on_another_mount() -> None:
    """Rule 6: who may get the path /k8s/apis/… outside of the mount may not do what it asks for below it."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        source = StaticRoutes(make_routes([APIService.remote("wardle.example.com", "v1alpha1", server.url)]))
        below = RequestInfoMiddleware(RegistryMiddleware(ProxyMiddleware(unreachable), source=source))
        app: ASGIApp = Starlette(routes=[Mount("/k8s", app=below)])
        app = AuthorizationMiddleware(app, authorizer=AllowAll())
        app = RequestInfoMiddleware(AuthenticationMiddleware(app, authenticators=[TOKENS]))
        assert "put authorization in front of proxy" in await misused(app, f"/k8s{FLUNDERS}")
        assert server.connections == []


def test_errors_are_ours() -> None:
    """Whoever composes stacks by a program catches one type."""
    assert issubclass(MisplacedStage, CompositionError)
