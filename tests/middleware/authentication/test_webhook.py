"""Tokens that another server knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import (
    ConfigurationError,
    InvalidCredentials,
    InvalidIdentity,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens, TokenCache, WebhookTokens
from aggmw.net.kubeconfig import Remote
from aggmw.net.webhooks import Retries, Webhook
from aggmw.testing import Client, ScriptedBackend, VirtualClock, respond

V1 = "authentication.k8s.io/v1"
ANN = {"username": "ann", "uid": "7", "groups": ["devs"], "extra": {"Example.com/Team": ["a"]}}


class Says(Webhook):
    """A webhook that says this, and keeps what it was asked."""

    def __init__(self, status: Any = None, error: Exception | None = None, **others: Any) -> None:
        super().__init__(Remote("http://127.0.0.1:9", None))
        self.asked: list[Mapping[str, Any]] = []
        self._answer = {"apiVersion": V1, "kind": "TokenReview", "status": status} | others
        self._error = error

    async def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(value)
        if self._error is not None:
            raise self._error
        return self._answer


def known(user: Any = ANN, **status: Any) -> Says:
    return Says({"authenticated": True, "user": user, **status})


def presenting(token: str) -> Presented:
    return Presented(((b"authorization", b"Bearer " + token.encode()),))


async def found(webhook: Webhook, **options: Any) -> Identity | None:
    return await WebhookTokens(webhook, **options).authenticate(presenting("t"))


async def test_known_token() -> None:
    """Who the server says, put into the request on purpose, and in `system:authenticated`."""
    identity = await found(known())
    assert identity == Identity("ann", "7", ("devs", "system:authenticated"), {"example.com/team": ("a",)})
    assert identity is not None
    assert identity.credential.ambient is False


async def test_what_is_sent() -> None:
    """A TokenReview with the token, and the audiences where there are any."""
    webhook = known(audiences=["api"])
    await found(webhook, audiences=["api", "a"])
    assert webhook.asked == [
        {"apiVersion": V1, "kind": "TokenReview", "metadata": {}, "spec": {"token": "t", "audiences": ["a", "api"]}}
    ]
    webhook = known()
    await found(webhook)
    assert webhook.asked[0]["spec"] == {"token": "t"}


async def test_nobodys_token() -> None:
    """Not the server's: others are asked. With a reason it is bad. Without a token nobody is asked."""
    assert await found(Says({"authenticated": False})) is None
    assert await found(Says({})) is None
    with pytest.raises(InvalidCredentials, match="calls the bearer token bad"):
        await found(Says({"authenticated": False, "error": "expired: t0p-secret"}))
    webhook = known()
    assert await WebhookTokens(webhook).authenticate(Presented()) is None
    assert webhook.asked == []


@pytest.mark.parametrize(
    "status",
    [
        None,
        [],
        {"authenticated": True},
        {"authenticated": True, "user": []},
        {"authenticated": True, "user": {}},
        {"authenticated": True, "user": {"username": 1}},
        {"authenticated": True, "user": {"username": "a", "uid": 1}},
        {"authenticated": True, "user": {"username": "a", "groups": "system:masters"}},
        {"authenticated": True, "user": {"username": "a", "groups": [1]}},
        {"authenticated": True, "user": {"username": "a", "extra": []}},
        {"authenticated": True, "user": {"username": "a", "extra": {"a": "b"}}},
    ],
)
async def test_nonsense_lets_nobody_in(status: Any) -> None:
    """Security: an answer that is not what it should be is a broken authenticator, never an identity."""
    with pytest.raises(UpstreamBroken):
        await found(Says(status))


class Held(Says):
    """A webhook that knows everybody, after it was let go."""

    def __init__(self) -> None:
        super().__init__({"authenticated": True, "user": ANN})
        self.go = asyncio.Event()

    async def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        answer = await super().ask(value)
        await self.go.wait()
        return answer


async def test_flood(clock: VirtualClock) -> None:
    """However many tokens come, a slow server is asked about so many at once; the others wait, and are asked then."""
    webhook = Held()
    tokens = TokenCache([WebhookTokens(webhook, at_once=2)])
    asking = [asyncio.create_task(tokens.authenticate(presenting(f"t{number}"))) for number in range(50)]
    await clock.settle()
    assert len(webhook.asked) == 2
    webhook.go.set()
    assert {each and each.user for each in await asyncio.gather(*asking)} == {"ann"}
    assert len(webhook.asked) == 50


async def test_no_turn_in_time(clock: VirtualClock) -> None:
    """Nobody waits for ever: that is a server that could not be asked, which is not remembered of the token."""
    webhook = Held()
    tokens = TokenCache([WebhookTokens(webhook, at_once=1)])
    asking = [asyncio.create_task(tokens.authenticate(presenting(name))) for name in ("first", "second")]
    await clock.advance(61)
    for each in asking:
        with pytest.raises(UpstreamTimeout):
            await each
    assert [each["spec"]["token"] for each in webhook.asked] == ["first"]
    webhook.go.set()
    assert await tokens.authenticate(presenting("second")) is not None


@pytest.mark.parametrize("authenticated", [1, "true", "yes", [True], {}])
async def test_only_true_is_true(authenticated: Any) -> None:
    """Security: nothing that only looks like true lets anybody in."""
    assert await found(Says({"authenticated": authenticated, "user": ANN})) is None


@pytest.mark.parametrize(
    "others", [{"kind": "SubjectAccessReview"}, {"apiVersion": "authentication.k8s.io/v1beta1"}, {"kind": None}]
)
async def test_other_objects_are_nonsense(others: dict[str, Any]) -> None:
    """The version that was sent is the version that is believed."""
    with pytest.raises(UpstreamBroken, match="not a TokenReview of the version"):
        await found(Says({"authenticated": True, "user": ANN}, **others))


