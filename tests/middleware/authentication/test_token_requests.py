"""TokenRequest: new tokens of service accounts over the API (wire contract §6.7)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.middleware.authentication.issuing import NOW, presenting
from tests.middleware.authentication.test_service_accounts import ISSUER, UID, USER, accounts_with, pem

from aggmw import FrontProxy, Identity
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.middleware.authentication import ServiceAccounts, StaticTokens, TokenCache, TokenRequests
from aggmw.objects.protobuf import PROTOBUF, decode, encode
from aggmw.testing import Client, Response

PATH = "/api/v1/namespaces/ci/serviceaccounts/builder/token"
KIND = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
TOKENS = StaticTokens({"t": Identity("admin")})


class Asked:
    """Allows everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.attributes: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.attributes.append(attributes)
        return Verdict(Outcome.ALLOW)


def proxy(accounts: ServiceAccounts, asked: Asked | None = None) -> Client:
    return Client(
        FrontProxy(
            authentication=[TOKENS, TokenCache([accounts], clock=lambda: NOW)],
            authorization=asked or Asked(),
            kinds=[TokenRequests(accounts)],
        )
    )


async def requested(client: Client, path: str = PATH, *, metadata: Any = None, **spec: Any) -> Response:
    body = {**KIND, "spec": spec} | ({} if metadata is None else {"metadata": metadata})
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    return await client.request("POST", path, headers, json.dumps(body).encode())


async def test_a_new_token() -> None:
    """201 with the token, for whom and how long by default; it is the account's, and only authorization decides."""
    accounts, asked = accounts_with(), Asked()
    response = await requested(proxy(accounts, asked))
    assert response.status == 201
    answer = response.json()
    assert answer["metadata"] == {
        "name": "builder",
        "namespace": "ci",
        "creationTimestamp": f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600}
    expires = f"{datetime.fromtimestamp(NOW + 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert answer["status"]["expirationTimestamp"] == expires
    identity = await accounts.authenticate(presenting(answer["status"]["token"]))
    assert identity is not None
    assert (identity.user, identity.uid) == (USER, UID)
    (attributes,) = asked.attributes
    assert (attributes.identity.user, attributes.verb, attributes.resource) == ("admin", "create", "serviceaccounts")
    assert (attributes.subresource, attributes.namespace, attributes.name) == ("token", "ci", "builder")


async def test_what_is_asked_for() -> None:
    """Audiences, life, and what it is bound to, whose uid need not be known; with a warning where life is cut."""
    accounts = accounts_with(max_seconds=7200.0)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "runner"}
    response = await requested(proxy(accounts), audiences=["vault"], expirationSeconds=9000, boundObjectRef=bound)
    answer = response.json()
    assert answer["spec"] == {"audiences": ["vault"], "expirationSeconds": 7200, "boundObjectRef": bound}
    assert b"requested expiration of 9000 seconds shortened to 7200 seconds" in (response.header("warning") or b"")
    token = answer["status"]["token"].encode()
    identity = await accounts.authenticate_token(token, frozenset({"vault"}))
    assert identity is not None
    assert identity.extra["authentication.kubernetes.io/pod-uid"] == ("p1",)


async def test_protobuf() -> None:
    """As kubectl and its libraries may send it."""
    accounts = accounts_with()
    headers = {"Authorization": "Bearer t", "Content-Type": PROTOBUF, "Accept": PROTOBUF}
    body = encode({**KIND, "spec": {"audiences": ["vault"], "expirationSeconds": 600}})
    response = await proxy(accounts).request("POST", PATH, headers, body)
    assert response.status == 201
    answer = decode(response.body)
    assert await accounts.authenticate_token(answer["status"]["token"].encode(), frozenset({"vault"}))


async def test_dry_run_has_no_token() -> None:
    """Nothing may come of it."""
    answer = (await requested(proxy(accounts_with()), f"{PATH}?dryRun=All")).json()
    assert answer["status"]["token"] == ""


