"""What embedders write, for mypy: checked in strict mode, and never run.

Every public constructor stands here with its options, and the ways into other frameworks. A line that should not type
carries `type: ignore` with its code: mypy complains when it no longer needs one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from aggmw import (
    APIService,
    Backend,
    BalancedBackend,
    Balancing,
    Drain,
    FrontProxy,
    Identity,
    LocalBackend,
    PathService,
)
from aggmw.asgi.mounts import MountedAt
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.backend import RequestHeaderAuthentication, ServeDiscovery, StatusErrors, WsgiApplication, resource
from aggmw.contracts.audit import AuditEvent, AuditLevel, AuditRecord, AuditSink
from aggmw.contracts.authorization import (
    Attributes,
    Authorizer,
    Change,
    Miss,
    NonResourceRule,
    Outcome,
    ResourceRule,
    RuleLister,
    Rules,
    Verdict,
)
from aggmw.contracts.backends import (
    AnyBackend,
    BackendResolver,
    Routes,
    RouteSource,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTransport,
)
from aggmw.contracts.background import Background
from aggmw.contracts.catalog import APIGroup, APIResource, APISubresource, APIVersion, Check, GroupVersionKind
from aggmw.contracts.connection import Connection
from aggmw.contracts.documents import Publication, Publisher
from aggmw.contracts.exchange import Answer, Exchange, Observer, Stage
from aggmw.contracts.grants import Grant, Granted, GrantLister
from aggmw.contracts.identity import EXPLICIT, Authenticator, Credential, Presented
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.kinds import Object, VirtualKind, WriteContext
from aggmw.contracts.metrics import Sample, Source
from aggmw.contracts.peers import Peers
from aggmw.contracts.reloading import PolicyWatcher
from aggmw.contracts.request_info import RequestInfo
from aggmw.contracts.tokens import AccountLookup, BoundObject, TokenAuthenticator
from aggmw.contracts.websockets import Close, UpstreamWebSocket, UpstreamWebSocketTransport, connector
from aggmw.errors import InvalidCredentials
from aggmw.middleware.audit import Audit, AuditLog, AuditMiddleware, AuditPolicy, AuditWebhook
from aggmw.middleware.authentication import (
    Anonymous,
    Authentication,
    AuthenticationConfiguration,
    AuthenticationMiddleware,
    AuthenticatorUnion,
    ClaimValidationRule,
    ClientCertificates,
    ExtraMapping,
    ForwardedCertificates,
    FrontProxies,
    IssuedToken,
    JWTAuthenticator,
    JWTIssuer,
    MappedClaim,
    SelfSubjectReviews,
    ServiceAccounts,
    StaticAccounts,
    StaticTokens,
    TokenCache,
    TokenCookie,
    TokenRequests,
    TokenReviews,
    UserValidationRule,
    WebhookTokens,
)
from aggmw.middleware.authorization import (
    AllowAll,
    AlwaysAllowPaths,
    Authorization,
    AuthorizationConfiguration,
    AuthorizationMiddleware,
    CasbinAuthorizer,
    CasbinWatcher,
    ConfiguredAuthorizers,
    DenyAll,
    Explanation,
    LocalSubjectAccessReviews,
    NamedAuthorizer,
    PrivilegedGroups,
    RbacAuthorizer,
    SelfSubjectAccessReviews,
    SelfSubjectRulesReviews,
    SubjectAccessReviews,
    SubjectAccessReviewWebhook,
    Union,
    access_reviews,
    host_user,
)
from aggmw.middleware.authorization.analysis import diff, shadowed, who_can
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware, Timing, VersionInfo
from aggmw.middleware.forward_auth import AskedAt, ForwardAuth, ForwardAuthMiddleware, allowed
from aggmw.middleware.impersonation import Impersonation, ImpersonationMiddleware
from aggmw.middleware.metrics import Metrics, MetricsMiddleware
from aggmw.middleware.proxy import (
    AsgiTransport,
    BalancedTransport,
    Http1Transport,
    HttpxTransport,
    PoolStatistics,
    ProxyMiddleware,
    TransportLimits,
    Transports,
)
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import (
    DnsResolver,
    Registry,
    RegistryMiddleware,
    StaticResolver,
    StaticRoutes,
    load_api_services,
    make_routes,
)
from aggmw.middleware.request_info import RequestInfoMiddleware, RequestInfoResolver, parse
from aggmw.middleware.resources import ResourcesMiddleware, VirtualKinds
from aggmw.net.addresses import INTERNAL, AddressRules
from aggmw.net.tls import ClientCertificatePair

# --- an embedder's own parts, each for one Protocol ------------------------------------------------------------------


class Keys:
    """An authenticator with a header of its own."""

    credentials = frozenset({b"x-api-key"})

    async def authenticate(self, presented: Presented) -> Identity | None:
        match presented.header(b"x-api-key"):
            case []:
                return None
            case [b"right"]:
                return Identity("alice", uid="1", groups=("dev",), extra={"scopes": ["all"]}, credential=EXPLICIT)
        raise InvalidCredentials("unknown key")


class Readers:
    """An authorizer."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        allowed = attributes.verb in ("get", "list", "watch")
        return Verdict(Outcome.ALLOW if allowed else Outcome.NO_OPINION, "reading is free")


