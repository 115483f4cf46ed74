"""What is shown of an object when it is printed: a stack that can be read, and never a secret."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from casbin.persist.watcher import Watcher
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from tests.public import public_classes

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
from aggmw.asgi.exchanges import Credentials, Stages, User
from aggmw.asgi.mounts import MountedAt
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import RequestHeaderAuthentication, ServeDiscovery, StatusErrors, WsgiApplication, resource
from aggmw.contracts.addresses import Address
from aggmw.contracts.audit import AuditLevel, AuditRecord
from aggmw.contracts.authorization import Attributes, Change, Miss, NonResourceRule, ResourceRule, Rules, Verdict
from aggmw.contracts.backends import UpstreamRequest
from aggmw.contracts.background import Background
from aggmw.contracts.catalog import APIGroup, APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.contracts.connection import Connection
from aggmw.contracts.documents import Publication
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.grants import Grant, Granted
from aggmw.contracts.identity import Credential, Presented
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.kinds import WriteContext
from aggmw.contracts.metrics import Sample
from aggmw.contracts.peers import Peers
from aggmw.contracts.request_info import RequestInfo
from aggmw.contracts.tokens import BoundObject
from aggmw.contracts.websockets import Close
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
    PrivilegedGroups,
    RbacAuthorizer,
    SelfSubjectAccessReviews,
    SelfSubjectRulesReviews,
    SubjectAccessReviews,
    SubjectAccessReviewWebhook,
    Union,
)
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
    make_routes,
)
from aggmw.middleware.request_info import RequestInfoMiddleware, RequestInfoResolver
from aggmw.middleware.resources import ResourcesMiddleware, VirtualKinds
from aggmw.net.kubeconfig import Remote
from aggmw.net.tls import ClientCertificate, ClientCertificatePair, KeyPairPem
from aggmw.net.webhooks import Webhook
from aggmw.pki.make import make_ca

SIGNING_KEY = ECKey.generate_key("P-256").as_pem(private=True)
SECRET = "s3cr3t"
CA = make_ca("an authority")
ALICE = Identity("alice", groups=("dev",))
JWT_ISSUER = JWTIssuer(
    "https://idp.example", ["aggmw"], MappedClaim("sub", "idp:"), certificate_authority=CA.certificate.decode()
)
HOST = Starlette()
HEADERS = ((b"authorization", b"Bearer s3cr3t"), (b"cookie", b"s3cr3t"))
TOKEN_PROTOCOL = ("base64url.bearer.authorization.k8s.io.s3cr3t", "v4.channel.k8s.io")


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that is a function."""


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that is a function."""
    return []


BACKEND = Backend.at("https://127.0.0.1:7443", name="v1alpha1.wardle.example.com", ca=CA.certificate)
SERVICE = APIService("wardle.example.com", "v1alpha1", BACKEND)
ROUTES = StaticRoutes(make_routes([SERVICE, PathService("/billing/", "http://127.0.0.1:1")]))
TOKENS = StaticTokens({SECRET: ALICE})
KIND = GroupVersionKind("wardle.example.com", "v1alpha1", "Flunder")
POLICY = "p2, user:alice, get, /apis"
ORDER = Path(__file__).parent / "data/authorization/order.yaml"
PAIR = ClientCertificatePair(Path("front-proxy.crt"), Path("front-proxy.key"))
SHOWN_ROUTES = "StaticRoutes(v1alpha1.wardle.example.com, /billing/)"
SHOWN_BACKEND = (
    "Backend(name='v1alpha1.wardle.example.com', host='127.0.0.1', port=7443, tls=True, server_name='127.0.0.1',"
    " insecure_skip_tls_verify=False, unix='')"
)

STACK = RecoveryMiddleware(
    RequestInfoMiddleware(
        AuthenticationMiddleware(
            AuthorizationMiddleware(
                RegistryMiddleware(ProxyMiddleware(HOST), source=ROUTES),
                authorizer=Union([PrivilegedGroups(), CasbinAuthorizer.from_text(POLICY)]),
            ),
            authenticators=[TOKENS, ClientCertificates(CA.certificate)],
            anonymous=Anonymous(["/healthz"]),
            exempt=["/own/"],
            origins=["https://console.example.com"],
        )
    )
)
FOREIGN = {
    "recovery": [Middleware(CORSMiddleware, allow_origins=[SECRET])],
    "proxy": [partial(CORSMiddleware, allow_origins=[SECRET])],
}

AUDIT = Audit(AuditPolicy.everything(), [])
LOG = AuditLog(Path(os.devnull))

READ = [
    (
        FrontProxy(core, audit=AUDIT, impersonation=True),
        "FrontProxy(recovery → request_info → authentication → audit → impersonation → authorization → discovery"
        " → registry → proxy → core)",
    ),
    (AuditMiddleware(core, audit=AUDIT), "AuditMiddleware(Audit(AuditPolicy(1 rules), [])) → core"),
    (Impersonation(AllowAll()), "Impersonation(AllowAll())"),
    (
        AskedAt(core, {"/auth": ForwardAuthMiddleware(allowed, forward_auth=ForwardAuth("nginx", peers=["::1"]))}),
        "core",
    ),
    (
        ForwardAuthMiddleware(allowed, forward_auth=ForwardAuth("envoy", peers=["::1"], hosts=["a.test"])),
        "ForwardAuthMiddleware(ForwardAuth('envoy', peers=['::1/128'], hosts=['a.test'])) → allowed",
    ),
    (
        FrontProxy(HOST, authentication=[TOKENS], metrics=Metrics(), after=FOREIGN),
        "FrontProxy(recovery → CORSMiddleware → request_info → authentication → authorization → metrics → discovery"
        " → registry → proxy → CORSMiddleware → Starlette)",
    ),
    (
        FrontProxy(core),
        "FrontProxy(recovery → request_info → authentication → authorization → discovery → registry → proxy → core)",
    ),
    (
        STACK,
        "RecoveryMiddleware → RequestInfoMiddleware(RequestInfoResolver(request_timeout=60))"
        " → AuthenticationMiddleware(Authentication([StaticTokens(1 tokens), ClientCertificates(1 authorities)],"
        " Anonymous(['/healthz']), exempt=['/own/'], origins=['https://console.example.com']))"
        " → AuthorizationMiddleware(Authorization(Union([PrivilegedGroups(['system:masters']),"
        " CasbinAuthorizer('policy', 1 rows, revision 506ff75e6751)])))"
        f" → RegistryMiddleware(Registry({SHOWN_ROUTES}))"
        " → ProxyMiddleware(BalancedTransport(Http1Transport())) → Starlette",
    ),
    (
        DiscoveryMiddleware(core, discovery=Discovery(ROUTES, Http1Transport())),
        f"DiscoveryMiddleware(Discovery({SHOWN_ROUTES})) → core",
    ),
    (MetricsMiddleware(core), "MetricsMiddleware(Metrics(path='/metrics')) → core"),
    (TokenCookie("session", TOKENS), "TokenCookie('session', StaticTokens(1 tokens))"),
    (TokenReviews([TOKENS]), "TokenReviews(1 authenticators)"),
    (SelfSubjectReviews(), "SelfSubjectReviews()"),
    (SubjectAccessReviews(DenyAll()), "SubjectAccessReviews(DenyAll())"),
    (LocalSubjectAccessReviews(DenyAll()), "LocalSubjectAccessReviews(DenyAll())"),
    (SelfSubjectAccessReviews(DenyAll()), "SelfSubjectAccessReviews(DenyAll())"),
    (SelfSubjectRulesReviews(DenyAll()), "SelfSubjectRulesReviews(DenyAll())"),
    (VirtualKinds([SelfSubjectReviews()]), "VirtualKinds(selfsubjectreviews)"),
    (
        ResourcesMiddleware(HOST, kinds=[SelfSubjectReviews()]),
        "ResourcesMiddleware(VirtualKinds(selfsubjectreviews)) → Starlette",
    ),
    (
        WebhookTokens(Webhook(Remote("https://w.example", None, token=SECRET))),
        "WebhookTokens(Webhook(https://w.example))",
    ),
    (AuthenticatorUnion([TOKENS]), "AuthenticatorUnion([StaticTokens(1 tokens)])"),
    (Authorization(DenyAll()), "Authorization(DenyAll())"),
    (MountedAt(core, "/k8s"), "MountedAt(core, '/k8s')"),
    (Stages(core, Registry(ROUTES)), "Stages(Registry) → core"),
    (
        Transports(Http1Transport(), AsgiTransport()),
        "Transports(Http1Transport(), AsgiTransport(Applications(), 0 running))",
    ),
    (HttpxTransport(http2=True), "HttpxTransport(http2=True)"),
    (HttpxTransport(httpx.MockTransport(lambda _: httpx.Response(200))), "HttpxTransport(MockTransport)"),
    (BalancedTransport(Http1Transport()), "BalancedTransport(Http1Transport())"),
    (BACKEND, SHOWN_BACKEND),
    (
        BalancedBackend.at(["https://a:1", "unix:/b"], name="v1.notes", balancing=Balancing(sticky="identity")),
        "BalancedBackend('v1.notes', [a:1, unix:/b], Balancing(sticky='identity'))",
    ),
    (Balancing(), "Balancing()"),
    (LocalBackend("v1.notes", core), "LocalBackend('v1.notes', core)"),
    (WsgiApplication(wsgi), "WsgiApplication(wsgi)"),
    (User(ALICE), "User('alice')"),
    (Credentials(ALICE), "Credentials(['authenticated', 'dev'])"),
    (Drain(), "Drain(begun=False)"),
    (Background(JWTAuthenticator([JWT_ISSUER]).controllers), "Background([issuer-keys])"),
]


@pytest.mark.parametrize(("made", "text"), READ, ids=[type(made).__name__ for made, _ in READ])
def test_stack_can_be_read(made: object, text: str) -> None:
    """A stack is shown from the outside in, with what decides what; options of foreign parts are their own affair."""
    assert repr(made) == text


SAMPLES: list[object] = [
    AUDIT,
    LOG,
    Impersonate(Path("token")),
    FrontProxies(CA.certificate),
    ForwardedCertificates(CA.certificate, peers=["10.0.0.7"]),
    AuditWebhook(Webhook(Remote("https://audit.example", None, token=SECRET))),
    AuditPolicy.everything(),
    AuditRecord(AuditLevel.METADATA),
    ImpersonationMiddleware(HOST, authorizer=AllowAll()),
    Peers(["10.0.0.7"]),
    ForwardAuth("nginx", ca=CA.certificate),
    *(made for made, _ in READ),
    SERVICE,
    ALICE,
    Credential(),
    PAIR,
    CA,
    TOKENS,
    PathService("/billing/", "http://127.0.0.1:1"),
    RequestHeaderAuthentication(HOST, ca=CA.certificate, allowed_names=["front-proxy-client"]),
    ServeDiscovery(HOST, groups={"notes.example.com": {"v1": [resource("notes", "Note")]}}),
    StatusErrors(HOST),
    Anonymous.everywhere(),
    Authentication([TOKENS]),
    AuthenticationMiddleware(HOST, authenticators=[TOKENS]),
    ClientCertificates(CA.certificate),
    AllowAll(),
    AlwaysAllowPaths(["/healthz"]),
    DenyAll(),
    PrivilegedGroups(),
    SubjectAccessReviewWebhook(Webhook(Remote("http://127.0.0.1:1", None))),
    Union([AllowAll()]),
    ConfiguredAuthorizers(ORDER),
    AuthorizationConfiguration.load(ORDER),
    AuthorizationConfiguration.load(ORDER).authorizers[0],
    CasbinAuthorizer.from_text(POLICY),
    CasbinWatcher(Watcher()),
    Explanation(Verdict()),
    AuthorizationMiddleware(HOST, authorizer=AllowAll()),
    Discovery(ROUTES, Http1Transport()),
    Timing(),
    VersionInfo(),
    Metrics(),
    AsgiTransport(),
    Http1Transport(client_certificate=PAIR),
    HttpxTransport(client_certificate=PAIR),
    PoolStatistics("127.0.0.1:1", 1, 2, 3),
    ProxyMiddleware(HOST, backend=BACKEND, anonymous=True),
    TransportLimits(),
    DnsResolver(),
    Registry(ROUTES),
    RegistryMiddleware(HOST, source=ROUTES),
    ClientCertificate(PAIR),
    KeyPairPem(CA.certificate, CA.key),
    StaticResolver({"wardle/api": "127.0.0.1:7443"}),
    ROUTES,
    ROUTES.routes,
    RequestInfoMiddleware(HOST),
    RequestInfoResolver(),
    RequestInfo(False, "get", "GET", "/a", b"/a"),
    Attributes(ALICE, "get", False, path="/a"),
    Verdict(),
    Miss("policy:1: p, user:a, get, core, pods, *, *", (("verb", "get", "list"),)),
    Change("add a rule for a", ("p, user:a, list, core, pods, *, *",)),
    Grant("user:a", "policy:1: p2, user:a, get, /a", is_resource=False, paths=frozenset(("/a",))),
    Granted((), {"user:a": ("role:b",)}),
    RbacAuthorizer.from_objects([]),
    Rules(),
    ResourceRule(("get",), ("apps",), ("deployments",)),
    NonResourceRule(("get",), ("/healthz",)),
    WriteContext(ALICE, RequestInfo(True, "create", "POST", "/a", b"/a")),
    UpstreamRequest(b"GET", b"/", HEADERS, SECRET.encode(), identity=ALICE, host=b"h"),
    Connection(("127.0.0.1", 1), tls=True, chain=(CA.certificate,)),
    Exchange({"type": "http", "headers": HEADERS}, HEADERS, identity=ALICE, subprotocols=TOKEN_PROTOCOL),
    Presented(HEADERS, subprotocols=TOKEN_PROTOCOL),
    Sample("a", "b", "gauge", (), 1.0),
    Close(1000, "bye"),
    KIND,
    APIGroup("g", (APIVersion("v1", (APIResource("flunders", KIND, subresources=(APISubresource("status"),)),)),)),
    APIVersion("v1"),
    APIResource("flunders"),
    APISubresource("status"),
    BoundObject("Pod", "runner", "1"),
    Publication(b"application/json", b"{}", 300),
    AuthenticationConfiguration((JWT_ISSUER,)),
    JWT_ISSUER,
    JWTAuthenticator([JWT_ISSUER]),
    MappedClaim("sub", "idp:"),
    ClaimValidationRule("hd", "example.com"),
    UserValidationRule("true"),
    ExtraMapping("example.com/tenant", "claims.tenant"),
    ServiceAccounts("https://proxy.example", StaticAccounts({}), signing_key=SIGNING_KEY),
    TokenRequests(ServiceAccounts("https://proxy.example", StaticAccounts({}), signing_key=SIGNING_KEY)),
    StaticAccounts({}),
    IssuedToken(SECRET, 1.0),
    TokenCache([JWTAuthenticator([JWT_ISSUER])]),
]

NOT_SHOWN = {
    Answer: "a response as it is sent",
    Address: "a tuple of host, port, TLS and path",
}
"""Public classes that no test makes a sample of, and why."""


def test_every_public_class_is_looked_at() -> None:
    """Who adds one adds a sample."""
    assert public_classes() - {type(sample) for sample in SAMPLES} == set(NOT_SHOWN)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_no_secret_is_shown(sample: object) -> None:
    """No token, key, certificate or header value, and no address in memory."""
    text = repr(sample)
    assert SECRET not in text
    assert "-----BEGIN" not in text
    assert not re.search(r" at 0x|object at", text)
    assert len(text) < 1500
