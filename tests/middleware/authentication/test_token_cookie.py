"""Tokens in a cookie: who is known by it, what goes on, what may be set (wire contract §12.5, security cases C5.10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.asgi.types import Headers
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication import Anonymous, Authentication, StaticTokens, TokenCookie
from aggmw.middleware.authentication.cookies import cookie_values, without_cookies
from aggmw.middleware.authentication.hygiene import Sieve

NAME = "__Host-aggmw"
ALICE = Identity("alice", credential=Credential(expires=7.0))
COOKIE = TokenCookie(NAME, StaticTokens({"t0k/=": ALICE}))


def cookies(*values: str) -> Headers:
    return tuple((b"cookie", value.encode()) for value in values)


@pytest.mark.parametrize(
    "headers",
    [
        cookies("__Host-aggmw=t0k/="),
        cookies('theme=dark; __Host-aggmw="t0k/="; a=b'),
        cookies("theme=dark", " __Host-aggmw = t0k/= ;"),
    ],
)
async def test_known(headers: Headers) -> None:
    """Among other cookies, in one field or several, in quotes or not; known as ambient, until the token's own end."""
    identity = await COOKIE.authenticate(Presented(headers))
    assert identity is not None
    assert (identity.user, identity.credential) == ("alice", Credential(ambient=True, expires=7.0))
    assert await COOKIE.authenticate(Presented(headers)) is identity


@pytest.mark.parametrize("value", ["", "theme=dark", "__Host-aggmw=", '__Host-aggmw=""', "__host-aggmw=t0k/=", NAME])
async def test_no_opinion(value: str) -> None:
    """Without the cookie, with an empty one, and with one whose name only looks like it."""
    assert await COOKIE.authenticate(Presented(cookies(value))) is None


@pytest.mark.parametrize(
    "headers",
    [
        cookies("__Host-aggmw=wrong"),
        cookies("__Host-aggmw=t0k/= x"),
        cookies("__Host-aggmw=t0k/=; __Host-aggmw=t0k/="),
        cookies("__Host-aggmw=t0k/=", "__Host-aggmw="),
    ],
)
async def test_bad(headers: Headers) -> None:
    """An unknown token, and two of which a neighbouring host may have planted one."""
    with pytest.raises(InvalidCredentials):
        await COOKIE.authenticate(Presented(headers))


async def test_sees_the_token_alone() -> None:
    """Nothing else of the request can make the judge know somebody."""
    seen: list[Presented] = []

    class Judge:
        async def authenticate(self, presented: Presented) -> Identity | None:
            seen.append(presented)
            return None

    headers = (*cookies("__Host-aggmw=t"), (b"authorization", b"Bearer other"), (b"x-api-key", b"k"))
    assert await TokenCookie(NAME, Judge()).authenticate(Presented(headers, subprotocols=("a",))) is None
    assert (seen[0].headers, seen[0].subprotocols) == (((b"authorization", b"Bearer t"),), ())


def test_mistakes() -> None:
    """What could never be a cookie's name, and what is no authenticator."""
    with pytest.raises(ValueError, match="'a b' is no name of a cookie"):
        TokenCookie("a b", COOKIE)
    with pytest.raises(TypeError, match="authenticator: StaticTokens is a class"):
        TokenCookie(NAME, StaticTokens)  # type: ignore[arg-type]


def test_repr() -> None:
    """The name, and who judges."""
    assert repr(COOKIE) == "TokenCookie('__Host-aggmw', StaticTokens(1 tokens))"


async def left(headers: Headers, **options: object) -> Headers:
    exchange = Exchange({"type": "http", "path": "/", "method": "GET"}, headers)
    stage = Authentication([COOKIE], anonymous=Anonymous.everywhere(), **options)  # type: ignore[arg-type]
    assert await stage.decide(exchange) is None
    return exchange.headers


async def test_consumed_cookie_goes_and_others_stay() -> None:
    """§12.5: cut out of `Cookie`, in any spelling of the field; a field that is then empty goes, too."""
    assert await left(cookies("a=1; __Host-aggmw=t0k/=; b=2")) == cookies("a=1; b=2")
    assert await left(cookies("__Host-aggmw=t0k/=")) == ()
    assert await left((*cookies("__Host-aggmw=t0k/="), (b"Cookie ", b"c=3; __Host-aggmw=x"))) == ((b"Cookie ", b"c=3"),)
    assert await left(cookies("a=1; b=2")) == cookies("a=1; b=2")


async def test_other_callers_cookies() -> None:
    """C5.14: what nobody consumed stays only where credentials are not all taken."""
    both = StaticTokens({"bearer": Identity("bob")})
    headers = ((b"authorization", b"Bearer bearer"), *cookies("a=1; __Host-aggmw=t0k/="))
    for strip, kept in ((True, cookies("a=1")), (False, headers[1:])):
        exchange = Exchange({"type": "http", "path": "/", "method": "GET"}, headers)
        assert await Authentication([both, COOKIE], strip_credentials=strip).decide(exchange) is None
        assert exchange.headers == kept


async def test_own_cookies_are_told() -> None:
    """§12.5: the proxy learns which cookies no service may set, on exempt paths too."""
    for path in ("/", "/login"):
        exchange = Exchange({"type": "http", "path": path, "method": "GET"}, ())
        await Authentication([COOKIE], exempt=["/login"]).decide(exchange)
        assert exchange.own_cookies == {b"__Host-aggmw"}


names = st.sampled_from(["a", "b", "__Host-aggmw", "__host-aggmw", "x__Host-aggmw"])
pairs = st.lists(st.tuples(names, st.from_regex(r"[A-Za-z0-9=\"]{0,5}", fullmatch=True)), max_size=8)


@given(pairs, st.sampled_from([";", "; ", " ;\t"]))
def test_exactly_ours_goes(pairs: list[tuple[str, str]], separator: str) -> None:
    """Whatever else is there: every cookie of the name goes, every other one stays, in order."""
    value = separator.join(f"{name}={value}" for name, value in pairs).encode()
    ours = NAME.encode()
    (kept, _) = Sieve([b"cookie:" + ours]).sift(((b"cookie", value),))
    assert cookie_values(kept, ours) == []
    for name in {name.encode() for name, _ in pairs} - {ours}:
        assert cookie_values(kept, name) == cookie_values(((b"cookie", value),), name)
    assert without_cookies(value, {ours}) == (kept[0][1] if kept else b"")