class Delegating:
    """A transport that hands on another's coroutine."""

    def __init__(self, inner: UpstreamTransport) -> None:
        self._inner = inner

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> UpstreamResponse:
        return await self._inner.send(backend, request)

    async def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> UpstreamWebSocket | UpstreamResponse:
        answer = await connector(self._inner).connect(backend, request, subprotocols)
        if isinstance(answer, UpstreamWebSocket):
            await answer.close(Close(1001, "not today"))
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


class Swapped:
    """A source of routes."""

    def __init__(self) -> None:
        self.routes = Routes()


class Here:
    """A resolver."""

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        return "127.0.0.1", port


class Database:
    """A line of `/readyz`."""

    name = "database"

    def check(self) -> str | None:
        return None


class Log:
    """An observer."""

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None: ...


class Refuse:
    """A stage."""

    async def decide(self, exchange: Exchange) -> Answer | None:
        return Answer(403, (), b"") if exchange.identity is None else None


class AccessLog:
    """A middleware of the embedder's own."""

    def __init__(self, app: ASGIApp, *, prefix: str = "") -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


authenticator: Authenticator = Keys()
authorizer: Authorizer = Readers()
transport: UpstreamTransport = Delegating(Http1Transport())
carrier: UpstreamWebSocketTransport = Delegating(Http1Transport())
source: RouteSource = Swapped()
resolver: BackendResolver = Here()
check: Check = Database()
observer: Observer = Log()
stage: Stage = Refuse()
figures: Source = Http1Transport()
function: ASGIApp = AccessLog(Starlette())


def who(exchange: Exchange) -> Identity | None:
    return host_user(exchange, groups=lambda user: user.teams)


def what(exchange: Exchange) -> RequestInfo:
    return parse("GET", exchange.scope["raw_path"], b"")


def decided(exchange: Exchange) -> Verdict | None:
    return Verdict(Outcome.ALLOW)


def where(exchange: Exchange) -> AnyBackend | None:
    return Backend.at("https://127.0.0.1:7443")


# --- authentication and authorization --------------------------------------------------------------------------------

