"""Issuers of tokens and service accounts as they are configured: from the file to an answer, and while it runs."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.config.again import read_again
from tests.middleware.authentication.issuing import claims, jwks, key, signed

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.config.tokens import service_accounts
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.testing import Client, Hold, IncompleteResponse, ReadHead, ScriptedBackend, Send, respond

URL = "https://idp.example"
ISSUERS = """\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: https://idp.example, audiences: [aggmw]}
  claimMappings: {username: {claim: sub, prefix: "idp:"}}
"""
ACCOUNTS = "{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: ci, name: builder, uid: u1}}\n"
CONFIG = """\
authentication:
  tokenFile: tokens.csv
  configurationFile: authentication.yaml
  keySets: {"https://idp.example": keys.json}
  serviceAccounts:
    issuer: https://proxy.example
    accounts: accounts.yaml
    signingKey: sa.key
authorization: {policy: policy.csv}
"""
POLICY = """\
p, user:alice, create, authentication.k8s.io, tokenreviews, *, *
p2, group:system:authenticated, get, /version
p2, user:idp:jane, get, /openid/v1/jwks
"""


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return make_ca("services")


@pytest.fixture
def place(authority: KeyPair, tmp_path: Path) -> Path:
    """A directory with everything that the configuration names."""
    files: dict[str, str | bytes] = {
        "clients.crt": make_ca("clients").certificate,
        "tokens.csv": "s3cr3t,alice,1\n",
        "policy.csv": POLICY,
        "authentication.yaml": ISSUERS,
        "keys.json": jwks(key("one")),
        "accounts.yaml": ACCOUNTS,
        "sa.key": key("sa").as_pem(private=True),
        "config.yaml": CONFIG,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    pair = issue_client(authority, "front-proxy")
    (tmp_path / "front-proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "front-proxy.key").write_bytes(pair.key)
    return tmp_path


def composed(place: Path) -> Composed:
    pair = ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")
    return compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair), Drain())


def mistakes(place: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        composed(place)
    return complaints(caught.value, place)


def complaints(error: ConfigurationError, place: Path) -> list[str]:
    return str(error).replace(f"{place}/", "").splitlines()


@asynccontextmanager
async def running(made: Composed) -> AsyncIterator[Client]:
    async with made.front_proxy:
        yield Client(made.front_proxy)


async def status(client: Client, token: bytes | str, path: str = "/version") -> int:
    bearer = token if isinstance(token, str) else token.decode()
    return (await client.request("GET", path, headers={"authorization": f"Bearer {bearer}"})).status


def jane(by: str = "one", **others: Any) -> bytes:
    now = time.time()
    return signed(claims(**({"exp": now + 600, "iat": now} | others)), key(by))


async def builder(place: Path, audiences: tuple[str, ...] = (), name: str = "builder") -> str:
    settings = load(place / "config.yaml").authentication.service_accounts
    assert settings is not None
    accounts, _ = service_accounts(settings, "")
    return (await accounts.issue("ci", name, audiences=audiences)).token


async def test_each_kind_of_token(place: Path) -> None:
    """Static tokens, service accounts and issuers elsewhere, side by side; a bad token is nobody's."""
    async with running(composed(place)) as client:
        for token in ("s3cr3t", jane(), await builder(place)):
            assert await status(client, token) == 200
            assert await status(client, token) == 200
        for token in ("unknown", jane("two"), jane(aud="other"), jane(sub="jane", exp=time.time() - 1)):
            assert await status(client, token) == 401


async def test_first_request_waits_for_the_keys(place: Path) -> None:
    """Nobody is refused because the keys are only just being read."""
    async with running(composed(place)) as client:
        assert await status(client, jane()) == 200


