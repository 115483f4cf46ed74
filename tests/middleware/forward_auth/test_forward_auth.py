"""Forward auth: what each proxy says, who may say it, what is judged, and what is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.pki.certificates import ALICE as ALICE_NAMES
from tests.pki.certificates import CLIENT, NOW, Certificate, NameOID

from aggmw import FrontProxy
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.anonymous import Anonymous
from aggmw.contracts.audit import AuditEvent
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import EXPLICIT, Credential, Identity, Presented, authenticated
from aggmw.errors import ConfigurationError
from aggmw.middleware.audit import Audit, AuditPolicy
from aggmw.middleware.authentication import AuthenticationMiddleware, ClientCertificates
from aggmw.middleware.authorization import AuthorizationMiddleware
from aggmw.middleware.forward_auth import AskedAt, ForwardAuth, ForwardAuthMiddleware, allowed
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client, Response

ALICE = authenticated(Identity("alice", groups=("dev", "ops"), credential=EXPLICIT))
PEER = Connection(peer=("10.0.0.7", 4000), trailers_apart=True)
TOKEN = ("Authorization", "Bearer alice")
Fields = list[tuple[str, str]]


class Tokens:
    """`Bearer alice` is alice's, and the cookie `sid=alice` alice's, whatever page sends it."""

    credentials = frozenset({b"authorization", b"cookie:sid"})

    async def authenticate(self, presented: Presented) -> Identity | None:
        if presented.header(b"cookie") == [b"sid=alice"]:
            return ALICE.known_by(Credential())
        return ALICE if presented.header(b"authorization") == [b"Bearer alice"] else None


class Decides:
    """Allows GET and HEAD outside of `/admin`, and remembers what it was asked."""

    def __init__(self, *verbs: str) -> None:
        self.asked: list[Attributes] = []
        self.verbs = verbs or ("get", "head", "list")

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        fine = attributes.verb in self.verbs and not attributes.path.startswith("/admin")
        return Verdict(Outcome.ALLOW if fine else Outcome.DENY, "" if fine else "not you")


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    """Whoever sees a 299 had a question taken for the request itself."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def front(*askings: ForwardAuth, authorizer: Decides | None = None, **options: Any) -> FrontProxy:
    """A front proxy that answers at `/auth/NAME`."""
    return FrontProxy(
        served,
        authentication=[Tokens()],
        authorization=authorizer or Decides(),
        forward_auth={f"/auth/{each.proxy}": each for each in askings or map(asking, ("nginx", "traefik", "envoy"))},
        **options,
    )


def asking(proxy: Any, **options: Any) -> ForwardAuth:
    return ForwardAuth(proxy, **{"peers": ["10.0.0.7"], **options})


async def ask(
    app: ASGIApp, proxy: str, method: str, target: str, fields: Fields | None = None, *, connection: Connection = PEER
) -> Response:
    """Ask in the words of a proxy about a request."""
    client = Client(app, connection=connection, scheme="https")
    more = [TOKEN] if fields is None else fields
    if proxy == "envoy":
        at = f"/auth/envoy{target}".encode("latin-1")
        return await client.request(method, at, [("Host", "shop.test"), *more])
    said = {
        "nginx": [("Host", "shop.test"), ("X-Original-Method", method), ("X-Original-URI", target)],
        "traefik": [
            ("Host", "aggmw"),
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop.test"),
            ("X-Forwarded-Uri", target),
            ("X-Forwarded-For", "192.0.2.9"),
        ],
    }[proxy]
    return await client.request("GET", f"/auth/{proxy}", [*said, *more])


PROXIES = pytest.mark.parametrize("proxy", ["nginx", "traefik", "envoy"])


# What is judged


@PROXIES
async def test_allowed(proxy: str) -> None:
    """200, and who it is in the fields that proxies pass on."""
    authorizer = Decides()
    answer = await ask(front(authorizer=authorizer), proxy, "GET", "/page?q=1")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("X-Auth-Request-User") == b"alice"
    assert answer.header("X-Auth-Request-Groups") == b"dev,ops,system:authenticated"
    assert [(each.verb, each.path) for each in authorizer.asked] == [("get", "/page")]


