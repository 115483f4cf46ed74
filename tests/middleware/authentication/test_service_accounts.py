"""Service accounts: tokens that we issue ourselves, and what ends them (wire contract §6.7)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from tests.middleware.authentication.issuing import NOW, key, presenting, signed
from tests.middleware.authentication.issuing import issuer as jwt_issuer

from aggmw.contracts.identity import Credential, Presented
from aggmw.contracts.tokens import BoundObject
from aggmw.errors import ConfigurationError, InvalidCredentials, StatusError
from aggmw.middleware.authentication import (
    AuthenticatorUnion,
    JWTAuthenticator,
    ServiceAccounts,
    StaticAccounts,
    TokenCache,
)
from aggmw.middleware.authentication.jose import parse_jwks

ISSUER = "https://proxy.example"
UID = "0f1e"
USER = "system:serviceaccount:ci:builder"
GROUPS = ("system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated")
EXTRA = "authentication.kubernetes.io/"
ACCOUNTS = {
    ("ServiceAccount", "ci", "builder"): UID,
    ("Pod", "ci", "runner"): "p1",
    ("Secret", "ci", "password"): "s1",
    ("Node", "", "node-1"): "n1",
}


def pem(name: str, kind: str = "P-256", *, private: bool = True) -> bytes:
    made = key(name, kind)
    assert isinstance(made, RSAKey | ECKey)
    return made.as_pem(private=private)


def accounts_with(uids: dict[tuple[str, str, str], str] | None = None, **options: Any) -> ServiceAccounts:
    values: dict[str, Any] = {"signing_key": pem("sa"), "clock": lambda: NOW}
    return ServiceAccounts(ISSUER, StaticAccounts(ACCOUNTS if uids is None else uids), **(values | options))


async def bearer(accounts: ServiceAccounts, **options: Any) -> bytes:
    return (await accounts.issue("ci", "builder", **options)).token.encode()


async def refused(accounts: ServiceAccounts, token: bytes) -> str:
    with pytest.raises(InvalidCredentials) as caught:
        await accounts.authenticate(presenting(token))
    return str(caught.value)


def own(**changes: Any) -> dict[str, Any]:
    """The claims of a good token of ours, but for what is said; None takes one away."""
    base: dict[str, Any] = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "exp": NOW + 600,
        "iat": NOW,
        "nbf": NOW,
        "sub": USER,
        "kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder", "uid": UID}},
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def by_us(**changes: Any) -> bytes:
    return signed(own(**changes), key("sa"), header={"kid": None})


@pytest.mark.parametrize("kind", ["2048", "P-256", "P-384", "P-521"])
async def test_issued_and_known(kind: str) -> None:
    """The account's user, uid and groups; what it was known by ends with the token."""
    accounts = accounts_with(signing_key=pem("sa", kind))
    made = await accounts.issue("ci", "builder")
    found = await accounts.authenticate(presenting(made.token))
    assert found is not None
    assert (found.user, found.uid, found.groups) == (USER, UID, GROUPS)
    assert list(found.extra) == [f"{EXTRA}credential-id"]
    assert found.extra[f"{EXTRA}credential-id"][0].startswith("JTI=")
    assert found.credential == Credential(ambient=False, expires=NOW + 3600)
    assert made.expires == NOW + 3600
    assert made.token not in repr(made)


async def test_no_two_tokens_are_alike() -> None:
    """Each has an identifier of its own."""
    accounts = accounts_with()
    assert await bearer(accounts) != await bearer(accounts)


async def test_nothing_presented() -> None:
    """No token is nobody's business here."""
    assert await accounts_with().authenticate(Presented()) is None


@pytest.mark.parametrize(
    "gone", [{}, {("ServiceAccount", "ci", "builder"): "another"}, {("ServiceAccount", "other", "builder"): UID}]
)
async def test_account_gone(gone: dict[tuple[str, str, str], str]) -> None:
    """A token is good while its account exists with that uid, not a later one of the name."""
    token = await bearer(accounts_with())
    assert "does not exist, or is another" in await refused(accounts_with(gone), token)