async def test_keys_are_published(place: Path) -> None:
    """At Kubernetes' paths, for those whom the policy lets get them."""
    async with running(composed(place)) as client:
        headers = {"authorization": f"Bearer {jane().decode()}", "accept": "application/json"}
        answer = await client.request("GET", "/openid/v1/jwks", headers=headers)
        assert answer.status == 200
        assert answer.header("content-type") == b"application/jwk-set+json"
        assert answer.header("cache-control") == b"public, max-age=300"
        (published,) = json.loads(answer.body)["keys"]
        assert published["kty"] == "EC"
        assert "d" not in published
        headers["if-none-match"] = (answer.header("etag") or b"").decode()
        assert (await client.request("GET", "/openid/v1/jwks", headers=headers)).status == 304
        assert (await client.request("POST", "/openid/v1/jwks", headers=headers)).status == 403
        assert await status(client, "s3cr3t", "/openid/v1/jwks") == 403
        assert await status(client, "unknown", "/openid/v1/jwks") == 401
        assert (await client.request("GET", "/.well-known/openid-configuration")).status == 401


@pytest.mark.parametrize(
    ("audiences", "asked", "meant"),
    [
        ((), [], None),
        ((), ["https://proxy.example"], ["https://proxy.example"]),
        (("vault",), ["vault", "bank"], ["vault"]),
        (("vault",), [], "nobody"),
        ((), ["vault"], "nobody"),
    ],
)
async def test_token_reviews(place: Path, audiences: tuple[str, ...], asked: list[str], meant: Any) -> None:
    """Another server asks whose token it is, and for whom: only for audiences that the token means."""
    async with running(composed(place)) as client:
        token = await builder(place, audiences)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        spec = {"token": token} | ({"audiences": asked} if asked else {})
        answer = await client.request(
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            headers={"authorization": "Bearer s3cr3t", "content-type": "application/json"},
            body=json.dumps(review | {"spec": spec}).encode(),
        )
        assert answer.status == 201
        status = json.loads(answer.body)["status"]
        assert status.get("authenticated", False) is (meant != "nobody")
        if meant != "nobody":
            assert status["user"]["username"] == "system:serviceaccount:ci:builder"
            assert status.get("audiences") == meant


async def test_token_file_is_read_again(place: Path) -> None:
    """A token that is taken off the list is nobody's at once, a new one somebody's; a mistake changes nothing."""
    made = composed(place)
    async with running(made) as client:
        assert [await status(client, each) for each in ("s3cr3t", "other")] == [200, 401]
        (place / "tokens.csv").write_text("other,bob,2\nbroken\n")
        with pytest.raises(ConfigurationError, match=r"tokens\.csv:2"):
            await read_again(made, "token file")
        assert [await status(client, each) for each in ("s3cr3t", "other")] == [200, 401]
        (place / "tokens.csv").write_text("other,bob,2\n")
        await read_again(made, "token file")
        assert [await status(client, each) for each in ("s3cr3t", "other")] == [401, 200]


async def test_issuers_are_read_again(place: Path) -> None:
    """Another mapping counts at once, also for a token that was remembered; a mistake changes nothing."""
    made = composed(place)
    async with running(made) as client:
        token = jane()
        assert await status(client, token, "/openid/v1/jwks") == 200
        path = place / "authentication.yaml"
        path.write_text(ISSUERS.replace("idp:", "other:"))
        await read_again(made, "issuers of tokens")
        assert await status(client, token, "/openid/v1/jwks") == 403
        assert await status(client, token) == 200
        path.write_text(ISSUERS.replace("https:", "http:"))
        with pytest.raises(ConfigurationError) as caught:
            await read_again(made, "issuers of tokens")
        assert complaints(caught.value, place) == [
            "authentication.yaml: jwt: has no issuer https://idp.example, for which a file of keys is configured",
            "authentication.yaml: jwt[0].issuer.url: Invalid value: http://idp.example: URL must begin with https://",
        ]
        assert await status(client, token) == 200


async def test_anonymous_is_read_again(place: Path) -> None:
    """Who may come without credentials changes with the file, both ways; a mistake changes nothing."""
    made = composed(place)
    path = place / "authentication.yaml"
    async with running(made) as client:
        for text, expected in [
            ("", 401),
            ("anonymous: {enabled: true}", 403),
            ("anonymous: {enabled: true, conditions: [{path: /healthz}]}", 401),
            ("anonymous: {enabled: true, conditions: [{path: /version}]}", 403),
            ("anonymous: {enabled: maybe}", 403),
            ("anonymous: {enabled: false}", 401),
            ("", 401),
        ]:
            path.write_text(f"{ISSUERS}{text}\n")
            if "maybe" in text:
                with pytest.raises(ConfigurationError, match=r"authentication\.yaml: anonymous\.enabled"):
                    await read_again(made, "issuers of tokens")
            else:
                await read_again(made, "issuers of tokens")
            assert (await client.request("GET", "/version")).status == expected
    (place / "config.yaml").write_text(
        CONFIG.replace("authentication:\n", "authentication:\n  anonymous: {paths: [/a]}\n")
    )
    made = composed(place)
    path.write_text(f"{ISSUERS}anonymous: {{enabled: true}}\n")
    with pytest.raises(ConfigurationError) as caught:
        await read_again(made, "issuers of tokens")
    assert complaints(caught.value, place) == [
        "config.yaml: authentication.anonymous: the file of issuers says it already"
    ]


