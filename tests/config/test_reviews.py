"""Review APIs and the webhook, from a configuration to the front proxy that it comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.config.again import read_again

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.testing import Client, ScriptedBackend, respond

BASE = "/apis/authentication.k8s.io/v1"
CONFIG = """
authentication: {tokenFile: tokens.csv, audiences: [front], webhook: {kubeconfig: webhook.yaml}}
authorization: {policy: policy.csv}
"""
POLICY = """
p, group:system:authenticated, create, authentication.k8s.io, selfsubjectreviews, *, *
p, user:reviewer, create, authentication.k8s.io, tokenreviews, *, *
p, group:system:authenticated, create, authorization.k8s.io, selfsubjectaccessreviews|selfsubjectrulesreviews, *, *
p, user:reviewer, create, authorization.k8s.io, subjectaccessreviews, *, *
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "clients.crt").write_bytes(make_ca("clients").certificate)
    (tmp_path / "tokens.csv").write_text("token,alice,1\nother,reviewer,2\n")
    (tmp_path / "policy.csv").write_text(POLICY)
    pair = issue_client(make_ca("services"), "front-proxy")
    (tmp_path / "front-proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "front-proxy.key").write_bytes(pair.key)
    return tmp_path


def composed(place: Path, webhook: str) -> Composed:
    (place / "config.yaml").write_text(CONFIG)
    (place / "webhook.yaml").write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a"}}],
                "clusters": [{"name": "a", "cluster": {"server": webhook}}],
            }
        )
    )
    pair = ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")
    return compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair), Drain())


def answer(request: bytes) -> bytes:
    """A server that knows the token `elsewhere`."""
    review = json.loads(request.partition(b"\r\n\r\n")[2])
    known = review["spec"] == {"token": "elsewhere", "audiences": ["front"]}
    status = {"authenticated": True, "user": {"username": "eve"}} if known else {"error": "no"}
    return respond(201, body=json.dumps(review | {"status": status}).encode())


async def test_reviews_are_served(place: Path) -> None:
    """Everybody who is known may ask who that is; a reviewer may try out tokens, for the audiences of the file."""
    async with ScriptedBackend(answer) as server:
        proxy = composed(place, f"http://127.0.0.1:{server.port}").front_proxy
        client = Client(proxy)
        alice, reviewer = ({"authorization": f"Bearer {token}"} for token in ("token", "other"))
        body = b'{"spec": {"token": "token"}}'
        async with proxy:
            who = await client.request("POST", f"{BASE}/selfsubjectreviews", alice, body=b"{}")
            refused = await client.request("POST", f"{BASE}/tokenreviews", alice, body=body)
            review = (await client.request("POST", f"{BASE}/tokenreviews", reviewer, body=body)).json()["status"]
        assert who.json()["status"]["userInfo"]["username"] == "alice"
        assert refused.status == 403
        assert (review["user"]["username"], review["audiences"]) == ("alice", ["front"])


async def test_webhook_is_read_again(place: Path) -> None:
    """Another server counts at once, also for a token that the former one knew; a mistake changes nothing."""
    async with ScriptedBackend(answer) as server, ScriptedBackend(lambda request: respond(500)) as other:
        made = composed(place, f"http://127.0.0.1:{server.port}")
        client, eve = Client(made.front_proxy), {"authorization": "Bearer elsewhere"}
        async with made.front_proxy:
            assert (await client.request("GET", "/", eve)).status == 403
            (place / "webhook.yaml").write_text("{}")
            with pytest.raises(ConfigurationError, match=r"webhook\.yaml"):
                await read_again(made, "webhook of tokens")
            assert (await client.request("GET", "/", eve)).status == 403
            composed(place, f"http://127.0.0.1:{other.port}")  # writes the file
            await read_again(made, "webhook of tokens")
            assert (await client.request("GET", "/", eve)).status == 401
        assert other.requests