tokens = StaticTokens({"token": Identity("alice")})
tokens = StaticTokens.load("tokens.csv")
tokens.swap(StaticTokens({}))
certificates = ClientCertificates(b"PEM", crl=b"PEM", clock=lambda: 0.0)
certificates.reload(b"PEM", crl=None)
anonymous = Anonymous(["/healthz"])
anonymous = Anonymous.everywhere()
cookie = TokenCookie("__Host-aggmw", tokens)
union = AuthenticatorUnion([tokens, certificates, cookie, Keys()])
issuer = JWTIssuer(
    "https://idp.example",
    ["aggmw"],
    MappedClaim("sub", prefix="idp:"),
    groups=MappedClaim(expression="claims.roles"),
    extra=[ExtraMapping("example.com/tenant", "claims.tenant")],
    claim_validation_rules=[ClaimValidationRule("hd", "example.com"), ClaimValidationRule(expression="true")],
    user_validation_rules=[UserValidationRule("true", message="never")],
    keys=Path("keys.json"),
    algorithms=["RS256"],
    system_names=False,
)
issuers = JWTAuthenticator([issuer], disallowed=["https://proxy.example"], leeway=5.0, clock=lambda: 0.0)
issuers.reload(AuthenticationConfiguration.load("authentication.yaml", keys={"https://idp.example": Path("k")}).issuers)
lookup: AccountLookup = StaticAccounts({("ServiceAccount", "ci", "builder"): "u1"})
accounts = ServiceAccounts("https://proxy.example", lookup, keys=[b"PEM"], signing_key=b"PEM", max_seconds=3600.0)
accounts.reload(keys=[], signing_key=b"PEM")
publisher: Publisher = accounts
judge: TokenAuthenticator = TokenCache([issuers, accounts], size=1000, refused_size=10, refused_seconds=1.0)


async def issued() -> str:
    made: IssuedToken = await accounts.issue(
        "ci", "builder", audiences=["vault"], expiration_seconds=600, bound=BoundObject("Pod", "runner", "p1")
    )
    keys: Publication = accounts.documents["/openid/v1/jwks"]
    async with issuers:
        await judge.authenticate_token(made.token.encode(), frozenset({"vault"}))
    return made.token + keys.body.decode()


Authentication([union], anonymous=anonymous, strip_credentials=False, exempt=["/own/"], impersonation=True, origins=[])
authentication = AuthenticationMiddleware(
    Starlette(),
    authenticators=[tokens, authenticator],
    anonymous=anonymous,
    strip_credentials=True,
    exempt={"/own/"},
    impersonation=False,
    origins=["https://console.example.com"],
    path=lambda exchange: str(exchange.scope["path"]),
)
casbin = CasbinAuthorizer.from_files(Path("policy.csv"), model="model.conf", privileged=["ops"], cache=0)
casbin = CasbinAuthorizer.from_text("p2, *, get, /", functions={"f": lambda one, other: True}, allow_eval=True)
casbin = CasbinAuthorizer.from_text(
    "p, a",
    model="",
    fields={"team": lambda attributes: attributes.identity.extra},
    casbin_patterns=True,
    role_patterns={"g": "keyMatch2"},
    domain_patterns={"g": "keyMatch"},
)
casbin.reload()
watcher: PolicyWatcher = CasbinWatcher(object())
casbin = CasbinAuthorizer.from_adapter(object(), model=Path("model.conf"), name="rules", timeout=5.0, watcher=watcher)
casbin = CasbinAuthorizer.from_adapter(object(), in_thread=True, allow_eval=False)
casbin = CasbinAuthorizer.from_rows([("p", "user:alice", "get", "*", "*", "*", "*"), ["g", "a", "b"]], cache=0)


async def changed() -> str:
    await watcher.announce()
    async for _ in watcher.changes():
        await casbin.refresh()
    return casbin.revision + await casbin.change(add=[["g", "user:alice", "role:r"]], remove=[("g", "a", "b")])


rbac = RbacAuthorizer.from_files("roles.yaml", Path("rbac.d"), defaults=False, watch=True)
rbac = RbacAuthorizer.from_objects([{"kind": "Role"}], defaults=True)
rbac.reload()
at_once: Verdict = rbac.verdict(Attributes(Identity("ann"), "get", False, path="/x"))
Authorization(Union([PrivilegedGroups(), PrivilegedGroups(["ops"]), casbin, rbac, DenyAll()]))