@PROXIES
@pytest.mark.parametrize(
    ("method", "target", "fields", "status"),
    [
        ("GET", "/page", [], 401),
        ("GET", "/page", [("Authorization", "Bearer wrong")], 401),
        ("GET", "/admin", [TOKEN], 403),
        ("POST", "/page", [TOKEN], 403),
        ("HEAD", "/page", [TOKEN], 200),
    ],
)
async def test_refused(proxy: str, method: str, target: str, fields: Fields, status: int) -> None:
    """As the front proxy itself refuses: 401 for nobody, 403 for what may not be done, by method and path."""
    assert (await ask(front(), proxy, method, target, fields)).status == status


@PROXIES
async def test_words(proxy: str) -> None:
    """A refusal comes as the `Status` that kubectl shows, and a 401 with the challenge that HTTP wants."""
    answer = await ask(front(), proxy, "POST", "/page")
    assert answer.json()["message"] == 'forbidden: User "alice" cannot post path "/page": not you'
    assert answer.header("X-Auth-Request-User") is None
    answer = await ask(front(), proxy, "GET", "/page", [])
    assert answer.header("WWW-Authenticate") == b"Bearer"


@PROXIES
async def test_resources_are_judged_as_resources(proxy: str) -> None:
    """A path of the Kubernetes API is judged by its parts, as the front proxy would."""
    authorizer = Decides()
    await ask(front(authorizer=authorizer), proxy, "GET", "/apis/g.test/v1/namespaces/dev/notes?labelSelector=a%3Db")
    seen = authorizer.asked[0]
    assert (seen.verb, seen.api_group, seen.resource, seen.namespace) == ("list", "g.test", "notes", "dev")
    assert seen.label_selector == "a=b"


@PROXIES
@pytest.mark.parametrize(
    "target",
    [
        "/page/../admin",
        "/page/%2e%2e/admin",
        "//admin",
        "/a//b",
        "/page%2f..%2fadmin",
        "/page%00",
        "/page%0a",
        "/page#x",
        "/page\\x",
        "/%ff",
        "/%zz",
        "/caf\xe9",
        "/page?x=#",
    ],
)
async def test_ambiguous_targets(proxy: str, target: str) -> None:
    """What two readers could read differently is refused, never judged by one reading."""
    authorizer = Decides()
    answer = await ask(front(authorizer=authorizer), proxy, "GET", target)
    assert answer.status == (403 if proxy == "nginx" else 400)
    assert "request path" in answer.json()["message"] or "query" in answer.json()["message"]
    assert authorizer.asked == []


@pytest.mark.parametrize("proxy", ["nginx", "traefik"])
@pytest.mark.parametrize("target", ["http://shop.test/page", "page", "*", "shop.test:443"])
async def test_targets_that_are_no_path(proxy: str, target: str) -> None:
    """Absolute-form, authority-form and asterisk-form name something else than a path."""
    answer = await ask(front(), proxy, "GET", target)
    assert answer.status == (403 if proxy == "nginx" else 400)


@pytest.mark.parametrize("proxy", ["nginx", "traefik"])
@pytest.mark.parametrize("method", ["get", "G T", "TRACE", "CONNECT", "\xc9"])
async def test_methods_that_are_none(proxy: str, method: str) -> None:
    """The method is read as that of a request: `get` is not the verb get."""
    answer = await ask(front(), proxy, method, "/page")
    assert answer.status == (403 if proxy == "nginx" else 405 if method in ("TRACE", "CONNECT") else 400)


async def test_nginx_is_told_nothing_else() -> None:
    """nginx takes any status but 401 and 403 for a fault: what is the client's is a 403, and a fault is one."""
    for method, target in (("OPTIONS", "/api/v1/pods"), ("GET", "/api/v1/pods?watch=1&watch=0")):
        assert (await ask(front(), "nginx", method, target)).status == 403

    class Fails(Decides):
        async def authorize(self, attributes: Attributes) -> Verdict:
            raise RuntimeError

    assert (await ask(front(authorizer=Fails()), "nginx", "GET", "/page")).status == 500


# The fields


@pytest.mark.parametrize(
    ("proxy", "left_out"),
    [
        ("nginx", "X-Original-Method"),
        ("nginx", "X-Original-URI"),
        ("traefik", "X-Forwarded-Method"),
        ("traefik", "X-Forwarded-Uri"),
    ],
)
async def test_missing_fields(proxy: str, left_out: str) -> None:
    """A proxy that does not say what it asks about is set up wrongly: 500 and a line in the log, for its operator."""
    fields = {
        "X-Original-Method": "GET",
        "X-Original-URI": "/page",
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Uri": "/page",
    }
    del fields[left_out]
    client = Client(front(), connection=PEER)
    with capture_logs() as logs:
        answer = await client.request("GET", f"/auth/{proxy}", [*fields.items(), TOKEN])
    assert answer.status == 500
    assert f"did not set {left_out.title()}" in answer.json()["message"]
    assert [line["event"] for line in logs] == ["the proxy in front is not set up"]