async def test_access_reviews_are_served(place: Path) -> None:
    """By the authorizer that decides on requests: the policy, and the privileged group before it."""
    base = "/apis/authorization.k8s.io/v1"
    path = {"path": "/metrics", "verb": "get"}
    async with ScriptedBackend(answer) as server:
        proxy = composed(place, f"http://127.0.0.1:{server.port}").front_proxy
        client = Client(proxy)
        alice, reviewer = ({"authorization": f"Bearer {token}"} for token in ("token", "other"))

        async def review(resource: str, token: dict[str, str], **spec: object) -> Any:
            body = json.dumps({"spec": spec}).encode()
            return (await client.request("POST", f"{base}/{resource}", token, body=body)).json()["status"]

        async with proxy:
            own = {"verb": "create", "group": "authorization.k8s.io", "resource": "selfsubjectaccessreviews"}
            assert (await review("selfsubjectaccessreviews", alice, resourceAttributes=own))["allowed"] is True
            assert await review("selfsubjectaccessreviews", alice, nonResourceAttributes=path) == {"allowed": False}
            assert len((await review("selfsubjectrulesreviews", alice, namespace="dev"))["resourceRules"]) == 2
            root = {"user": "root", "groups": ["system:masters"]}
            assert (await review("subjectaccessreviews", reviewer, nonResourceAttributes=path, **root))[
                "allowed"
            ] is True
            assert await review("subjectaccessreviews", alice, nonResourceAttributes=path, **root) == "Failure"


async def test_webhook_knows_tokens(place: Path) -> None:
    """Whom another server knows is known here; what it does not know is a 401."""
    async with ScriptedBackend(answer) as server:
        proxy = composed(place, f"http://127.0.0.1:{server.port}").front_proxy
        for token, status in (("elsewhere", 201), ("elsewhere", 201), ("wrong", 401), ("wrong", 401)):
            headers = {"authorization": f"Bearer {token}"}
            async with proxy:
                response = await Client(proxy).request("POST", f"{BASE}/selfsubjectreviews", headers, body=b"{}")
            assert response.status == status
        assert len(server.requests) == 2


def test_mistakes_in_the_kubeconfig(place: Path) -> None:
    """Every one of them, with its place, and nothing starts."""
    with pytest.raises(ConfigurationError) as caught:
        composed(place, "http://elsewhere.example")
    assert "webhook.yaml: clusters[0].cluster.server: Invalid value" in str(caught.value)


ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: dev}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]
"""


async def test_kubernetes_roles_let_everybody_ask(place: Path) -> None:
    """The default roles let everybody ask; the list is of roles and of the policy."""
    (place / "roles.yaml").write_text(ROLES)
    (place / "policy.csv").write_text("p, user:alice, list, core, pods, dev, *\n")
    (place / "config.yaml").write_text(
        "authentication: {tokenFile: tokens.csv}\nauthorization: {policy: policy.csv, rbac: [roles.yaml]}\n"
    )
    pair = ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")
    proxy = compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair), Drain()).front_proxy
    base, alice = "/apis/authorization.k8s.io/v1", {"authorization": "Bearer token"}
    pod = {"resource": "pods", "namespace": "dev"}
    async with proxy:
        for verb, allowed in (("get", True), ("list", True), ("delete", False)):
            body = json.dumps({"spec": {"resourceAttributes": pod | {"verb": verb}}}).encode()
            answer = await Client(proxy).request("POST", f"{base}/selfsubjectaccessreviews", alice, body=body)
            assert answer.json()["status"]["allowed"] is allowed
        body = b'{"spec": {"namespace": "dev"}}'
        answer = await Client(proxy).request("POST", f"{base}/selfsubjectrulesreviews", alice, body=body)
    status = answer.json()["status"]
    about_pods = [each["verbs"] for each in status["resourceRules"] if each["resources"] == ["pods"]]
    assert sorted(about_pods) == [["get"], ["list"]]
    assert status["incomplete"] is False
