"""JSON Web Tokens: which are read, which are believed, and every known trick (security cases C3; RFC 8725)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jws import JWSRegistry
from tests.middleware.authentication.issuing import (
    NOW,
    URL,
    claims,
    encode,
    issuer,
    key,
    presenting,
    signed,
    token,
    write_keys,
)

from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.errors import AggmwError, InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import JWTAuthenticator
from aggmw.middleware.authentication.algorithms import ALGORITHMS
from aggmw.middleware.authentication.jwt import MAX_TOKEN

JANE = Identity("jane", groups=("system:authenticated",))
KINDS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "2048"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
}


@pytest.fixture
async def known(tmp_path: Path) -> AsyncIterator[JWTAuthenticator]:
    """An authenticator that has read the keys of one issuer."""
    path = write_keys(tmp_path / "keys.json", key("one"), key("two"), key("rsa", "2048"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(token())) == JANE
        yield authenticator


async def refusal(authenticator: JWTAuthenticator, bearer: bytes) -> str:
    with pytest.raises((InvalidCredentials, InvalidIdentity)) as caught:
        await authenticator.authenticate(presenting(bearer))
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_algorithms(algorithm: str, tmp_path: Path) -> None:
    """Each algorithm with a key of its kind, also Ed448, and with no other signature."""
    mine = key(algorithm, KINDS[algorithm])
    path = write_keys(tmp_path / "keys.json", mine)
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        good = signed(claims(), mine, algorithm)
        assert await authenticator.authenticate(presenting(good)) == JANE
        head, body, signature = good.split(b".")
        other = signed(claims(sub="eve"), mine, algorithm).split(b".")[2]
        assert "by no key" in await refusal(authenticator, b".".join((head, body, other)))
        assert "by no key" in await refusal(authenticator, b".".join((head, body, signature[:-4])))


async def test_ed448(tmp_path: Path) -> None:
    """The other curve of EdDSA."""
    path = write_keys(tmp_path / "keys.json", key("448", "Ed448"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW) as authenticator:
        good = signed(claims(), key("448", "Ed448"), "EdDSA")
        assert await authenticator.authenticate(presenting(good)) == JANE


def test_every_algorithm_is_asymmetric() -> None:
    """HS* is not among them, nor none: a public key is no secret to sign with (CVE-2024-37568)."""
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]


async def test_what_it_was_known_by(known: JWTAuthenticator) -> None:
    """C5.11: what the token opens ends with it; no browser sends it by itself."""
    found = await known.authenticate(presenting(token()))
    assert found is not None
    assert found.credential == Credential(ambient=False, expires=NOW + 600)


async def test_no_token(known: JWTAuthenticator) -> None:
    """Nothing presented is nobody's business here."""
    assert await known.authenticate(Presented()) is None


def hs256_with_public_key(public: bytes) -> bytes:
    import hashlib
    import hmac

    text = encode(b'{"alg":"HS256","kid":"rsa"}') + b"." + encode(json.dumps(claims(sub="eve")).encode())
    return text + b"." + encode(hmac.digest(public, text, hashlib.sha256))


async def test_hs256_with_the_public_key(known: JWTAuthenticator) -> None:
    """CVE-2024-37568: a token "signed" with the text of the public RSA key as a shared secret."""
    for public in (key("rsa", "2048").as_pem(private=False), key("rsa", "2048").as_der(private=False)):
        assert "algorithm" in await refusal(known, hs256_with_public_key(public))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", None, 1, ["ES256"], "ES256K", "HS512", "RS1"]
)
async def test_algorithm_none(known: JWTAuthenticator, algorithm: Any) -> None:
    """An unsigned token in every spelling, with and without a signature behind it."""
    header = {"kid": "one"} if algorithm is None else {"alg": algorithm, "kid": "one"}
    text = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(claims(sub="eve")).encode())
    assert "algorithm" in await refusal(known, text + b"." + encode(b"xx"))
    assert "no JSON Web Token" in await refusal(known, text + b".")


