"""Forged identity and credentials never go on (wire contract §6.2, §12.4 to §12.6; security cases C2, C5.14)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from aggmw.asgi.headers import fold, is_identity
from aggmw.asgi.types import Headers, Receive, Scope, Send
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity, Presented
from aggmw.middleware.authentication import Anonymous, Authentication, AuthenticationMiddleware, StaticTokens
from aggmw.middleware.authentication.bearer import SUBPROTOCOL
from aggmw.middleware.authentication.hygiene import Sieve
from aggmw.testing import Client

TOKENS = StaticTokens({"t0k": Identity("alice")})
TOKEN = (b"authorization", b"Bearer t0k")
NAMES = ["x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-scopes", "x-aggmw-identity"]
NAMES += ["client-cert", "client-cert-chain", "x-forwarded-client-cert"]
SEPARATORS = ["-", "_", ".", "~"]
CASES = [str.lower, str.upper, str.title]
ROUTES = ["/api/v1/namespaces/x/pods", "/apis/g/v1", "/healthz", "/anywhere"]


def spellings(name: str) -> list[bytes]:
    """C2: every separator at every place in every case, and blanks that a receiver would trim."""
    words = name.split("-")
    found = set()
    for separators in itertools.product(SEPARATORS, repeat=len(words) - 1):
        joined = "".join(a + b for a, b in itertools.zip_longest(words, separators, fillvalue=""))
        found |= {case(joined).encode() for case in CASES}
    return sorted(found | {f"{name} ".encode(), f" {name}".encode(), f"{name}\t".encode()})


async def left(headers: Headers, path: str = "/", **options: bool) -> Headers:
    """The fields that the stage lets through for an anonymous caller or for alice."""
    exchange = Exchange({"type": "http", "path": path}, headers)
    stage = Authentication([TOKENS], anonymous=Anonymous.everywhere(), **options)
    assert await stage.decide(exchange) is None
    return exchange.headers


@pytest.mark.parametrize("name", NAMES)
async def test_every_spelling_goes(name: str) -> None:
    """C2, CVE-2025-64484, CVE-2026-33433: on every route, for known and anonymous callers, alone and repeated."""
    forged = [(spelling, b"admin") for spelling in spellings(name)]
    assert len(forged) > 4
    harmless = ((b"host", b"h"), (b"x-remoteness", b"1"), (b"x-request-id", b"2"))
    for path, credentials in itertools.product(ROUTES, [(), (TOKEN,)]):
        headers = (*harmless[:1], *forged, *credentials, *forged, *harmless[1:])
        assert await left(headers, path) == harmless


@pytest.mark.parametrize("path", ROUTES)
async def test_application_sees_no_forged_field(path: str) -> None:
    """envoy#46586, oauth2-proxy#624: exempt routes are cleaned like all others, through the whole middleware."""
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await JSONResponse({})(scope, receive, send)

    middleware = AuthenticationMiddleware(app, authenticators=[TOKENS], anonymous=Anonymous(ROUTES))
    headers = [(spelling, b"admin") for name in NAMES for spelling in spellings(name)]
    assert (await Client(middleware).request("GET", path, headers)).status == 200
    assert seen == [b"host"]


forgeries = st.one_of(
    st.sampled_from([spelling for name in NAMES[:3] for spelling in spellings(name)]),
    st.builds(
        lambda stem, tail: stem + tail,
        st.sampled_from([b"x-remote-", b"X_Remote.", b"x.aggmw_", b"client_cert", b"authorization"]),
        st.binary(max_size=6),
    ),
    st.binary(min_size=1, max_size=20),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(forgeries, st.binary(max_size=8)), max_size=12), st.booleans())
async def test_no_identity_field_survives(fields: list[tuple[bytes, bytes]], strip: bool) -> None:
    """C2: for arbitrary fields, none that folds to identity is left, and the others are left in order."""
    kept, _ = Sieve([b"authorization"] if strip else []).sift(tuple(fields))
    names = [fold(name).strip(b"-") for name, _ in kept]
    assert not any(is_identity(name) for name in names)
    assert not strip or b"authorization" not in names
    others = [field for field in fields if not is_identity(fold(field[0]).strip(b"-"))]
    if strip:
        others = [field for field in others if fold(field[0]).strip(b"-") != b"authorization"]
    assert list(kept) == [field for field in others if not field[0].lower().startswith(b"impersonate")]


async def test_front_proxy_takes_every_credential() -> None:
    """C5.14, §12.5: with `strip_credentials`, also what no authenticator knew."""
    assert await left(((b"authorization", b"Basic dTpw"),)) == ()
    assert await left((TOKEN,)) == ()
    assert await left(((b"Authorization ", b"Basic dTpw"),)) == ()