async def explained(attributes: Attributes) -> tuple[Verdict, str, tuple[tuple[str, ...], ...]]:
    explanation: Explanation = await casbin.explain(attributes)
    return explanation.verdict, explanation.rule, explanation.ways


AuthorizationMiddleware(function, authorizer=AllowAll())
AuthorizationMiddleware(function, authorizer=authorizer, identity=host_user, request_info=what)
AuthorizationMiddleware(function, authorizer=authorizer, identity=partial(host_user, groups=lambda user: user.teams))

# --- services --------------------------------------------------------------------------------------------------------

backend = Backend.at("https://127.0.0.1:7443", name="a", ca=b"PEM", server_name="b", insecure_skip_tls_verify=False)
backend = Backend("a", "127.0.0.1", 7443, tls=True, server_name="b", ca=b"PEM")
services: list[APIService | PathService] = [
    APIService.remote("g.example.com", "v1", "https://a", ca=b"PEM", server_name="b", group_priority_minimum=1),
    APIService.local("h.example.com", "v1", app=Starlette(), version_priority=1),
    APIService.local("i.example.com", "v1"),
    APIService("j.example.com", "v1", LocalBackend("v1.j.example.com", function)),
    PathService("/billing/", "https://a", ca=b"PEM", strip_prefix=True, redirects=False),
    PathService("/notes/", app=FastAPI()),
    APIService.remote("h.example.com", "v1", ["https://a", "https://b"], balancing=Balancing(sticky="identity")),
    PathService("/several/", ("https://a", "https://b"), balancing=Balancing(requests=100, attempt_seconds=2)),
]
routes = StaticRoutes(make_routes(services))
routes.swap(make_routes(load_api_services(Path("apiservices.yaml"), resolver=StaticResolver({"a/b": "c:1"}))))
resolver = StaticResolver({"a/b": "c:1"}, otherwise=DnsResolver("svc.cluster.local"))

# --- the other stages, alone -----------------------------------------------------------------------------------------

pair = ClientCertificatePair(Path("a.crt"), Path("a.key"))
limits = TransportLimits(
    connections=10,
    waiting=10,
    wait_seconds=1,
    dial_seconds=1,
    idle_seconds=1,
    max_age_seconds=1,
    silence_seconds=1,
)
http1 = Http1Transport(client_certificate=pair, limits=limits, drain=Drain())
FrontProxy(transport=Http1Transport(addresses=AddressRules(allow=["10.0.0.0/8"], deny=INTERNAL, unix=False)))
balanced = BalancedTransport(http1)
endpoints = (Backend.at("https://a"), Backend.at("https://b"))
ProxyMiddleware(function, transport=balanced, backend=BalancedBackend("several", endpoints, Balancing(failures=3)))
http1.reload()
http2 = HttpxTransport(http2=True, client_certificate=pair, limits=limits, drain=Drain())
through: UpstreamTransport = HttpxTransport(
    lambda backend, context: httpx.AsyncHTTPTransport(verify=context or True, proxy="http://proxy:3128")
)
of_others: Source = HttpxTransport(httpx.AsyncHTTPTransport())
flask = WsgiApplication(Flask("notes"), threads=10, waiting=10, chunked=True)
APIService.local("notes.example.com", "v1", app=flask)
both = Transports(http1, AsgiTransport(grace_seconds=1))
statistics: list[PoolStatistics] = list(http1.statistics)
discovery = Discovery(
    routes,
    both,
    version=VersionInfo(major="1", minor="37", git_version="v1.37.0"),
    checks=[check],
    drain=Drain(),
    timing=Timing(refresh=1, first_retry=1, timeout=1, openapi_timeout=1, at_once=1, openapi_at_once=1),
    server_address="127.0.0.1:6443",
    request_info=what,
)
metrics = Metrics(known=discovery.knows, sources=[http1], path="/metrics", max_label_sets=10, request_info=what)
RecoveryMiddleware(function, observers=[observer, metrics])
RequestInfoResolver(allow_proxy_prefix=True, request_timeout=30)
RequestInfoMiddleware(function, allow_proxy_prefix=True, request_timeout=30)
MetricsMiddleware(function, metrics=metrics)
DiscoveryMiddleware(function, discovery=discovery)
Registry(source, request_info=what)
RegistryMiddleware(function, source=routes, request_info=what)
ProxyMiddleware(function)
ProxyMiddleware(function, transport=transport, backend=backend, anonymous=True, drain=Drain(), max_stream_seconds=60)
ProxyMiddleware(function, backend=where, request_info=what, identity=who, verdict=decided)