BOUND = {
    "Pod": (BoundObject("Pod", "runner", "p1"), {"pod-name": ("runner",), "pod-uid": ("p1",)}),
    "Secret": (BoundObject("Secret", "password", "s1"), {}),
    "Node": (BoundObject("Node", "node-1", "n1"), {"node-name": ("node-1",), "node-uid": ("n1",)}),
}


@pytest.mark.parametrize("kind", BOUND)
async def test_bound(kind: str) -> None:
    """A bound token ends with what it is bound to, and tells in extra what that is."""
    bound, extra = BOUND[kind]
    token = await bearer(accounts_with(), bound=bound)
    found = await accounts_with().authenticate(presenting(token))
    assert found is not None
    assert {name: value for name, value in found.extra.items() if not name.endswith("credential-id")} == {
        f"{EXTRA}{name}": value for name, value in extra.items()
    }
    without = {each: uid for each, uid in ACCOUNTS.items() if each[0] != kind}
    assert f"the {kind} that the token is bound to" in await refused(accounts_with(without), token)
    other = {each: uid if each[0] != kind else "later" for each, uid in ACCOUNTS.items()}
    assert f"the {kind} that the token is bound to" in await refused(accounts_with(other), token)


async def test_node_of_a_pod_does_not_bind() -> None:
    """It says where the pod ran; the token ends with the pod."""
    bound, _ = BOUND["Pod"]
    token = await bearer(accounts_with(), bound=bound, node=BoundObject("Node", "node-9", "n9"))
    found = await accounts_with().authenticate(presenting(token))
    assert found is not None
    assert found.extra[f"{EXTRA}node-name"] == ("node-9",)


async def test_withdrawn() -> None:
    """Whoever goes on by a token is told when its account, or what it is bound to, is gone; others are not."""
    known = StaticAccounts(ACCOUNTS)
    accounts = ServiceAccounts(ISSUER, known, signing_key=pem("sa"), clock=lambda: NOW)
    tokens = [await bearer(accounts), await bearer(accounts, bound=BoundObject("Pod", "runner", "p1"))]
    found = [await accounts.authenticate(presenting(token)) for token in tokens]
    plain, bound = [each.credential.withdrawal for each in found if each is not None and each.credential.withdrawal]
    await accounts.withdraw()
    assert (plain.begun, bound.begun) == (False, False)
    known.swap(StaticAccounts({key: uid for key, uid in ACCOUNTS.items() if key[0] != "Pod"}))
    await accounts.withdraw()
    assert (plain.begun, bound.begun) == (False, True)
    known.swap(StaticAccounts({**ACCOUNTS, ("ServiceAccount", "ci", "builder"): "another"}))
    await accounts.withdraw()
    assert plain.begun
    del found, plain, bound
    assert not accounts._believed


async def test_c5_11_withdrawn_with_its_key() -> None:
    """C5.11: whoever goes on by a token of a key that is taken out is told at once; by one that stays, not."""
    accounts = ServiceAccounts(ISSUER, StaticAccounts(ACCOUNTS), signing_key=pem("sa"), clock=lambda: NOW)
    old = await accounts.authenticate(presenting(await bearer(accounts)))
    accounts.reload(signing_key=pem("sa2"), keys=[key("sa").as_pem(private=False)])
    new = await accounts.authenticate(presenting(await bearer(accounts)))
    assert old is not None
    assert new is not None
    gone, stays = old.credential.withdrawal, new.credential.withdrawal
    assert gone is not None
    assert stays is not None
    assert not gone.begun
    with pytest.raises(ConfigurationError):
        accounts.reload(signing_key=b"nonsense")
    assert not gone.begun
    accounts.reload(signing_key=pem("sa2"))
    assert (gone.begun, stays.begun) == (True, False)