async def test_c5_10_signed_tokens_in_the_cookie(place: Path) -> None:
    """Whoever may come by a token may come by it in the cookie, too; then pages need their origin listed."""
    (place / "config.yaml").write_text(CONFIG.replace("  tokenFile: tokens.csv\n", "  cookie: __Host-aggmw\n"))
    async with running(composed(place)) as client:
        for token in (jane().decode(), await builder(place)):
            cookie = ("Cookie", f"__Host-aggmw={token}")
            assert (await client.request("GET", "/version", [cookie])).status == 200
            page = ("Origin", "https://evil.example")
            assert (await client.request("POST", "/version", [cookie, page])).status == 403
            assert "origin" in (await client.request("POST", "/version", [cookie, page])).text
        for bad in ("s3cr3t", jane("two").decode(), jane().decode()[:-4]):
            assert (await client.request("GET", "/version", [("Cookie", f"__Host-aggmw={bad}")])).status == 401
    (place / "config.yaml").write_text(CONFIG.replace("  tokenFile", "  cookie: __Host-aggmw\n  tokenFile"))
    async with running(composed(place)) as client:
        for token in ("s3cr3t", jane().decode()):
            assert (await client.request("GET", "/version", [("Cookie", f"__Host-aggmw={token}")])).status == 200


async def test_token_requests(place: Path) -> None:
    """With a signing key tokens can be asked for over the API, by whom the policy lets; without one by nobody."""
    (place / "policy.csv").write_text(POLICY + "p, user:alice, create, core, serviceaccounts/token, ci, builder\n")
    path = "/api/v1/namespaces/ci/serviceaccounts/builder/token"
    alice = {"authorization": "Bearer s3cr3t"}
    async with running(composed(place)) as client:
        answer = await client.request("POST", path, alice, b"{}")
        assert answer.status == 201
        token = answer.json()["status"]["token"]
        assert await status(client, token) == 200
        assert (await client.request("POST", path, {"authorization": f"Bearer {token}"}, b"{}")).status == 403
        assert (await client.request("POST", path.replace("builder", "other"), alice, b"{}")).status == 403
    public = key("sa").as_pem(private=False)
    (place / "sa.pub").write_bytes(public)
    (place / "config.yaml").write_text(CONFIG.replace("signingKey: sa.key", "keys: [sa.pub]"))
    async with running(composed(place)) as client:
        assert await status(client, token) == 200
        assert (await client.request("POST", path, alice, b"{}")).status == 404


async def test_service_accounts_are_read_again(place: Path) -> None:
    """An account that is gone is nobody at once, also with a token that was remembered; so is one of a key that is."""
    made = composed(place)
    async with running(made) as client:
        token = await builder(place)
        assert await status(client, token) == 200
        (place / "accounts.yaml").write_text("")
        await read_again(made, "service accounts")
        assert await status(client, token) == 401
        (place / "accounts.yaml").write_text(ACCOUNTS)
        await read_again(made, "service accounts")
        assert await status(client, token) == 200
        (place / "sa.key").write_bytes(b"nonsense")
        with pytest.raises(ConfigurationError, match=r"sa\.key: holds no key in PEM"):
            await read_again(made, "service accounts")
        assert await status(client, token) == 200
        (place / "sa.key").write_bytes(key("sa2").as_pem(private=True))
        await read_again(made, "service accounts")
        assert await status(client, token) == 401
        assert await status(client, await builder(place)) == 200