@PROXIES
@pytest.mark.parametrize("spelled", ["{}", "{} ", "_{}", "{}_"])
async def test_fields_twice(proxy: str, spelled: str) -> None:
    """C2: a second field, in any spelling that a receiver could take for it, is the client's: refused."""
    names = {
        "nginx": ["X-Original-Method", "X-Original-URI"],
        "traefik": ["X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-Proto"],
        "envoy": ["Host"],
    }[proxy]
    for name in names:
        for other in {spelled.format(name), spelled.format(name.replace("-", "_")), spelled.format(name.upper())}:
            answer = await ask(front(), proxy, "GET", "/page", [TOKEN, (other, "/page")])
            assert answer.status == (403 if proxy == "nginx" else 400), other


async def test_fields_of_another_proxy_say_nothing() -> None:
    """A client of one proxy that writes the fields of another is judged by what it asked that one."""
    authorizer = Decides()
    spoofed = [TOKEN, ("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/page"), ("X-Envoy-Original-Path", "/page")]
    answer = await ask(front(authorizer=authorizer), "nginx", "POST", "/admin", spoofed)
    assert answer.status == 403
    assert [(each.verb, each.path) for each in authorizer.asked] == [("post", "/admin")]


@PROXIES
async def test_identity_of_the_client_is_not_believed(proxy: str) -> None:
    """Identity headers that come with a question are the client's own words."""
    forged = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters"), ("X-Auth-Request-User", "root")]
    assert (await ask(front(), proxy, "GET", "/page", forged)).status == 401
    answer = await ask(front(), proxy, "GET", "/page", [TOKEN, *forged])
    assert answer.header("X-Auth-Request-User") == b"alice"


@PROXIES
@pytest.mark.parametrize(
    "name", ["X_Auth_Request_User", "X.Auth.Request.User", "x-auth_request-GROUPS", "X-Auth-Request-User-"]
)
async def test_identity_in_another_spelling(proxy: str, name: str) -> None:
    """C2: a proxy replaces `X-Auth-Request-User` alone; a page that folds names would read what the client wrote."""
    authorizer = Decides()
    answer = await ask(front(authorizer=authorizer), proxy, "GET", "/page", [TOKEN, (name, "root")])
    assert answer.status == (403 if proxy == "nginx" else 400)
    assert "in another spelling" in answer.json()["message"]
    assert authorizer.asked == []


@PROXIES
async def test_impersonation(proxy: str) -> None:
    """`Impersonate-*` is refused where nobody may, and decided on as in any request where somebody may."""
    fields = [TOKEN, ("Impersonate-User", "bob")]
    assert (await ask(front(), proxy, "GET", "/page", fields)).status == 403
    authorizer = Decides("impersonate", "get")
    answer = await ask(front(authorizer=authorizer, impersonation=True), proxy, "GET", "/page", fields)
    assert (answer.status, answer.header("X-Auth-Request-User")) == (200, b"bob")
    assert (authorizer.asked[-1].identity.user, authorizer.asked[-1].verb) == ("bob", "get")


# Hosts


@PROXIES
@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["shop.test"], 200),
        (["SHOP.test", "other.test"], 200),
        (["shop.test:443"], 403),
        (["other.test"], 403),
        (["shop"], 403),
    ],
)
async def test_hosts(proxy: str, hosts: list[str], status: int) -> None:
    """A request for a host that is not listed is not judged by this policy."""
    answer = await ask(front(asking(proxy, hosts=hosts)), proxy, "GET", "/page")
    assert answer.status == status


@pytest.mark.parametrize(
    ("host", "judged"),
    [
        (b"shop.test:8443", True),
        (b"Shop.Test", True),
        (b"other.test:8443", True),
        (b"other.test", False),
        (b"[::1]:80", True),
        (b"shop.test.", False),
        (b"shop.test@evil", False),
        (b"", False),
        (b"shop.test\xff", False),
    ],
)
def test_hosts_are_compared_whole(host: bytes, judged: bool) -> None:
    """A host on any port where none is listed, else on that one."""
    assert asking("nginx", hosts=["shop.test", "other.test:8443", "[::1]"]).judges(host) is judged