async def test_many_tokens_hold_up_nobody() -> None:
    """Others have their turn while thousands of tokens are looked at."""
    accounts = ServiceAccounts(ISSUER, StaticAccounts(ACCOUNTS), signing_key=pem("sa"), clock=lambda: NOW)
    token = await bearer(accounts)
    found = [await accounts.authenticate(presenting(token)) for _ in range(2000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    going_on = asyncio.create_task(others())
    await accounts.withdraw()
    going_on.cancel()
    assert turns >= 3
    assert len(found) == 2000


async def test_withdrawn_as_far_as_known() -> None:
    """A look-up that fails keeps nobody else going, and is told."""

    class Failing(StaticAccounts):
        async def bound(self, kind: str, namespace: str, name: str) -> str | None:
            if failing:
                raise ConnectionError("no answer")
            return await super().bound(kind, namespace, name)

    failing = False
    known = Failing({**ACCOUNTS, ("ServiceAccount", "ci", "other"): "o1"})
    accounts = ServiceAccounts(ISSUER, known, signing_key=pem("sa"), clock=lambda: NOW)
    made = [
        await accounts.issue("ci", "builder", bound=BoundObject("Pod", "runner", "p1")),
        await accounts.issue("ci", "other"),
    ]
    found = [await accounts.authenticate(presenting(each.token)) for each in made]
    bound, plain = [each.credential.withdrawal for each in found if each is not None and each.credential.withdrawal]
    known.swap(StaticAccounts(ACCOUNTS))
    failing = True
    with pytest.raises(ConnectionError):
        await accounts.withdraw()
    assert (bound.begun, plain.begun) == (False, True)


async def test_withdrawn_while_it_is_judged() -> None:
    """An account that goes after it was looked up, and before its token's other objects were, is not forgotten."""
    asked, go = asyncio.Event(), asyncio.Event()

    class Slow(StaticAccounts):
        async def bound(self, kind: str, namespace: str, name: str) -> str | None:
            asked.set()
            await go.wait()
            return await super().bound(kind, namespace, name)

    token = await bearer(accounts_with(), bound=BoundObject("Pod", "runner", "p1"))
    known = Slow(ACCOUNTS)
    accounts = ServiceAccounts(ISSUER, known, signing_key=pem("sa"), clock=lambda: NOW)
    judging = asyncio.create_task(accounts.authenticate(presenting(token)))
    await asked.wait()
    known.swap(StaticAccounts({**ACCOUNTS, ("ServiceAccount", "ci", "builder"): "another"}))
    await accounts.withdraw()
    go.set()
    found = await judging
    assert found is not None
    assert found.credential.withdrawal is not None
    assert found.credential.withdrawal.begun


async def test_audiences() -> None:
    """One of ours must be meant, unless somebody asks for others."""
    accounts = accounts_with()
    vault = await bearer(accounts, audiences=["vault"])
    assert "somebody else" in await refused(accounts, vault)
    assert await accounts.authenticate_token(vault, frozenset({"vault", "bank"}))
    plain = await bearer(accounts)
    with pytest.raises(InvalidCredentials):
        await accounts.authenticate_token(plain, frozenset({"vault"}))
    others = accounts_with(audiences=["api", "api2"])
    assert await others.authenticate(presenting(await bearer(others)))
    assert await others.authenticate(presenting(await bearer(others, audiences=["api2"])))
    assert "somebody else" in await refused(others, plain)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"iss": "kubernetes/serviceaccount"}, "not of the issuer"),
        ({"exp": None}, "never expires"),
        ({"exp": NOW}, "expired"),
        ({"nbf": NOW + 3600}, "does not hold yet"),
        ({"sub": None}, "sub"),
        ({"sub": "system:serviceaccount:ci:admin"}, "sub"),
        ({"sub": "admin"}, "sub"),
        ({"kubernetes.io": None}, "no claims of service accounts"),
        ({"kubernetes.io": "ci"}, "no claims of service accounts"),
        ({"kubernetes.io": {}}, "namespace"),
        ({"kubernetes.io": {"namespace": ["ci"]}}, "namespace"),
        ({"kubernetes.io": {"namespace": "ci"}}, "sub"),
        ({"kubernetes.io": {"namespace": "ci", "serviceaccount": "builder"}}, "serviceaccount"),
        ({"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder"}}}, "serviceaccount"),
        ({"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder", "uid": 1}}}, "serviceaccount"),
        ({"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder", "uid": "x"}}}, "does not exist"),
        (
            {"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder", "uid": UID}, "pod": {}}},
            "names its pod",
        ),
        (
            {
                "kubernetes.io": {
                    "namespace": "ci",
                    "serviceaccount": {"name": "builder", "uid": UID},
                    "node": {"name": "x"},
                }
            },
            "names its node",
        ),
    ],
)
async def test_strange_tokens(changes: dict[str, Any], complaint: str) -> None:
    """Whatever our own key signed, only what is whole is believed."""
    assert await accounts_with().authenticate(presenting(by_us()))
    assert complaint in await refused(accounts_with(), by_us(**changes))