@pytest.mark.parametrize(
    ("what", "name", "token"),
    [
        ("service accounts", "sa.key", builder),
        ("client CAs and CRLs", "clients.crt", None),
        ("client certificate for services", "front-proxy.crt", None),
    ],
)
async def test_requests_go_on_while_files_are_read(place: Path, what: str, name: str, token: Any) -> None:
    """A disk that does not answer holds up nobody: files are read in a thread, and what was there counts meanwhile."""
    made = composed(place)
    async with running(made) as client:
        bearer = "s3cr3t" if token is None else await token(place)
        before = (place / name).read_bytes()
        (place / name).unlink()
        os.mkfifo(place / name)  # reading it ends when somebody has written
        reading = asyncio.create_task(read_again(made, what))
        try:
            for _ in range(3):
                assert await status(client, bearer) == 200
            assert not reading.done()
        finally:
            await asyncio.to_thread((place / name).write_bytes, before)
        await reading
        assert await status(client, bearer) == 200


async def test_c5_11_watch_of_an_account_that_goes(place: Path) -> None:
    """C5.11: what is forwarded for an account ends when that is gone; another account's goes on."""
    (place / "accounts.yaml").write_text(ACCOUNTS + "---\n" + ACCOUNTS.replace("builder", "other"))
    stream = [ReadHead(), Send(respond(headers={"Transfer-Encoding": "chunked"}) + b"4\r\none\n\r\n"), Hold()]
    async with ScriptedBackend(stream) as server:
        (place / "config.yaml").write_text(CONFIG + f"services: {{paths: [{{path: /events/, url: '{server.url}'}}]}}\n")
        (place / "policy.csv").write_text("p2, group:system:serviceaccounts, get, /events/*\n")
        made = composed(place)
        async with running(made) as client:
            bearers = [{"authorization": f"Bearer {await builder(place, name=name)}"} for name in ("builder", "other")]
            async with (
                client.stream("GET", "/events/a", bearers[0]) as gone,
                client.stream("GET", "/events/a", bearers[1]) as stays,
            ):
                assert (await anext(gone), await anext(stays)) == (b"one\n", b"one\n")
                (place / "accounts.yaml").write_text(ACCOUNTS.replace("builder", "other"))
                await read_again(made, "service accounts")
                with pytest.raises(
                    IncompleteResponse
                ):  # a plain service's answer is not known to have an end of its own
                    await gone.read()
                assert not stays.complete


async def test_c5_11_watch_by_a_token_that_is_taken_off(place: Path) -> None:
    """C5.11: what is forwarded by a token of the list ends when that is off it; another one's goes on."""
    stream = [ReadHead(), Send(respond(headers={"Transfer-Encoding": "chunked"}) + b"4\r\none\n\r\n"), Hold()]
    async with ScriptedBackend(stream) as server:
        (place / "config.yaml").write_text(CONFIG + f"services: {{paths: [{{path: /events/, url: '{server.url}'}}]}}\n")
        (place / "policy.csv").write_text("p2, group:system:authenticated, get, /events/*\n")
        (place / "tokens.csv").write_text("s3cr3t,alice,1\nother,bob,2\n")
        made = composed(place)
        async with (
            running(made) as client,
            client.stream("GET", "/events/a", {"authorization": "Bearer s3cr3t"}) as gone,
            client.stream("GET", "/events/a", {"authorization": "Bearer other"}) as stays,
        ):
            assert (await anext(gone), await anext(stays)) == (b"one\n", b"one\n")
            (place / "tokens.csv").write_text("other,bob,2\n")
            await read_again(made, "token file")
            with pytest.raises(IncompleteResponse):
                await gone.read()
            assert not stays.complete


