"""What pages may do with what browsers send by themselves (security cases C5.10)."""

from __future__ import annotations

import json

import pytest
import structlog
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket
from tests.pki.certificates import ALICE as SUBJECT
from tests.pki.certificates import NOW, authority, connection, leaf

from aggmw.asgi.types import Headers, Receive, Scope, Send
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import EXPLICIT, Identity, Presented
from aggmw.middleware.authentication import (
    Anonymous,
    Authentication,
    AuthenticationMiddleware,
    AuthenticatorUnion,
    ClientCertificates,
    StaticTokens,
    TokenCookie,
)
from aggmw.middleware.authentication.bearer import SUBPROTOCOL
from aggmw.testing import Client

CA = authority("clients")
TOKENS = StaticTokens({"t0k": Identity("alice")})
AUTHENTICATORS = [ClientCertificates(CA.pem, clock=NOW.timestamp), TOKENS, TokenCookie("session", TOKENS)]
CERTIFICATE = connection(leaf(CA, SUBJECT), CA)
COOKIE = (b"cookie", b"session=t0k")
BEARER = (b"authorization", b"Bearer t0k")
LISTED = "https://console.example.com"
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get", ""]
AMBIENT = {"cookie": ((COOKIE,), UNKNOWN), "certificate": ((), CERTIFICATE)}


async def decided(
    headers: Headers,
    connection: Connection = UNKNOWN,
    *,
    method: str = "POST",
    kind: str = "http",
    origins: tuple[str, ...] = (LISTED,),
    subprotocols: tuple[str, ...] = (),
    scheme: str = "https",
) -> Answer | None:
    scope = {"type": kind, "path": "/a", "scheme": scheme} | ({"method": method} if kind == "http" else {})
    exchange = Exchange(scope, headers, connection=connection, subprotocols=subprotocols)
    return await Authentication(AUTHENTICATORS, origins=origins).decide(exchange)


def assert_refused(answer: Answer | None, origin: str = "the origin https://evil.example") -> None:
    assert answer is not None
    status = json.loads(answer.body)
    assert (answer.status, status["reason"]) == (403, "Forbidden")
    assert f"comes from {origin}, which is not listed in authentication.origins" in status["message"]


def origin(value: str) -> Headers:
    return ((b"origin", value.encode()),)


@pytest.mark.parametrize("known_by", AMBIENT)
@pytest.mark.parametrize("method", UNSAFE)
async def test_c5_10_other_origin_changes_nothing(known_by: str, method: str) -> None:
    """C5.10: a page of another origin gets a 403 that names it, for every method that is not known to be safe."""
    headers, shown = AMBIENT[known_by]
    assert_refused(await decided((*headers, *origin("https://evil.example")), shown, method=method))
    assert_refused(await decided((*headers, *origin("https://evil.example")), shown, method=method, origins=()))
    assert_refused(await decided((*headers, *origin("null")), shown, method=method), "the origin null")


@pytest.mark.parametrize("known_by", AMBIENT)
async def test_c5_10_other_origin_opens_no_websocket(known_by: str) -> None:
    """C5.10: a handshake is a GET that browsers let every page make."""
    headers, shown = AMBIENT[known_by]
    assert_refused(await decided((*headers, *origin("https://evil.example")), shown, kind="websocket"))


@pytest.mark.parametrize("known_by", AMBIENT)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_c5_10_listed_origin_may(known_by: str, kind: str) -> None:
    """C5.10: a listed page is let in, also from another site."""
    headers, shown = AMBIENT[known_by]
    site = ((b"sec-fetch-site", b"cross-site"),)
    assert await decided((*headers, *origin(LISTED), *site), shown, kind=kind) is None


@pytest.mark.parametrize("known_by", AMBIENT)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_c5_10_no_browser(known_by: str, kind: str) -> None:
    """C5.10: `kubectl` with a client certificate goes on working, changes and exec included, whatever is listed."""
    headers, shown = AMBIENT[known_by]
    assert await decided((*headers, (b"user-agent", b"kubectl/v1.37.1")), shown, kind=kind, origins=()) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
async def test_c5_10_browser_that_hides_its_origin(site: str) -> None:
    """C5.10: what is a browser has to say the origin; being of the same host is no other way in."""
    headers = (COOKIE, (b"sec-fetch-site", site.encode()))
    assert_refused(await decided(headers), "an origin that it does not say")


@pytest.mark.parametrize("host", ["evil.example", "console.example.com"])
async def test_c5_10_host_is_no_evidence(host: str) -> None:
    """C5.10: a client chooses `Host`, and a service's page may be of our own origin: only the list counts."""
    headers = (COOKIE, *origin("https://evil.example"), (b"host", host.encode()))
    assert_refused(await decided(headers))


OWN = (*origin("https://a:6443"), (b"host", b"a:6443"))
LIBRARY = {
    "without a word": (),
    "said": ((b"user-agent", b"OpenAPI-Generator/36.0.0/python"),),
}
NO_LIBRARY: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "a browser": (*OWN, (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)")),
    "a browser under another name": (*OWN, (b"user-agent", b"Console/1.0"), (b"accept-language", b"en")),
    "a browser that says where from": (*OWN, (b"sec-fetch-site", b"same-origin")),
    "another port": (*origin("https://a"), (b"host", b"a:6443")),
    "another scheme": (*origin("http://a:6443"), (b"host", b"a:6443")),
    "several origins": (*OWN, *origin("https://a:6443")),
    "several hosts": (*OWN, (b"host", b"b")),
    "no host": origin("https://a:6443"),
}