async def test_somebody_elses_signature() -> None:
    """Another key, whatever it calls itself."""
    good = accounts_with()
    (published,) = json.loads(good.documents["/openid/v1/jwks"].body)["keys"]
    kid = published["kid"]
    for header in ({"kid": None}, {"kid": kid}):
        assert "by no key" in await refused(good, signed(own(), key("eve"), header=header))


# Keys


async def test_rotation() -> None:
    """The successor is known first, then signs; the old key's tokens are good until it goes."""
    accounts = accounts_with(signing_key=pem("old"))
    old = await bearer(accounts)
    accounts.reload(keys=[pem("new", private=False)], signing_key=pem("old"))
    accounts.reload(keys=[pem("old", private=False)], signing_key=pem("new"))
    new = await bearer(accounts)
    for token in (old, new):
        assert await accounts.authenticate(presenting(token))
    accounts.reload(signing_key=pem("new"))
    assert await accounts.authenticate(presenting(new))
    assert "by no key" in await refused(accounts, old)


async def test_several_keys_in_one_file() -> None:
    """As kube-apiserver's `--service-account-key-file`: public or private, RSA or EC, text between them."""
    bundle = b"first\n" + pem("a") + b"second\n" + pem("b", "2048", private=False)
    accounts = accounts_with(keys=[bundle], signing_key=None)
    for by, kind, algorithm in (("a", "P-256", "ES256"), ("b", "2048", "RS256")):
        assert await accounts.authenticate(presenting(signed(own(), key(by, kind), algorithm, header={"kid": None})))


async def test_no_signing_key() -> None:
    """Without one, tokens are verified and none is issued."""
    with pytest.raises(StatusError) as caught:
        await accounts_with(keys=[pem("a")], signing_key=None).issue("ci", "builder")
    assert caught.value.code == 405


def ed25519() -> bytes:
    made = key("ed", "Ed25519")
    assert isinstance(made, OKPKey)
    return made.as_pem(private=True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"signing_key": None}, "keys: none is given, and no signingKey"),
        ({"signing_key": b"nonsense"}, "signingKey: holds no key in PEM"),
        ({"signing_key": pem("a", private=False)}, "signingKey: must hold one private key"),
        ({"signing_key": pem("a") + pem("b")}, "signingKey: must hold one private key"),
        ({"signing_key": ed25519()}, "signingKey: holds a key that cannot be used"),
        ({"keys": [pem("a"), b""]}, "keys[1]: holds no key in PEM"),
        (
            {"keys": [b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]},
            "keys[0]: holds a key that cannot",
        ),
    ],
)
def test_bad_keys(options: dict[str, Any], complaint: str) -> None:
    """Each mistake by its place, and nothing of the key."""
    with pytest.raises(ConfigurationError) as caught:
        accounts_with(**options)
    assert str(caught.value).startswith(complaint)


