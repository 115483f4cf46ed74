"""Access reviews over HTTP: in a front proxy, in its discovery, in each form, for whom the policy lets ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from aggmw import FrontProxy, Identity
from aggmw.contracts.identity import EXPLICIT
from aggmw.contracts.kinds import Object
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import CasbinAuthorizer, access_reviews
from aggmw.objects.protobuf import PROTOBUF, decode, encode
from aggmw.testing import Client

POLICY = """\
p, group:system:authenticated, create, authorization.k8s.io, selfsubjectaccessreviews|selfsubjectrulesreviews, *, *
p, user:server, create, authorization.k8s.io, subjectaccessreviews, *, *
p, user:lead, create, authorization.k8s.io, localsubjectaccessreviews, dev, *
p, group:devs, get|list, core, pods, dev, *
p2, group:system:authenticated, get, /apis|/apis/*|/openapi/*
"""
TOKENS = StaticTokens(
    {
        name: Identity(name, groups=("devs",) if name == "ann" else (), credential=EXPLICIT)
        for name in ("ann", "server", "lead")
    }
)
BASE = "/apis/authorization.k8s.io/v1"
GET_POD = {"verb": "get", "resource": "pods", "namespace": "dev", "name": "p"}


@pytest.fixture
def client() -> Client:
    authorizer = CasbinAuthorizer.from_text(POLICY)
    return Client(FrontProxy(authentication=[TOKENS], authorization=authorizer, kinds=access_reviews(authorizer)))


def review(kind: str, **spec: Any) -> Object:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}


def token(name: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"} | {key.replace("_", "-"): value for key, value in headers.items()}


async def test_may_i(client: Client) -> None:
    """201 with the object and its status."""
    asked = review("SelfSubjectAccessReview", resourceAttributes=GET_POD)
    response = await client.request(
        "POST", f"{BASE}/selfsubjectaccessreviews", token("ann"), body=json.dumps(asked).encode()
    )
    assert (response.status, response.header("content-type")) == (201, b"application/json")
    status = {"allowed": True, "reason": "policy:4: p, group:devs, get|list, core, pods, dev, *, allow"}
    assert response.json() == {**asked, "metadata": {}, "status": status}


async def test_protobuf_in_and_out(client: Client) -> None:
    """As Go clients of the typed API ask, `kubectl` among them."""
    asked = review("SubjectAccessReview", resourceAttributes=GET_POD, user="bob", groups=["devs"])
    headers = token("server", content_type=PROTOBUF, accept=f"{PROTOBUF},application/json")
    response = await client.request("POST", f"{BASE}/subjectaccessreviews", headers, body=encode(asked))
    assert (response.status, response.header("content-type")) == (201, PROTOBUF.encode())
    assert decode(response.body)["status"]["allowed"] is True


async def test_what_a_delegating_server_sends(client: Client) -> None:
    """The request of `DelegatingAuthorizationOptions` (k8s.io/apiserver 0.37.2), as it was recorded."""
    body = (
        b'{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{"resourceAttributes":'
        b'{"namespace":"dev","verb":"list","group":"","version":"v1","resource":"pods","fieldSelector":{"requirements":'
        b'[{"key":"a","operator":"NotIn","values":["b"]},{"key":"metadata.name","operator":"In","values":["one"]}]}},'
        b'"user":"bob","groups":["devs","system:authenticated"],"extra":{"example.com/team":["a","b"]},"uid":"7"},'
        b'"status":{"allowed":false}}\n'
    )
    headers = token("server", content_type="application/json", accept="application/json, */*")
    response = await client.request("POST", f"{BASE}/subjectaccessreviews?timeout=10s", headers, body=body)
    assert (response.status, response.header("content-type")) == (201, b"application/json")
    assert response.json()["status"]["allowed"] is True


async def test_yaml_in_and_out(client: Client) -> None:
    """A manifest as it lies in a file."""
    body = b"spec:\n  user: bob\n  resourceAttributes: {verb: get, resource: pods, namespace: dev}\n"
    headers = token("lead", content_type="application/yaml", accept="application/yaml")
    response = await client.request("POST", f"{BASE}/namespaces/dev/localsubjectaccessreviews", headers, body=body)
    assert response.status == 201
    answer = yaml.safe_load(response.body)
    assert (answer["metadata"], answer["status"]) == ({"namespace": "dev"}, {"allowed": False})


async def test_what_may_i(client: Client) -> None:
    """The list of the shipped policy's rules."""
    asked = json.dumps(review("SelfSubjectRulesReview", namespace="dev")).encode()
    response = await client.request("POST", f"{BASE}/selfsubjectrulesreviews", token("ann"), body=asked)
    status = response.json()["status"]
    assert {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]} in status["resourceRules"]
    assert status["nonResourceRules"] == [{"verbs": ["get"], "nonResourceURLs": ["/apis", "/apis/*", "/openapi/*"]}]
    assert status["incomplete"] is False


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ann", "subjectaccessreviews"),
        ("ann", "namespaces/dev/localsubjectaccessreviews"),
        ("lead", "subjectaccessreviews"),
        ("lead", "namespaces/prod/localsubjectaccessreviews"),
        ("server", "namespaces/dev/localsubjectaccessreviews"),
    ],
)
async def test_asking_about_others_is_for_whom_the_policy_lets(client: Client, name: str, path: str) -> None:
    """Security: what others may do is known to those who may create the review, in the namespace that it is about."""
    response = await client.request("POST", f"{BASE}/{path}", token(name), body=b"{}")
    assert (response.status, response.json()["reason"]) == (403, "Forbidden")
    assert (await client.request("POST", f"{BASE}/{path}", body=b"{}")).status == 401


@pytest.mark.parametrize("path", ["namespaces/dev/subjectaccessreviews", "localsubjectaccessreviews"])
async def test_places_where_they_are_not(path: str) -> None:
    """What is in namespaces is created in one, what is not is not."""
    authorizer = CasbinAuthorizer.from_text("p, user:ann, *, *, *, *, *")
    proxy = FrontProxy(authentication=[TOKENS], authorization=authorizer, kinds=access_reviews(authorizer))
    assert (await Client(proxy).request("POST", f"{BASE}/{path}", token("ann"), body=b"{}")).status == 404


async def test_discovery_lists_them(client: Client) -> None:
    """With their scopes; OpenAPI has the namespace where there is one."""
    resources = (await client.request("GET", BASE, token("ann"))).json()["resources"]
    assert [(each["name"], each["kind"], each["namespaced"], each["verbs"]) for each in resources] == [
        ("localsubjectaccessreviews", "LocalSubjectAccessReview", True, ["create"]),
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview", False, ["create"]),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview", False, ["create"]),
        ("subjectaccessreviews", "SubjectAccessReview", False, ["create"]),
    ]
    accept = token("ann", accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
    (group,) = (await client.request("GET", "/apis", accept)).json()["items"]
    assert [each["scope"] for each in group["versions"][0]["resources"]] == ["Namespaced", *["Cluster"] * 3]
    index = (await client.request("GET", "/openapi/v3", token("ann"))).json()["paths"]
    url = index["apis/authorization.k8s.io/v1"]["serverRelativeURL"]
    paths = (await client.request("GET", url, token("ann"))).json()["paths"]
    assert f"{BASE}/namespaces/{{namespace}}/localsubjectaccessreviews" in paths
    assert f"{BASE}/localsubjectaccessreviews" not in paths