async def test_c5_11_watch_by_a_key_that_goes(place: Path) -> None:
    """C5.11: what is forwarded by a token ends with the token's key, of service accounts and of an issuer elsewhere."""
    stream = [ReadHead(), Send(respond(headers={"Transfer-Encoding": "chunked"}) + b"4\r\none\n\r\n"), Hold()]
    async with ScriptedBackend(stream) as server:
        (place / "config.yaml").write_text(CONFIG + f"services: {{paths: [{{path: /events/, url: '{server.url}'}}]}}\n")
        (place / "policy.csv").write_text("p2, group:system:authenticated, get, /events/*\n")
        made = composed(place)
        async with running(made) as client:
            account, elsewhere = await builder(place), jane()
            async with (
                client.stream("GET", "/events/a", {"authorization": f"Bearer {account}"}) as first,
                client.stream("GET", "/events/a", {"authorization": f"Bearer {elsewhere.decode()}"}) as second,
            ):
                assert (await anext(first), await anext(second)) == (b"one\n", b"one\n")
                for name in ("service accounts", "issuers of tokens"):
                    await read_again(made, name)
                (place / "sa.key").write_bytes(key("sa2").as_pem(private=True))
                await read_again(made, "service accounts")
                with pytest.raises(IncompleteResponse):
                    await first.read()
                assert not second.complete
                (place / "keys.json").write_bytes(jwks(key("two")))
                assert await status(client, jane("two"), "/version") == 403  # read again for this one, which is good
                with pytest.raises(IncompleteResponse):
                    await second.read()


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("anonymous: {enabled: true}", "/version", 403),
        ("anonymous: {enabled: true, conditions: [{path: /version}]}", "/version", 403),
        ("anonymous: {enabled: true, conditions: [{path: /healthz}]}", "/version", 401),
        ("anonymous: {enabled: false}", "/version", 401),
    ],
)
async def test_anonymous_of_the_file(place: Path, text: str, path: str, expected: int) -> None:
    """Who may come without credentials, as the file says; a bad token is no anonymous caller."""
    (place / "authentication.yaml").write_text(f"{ISSUERS}{text}\n")
    async with running(composed(place)) as client:
        assert (await client.request("GET", path)).status == expected
        assert await status(client, "unknown", path) == 401


def test_every_mistake_at_once(place: Path) -> None:
    """Of the configuration, of Kubernetes' file, of accounts and keys: each with its place."""
    (place / "config.yaml").write_text(CONFIG + "nothing: 1\n")
    assert mistakes(place)[0].startswith("config.yaml: nothing: is not a known key")
    (place / "config.yaml").write_text(CONFIG.replace("https://proxy.example", "https://idp.example"))
    (place / "authentication.yaml").write_text(ISSUERS.replace("claim: sub", "claim: sub, expression: claims.sub"))
    (place / "accounts.yaml").write_text("{kind: ServiceAccount}")
    (place / "sa.key").unlink()
    (place / "keys.json").write_text("{}")
    assert mistakes(place) == [
        "accounts.yaml:1: kind: must be one of ServiceAccount, Pod, Secret, Node, of apiVersion v1",
        "sa.key: cannot be read: No such file or directory",
        "keys.json: is no JSON Web Key Set: it has no list of keys",
        "authentication.yaml: jwt[0].issuer.url: Invalid value: https://idp.example: is the issuer of service account"
        " tokens",
        "authentication.yaml: jwt[0].claimMappings.username: Invalid value: claim and expression can't both be set",
    ]


def test_keys_that_need_others(place: Path) -> None:
    """Key sets and system names are of issuers in a file; anonymous is said once; service accounts need their keys."""
    (place / "config.yaml").write_text(
        "authentication:\n  keySets: {a: b}\n  systemNames: [c]\n  serviceAccounts: {signingKey: sa.key}\n"
    )
    assert mistakes(place) == [
        "config.yaml: authentication.keySets: needs configurationFile beside it",
        "config.yaml: authentication.systemNames: needs configurationFile beside it",
        "config.yaml: authentication.serviceAccounts.issuer: is missing",
        "config.yaml: authentication.serviceAccounts.accounts: is missing",
    ]
    (place / "config.yaml").write_text(
        "authentication: {configurationFile: authentication.yaml, anonymous: {paths: [/healthz]}}"
    )
    (place / "authentication.yaml").write_text(ISSUERS + "anonymous: {enabled: true}\n")
    assert mistakes(place) == ["config.yaml: authentication.anonymous: the file of issuers says it already"]
    (place / "config.yaml").write_text(CONFIG.replace("    signingKey: sa.key\n", ""))
    (place / "authentication.yaml").write_text(ISSUERS)
    assert mistakes(place) == [
        "config.yaml: authentication.serviceAccounts.keys: none is given, and no signingKey",
    ]