async def test_bad_reload_changes_nothing() -> None:
    """What cannot be used leaves what was."""
    accounts = accounts_with()
    token, before = await bearer(accounts), accounts.revision
    with pytest.raises(ConfigurationError):
        accounts.reload(signing_key=b"nonsense")
    assert accounts.revision is before
    assert await accounts.authenticate(presenting(token))


# Asking for a token


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        ({"name": "nobody"}, 404, 'serviceaccounts "nobody" not found'),
        ({"name": "../builder"}, 404, "no service account of such a name"),
        ({"namespace": "CI"}, 404, "no service account of such a name"),
        ({"expiration_seconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expiration_seconds": (1 << 32) + 1}, 422, "may not be more than"),
        ({"bound": BoundObject("ConfigMap", "a", "b")}, 422, "Unsupported value: ConfigMap"),
        ({"bound": BoundObject("Pod", "nobody", "b")}, 404, 'pods "nobody" not found'),
        ({"bound": BoundObject("Pod", "runner", "b")}, 409, "does not match the UID in record"),
    ],
)
async def test_bad_requests(options: dict[str, Any], code: int, complaint: str) -> None:
    """As a TokenRequest is answered."""
    asked = {"namespace": "ci", "name": "builder"} | options
    with pytest.raises(StatusError) as caught:
        await accounts_with().issue(**asked)
    assert caught.value.code == code
    assert complaint in caught.value.message


async def test_longest_life() -> None:
    """A request for more gets the most there is."""
    accounts = accounts_with(max_seconds=1200)
    assert (await accounts.issue("ci", "builder", expiration_seconds=86_400)).expires == NOW + 1200
    assert (await accounts.issue("ci", "builder", expiration_seconds=600)).expires == NOW + 600


# What is published


async def test_documents() -> None:
    """OpenID Connect Discovery of our own issuer, and public keys only; another relying party can use them."""
    accounts = accounts_with(keys=[pem("other", "2048")])
    discovery = json.loads(accounts.documents["/.well-known/openid-configuration"].body)
    assert discovery == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
    }
    published = accounts.documents["/openid/v1/jwks"]
    assert published.content_type == b"application/jwk-set+json"
    for one in json.loads(published.body)["keys"]:
        assert {"d", "p", "q", "k"}.isdisjoint(one)
        assert one["use"] == "sig"
    assert len(parse_jwks(published.body).keys) == 2


async def test_another_relies_on_it(tmp_path: Path) -> None:
    """A token of ours is good for a `JWTAuthenticator` somewhere else that knows our keys."""
    accounts = accounts_with()
    path = tmp_path / "keys.json"
    path.write_bytes(accounts.documents["/openid/v1/jwks"].body)
    elsewhere = jwt_issuer(url=ISSUER, audiences=["vault"], keys=path, system_names=True)
    async with JWTAuthenticator([elsewhere], clock=lambda: NOW) as authenticator:
        found = await authenticator.authenticate(presenting(await bearer(accounts, audiences=["vault"])))
        assert found is not None
        assert found.user == USER


def test_issuer_that_is_no_url() -> None:
    """As in Kubernetes: nothing is published then."""
    assert ServiceAccounts("kubernetes", StaticAccounts({}), signing_key=pem("sa")).documents == {}


# Beside others, and remembered


