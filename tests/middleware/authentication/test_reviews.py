"""TokenReview and SelfSubjectReview: what a reviewer learns, and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authentication.issuing import NOW, issuer, key, token, write_keys

from aggmw.contracts.identity import EXPLICIT, Identity, Presented
from aggmw.contracts.kinds import WriteContext
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import InvalidCredentials, StatusError
from aggmw.middleware.authentication import JWTAuthenticator, SelfSubjectReviews, StaticTokens, TokenCache, TokenReviews

ANN = Identity("ann", "7", ("devs",), {"example.com/team": ("a", "b")}, EXPLICIT)
TOKENS = StaticTokens({"t": ANN})
CONTEXT = WriteContext(Identity("reviewer"), RequestInfo(True, "create", "POST", "/", b"/"))
USER = {
    "username": "ann",
    "uid": "7",
    "groups": ["devs", "system:authenticated"],
    "extra": {"example.com/team": ["a", "b"]},
}


class ForAudiences:
    """Tokens that say for whom they are: `NAME@AUDIENCE+AUDIENCE`."""

    revision = None

    async def authenticate(self, presented: Presented) -> Identity | None:
        token = presented.header(b"authorization")[0].removeprefix(b"Bearer ")
        return await self.authenticate_token(token, presented.audiences)

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = frozenset()) -> Identity | None:
        name, at, meant = token.decode().partition("@")
        if not at:
            return None
        if audiences and not audiences & set(meant.split("+")):
            raise InvalidCredentials("for others")
        return Identity(name, credential=EXPLICIT)


class Broken:
    async def authenticate(self, presented: Presented) -> Identity | None:
        raise RuntimeError("Bearer t0p-secret")


async def review(kind: TokenReviews, **spec: Any) -> dict[str, Any]:
    value = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = await kind.create(value, CONTEXT)
    assert answer["spec"] == spec
    status: dict[str, Any] = answer["status"]
    return status


async def test_known_token() -> None:
    """Everything that is known of its owner, `system:authenticated` included."""
    assert await review(TokenReviews([TOKENS]), token="t") == {"authenticated": True, "user": USER}


async def test_unknown_token_is_no_error_of_the_request() -> None:
    """`authenticated` is false, and no more is said than that it is bad."""
    assert await review(TokenReviews([TOKENS]), token="x") == {"error": "invalid bearer token"}


async def test_token_of_nobody() -> None:
    """No authenticator takes it for its own."""
    assert await review(TokenReviews([ForAudiences()]), token="x") == {}


@pytest.mark.parametrize("spec", [{}, {"token": ""}, {"token": None}])
async def test_no_token(spec: dict[str, Any]) -> None:
    """400, in Kubernetes' words."""
    with pytest.raises(StatusError, match="token is required for TokenReview in authentication") as caught:
        await review(TokenReviews([TOKENS]), **spec)
    assert caught.value.code == 400


@pytest.mark.parametrize("token", ["t ", " t", "t\r\nX-Remote-User: root", "t\x00"])
async def test_token_that_no_header_could_carry(token: str) -> None:
    """Security C2: a token is one word; nothing in it becomes another field or another token."""
    with pytest.raises(StatusError, match="white space or a control character"):
        await review(TokenReviews([TOKENS]), token=token)


async def test_reviewer_is_not_who_is_reviewed() -> None:
    """Security: nothing of the reviewer's own request counts: no certificate, no header, no identity."""

    class Peer:
        async def authenticate(self, presented: Presented) -> Identity | None:
            assert presented.connection.peer is None
            assert [name for name, _ in presented.headers] == [b"authorization"]
            return None

    assert await review(TokenReviews([Peer()]), token="t") == {}


async def test_broken_authenticator_lets_nobody_in_and_says_nothing_of_why() -> None:
    """Security: fail closed; the text of a failure may hold a token."""
    status = await review(TokenReviews([Broken()]), token="t")
    assert status == {"error": "an authenticator could not be asked whose token this is"}
    assert (await review(TokenReviews([Broken(), TOKENS]), token="t"))["authenticated"] is True


async def test_audiences_of_tokens_that_say_them() -> None:
    """Those that were asked for and are meant; for others it is a bad token."""
    kind = TokenReviews([ForAudiences()])
    found = await review(kind, token="ann@a+b+c", audiences=["b", "x", "c"])
    assert found["audiences"] == ["b", "c"]
    assert await review(kind, token="ann@a", audiences=["a"]) == {
        "authenticated": True,
        "user": {"username": "ann", "groups": ["system:authenticated"]},
        "audiences": ["a"],
    }
    assert await review(kind, token="ann@a", audiences=["x"]) == {"error": "invalid bearer token"}


async def test_audiences_of_tokens_that_do_not_say_them() -> None:
    """Security: such a token is for this front proxy's audiences, never for whatever a reviewer asks for."""
    kind = TokenReviews([TOKENS], audiences=["https://front", "api"])
    assert (await review(kind, token="t"))["audiences"] == ["https://front", "api"]
    assert (await review(kind, token="t", audiences=["api", "other"]))["audiences"] == ["api"]
    assert await review(kind, token="t", audiences=["other"]) == {}
    assert await review(TokenReviews([TOKENS]), token="t", audiences=["other"]) == {}


async def test_too_many_audiences() -> None:
    """Each costs a check; a limit keeps that small."""
    with pytest.raises(StatusError, match="32 audiences at most"):
        await review(TokenReviews([TOKENS]), token="t", audiences=[str(number) for number in range(33)])


async def test_who_am_i() -> None:
    """The caller as the front proxy sees it, with the time; what the object says is not looked at."""
    context = WriteContext(ANN, CONTEXT.request_info)
    value = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "status": {"userInfo": {}}}
    answer = await SelfSubjectReviews(clock=lambda: 86400.0).create(value, context)
    assert answer["metadata"] == {"creationTimestamp": "1970-01-02T00:00:00Z"}
    assert answer["status"] == {"userInfo": {**USER, "groups": ["devs"]}}


def test_representations_hold_no_token() -> None:
    """`repr` is for logs."""
    assert repr(TokenReviews([TOKENS])) == "TokenReviews(1 authenticators)"


async def test_signed_tokens_and_their_audiences(tmp_path: Path) -> None:
    """Tokens of an issuer, through a cache: they are for whom they say, and for nobody else who is asked for."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with JWTAuthenticator([issuer(keys=path, audiences=["aggmw", "other"])], clock=lambda: NOW) as issuers:
        kind = TokenReviews([TokenCache([issuers], clock=lambda: NOW), TOKENS])
        jane = token(aud=["aggmw", "third"]).decode()
        assert (await review(kind, token=jane))["user"]["username"] == "jane"
        assert (await review(kind, token=jane, audiences=["third", "other"]))["audiences"] == ["third"]
        assert await review(kind, token=jane, audiences=["other"]) == {"error": "invalid bearer token"}
        assert (await review(kind, token="t"))["user"]["username"] == "ann"
