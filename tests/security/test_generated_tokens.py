"""Property: no generated token becomes an identity that its issuer did not state (security cases C2, C3, C5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.authentication.issuing import (
    NOW,
    URL,
    claims,
    encode,
    issuer,
    key,
    presenting,
    signed,
    write_keys,
)

from aggmw.contracts.identity import SYSTEM_AUTHENTICATED, Identity, Presented
from aggmw.errors import InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import AuthenticatorUnion, JWTAuthenticator, MappedClaim, TokenCache

GOOD = signed(claims(jti="good"), key("one"))
JANE = Identity(
    "idp:jane", groups=(SYSTEM_AUTHENTICATED,), extra={"authentication.kubernetes.io/credential-id": ["JTI=good"]}
)
TEXT = st.text(max_size=20)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "groups", "email", "_claim_names", "x"])
HEADER = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "b64", "cty"])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def judge(loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCache]:
    """One issuer with two keys, remembered answers included."""
    path = write_keys(Path(tmp_path_factory.mktemp("keys")) / "keys.json", key("one"), key("rsa", "2048"))
    of = issuer(keys=path, username=MappedClaim("sub", "idp:"), groups=MappedClaim("groups", "idp:"))
    issuers = JWTAuthenticator([of], clock=lambda: NOW, least_interval=0.0)

    async def opened() -> None:
        await issuers.__aenter__()
        assert await issuers.authenticate(presenting(GOOD)) == JANE

    loop.run_until_complete(opened())
    yield TokenCache([issuers], clock=lambda: NOW)
    loop.run_until_complete(issuers.__aexit__(None, None, None))


def identity(loop: asyncio.AbstractEventLoop, judge: TokenCache, presented: Presented) -> Identity | None:
    """Whom a union with this authenticator alone finds; None for nobody."""
    finding = loop.run_until_complete(AuthenticatorUnion([judge]).find(presented))
    assert not any(failure.broken for failure in finding.failures), finding.failures
    return finding.identity


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=60).map(encode), max_size=5).map(b".".join))
@settings(max_examples=200, deadline=None)
def test_only_what_the_issuer_signed(loop: asyncio.AbstractEventLoop, judge: TokenCache, bearer: bytes) -> None:
    """Bytes of any kind, and what has the shape of a token, are nobody."""
    assert identity(loop, judge, presenting(bearer)) is None


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.sampled_from(["replace", "insert", "delete", "cut"]))
@settings(max_examples=300, deadline=None)
def test_a_good_token_that_was_changed(
    loop: asyncio.AbstractEventLoop, judge: TokenCache, at: int, byte: int, how: str
) -> None:
    """One byte more, less or another: it is jane's whole or nobody's, never anybody else's."""
    changed = {
        "replace": GOOD[:at] + bytes([byte]) + GOOD[at + 1 :],
        "insert": GOOD[:at] + bytes([byte]) + GOOD[at:],
        "delete": GOOD[:at] + GOOD[at + 1 :],
        "cut": GOOD[:at],
    }[how]
    found = identity(loop, judge, presenting(changed))
    assert found is None or found == JANE


@given(st.dictionaries(HEADER, VALUE, max_size=4), st.dictionaries(NAMES, VALUE, max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_somebody_else_signed(
    loop: asyncio.AbstractEventLoop, judge: TokenCache, header: dict[str, Any], payload: dict[str, Any]
) -> None:
    """Another key, whatever header and claims say: nobody."""
    eve = key("eve")
    header = {name: value for name, value in header.items() if name != "jwk"} | {"jwk": eve.as_dict(private=False)}
    bearer = signed(json.dumps(claims() | payload).encode(), eve, header=header)
    assert identity(loop, judge, presenting(bearer)) is None


@given(st.dictionaries(NAMES, VALUE, max_size=5))
@settings(max_examples=300, deadline=None)
def test_what_the_issuer_signed(loop: asyncio.AbstractEventLoop, judge: TokenCache, payload: dict[str, Any]) -> None:
    """Its own claims of any kind: exactly what they state, or nobody; no `system:` name but the one we add."""
    stated = claims() | payload
    found = identity(loop, judge, presenting(signed(json.dumps(stated).encode(), key("one"))))
    if found is None:
        return
    assert stated["iss"] == URL
    assert "aggmw" in stated["aud"]
    assert stated["exp"] > NOW
    assert found.user == f"idp:{stated['sub']}"
    groups = stated.get("groups") or []
    expected = [f"idp:{each}" for each in ([groups] if isinstance(groups, str) else groups) if each]
    assert list(found.groups) == [*expected, SYSTEM_AUTHENTICATED]
    assert not found.user.startswith("system:")
    assert found.credential.expires == stated["exp"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-remote-user", b"x_remote_user", b"cookie", b"proxy-authorization"]),
            st.sampled_from([b"Bearer ", b"bearer ", b"Basic ", b"", b"Bearer  "]),
            st.binary(max_size=30) | st.just(b"system:admin"),
        ),
        max_size=4,
    ),
    st.lists(TEXT | TEXT.map(lambda text: f"base64url.bearer.authorization.k8s.io.{text}"), max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_no_header_is_a_token(
    loop: asyncio.AbstractEventLoop,
    judge: TokenCache,
    fields: list[tuple[bytes, bytes, bytes]],
    subprotocols: list[str],
) -> None:
    """Whatever else a request carries: nobody, without a token of the issuer."""
    headers = tuple((name, scheme + value) for name, scheme, value in fields)
    assert identity(loop, judge, Presented(headers, subprotocols=tuple(subprotocols))) is None


@given(VALUE)
@settings(max_examples=100, deadline=None)
def test_mapping_never_fails_otherwise(value: Any) -> None:
    """Claims of any value refuse the token or make an identity; nothing else comes out of the mapping."""
    from aggmw.middleware.authentication.issuer_rules import compile_issuers

    of = issuer(
        username=MappedClaim(expression="claims.name"),
        groups=MappedClaim(expression="claims.?names.orValue([])"),
        uid=MappedClaim(expression="string(claims.name)"),
    )
    (compiled,) = compile_issuers([of], lambda path, message: pytest.fail(f"{path}: {message}"))
    try:
        found = compiled.mapper.identity({"name": value, "names": value}, NOW)
    except (InvalidCredentials, InvalidIdentity):
        return
    assert found.user == value