@pytest.mark.parametrize(
    ("path", "spec", "metadata", "code", "message"),
    [
        (PATH, {"expirationSeconds": 599}, None, 422, "may not specify a duration less than 10 minutes"),
        (PATH, {"expirationSeconds": 0}, None, 422, "may not specify a duration less than 10 minutes"),
        (PATH, {"expirationSeconds": 1 << 33}, None, 422, "Too long"),
        (PATH, {}, {"name": "other"}, 400, "the name of the TokenRequest is not that of the URL (builder)"),
        (PATH, {}, {"namespace": "other"}, 400, "the namespace of the TokenRequest is not that of the URL (ci)"),
        (
            PATH,
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}},
            None,
            404,
            'pods "gone" not found',
        ),
        (PATH, {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1"}}, None, 404, 'pods "" not found'),
        (
            PATH,
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "runner", "uid": "x"}},
            None,
            409,
            "does not match the UID",
        ),
        (
            PATH,
            {"boundObjectRef": {"kind": "Job", "apiVersion": "v1", "name": "a"}},
            None,
            400,
            "can be bound to a Pod",
        ),
        (
            PATH,
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v2", "name": "a"}},
            None,
            400,
            "can be bound to a Pod",
        ),
        (PATH.replace("builder", "gone"), {}, None, 404, 'serviceaccounts "gone" not found'),
        (PATH.replace("/ci/", "/elsewhere/"), {}, None, 404, 'serviceaccounts "builder" not found'),
    ],
)
async def test_refused(path: str, spec: dict[str, Any], metadata: Any, code: int, message: str) -> None:
    """As Kubernetes refuses it: each mistake by itself, in words."""
    response = await requested(proxy(accounts_with()), path, metadata=metadata, **spec)
    assert (response.status, message in response.json()["message"]) == (code, True), response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("POST", "/api/v1/namespaces/ci/serviceaccounts", 404),
        ("GET", "/api/v1/namespaces/ci/serviceaccounts/builder", 404),
        ("POST", "/api/v1/serviceaccounts/builder/token", 404),
        ("POST", "/api/v1/namespaces/ci/serviceaccounts/builder/status", 404),
        ("POST", "/api/v1/namespaces/ci/pods/builder/token", 404),
        ("POST", "/apis/authentication.k8s.io/v1/tokenrequests", 404),
    ],
)
async def test_nothing_else_is_served(method: str, path: str, status: int) -> None:
    """Accounts are not read or written here, and no other path issues tokens."""
    body = json.dumps(KIND).encode()
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    assert (await proxy(accounts_with()).request(method, path, headers, body)).status == status


async def test_without_a_signing_key() -> None:
    """Where only others' tokens are verified, none can be asked for."""
    accounts = accounts_with()
    client = proxy(accounts)
    accounts.reload(keys=[pem("sa", private=False)])
    assert (await requested(client)).status == 405


async def test_discovery() -> None:
    """`/api/v1` lists it as Kubernetes does, so that clients find it; the account has no verbs."""
    client = proxy(accounts_with())
    (parent, token) = (await client.request("GET", "/api/v1", {"Authorization": "Bearer t"})).json()["resources"]
    assert (parent["name"], parent["kind"], parent["verbs"]) == ("serviceaccounts", "ServiceAccount", [])
    assert token == {
        "name": "serviceaccounts/token",
        "singularName": "",
        "namespaced": True,
        "group": "authentication.k8s.io",
        "version": "v1",
        "kind": "TokenRequest",
        "verbs": ["create"],
    }
    assert (await client.request("GET", "/api", {"Authorization": "Bearer t"})).json()["versions"] == ["v1"]


def test_mistakes() -> None:
    """They show when it is made: what issues nothing, a subresource that nobody lists, and one that is there twice."""
    accounts = accounts_with()
    with pytest.raises(TypeError, match="accounts"):
        TokenRequests(TOKENS)  # type: ignore[arg-type]
    one, other = TokenRequests(accounts), TokenRequests(accounts)
    with pytest.raises(ValueError, match="serviceaccounts of /v1 is given twice"):
        FrontProxy(kinds=[one, other])
    other.subresource = "scale"
    with pytest.raises(ValueError, match="serviceaccounts has no subresource scale"):
        FrontProxy(kinds=[other])
    other.subresource = ""
    with pytest.raises(ValueError, match="must have a group"):
        FrontProxy(kinds=[other])
    assert repr(one) == f"TokenRequests({accounts!r})"