@pytest.mark.parametrize(
    "user",
    [
        {"username": "system:admin"},
        {"username": "a", "groups": ["system:masters"]},
        {"username": "a", "groups": ["devs", "system:unauthenticated"]},
    ],
)
async def test_system_names_must_be_allowed(user: dict[str, Any]) -> None:
    """Security (guards §12.4): another server may not make administrators unless the operator says so."""
    with pytest.raises(InvalidCredentials, match="system:"):
        await found(known(user))
    assert (await found(known(user), system_names=True)) is not None


async def test_system_authenticated_may_be_said() -> None:
    """Every API server of Kubernetes says it."""
    identity = await found(known({"username": "a", "groups": ["system:authenticated", "devs"]}))
    assert identity is not None
    assert identity.groups == ("devs", "system:authenticated")


@pytest.mark.parametrize("name", ["", " a", "a\r\nX-Remote-Group: system:masters"])
async def test_names_that_no_header_could_carry(name: str) -> None:
    """Security C2: refused when the identity is made."""
    with pytest.raises(InvalidIdentity):
        await found(known({"username": name}))


async def test_audiences() -> None:
    """Security: a token for others is nobody's here; a server that says no audiences knows of ours only."""
    assert await found(known(audiences=["other"]), audiences=["api"]) is None
    assert await found(known(audiences=["other", "api"]), audiences=["api"]) is not None
    assert await found(known(), audiences=["api"]) is not None
    tokens = WebhookTokens(known(), audiences=["api"])
    assert await tokens.authenticate_token(b"t", frozenset({"other"})) is None
    assert await tokens.authenticate_token(b"t", frozenset({"other", "api"})) is not None
    assert await WebhookTokens(known()).authenticate_token(b"t", frozenset({"other"})) is None


async def test_server_that_cannot_be_asked() -> None:
    """Security: fail closed; others in the union are still asked, and the caller is never anonymous."""
    tokens = WebhookTokens(Says(error=UpstreamBroken("gone")))
    with pytest.raises(UpstreamError):
        await tokens.authenticate(presenting("t"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["aggmw.identity"].user.encode()})

    stage = AuthenticationMiddleware(app, authenticators=[tokens, StaticTokens({"s": Identity("bob")})])
    assert (await Client(stage).request("GET", "/", {"authorization": "Bearer t"})).status == 401
    assert (await Client(stage).request("GET", "/", {"authorization": "Bearer s"})).body == b"bob"


async def test_behind_a_cache_the_server_is_asked_once() -> None:
    """Good answers are kept for two minutes, a broken server's for no time."""
    now = 0.0
    webhook = known()
    cache = TokenCache([WebhookTokens(webhook)], clock=lambda: now)
    for _ in range(3):
        assert await cache.authenticate(presenting("t")) is not None
    assert len(webhook.asked) == 1
    now = 121.0
    assert await cache.authenticate(presenting("t")) is not None
    assert len(webhook.asked) == 2
    broken = Says(error=UpstreamBroken("gone"))
    cache = TokenCache([WebhookTokens(broken)])
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await cache.authenticate(presenting("t"))
    assert len(broken.asked) == 2


async def test_over_the_wire(tmp_path: Path) -> None:
    """From the kubeconfig file to the identity."""

    def answer(request: bytes) -> bytes:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        assert b"\r\nauthorization: Bearer mine\r\n" in request
        return respond(201, body=json.dumps(body | {"status": {"authenticated": True, "user": ANN}}).encode())

    async with ScriptedBackend(answer) as backend:
        (tmp_path / "config").write_text(
            json.dumps(
                {
                    "current-context": "a",
                    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                    "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{backend.port}/"}}],
                    "users": [{"name": "a", "user": {"token": "mine"}}],
                }
            )
        )
        identity = await WebhookTokens.load(tmp_path / "config").authenticate(presenting("t"))
    assert identity is not None
    assert identity.user == "ann"


def test_unknown_version() -> None:
    """Named with what it may be."""
    with pytest.raises(ConfigurationError, match="v1, v1beta1"):
        WebhookTokens(known(), version="v2")


def test_nothing_at_once() -> None:
    """It would wait for ever."""
    with pytest.raises(ConfigurationError, match="at_once: must be at least 1, not 0"):
        WebhookTokens(known(), at_once=0)


def test_representation() -> None:
    """Shows where, never a credential."""
    webhook = Webhook(Remote("https://w.example", None, token="t0p-secret"), retries=Retries())
    assert repr(WebhookTokens(webhook)) == "WebhookTokens(Webhook(https://w.example))"


_TEXTS = st.text(max_size=6) | st.sampled_from(["system:masters", "ann", "devs"])
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["authenticated", "user", "username", "groups", "extra", "uid", "error"]), inner, max_size=5
        )
    ),
    max_leaves=15,
)


@given(st.fixed_dictionaries({"authenticated": st.booleans() | _ANY, "user": _ANY}))
async def test_no_answer_becomes_another_identity(status: dict[str, Any]) -> None:
    """Security: whatever comes back, an identity is exactly who the answer states, and never of `system:`."""
    try:
        identity = await found(Says(status))
    except (UpstreamBroken, InvalidCredentials, InvalidIdentity):
        return
    if identity is not None:
        assert status["authenticated"] is True
        assert identity.user == status["user"]["username"]
        assert {*identity.groups} - {"system:authenticated"} <= set(status["user"].get("groups") or ())
        assert not any(each.startswith("system:") for each in (identity.user, *identity.groups[:-1]))