async def test_key_in_the_header(known: JWTAuthenticator) -> None:
    """CVE-2026-27962: keys that a token brings, or says where to find, are not looked at."""
    eve = key("eve")
    for name, value in {
        "jwk": eve.as_dict(private=False),
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/chain",
        "x5c": ["MIIB"],
    }.items():
        assert "by no key" in await refusal(known, signed(claims(), eve, header={name: value}))
        assert "by no key" in await refusal(known, signed(claims(), eve, header={name: value, "kid": "one"}))
        assert await known.authenticate(presenting(signed(claims(), key("one"), header={name: value}))) == JANE


@pytest.mark.parametrize("demanded", [["exp"], ["b64"], [], "exp", None])
async def test_critical_extensions(known: JWTAuthenticator, demanded: Any) -> None:
    """RFC 7515 §4.1.11: none is understood, so a token that demands one is refused."""
    header = json.dumps({"alg": "ES256", "kid": "one", "crit": demanded}).encode()
    text = encode(header) + b"." + encode(json.dumps(claims()).encode())
    bearer = text + b"." + encode(JWSRegistry.algorithms["ES256"].sign(text, key("one")))
    assert "crit" in await refusal(known, bearer)


@pytest.mark.parametrize("encoded", [False, None, "true", 0, 1])
async def test_payload_that_is_not_encoded(known: JWTAuthenticator, encoded: Any) -> None:
    """RFC 7797: who understands b64 reads another payload than who does not, so such a token is refused."""
    header = json.dumps({"alg": "ES256", "kid": "one", "b64": encoded}).encode()
    text = encode(header) + b"." + encode(json.dumps(claims()).encode())
    bearer = text + b"." + encode(JWSRegistry.algorithms["ES256"].sign(text, key("one")))
    assert "b64" in await refusal(known, bearer)


@pytest.mark.parametrize(
    ("kind", "good"),
    [("JWT", True), ("jwt", True), ("at+jwt", True), ("application/at+jwt", True), (None, True)]
    + [("application/JWT", True), ("application/", False)]
    + [(bad, False) for bad in ("logout+jwt", "dpop+jwt", "secevent+jwt", "", 1, ["JWT"])],
)
async def test_type(known: JWTAuthenticator, kind: Any, good: bool) -> None:
    """RFC 8725 §3.11: what an issuer signs for another purpose says nobody's name here."""
    bearer = signed(claims(), key("one"), header={"typ": kind})
    if good:
        assert await known.authenticate(presenting(bearer)) == JANE
    else:
        assert "typ" in await refusal(known, bearer)


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "https://evil.example/key", "' OR 1=1 --", "\x00", "x" * 1024, "", "ONE", "one "]
)
async def test_kid_is_only_a_name(known: JWTAuthenticator, kid: str) -> None:
    """A `kid` is looked up among the names of the issuer's keys, and means nothing else."""
    assert "by no key" in await refusal(known, signed(claims(), key("one"), header={"kid": kid}))


@pytest.mark.parametrize("kid", [1, ["one"], {"a": 1}, True, "x" * 1025])
async def test_kid_that_is_no_name(known: JWTAuthenticator, kid: Any) -> None:
    """What is no text, or a long one, is refused unseen."""
    assert "kid" in await refusal(known, signed(claims(), key("one"), header={"kid": kid}))


async def test_no_kid_tries_each_key(known: JWTAuthenticator) -> None:
    """A token that names no key may be of any that fits."""
    for mine, algorithm in ((key("two"), "ES256"), (key("rsa", "2048"), "PS256")):
        bearer = signed(claims(), mine, algorithm, header={"kid": None})
        assert await known.authenticate(presenting(bearer)) == JANE
    assert "by no key" in await refusal(known, signed(claims(), key("eve"), header={"kid": None}))


async def test_keys_of_one_name_are_all_tried(tmp_path: Path) -> None:
    """Two keys of one `kid`: some issuers publish them so while they change keys."""
    twins = [key("twin"), key("twin", "P-384"), key("twin", "2048")]
    path = write_keys(tmp_path / "keys.json", *twins)
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW) as authenticator:
        for each, algorithm in zip(twins, ("ES256", "ES384", "RS256"), strict=True):
            assert await authenticator.authenticate(presenting(signed(claims(), each, algorithm))) == JANE