# Who may ask


@PROXIES
@pytest.mark.parametrize("peer", [("10.0.0.8", 1), ("::1", 1), None])
async def test_peers(proxy: str, peer: tuple[str, int] | None) -> None:
    """Nobody but a listed address, as the socket has it, is answered; it is told nothing about the caller."""
    connection = Connection(peer=peer, trailers_apart=True)
    authorizer = Decides()
    with capture_logs() as logs:
        answer = await ask(front(authorizer=authorizer), proxy, "GET", "/page", connection=connection)
    assert (answer.status, answer.json()["message"]) == (403, "forbidden: only listed proxies may ask here")
    assert authorizer.asked == []
    assert [(line["event"], line["reason"]) for line in logs] == [("question refused", "its address is not listed")]


async def test_address_in_a_header_is_nobody() -> None:
    """`X-Forwarded-For` is not the socket's peer."""
    connection = Connection(peer=("10.0.0.8", 1), trailers_apart=True)
    fields = [TOKEN, ("X-Forwarded-For", "10.0.0.7")]
    assert (await ask(front(), "nginx", "GET", "/page", fields, connection=connection)).status == 403


async def test_trailers() -> None:
    """C5.1: under a server that mixes trailers into the headers, a chunked question may be the client's words."""
    mixed = Connection(peer=("10.0.0.7", 1))
    assert (await ask(front(), "nginx", "GET", "/page", connection=mixed)).status == 200
    fields = [TOKEN, ("Transfer-Encoding", "chunked")]
    assert (await ask(front(), "nginx", "GET", "/page", fields, connection=mixed)).status == 403


PROXY_CA = Certificate([(NameOID.COMMON_NAME, "proxies")])
EDGE = Certificate([(NameOID.COMMON_NAME, "edge")], PROXY_CA, purposes=[CLIENT])
OTHER_CA = Certificate([(NameOID.COMMON_NAME, "clients")])
CALLER = Certificate(ALICE_NAMES, OTHER_CA, purposes=[CLIENT])


def shows(leaf: Certificate, ca: Certificate, peer: str = "10.0.0.7") -> Connection:
    return Connection(peer=(peer, 1), tls=True, chain=(leaf.der, ca.der), trailers_apart=True)


@pytest.mark.parametrize(
    ("options", "connection", "status"),
    [
        ({"peers": None}, shows(EDGE, PROXY_CA, "192.0.2.1"), 200),
        ({"peers": None, "allowed_names": ["edge"]}, shows(EDGE, PROXY_CA), 200),
        ({"peers": None, "allowed_names": ["other"]}, shows(EDGE, PROXY_CA), 403),
        ({"peers": None}, shows(CALLER, OTHER_CA), 403),
        ({"peers": None}, PEER, 403),
        ({}, shows(EDGE, PROXY_CA), 200),
        ({}, shows(EDGE, PROXY_CA, "192.0.2.1"), 403),
        ({}, PEER, 403),
    ],
)
async def test_certificates(options: dict[str, Any], connection: Connection, status: int) -> None:
    """A certificate of the proxies' CA, of a listed name; with addresses given too, both have to hold."""
    app = front(asking("nginx", ca=PROXY_CA.pem, clock=NOW.timestamp, **options))
    assert (await ask(app, "nginx", "GET", "/page", connection=connection)).status == status


async def test_certificate_of_the_proxy_is_not_the_callers() -> None:
    """A proxy with a client certificate of the callers' own CA does not lend its name to whoever asks it."""
    clients = ClientCertificates(OTHER_CA.pem, clock=NOW.timestamp)
    app = FrontProxy(
        served, authentication=[clients], authorization=Decides(), forward_auth={"/auth/nginx": asking("nginx")}
    )
    connection = shows(CALLER, OTHER_CA)
    assert (await ask(app, "nginx", "GET", "/page", [], connection=connection)).status == 401
    assert (
        await Client(app, connection=connection).request("GET", "/page")
    ).status == 299  # its own request is alice's