# --- several authorizers ---------------------------------------------------------------------------------------------

review = SubjectAccessReviewWebhook.load(
    "authz.kubeconfig",
    name="authz.example.com",
    timeout=3.0,
    version="v1beta1",
    authorized_seconds=60.0,
    unauthorized_seconds=0.0,
    on_failure="NoOpinion",
    match_conditions=["has(request.resourceAttributes)"],
)
SubjectAccessReviewWebhook(webhook=None)  # type: ignore[arg-type]
in_order = Union([PrivilegedGroups(), AlwaysAllowPaths(["/healthz"]), review, Readers()], names=["a", "b", "c", "d"])
in_order.swap([ConfiguredAuthorizers("authz.yaml", known={"Casbin": casbin, "RBAC": Readers()}, watch=True)])
now: Verdict | None = in_order.verdict(Attributes(Identity("ann"), "get", False, path="/x"))
for entry in AuthorizationConfiguration.load(Path("authz.yaml")).authorizers:
    one: NamedAuthorizer = entry
    named: tuple[str, str, Authorizer] = one

# --- whole policies --------------------------------------------------------------------------------------------------


class Written:
    """Lists its rules."""

    def granted(self) -> Granted:
        rule = Grant("role:reader", "row 1", verbs=frozenset({"get"}), resources=frozenset({"pods"}))
        return Granted([rule], {"user:ann": ["role:reader"]}, frozenset({"system:masters"}))


written: GrantLister = Written()
rules_of_it: Granted | None = casbin.granted()
for difference in diff(Written().granted(), Written().granted(), limit=1000):
    print(difference.subjects, [reach.values for reach in (*difference.gains, *difference.losses)])
for shadow in shadowed(Written().granted()):
    print(shadow.rule, shadow.by, shadow.text)


async def ask(asked: Attributes) -> None:
    explanation = await casbin.explain(asked)
    near: tuple[Miss, ...] = explanation.misses
    change: Change
    for change in explanation.changes:
        print(change.text, change.add, change.remove, change.groups, near)
    found = await who_can(in_order, asked)
    print([holder.subject for holder in (*found.allowed, *found.denied)], [role.members for role in found.roles])


# --- all of them -----------------------------------------------------------------------------------------------------

FrontProxy()
front_proxy = FrontProxy(
    Starlette(),
    authentication=[tokens, certificates, Keys()],
    anonymous=Anonymous(paths=["/healthz"]),
    origins={"https://console.example.com"},
    authorization=Union([casbin, Readers()]),
    services=services,
    transport=http1,
    version=VersionInfo(),
    checks=[Database()],
    metrics=Metrics(),
    max_stream_seconds=3600.0,
    drain=Drain(),
    after={
        "recovery": [Middleware(GZipMiddleware, minimum_size=500)],
        "authentication": [partial(AccessLog, prefix="aggmw")],
        "proxy": [AccessLog],
    },
)
FrontProxy(services=[APIService.local("g.example.com", "v1"), PathService("/a/", "http://b")])
FrontProxy(services=source)
order: tuple[str, ...] = front_proxy.order
ready: bool = front_proxy.ready