@pytest.mark.parametrize(
    ("times", "complaint"),
    [
        ({"exp": None}, "never expires"),
        ({"exp": NOW}, "is expired"),
        ({"exp": NOW - 0.5}, "is expired"),
        ({"exp": NOW + 0.5}, ""),
        ({"exp": 253_402_300_799}, ""),
        ({"exp": 1e300}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": -1}, "exp"),
        ({"exp": str(NOW + 600)}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": [NOW + 600]}, "exp"),
        ({"nbf": NOW + 59}, ""),
        ({"nbf": NOW + 61}, "does not hold yet (nbf)"),
        ({"nbf": "soon"}, "nbf"),
        ({"iat": None}, ""),
        ({"iat": NOW + 59}, ""),
        ({"iat": NOW + 61}, "does not hold yet (iat)"),
        ({"iat": {}}, "iat"),
    ],
)
async def test_times(known: JWTAuthenticator, times: dict[str, Any], complaint: str) -> None:
    """`exp` must be there and in the future; `nbf` and `iat` may be a minute ahead; a time is a number."""
    if complaint:
        assert complaint in await refusal(known, token(**times))
    else:
        assert await known.authenticate(presenting(token(**times))) == JANE


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1" * 5000])
async def test_numbers_that_json_does_not_know(known: JWTAuthenticator, number: bytes) -> None:
    """`exp: NaN` compares false with everything."""
    payload = json.dumps(claims(exp=None)).encode()[:-1] + b', "exp": ' + number + b"}"
    assert await refusal(known, signed(payload, key("one")))


@pytest.mark.parametrize(
    ("audience", "good"),
    [
        ("aggmw", True),
        (["aggmw"], True),
        (["other", "aggmw"], True),
        ("AGGMW", False),
        ("aggmw ", False),
        ("aggm", False),
        (["other"], False),
        ([], False),
        (None, False),
        (["aggmw", 1], False),
        ({"aggmw": 1}, False),
        (1, False),
    ],
)
async def test_audience(known: JWTAuthenticator, audience: Any, good: bool) -> None:
    """`aud` is a text or a list; one of ours must be in it, character for character."""
    if good:
        assert await known.authenticate(presenting(token(aud=audience))) == JANE
    else:
        assert "aud" in await refusal(known, token(aud=audience))


@pytest.mark.parametrize(
    ("audience", "good"), [("aggmw", True), (["other", "third"], True), (["aggmw", "other"], True), ("fourth", False)]
)
async def test_several_audiences(tmp_path: Path, audience: Any, good: bool) -> None:
    """An issuer's tokens may be for one of several, whichever."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    of = issuer(keys=path, audiences=("aggmw", "other"))
    async with JWTAuthenticator([of], clock=lambda: NOW, least_interval=0.0) as authenticator:
        if good:
            assert await authenticator.authenticate(presenting(token(aud=audience))) == JANE
        else:
            assert "aud" in await refusal(authenticator, token(aud=audience))


async def test_least_payload(known: JWTAuthenticator) -> None:
    """Issuer, audience, end, and who it is: no more is needed."""
    least = {"iss": URL, "aud": "aggmw", "exp": NOW + 600, "sub": "jane"}
    assert await known.authenticate(presenting(signed(least, key("one")))) == JANE


async def test_azp_does_not_count(known: JWTAuthenticator) -> None:
    """As in Kubernetes: for whom a token is, `aud` alone says."""
    assert await known.authenticate(presenting(token(azp="somebody"))) == JANE
    assert "aud" in await refusal(known, token(aud="other", azp="aggmw"))


@pytest.mark.parametrize(
    "iss", ["https://idp.example/", "https://IDP.example", "http://idp.example", "", None, 1, [URL]]
)
async def test_issuer(known: JWTAuthenticator, iss: Any) -> None:
    """`iss` is compared character by character, and another issuer's token is never an anonymous caller's."""
    assert "no issuer that is configured" in await refusal(known, token(iss=iss))


async def test_asked_audiences(known: JWTAuthenticator) -> None:
    """A review may ask for other audiences; the issuer's own must be meant all the same."""
    both = token(aud=["aggmw", "vault"])
    assert await known.authenticate_token(both, frozenset({"vault"})) == JANE
    with pytest.raises(InvalidCredentials, match="aud"):
        await known.authenticate_token(token(), frozenset({"vault"}))
    with pytest.raises(InvalidCredentials, match="aud"):
        await known.authenticate_token(token(aud="vault"), frozenset({"vault"}))


@pytest.mark.parametrize(
    "bearer",
    [
        b"opaque",
        b"a.b",
        b"a.b.c",
        b"aa.bb.cc.dd",
        b"....",
        b"e30.e30.",
        b"{}.e30.e30",
        b"e30=.e30=.e30=",
        b"e3+/.e30.e30",
        b"\xff\xfe.e30.e30",
        b"AAAAA.e30.e30",
        encode(b"[]") + b".e30.e30",
        encode(b"\xff\xff") + b".e30.e30",
        encode(b'{"alg":"ES256"}') + b"." + encode(b"null") + b".e30",
        encode(b'{"alg":"ES256"}') + b"." + encode(b'"text"') + b".e30",
        encode(b'{"alg":"ES256"}') + b"." + encode(b"{") + b".e30",
        encode(b'{"alg":"ES256"}') + b"." + encode(b"[" * 5000) + b".e30",
        encode(b'{"alg":"ES256"}') + b"." + encode(b'{"a":' * 1000 + b"1" + b"}" * 1000) + b".e30",
    ],
)
async def test_what_is_no_token(known: JWTAuthenticator, bearer: bytes) -> None:
    """Refused, never a failure of ours and never nobody's: whoever presents it is no anonymous caller."""
    assert await refusal(known, bearer)


async def test_members_twice(known: JWTAuthenticator) -> None:
    """Parsers differ in which of two members they see."""
    twice = json.dumps(claims()).encode()[:-1] + b', "sub": "eve"}'
    assert "twice" in await refusal(known, signed(twice, key("one")))
    header = encode(b'{"alg":"none","alg":"ES256","kid":"one"}') + b"." + encode(json.dumps(claims()).encode())
    bearer = header + b"." + encode(JWSRegistry.algorithms["ES256"].sign(header, key("one")))
    assert "twice" in await refusal(known, bearer)


async def test_size(known: JWTAuthenticator) -> None:
    """A token of 16 KiB is read, a larger one is not, whatever it says. A certificate chain is no hindrance."""
    fitting = token(padding="x" * 11_000)
    assert len(fitting) < MAX_TOKEN
    assert await known.authenticate(presenting(fitting)) == JANE
    assert "larger than" in await refusal(known, token(padding="x" * 13_000))
    chain = {"x5c": ["M" * 1500] * 3}
    assert await known.authenticate(presenting(signed(claims(), key("one"), header=chain))) == JANE


async def test_algorithms_of_an_issuer(tmp_path: Path) -> None:
    """An issuer may be held to some algorithms, whatever its keys could do."""
    path = write_keys(tmp_path / "keys.json", key("rsa", "2048"))
    only = issuer(keys=path, algorithms=("RS256",))
    async with JWTAuthenticator([only], clock=lambda: NOW, least_interval=0.0) as authenticator:
        assert await authenticator.authenticate(presenting(signed(claims(), key("rsa", "2048"), "RS256"))) == JANE
        assert "algorithm" in await refusal(authenticator, signed(claims(), key("rsa", "2048"), "PS256"))


async def test_google(tmp_path: Path) -> None:
    """The one issuer that calls itself by two names."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    google = issuer(url="https://accounts.google.com", keys=path)
    async with JWTAuthenticator([google], clock=lambda: NOW, least_interval=0.0) as authenticator:
        for name in ("https://accounts.google.com", "accounts.google.com"):
            assert await authenticator.authenticate(presenting(token(iss=name))) == JANE
        assert "no issuer" in await refusal(authenticator, token(iss="http://accounts.google.com"))


async def test_words_show_nothing_of_the_token(known: JWTAuthenticator) -> None:
    """What is logged of a refusal holds no part of what was presented."""
    secret = "s3cr3t"
    for bearer in (token(sub=f" {secret}"), token(aud=secret), token(iss=secret), token(email=secret, exp=secret)):
        with pytest.raises(AggmwError) as caught:
            await known.authenticate(presenting(bearer))
        assert secret not in str(caught.value)