@pytest.mark.parametrize("fields", LIBRARY.values(), ids=LIBRARY)
async def test_c5_10_library_that_says_its_server(fields: Headers) -> None:
    """C5.10: websocket-client, and so `kubernetes.stream`, sends its server's origin; only a handshake is let in so."""
    headers = (*OWN, *fields)
    assert await decided(headers, CERTIFICATE, kind="websocket", scheme="wss", origins=()) is None
    assert_refused(await decided(headers, CERTIFICATE, scheme="https", origins=()), "the origin https://a:6443")


@pytest.mark.parametrize("headers", NO_LIBRARY.values(), ids=NO_LIBRARY)
async def test_c5_10_own_origin_of_a_page(headers: Headers) -> None:
    """C5.10: a page of a service behind us is of our own origin, and must be listed as any other."""
    assert await decided(headers, CERTIFICATE, kind="websocket", scheme="wss", origins=()) is not None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_c5_10_reading_is_left_to_browsers(method: str) -> None:
    """C5.10: what changes nothing is answered; that no other page reads it is the browser's doing."""
    assert await decided((COOKIE, *origin("https://evil.example")), method=method) is None


@pytest.mark.parametrize("name", [b"x-http-method-override", b"x-http-method", b"x-method-override"])
async def test_c5_10_method_override_is_no_method(name: bytes) -> None:
    """C5.10: a POST is one, whatever it says of itself."""
    assert_refused(await decided((COOKIE, *origin("https://evil.example"), (name, b"GET"))))


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_c5_10_bearer_is_exempt(kind: str) -> None:
    """C5.10: a page that puts a token into the request has it, so it needs no list."""
    assert await decided((BEARER, *origin("https://evil.example")), kind=kind, origins=()) is None


async def test_c5_10_token_in_the_subprotocol_is_exempt() -> None:
    """C5.10, §6.5: the same for a WebSocket, whose headers a page cannot set."""
    offered = (f"{SUBPROTOCOL}dDBr", "v5.channel.k8s.io")
    answer = await decided(origin("https://evil.example"), kind="websocket", origins=(), subprotocols=offered)
    assert answer is None


@pytest.mark.parametrize(
    ("offered", "fields"),
    [
        ((f"{SUBPROTOCOL}d3Jvbmc", "v5.channel.k8s.io"), ()),
        ((), ((b"authorization", b"Bearer wrong"),)),
        ((f"{SUBPROTOCOL}dDBr", "v5.channel.k8s.io"), ()),
        ((), (BEARER,)),
    ],
)
async def test_c5_10_what_was_believed_counts(offered: tuple[str, ...], fields: Headers) -> None:
    """C5.10: a page can add any token to what the browser adds; it is judged by what the caller was known by."""
    headers = (*fields, *origin("https://evil.example"))
    assert_refused(await decided(headers, CERTIFICATE, kind="websocket", subprotocols=offered))


async def test_c5_10_unknown_is_401() -> None:
    """C5.10: nobody learns which origins are listed without being known."""
    answer = await decided(((b"cookie", b"session=wrong"), *origin("https://evil.example")))
    assert answer is not None
    assert answer.status == 401


async def test_anonymous_needs_no_origin() -> None:
    """Nothing was sent that a page could misuse."""
    exchange = Exchange({"type": "http", "path": "/a", "method": "POST"}, origin("https://evil.example"))
    assert await Authentication(AUTHENTICATORS, anonymous=Anonymous.everywhere()).decide(exchange) is None


class Says:
    """An embedder's authenticator."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    async def authenticate(self, presented: Presented) -> Identity | None:
        return self.identity


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("identity", "refused"), [(Identity("a"), True), (Identity("a", credential=EXPLICIT), False)])
async def test_c5_10_unsaid_is_ambient(identity: Identity, refused: bool, nested: bool) -> None:
    """C5.10: an authenticator that does not say how its callers are known lets no page in; in a union neither."""
    says = AuthenticatorUnion([Says(identity)]) if nested else Says(identity)
    exchange = Exchange({"type": "http", "path": "/a", "method": "POST"}, origin("https://evil.example"))
    answer = await Authentication([says]).decide(exchange)
    assert (answer is not None) is refused


def test_credential_stays_with_an_identity() -> None:
    """It is no part of who somebody is, and goes along when groups change."""
    known = Identity("a", credential=EXPLICIT)
    assert known == Identity("a")
    assert hash(known) == hash(Identity("a"))
    assert known.with_groups(["g"]).credential is EXPLICIT
    assert known.known_by(Identity("b").credential).credential.ambient


async def test_origin_is_not_logged() -> None:
    """No header value is in the log; the request's id is."""
    with structlog.testing.capture_logs() as lines:
        exchange = Exchange({"type": "http", "path": "/a", "method": "POST"}, (COOKIE, *origin("https://evil.example")))
        exchange.request_id = "id-1"
        await Authentication(AUTHENTICATORS).decide(exchange)
    assert lines == [{"event": "page of another origin refused", "log_level": "info", "request_id": "id-1"}]


async def test_middleware_alone() -> None:
    """The option is the middleware's, too, and refuses a handshake before it is accepted."""
    accepted: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await JSONResponse(scope["method"])(scope, receive, send)
            return
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        accepted.append(scope["aggmw.identity"].user)
        await websocket.close()

    client = Client(AuthenticationMiddleware(app, authenticators=AUTHENTICATORS, origins=[LISTED]))
    for sent, status in ((LISTED, 200), ("https://evil.example", 403)):
        assert (await client.request("POST", "/", [COOKIE, *origin(sent)])).status == status
    async with client.websocket("/", [COOKIE, *origin(LISTED)]):
        pass
    assert accepted == ["alice"]