async def test_alone_only_consumed_credentials_go() -> None:
    """C5.14: an application with a login of its own keeps its `Authorization`."""
    basic = (b"authorization", b"Basic dTpw")
    assert await left((basic,), strip_credentials=False) == (basic,)
    assert await left((TOKEN,), strip_credentials=False) == ()


async def test_middleware_alone_keeps_what_it_did_not_consume() -> None:
    """C5.14: that is the default of the middleware."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse([name.decode() for name, _ in scope["headers"]])(scope, receive, send)

    client = Client(AuthenticationMiddleware(app, authenticators=[TOKENS], anonymous=Anonymous.everywhere()))
    assert (await client.request("GET", "/", [(b"authorization", b"Basic dTpw")])).json() == ["host", "authorization"]
    assert (await client.request("GET", "/", [TOKEN])).json() == ["host"]


class ApiKeys:
    """An authenticator with a field of its own."""

    credentials = frozenset({b"x-api-key"})

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("robot") if presented.header(b"x-api-key") == [b"k3y"] else None


@pytest.mark.parametrize(
    ("strip", "names"), [(True, [b"accept"]), (False, [b"accept", b"authorization"])], ids=["all", "consumed"]
)
async def test_declared_credentials_go(strip: bool, names: list[bytes]) -> None:
    """§12.5: an authenticator says which fields carry its credentials; every spelling of them goes."""
    headers = ((b"accept", b"*/*"), (b"x-api-key", b"k3y"), (b"X_API_Key", b"k3y"), (b"authorization", b"Basic x"))
    exchange = Exchange({"type": "http", "path": "/"}, headers)
    assert await Authentication([TOKENS, ApiKeys()], strip_credentials=strip).decide(exchange) is None
    assert [name for name, _ in exchange.headers] == names


def test_frequent_fields_can_be_credentials() -> None:
    """§12.5: a declared field goes even when it is one of those that need no second look otherwise."""
    assert Sieve([b"cookie"]).sift(((b"cookie", b"session=1"), (b"accept", b"*/*"))).headers == ((b"accept", b"*/*"),)


async def test_websocket_token_entry_goes() -> None:
    """§6.5, §12.5: from the field and from `scope["subprotocols"]`; what is left can be chosen."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        seen.extend([scope["subprotocols"], websocket.headers["sec-websocket-protocol"], scope["aggmw.identity"].user])
        await websocket.accept(subprotocol="v5.channel.k8s.io")
        await websocket.close()

    client = Client(AuthenticationMiddleware(app, authenticators=[TOKENS]))
    offer = [SUBPROTOCOL + "dDBr", "v5.channel.k8s.io"]
    async with client.websocket("/exec", subprotocols=offer) as websocket:
        assert websocket is not None
    assert seen == [["v5.channel.k8s.io"], "v5.channel.k8s.io", "alice"]


async def test_token_entry_of_plain_requests_goes() -> None:
    """§12.5: the field is cleaned on HTTP too, where nobody reads a token from it."""
    only = (b"sec-websocket-protocol", SUBPROTOCOL.encode() + b"dDBr")
    mixed = (b"sec_websocket_protocol", b"a," + SUBPROTOCOL.encode() + b"dDBr")
    assert await left((only, mixed)) == ((b"sec_websocket_protocol", b"a"),)


async def test_trailers_added_later_reach_nobody() -> None:
    """C5.1, http-facts §1: a server that appends trailers to its live list changes nothing inside."""
    live = [(b"transfer-encoding", b"chunked"), TOKEN]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        live.append((b"x-remote-user", b"admin"))
        await JSONResponse([name.decode() for name, _ in scope["headers"]])(scope, receive, send)

    middleware = AuthenticationMiddleware(app, authenticators=[TOKENS])

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware({**scope, "headers": live}, receive, send)

    assert (await Client(server).request("GET", "/")).json() == ["transfer-encoding"]


@pytest.mark.parametrize("apart", [True, False])
async def test_authorization_as_trailer_replaces_nobody(apart: bool) -> None:
    """C5.1: mixed in from the start, a second `Authorization` is 401, whatever the server does with trailers."""
    headers = ((b"transfer-encoding", b"chunked"), TOKEN, TOKEN)
    exchange = Exchange({"type": "http", "path": "/"}, headers, connection=Connection(trailers_apart=apart))
    answer = await Authentication([TOKENS], anonymous=Anonymous.everywhere()).decide(exchange)
    assert answer is not None
    assert answer.status == 401