async def test_account_that_goes_is_forgotten() -> None:
    """What was remembered of a token ends when its account does, and not before."""
    lookup = StaticAccounts(ACCOUNTS)
    accounts = ServiceAccounts(ISSUER, lookup, signing_key=pem("sa"), clock=lambda: NOW)
    cache = TokenCache([accounts], clock=lambda: NOW)
    token = presenting(await bearer(accounts))
    first = await cache.authenticate(token)
    lookup.swap(StaticAccounts(ACCOUNTS))
    assert await cache.authenticate(token) is first
    lookup.swap(StaticAccounts({}))
    with pytest.raises(InvalidCredentials):
        await cache.authenticate(token)
    lookup.swap(StaticAccounts(ACCOUNTS))
    assert await cache.authenticate(token) == first


async def test_beside_other_issuers(tmp_path: Path) -> None:
    """Each authenticator refuses the other's tokens, and the union finds whose they are."""
    accounts = accounts_with()
    async with JWTAuthenticator([jwt_issuer(keys=tmp_path / "none.json")], clock=lambda: NOW) as issuers:
        union = AuthenticatorUnion([issuers, accounts])
        finding = await union.find(presenting(await bearer(accounts)))
        assert finding.identity is not None
        assert finding.identity.user == USER
        assert (await union.find(presenting(b"nonsense"))).failures


# The file of accounts

OBJECTS = """\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: ci, name: builder, uid: 0f1e}, secrets: []}
- apiVersion: v1
  kind: ServiceAccount
  metadata: {namespace: ci, name: going, uid: a, deletionTimestamp: "2026-01-01T00:00:00Z"}
---
apiVersion: v1
kind: PodList
items: [{apiVersion: v1, kind: Pod, metadata: {namespace: ci, name: runner, uid: p1}, spec: {}}]
---
{apiVersion: v1, kind: Node, metadata: {name: node-1, uid: n1}}
"""


async def test_accounts_file(tmp_path: Path) -> None:
    """Objects as kubectl writes them; what is being deleted is gone."""
    path = tmp_path / "accounts.yaml"
    path.write_text(OBJECTS)
    accounts = StaticAccounts.load(path)
    assert await accounts.account("ci", "builder") == UID
    assert await accounts.account("ci", "going") is None
    assert await accounts.account("other", "builder") is None
    assert await accounts.bound("Pod", "ci", "runner") == "p1"
    assert await accounts.bound("Node", "", "node-1") == "n1"
    assert await accounts.bound("Node", "ci", "node-1") is None
    assert repr(accounts) == "StaticAccounts(1 accounts)"


def test_bad_accounts_file(tmp_path: Path) -> None:
    """Each mistake with its line and path."""
    path = tmp_path / "accounts.yaml"
    path.write_text(
        "text\n---\n{kind: ConfigMap, apiVersion: v1}\n---\n{kind: ServiceAccount, apiVersion: v1}\n---\n"
        "{kind: ServiceAccount, apiVersion: v1, metadata: {name: A B, namespace: '', uid: 5}}\n---\n"
        "{kind: Node, apiVersion: v1, metadata: {name: a, uid: b}}\n---\n"
        "{kind: NodeList, items: [{kind: Node, apiVersion: v1, metadata: {name: a, uid: c}}]}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        StaticAccounts.load(path)
    assert [str(each).replace(str(path), "F") for each in caught.value.problems] == [
        "F:1: must be an object",
        "F:3: kind: must be one of ServiceAccount, Pod, Secret, Node, of apiVersion v1",
        "F:5: metadata: Required value",
        "F:7: metadata.uid: must be a text, not a whole number",
        "F:7: metadata.name: must be the name of an object",
        "F:7: metadata.namespace: must be the name of a namespace",
        "F:7: metadata.uid: Required value",
        "F:11: Node a is listed twice",
    ]


@pytest.mark.parametrize("key_", [("ConfigMap", "a", "b"), ("Pod", "a", "b")])
def test_bad_accounts(key_: tuple[str, str, str]) -> None:
    """Another kind, or an empty uid, which anything without one would be equal to."""
    with pytest.raises(ValueError, match=r"must be one of|uid is empty"):
        StaticAccounts({key_: "" if key_[0] == "Pod" else "u"})