async def opened() -> None:
    async with FrontProxy() as entered:
        await entered({"type": "http"}, _receive, _send)
    async with discovery.running(), Background(issuers.controllers):
        discovery.refresh()


async def _receive() -> dict[str, Any]:
    return {}


async def _send(message: Any) -> None: ...


# --- in other frameworks ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def inner(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"database": "open"}


starlette = Starlette(
    routes=[Mount("/k8s", app=front_proxy), Mount("/other", app=MountedAt(front_proxy, "/other"))],
    middleware=[
        Middleware(RecoveryMiddleware),
        Middleware(RequestInfoMiddleware, request_timeout=30),
        Middleware(AuthenticationMiddleware, authenticators=[tokens], exempt=["/k8s/"]),
        Middleware(AuthorizationMiddleware, authorizer=AllowAll(), identity=host_user),
        Middleware(MetricsMiddleware),
        Middleware(DiscoveryMiddleware, discovery=discovery),
        Middleware(RegistryMiddleware, source=routes),
        Middleware(ProxyMiddleware, transport=http1),
    ],
    lifespan=front_proxy.lifespan(inner),
)
fastapi = FastAPI(lifespan=front_proxy.lifespan())
fastapi.mount("/k8s", front_proxy)
fastapi.add_middleware(AuthenticationMiddleware, authenticators=[tokens], anonymous=anonymous)
fastapi.add_middleware(ProxyMiddleware, backend=backend, anonymous=True)

# --- behind the front proxy ------------------------------------------------------------------------------------------

note = resource("notes", "Note", namespaced=False, singular="note", verbs=["get"], short_names=["nt"])
api_server = Starlette(
    middleware=[
        Middleware(RequestHeaderAuthentication, ca=b"PEM", allowed_names=["front-proxy-client"]),
        Middleware(StatusErrors),
        Middleware(ServeDiscovery, groups={"notes.example.com": {"v1": [note]}}),
    ],
)

# --- values ----------------------------------------------------------------------------------------------------------

known: Identity = Identity("alice").known_by(Credential(ambient=True, expires=1.0))
kind = GroupVersionKind("g.example.com", "v1", "Thing")
thing = APIResource("things", kind, True, "thing", ("get",), ("th",), ("all",), (APISubresource("status", kind),))
group = APIGroup("g.example.com", (APIVersion("v1", (thing,), stale=False),))
sample = Sample("a_total", "help", "counter", (("label", "value"),), 1.0)
request = UpstreamRequest(b"GET", b"/", headers=((b"accept", b"*/*"),), timeout=None, identity=Identity("alice"))
presented = Presented(((b"accept", b"*/*"),), Connection(("127.0.0.1", 1)), "/", (), [])

# --- what must not type ----------------------------------------------------------------------------------------------

FrontProxy(authentication=StaticTokens)  # type: ignore[arg-type]
FrontProxy(authorization=AllowAll)  # type: ignore[arg-type]
FrontProxy(services=[{"group": "g"}])  # type: ignore[list-item]
AuthenticationMiddleware(function, authenticators="x")  # type: ignore[arg-type]
AuthenticationMiddleware(function, [tokens])  # type: ignore[call-arg]
AuthorizationMiddleware(function, authorizer=None)  # type: ignore[arg-type]
ProxyMiddleware(function, backend="https://a")  # type: ignore[arg-type]
Middleware(AuthenticationMiddleware)  # type: ignore[call-arg]


# --- audit and impersonation -----------------------------------------------------------------------------------------


class Printed:
    """A sink."""

    name = "printed"

    @property
    def full(self) -> bool:
        return False

    async def room(self) -> None: ...

    def put(self, event: AuditEvent) -> None:
        print(event["stage"], event["auditID"])

    async def written(self) -> bool:
        return True

    async def run(self) -> None: ...