async def test_reload() -> None:
    """Another authority of the proxies, on connections that are open; a broken bundle changes nothing."""
    one = ForwardAuth("nginx", ca=OTHER_CA.pem, clock=NOW.timestamp)
    connection = shows(EDGE, PROXY_CA)
    assert one.refuses(connection, ())
    with pytest.raises(ConfigurationError):
        one.reload(b"nothing")
    one.reload(PROXY_CA.pem)
    assert one.refuses(connection, ()) is None


# Browsers


@PROXIES
async def test_pages_of_others(proxy: str) -> None:
    """C5.10: what a cookie opens is not opened to a page of another origin, also through another proxy."""
    cookie = ("Cookie", "sid=alice")
    app = front(authorizer=Decides("post", "get"), origins=["https://shop.test"])
    for origin, status in (("https://shop.test", 200), ("https://evil.test", 403)):
        fields = [cookie, ("Origin", origin)]
        assert (await ask(app, proxy, "POST", "/page", fields)).status == status
        assert (await ask(app, proxy, "GET", "/page", fields)).status == 200
        handshake = [*fields, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
        answer = await ask(app, proxy, "GET", "/page", handshake)
        assert answer.status == status
        if status == 403:
            assert "authentication.origins" in answer.json()["message"]


@PROXIES
async def test_exec_needs_create(proxy: str) -> None:
    """§7.4b: `Upgrade` does not travel with a question, so a GET of exec needs create whether or not it is one."""
    target = "/api/v1/namespaces/dev/pods/p/exec?command=sh"
    for verbs, status in ((("get",), 403), (("get", "create"), 200)):
        assert (await ask(front(authorizer=Decides(*verbs)), proxy, "GET", target)).status == status


async def test_libraries_in_front_of_their_own_server() -> None:
    """A WebSocket library that names its server as its origin is no page: host and scheme are the original's."""
    fields = [("Cookie", "sid=alice"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")]
    own = [*fields, ("Origin", "https://shop.test")]
    assert (await ask(front(), "traefik", "GET", "/page", own)).status == 200
    other = [*fields, ("Origin", "https://aggmw")]
    assert (await ask(front(), "traefik", "GET", "/page", other)).status == 403


async def test_token_among_subprotocols() -> None:
    """Pages that open WebSockets put their token there; what was offered is seen by authenticators."""
    seen: list[tuple[str, ...]] = []

    class Looks:
        async def authenticate(self, presented: Presented) -> Identity | None:
            seen.append(presented.subprotocols)
            return ALICE

    app = FrontProxy(served, authentication=[Looks()], authorization=Decides(), forward_auth={"/auth": asking("nginx")})
    fields = [
        ("X-Original-Method", "GET"),
        ("X-Original-URI", "/page"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Protocol", "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YQ"),
    ]
    assert (await Client(app, connection=PEER).request("GET", "/auth", fields)).status == 200
    assert seen == [("v4.channel.k8s.io", "base64url.bearer.authorization.k8s.io.YQ")]


# What is answered


async def test_names_are_safe_in_fields() -> None:
    """A name is no second group and no second field; printable ASCII stays as it is."""
    odd = Identity("J\xf6rg, 100%", groups=("a,system:masters", "b c", "\u20ac"), credential=EXPLICIT)

    class Odd:
        async def authenticate(self, presented: Presented) -> Identity | None:
            return authenticated(odd)

    app = FrontProxy(
        served, authentication=[Odd()], authorization=Decides(), forward_auth={"/auth/nginx": asking("nginx")}
    )
    answer = await ask(app, "nginx", "GET", "/page")
    assert answer.header("X-Auth-Request-User") == b"J%C3%B6rg%2C 100%25"
    assert answer.header("X-Auth-Request-Groups") == b"a%2Csystem:masters,b c,%E2%82%AC,system:authenticated"


async def test_anonymous() -> None:
    """Who comes without credentials is anonymous where that is allowed, and is called so."""
    app = front(anonymous=Anonymous(paths=["/page"]))
    answer = await ask(app, "nginx", "GET", "/page", [])
    assert (answer.status, answer.header("X-Auth-Request-User")) == (200, b"system:anonymous")
    assert answer.header("X-Auth-Request-Groups") == b"system:unauthenticated"
    assert (await ask(app, "nginx", "GET", "/other", [])).status == 401


@pytest.mark.parametrize(("status", "answered"), [(200, 500), (204, 500), (302, 302), (418, 418)])
async def test_answers_from_in_between(status: int, answered: int) -> None:
    """A foreign middleware may refuse; its own page is no yes, because nobody decided."""

    def page(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": status, "headers": [(b"Location", b"/login")]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return answer

    app = front(after={"request_info": [page]})
    answer = await ask(app, "traefik", "GET", "/page")
    assert answer.status == answered
    assert answer.header("X-Auth-Request-User") is None


async def test_foreign_middleware_sees_the_request() -> None:
    """What stands between the stages sees what is asked about, as it sees requests of our own."""
    seen: list[Any] = []

    def looks(app: ASGIApp) -> ASGIApp:
        async def look(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append((scope["method"], scope["path"], scope["query_string"], dict(scope["headers"])[b"host"]))
            await app(scope, receive, send)

        return look

    app = front(after={"recovery": [looks], "authorization": [looks], "discovery": [looks]})
    assert (await ask(app, "traefik", "GET", "/page%20a?q")).status == 200
    assert seen == [("GET", "/page a", b"q", b"shop.test")] * 2


# Where it stands


async def test_other_paths_are_served() -> None:
    """Questions are answered at their own paths alone; `/auth/nginxx` is a path like any other."""
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    whole = FrontProxy(
        app, authentication=[Tokens()], authorization=Decides(), forward_auth={"/auth/nginx": asking("nginx")}
    )
    client = Client(whole, connection=PEER)
    for path in ("/auth/nginxx", "/auth", "/auth/envoy/page"):
        assert (await client.request("GET", path, [TOKEN])).status == 204
    assert reached == ["/auth/nginxx", "/auth", "/auth/envoy/page"]
    assert (await client.request("GET", "/auth/nginx/", [TOKEN])).status == 500
    assert repr(whole) == repr(FrontProxy(app, authentication=[Tokens()], authorization=Decides()))


@pytest.mark.parametrize("target", ["/auth/envoy/../../page", "/auth/envoy%2Fpage", "/auth%2Fenvoy/page"])
async def test_envoys_prefix(target: str) -> None:
    """The prefix is cut off as it was sent, at a slash; what climbs out of it is refused."""
    answer = await Client(front(), connection=PEER).request("GET", target, [TOKEN])
    assert answer.status == 400


async def test_star_of_envoy() -> None:
    """`OPTIONS *` comes as the prefix and a star; it is a question, too, so what is served there is no yes."""
    authorizer = Decides("options")
    answer = await Client(front(authorizer=authorizer), connection=PEER).request("OPTIONS", "/auth/envoy*", [TOKEN])
    assert (answer.status, authorizer.asked) == (400, [])


async def test_longest_path_first() -> None:
    """One path may lie below another."""
    paths = {"/auth": asking("envoy"), "/auth/nginx": asking("nginx")}
    app = FrontProxy(served, authentication=[Tokens()], authorization=Decides(), forward_auth=paths)
    assert (await ask(app, "nginx", "GET", "/page")).status == 200
    assert (await Client(app, connection=PEER).request("GET", "/auth/page", [TOKEN])).status == 200


async def test_mounted() -> None:
    """Below a mount, the path of the question is cut off, and the original path is whole."""
    authorizer = Decides()
    client = Client(front(authorizer=authorizer), root_path="/k8s", connection=PEER)
    fields = [("X-Original-Method", "GET"), ("X-Original-URI", "/k8s/page"), TOKEN]
    assert (await client.request("GET", "/auth/nginx", fields)).status == 200
    assert (await client.request("GET", "/auth/envoy/page", [TOKEN])).status == 200
    assert [each.path for each in authorizer.asked] == ["/k8s/page", "/page"]


@pytest.mark.parametrize("path", ["auth", "/auth/", "/a b", "/a%20b", ""])
def test_paths_are_plain(path: str) -> None:
    """A mistake is told when the front proxy is made."""
    with pytest.raises(ValueError, match="must begin and not end with a slash"):
        FrontProxy(forward_auth={path: asking("nginx")})


async def test_handshake_at_the_path() -> None:
    """A WebSocket is no question."""
    refused = await Client(front(), connection=PEER).websocket("/auth/envoy/page", [TOKEN])
    assert (refused.accepted, refused.status) == (False, 400)


def alone(authorizer: Decides) -> ASGIApp:
    """Composed by hand."""
    inner = AuthorizationMiddleware(allowed, authorizer=authorizer)
    judge = RequestInfoMiddleware(AuthenticationMiddleware(inner, authenticators=[Tokens()]))
    return ForwardAuthMiddleware(judge, forward_auth=asking("nginx"))


async def test_alone() -> None:
    """In any ASGI application, made of the stages one by one."""
    authorizer = Decides()
    app = AskedAt(served, {"/auth/nginx": alone(authorizer)})
    assert (await ask(app, "nginx", "GET", "/page")).status == 200
    assert (await ask(app, "nginx", "POST", "/page")).status == 403
    assert (await ask(app, "nginx", "HEAD", "/admin")).status == 403
    assert "ForwardAuthMiddleware(ForwardAuth('nginx', peers=['10.0.0.7/32'])) →" in repr(alone(authorizer))


async def test_without_a_stage() -> None:
    """Without authorization inside nobody is allowed; behind authentication the proxy would be the caller."""
    nobody = ForwardAuthMiddleware(
        RequestInfoMiddleware(AuthenticationMiddleware(allowed, authenticators=[Tokens()])),
        forward_auth=asking("nginx"),
    )
    answer = await ask(AskedAt(served, {"/auth/nginx": nobody}), "nginx", "GET", "/page")
    assert "answered without a verdict" in answer.json()["message"]
    hidden = alone(Decides())

    async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
        await hidden(scope, receive, send)

    behind = RequestInfoMiddleware(AuthenticationMiddleware(foreign, authenticators=[Tokens()]))
    answer = await ask(behind, "nginx", "GET", "/page")
    assert answer.status == 500
    assert "forward_auth stands behind authentication" in answer.json()["message"]


# What is recorded


class Kept:
    """A sink that keeps events."""

    name = "kept"
    full = False

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def put(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def room(self) -> None: ...

    async def written(self) -> bool:
        return True


async def test_decisions_are_recorded() -> None:
    """Audit has the request that was asked about, who asked for it, what was decided, and that it was a question."""
    policy = AuditPolicy(POLICY)
    sink = Kept()
    app = front(audit=Audit(policy, [sink]))
    async with app:
        await ask(app, "traefik", "GET", "/page?q=1")
        await ask(app, "traefik", "POST", "/page")
        await ask(app, "traefik", "GET", "/page", [])
    seen = [
        (event["requestURI"], event["verb"], event["user"].get("username"), event["responseStatus"]["code"])
        for event in sink.events
    ]
    assert seen == [("/page?q=1", "get", "alice", 200), ("/page", "post", "alice", 403), ("/page", "get", None, 401)]
    assert [event["annotations"]["audit.aggmw/asked-by"] for event in sink.events] == ["traefik"] * 3
    assert sink.events[0]["sourceIPs"] == ["192.0.2.9", "10.0.0.7"]


POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


# Mistakes


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ConfigurationError, "nobody may ask"),
        ({"allowed_names": ["edge"]}, ConfigurationError, "nobody may ask"),
        ({"peers": ["10.0.0.7"], "allowed_names": ["edge"]}, ConfigurationError, "give ca"),
        ({"peers": ["10.0.0.7"], "accept_any_peer": True}, ConfigurationError, "asks for nothing"),
        ({"ca": b"nothing"}, ConfigurationError, "forward-auth CA"),
        ({"ca": "text"}, TypeError, "ca takes bytes"),
        ({"peers": []}, ValueError, "at least one"),
        ({"peers": "10.0.0.7"}, TypeError, "not one string"),
        ({"peers": ["10.0.0.7"], "hosts": "shop.test"}, TypeError, "hosts takes a list"),
        ({"peers": ["10.0.0.7"], "hosts": ["https://shop.test"]}, ValueError, "must be a host"),
    ],
)
def test_mistakes(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """Told when it is made."""
    with pytest.raises(error, match=text):
        ForwardAuth("nginx", **options)


def test_unknown_proxy() -> None:
    """The three that are known are named."""
    with pytest.raises(ValueError, match="one of nginx, traefik, envoy, not 'caddy'"):
        ForwardAuth("caddy", peers=["10.0.0.7"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="forward_auth takes ForwardAuth"):
        ForwardAuthMiddleware(allowed, forward_auth={})  # type: ignore[arg-type]


async def test_any_peer() -> None:
    """Where nobody but the proxy can reach the server, that can be said."""
    app = front(ForwardAuth("nginx", accept_any_peer=True))
    assert (await ask(app, "nginx", "GET", "/page", connection=Connection())).status == 200