sink: AuditSink = Printed()
log = AuditLog(Path("audit.log"), max_size=100, max_age=30, max_backups=10, limit=1000, when_full="drop")
audit = Audit(AuditPolicy.load(Path("policy.yaml")), [sink, log], required=True, max_body=65_536)
events_to = AuditWebhook.load("audit.kubeconfig", most=100, delay=5.0, when_full="wait")
audit.reload(AuditPolicy.everything(AuditLevel.REQUEST))
FrontProxy(audit=audit, impersonation=True)
AuditMiddleware(FrontProxy(), audit=audit, identity=lambda exchange: exchange.identity)
ImpersonationMiddleware(FrontProxy(), authorizer=AllowAll(), constrained=False)
Impersonation(AllowAll())
front_proxies = FrontProxies(b"PEM", allowed_names=["front-proxy-client"])
forwarded = ForwardedCertificates(b"PEM", peers=["10.0.0.0/24"], field="x-forwarded-client-cert", crl=b"PEM")
FrontProxy(authentication=[front_proxies, forwarded])
edge = ForwardAuth("nginx", peers=["10.0.0.7"], ca=b"PEM", allowed_names=["edge"], hosts=["shop.example.com"])
FrontProxy(forward_auth={"/auth/nginx": edge, "/auth/envoy": ForwardAuth("envoy", accept_any_peer=True)})
AskedAt(FrontProxy(), {"/auth/nginx": ForwardAuthMiddleware(allowed, forward_auth=edge)})
ForwardAuth("caddy", peers=["10.0.0.7"])  # type: ignore[arg-type]
listed_peer: bool = "10.0.0.7" in Peers(["10.0.0.0/24"])
cluster = Impersonate(token_file=Path("token"), uid=True, extra=("example.com/team",))
PathService("/clusters/one/", "https://10.0.0.1:6443", strip_prefix=True, impersonation=cluster)
ProxyMiddleware(FrontProxy(), backend=Backend.at("https://10.0.0.1:6443"), impersonation=cluster)


def annotated(exchange: Exchange) -> None:
    record: AuditRecord = exchange.audit
    record.annotate("example.com/why", "because")


class Widgets:
    group, version = "example.com", "v1"
    resource = APIResource("widgets", GroupVersionKind("example.com", "v1", "Widget"), verbs=("create",))

    async def create(self, value: Object, context: WriteContext) -> Object:
        context.warnings.append(f"{context.identity.user} asked, dry run: {context.dry_run}")
        return value


widgets: VirtualKind = Widgets()
kinds = VirtualKinds(
    [
        widgets,
        SelfSubjectReviews(clock=lambda: 0.0),
        TokenReviews([tokens], audiences=["front"]),
        TokenRequests(accounts),
    ]
)
groups: tuple[APIGroup, ...] = kinds.groups


class Listing(AllowAll):
    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        rule = ResourceRule(("get", "list"), ("apps",), ("deployments",), names=("one",))
        return Rules([rule], [NonResourceRule(("get",), ("/healthz",))], incomplete=bool(namespace), error="half")


lister: RuleLister = Listing()
decides: Authorizer = AllowAll()
asking: list[VirtualKind] = [
    SubjectAccessReviews(decides),
    LocalSubjectAccessReviews(decides),
    SelfSubjectAccessReviews(decides),
    SelfSubjectRulesReviews(decides),
]
FrontProxy(authorization=decides, kinds=[widgets, *asking, *access_reviews(decides)])
access_reviews(AllowAll)  # type: ignore[arg-type]
ResourcesMiddleware(FrontProxy(kinds=[widgets]), kinds=kinds, identity=lambda exchange: exchange.identity)
webhook = WebhookTokens.load("webhook.kubeconfig", version="v1", audiences=["front"], remember_seconds=60.0, at_once=64)
FrontProxy(authentication=[TokenCache([webhook], size=1000)])
WriteContext(Identity("alice"), RequestInfo(True, "create", "POST", "/", b"/"), dry_run=True)
ResourcesMiddleware(FrontProxy(), kinds=[Widgets])  # type: ignore[list-item]
