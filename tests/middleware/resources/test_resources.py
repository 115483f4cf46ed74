"""Virtual kinds over HTTP: alone, in a front proxy, in discovery, and beside registered servers."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest
import yaml

from aggmw import APIService, FrontProxy, Identity
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.catalog import APIResource, GroupVersionKind
from aggmw.contracts.identity import EXPLICIT
from aggmw.contracts.kinds import Object, WriteContext
from aggmw.errors import StatusError
from aggmw.middleware.authentication import SelfSubjectReviews, StaticTokens, TokenReviews
from aggmw.middleware.authorization import AllowAll, DenyAll
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.middleware.resources import ResourcesMiddleware, virtual
from aggmw.objects.protobuf import PROTOBUF, decode, encode
from aggmw.testing import Client

ANN = Identity("ann", groups=("devs",), credential=EXPLICIT)
TOKENS = StaticTokens({"t": ANN})
TOKEN = {"authorization": "Bearer t"}
KINDS = [TokenReviews([TOKENS]), SelfSubjectReviews(clock=lambda: 0.0)]
BASE = "/apis/authentication.k8s.io/v1"
WHO, REVIEWS = f"{BASE}/selfsubjectreviews", f"{BASE}/tokenreviews"
WIDGETS = "/apis/example.com/v1/widgets"
BECAUSE = Verdict(Outcome.ALLOW)
ME: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


class Widgets:
    """A kind of an embedder's, whose fields nobody has described."""

    group, version = "example.com", "v1"
    resource = APIResource(
        "widgets", GroupVersionKind("example.com", "v1", "Widget"), namespaced=False, verbs=("create",)
    )

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[tuple[Object, WriteContext]] = []
        self._error = error

    async def create(self, value: Object, context: WriteContext) -> Object:
        self.seen.append((value, context))
        if self._error is not None:
            raise self._error
        context.warnings.append("mind the gap")
        return {**value, "answer": 42}


def proxy(**options: Any) -> Client:
    given: dict[str, Any] = {"authentication": [TOKENS], "authorization": AllowAll(), "kinds": KINDS}
    return Client(FrontProxy(**given | options))


async def said(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"of the application"})


def alone(kind: Any, app: ASGIApp = said, verdict: Outcome = Outcome.ALLOW) -> Client:
    stage = ResourcesMiddleware(
        app, kinds=[kind], identity=lambda exchange: ANN, verdict=lambda exchange: Verdict(verdict)
    )
    return Client(RequestInfoMiddleware(stage))


async def test_json() -> None:
    """201 with the object."""
    response = await proxy().request("POST", WHO, TOKEN, body=json.dumps(ME).encode())
    assert response.status == 201
    assert response.header("content-type") == b"application/json"
    assert response.json() == {
        **ME,
        "metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"},
        "status": {"userInfo": {"username": "ann", "groups": ["devs", "system:authenticated"]}},
    }


async def test_protobuf_in_and_out() -> None:
    """As kubectl 1.37 asks."""
    headers = TOKEN | {"content-type": PROTOBUF, "accept": f"{PROTOBUF},application/json"}
    response = await proxy().request("POST", WHO, headers, body=encode(ME))
    assert (response.status, response.header("content-type")) == (201, PROTOBUF.encode())
    assert decode(response.body)["status"]["userInfo"]["username"] == "ann"


async def test_yaml_in_and_out() -> None:
    """A manifest as it lies in a file."""
    headers = TOKEN | {"content-type": "application/yaml", "accept": "application/yaml"}
    response = await proxy().request("POST", REVIEWS, headers, body=b"spec:\n  token: t\n")
    assert response.status == 201
    assert yaml.safe_load(response.body)["status"]["user"]["username"] == "ann"


async def test_dry_run_and_field_validation() -> None:
    """`dryRun=All` is told to the kind; unknown fields are a warning by default, an error when strict."""
    body = b'{"spec": {"token": "t"}, "foo": 1}'
    response = await proxy().request("POST", REVIEWS, TOKEN, body=body)
    assert (response.status, response.header("warning")) == (201, b'299 - "unknown field \\"foo\\""')
    response = await proxy().request("POST", f"{REVIEWS}?fieldValidation=Strict", TOKEN, body=body)
    assert (response.status, response.json()["reason"]) == (400, "BadRequest")
    widgets = Widgets()
    await alone(widgets).request("POST", "/apis/example.com/v1/widgets?dryRun=All", body=b"{}")
    assert widgets.seen[0][1].dry_run is True


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("dryRun=Some", 'dryRun: Unsupported value: "Some": supported values: "All"'),
        (
            "fieldValidation=Maybe",
            'fieldValidation: Unsupported value: "Maybe": supported values: "Ignore", "Strict", "Warn"',
        ),
    ],
)
async def test_options_that_are_none(query: str, message: str) -> None:
    """422, with the option and what it may be."""
    response = await proxy().request("POST", f"{WHO}?{query}", TOKEN, body=b"{}")
    assert (response.status, response.json()["reason"]) == (422, "Invalid")
    assert message in response.json()["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_only_create(method: str) -> None:
    """405: nothing is stored, so nothing can be read."""
    response = await proxy().request(method, WHO, TOKEN)
    assert (response.status, response.json()["reason"]) == (405, "MethodNotAllowed")
    assert response.header("allow") == b"POST"


@pytest.mark.parametrize("path", [f"{WHO}/x", f"{BASE}/namespaces/a/tokenreviews", f"{WHO}/x/status"])
async def test_no_names_and_no_namespaces(path: str) -> None:
    """404: they are cluster scoped, and have no names."""
    assert (await proxy().request("POST", path, TOKEN, body=b"{}")).status == 404


async def test_verb_in_the_path() -> None:
    """What was authorised is what is done: a deprecated verb in front of the resource is not the right to create."""
    stage = ResourcesMiddleware(said, kinds=KINDS, identity=lambda exchange: ANN, verdict=lambda exchange: BECAUSE)
    client = Client(RequestInfoMiddleware(stage, allow_proxy_prefix=True))
    for verb in ("proxy", "watch"):
        assert (await client.request("POST", WHO.replace("/v1/", f"/v1/{verb}/"), body=b"{}")).status == 405


async def test_kind_in_a_namespace() -> None:
    """A namespaced kind is created in a namespace, which it is told, and nowhere else."""
    widgets = Widgets()
    widgets.resource = replace(Widgets.resource, namespaced=True)
    client = alone(widgets)
    assert (await client.request("POST", "/apis/example.com/v1/namespaces/dev/widgets", body=b"{}")).status == 201
    assert widgets.seen[0][1].request_info.namespace == "dev"
    for path in ("widgets", "namespaces/dev/widgets/x", "namespaces/dev/widgets/x/status"):
        assert (await client.request("POST", f"/apis/example.com/v1/{path}", body=b"{}")).status == 404
    assert (await client.request("GET", "/apis/example.com/v1/namespaces/dev/widgets")).status == 405


async def test_large_body_is_413() -> None:
    """Security: a body is read up to 3 MiB, and no further."""
    response = await proxy().request("POST", WHO, TOKEN, body=b" " * (3 * 1024 * 1024 + 1))
    assert (response.status, response.json()["reason"]) == (413, "RequestEntityTooLarge")


async def test_compressed_body_is_415() -> None:
    """Security: nothing is unpacked."""
    response = await proxy().request("POST", WHO, TOKEN | {"content-encoding": "gzip"}, body=b"{}")
    assert response.status == 415


async def test_nothing_without_authorization() -> None:
    """Security: reviews are for whom the policy lets create them; 401 without a caller."""
    assert (await proxy(authorization=DenyAll()).request("POST", REVIEWS, TOKEN, body=b"{}")).status == 403
    assert (await proxy().request("POST", REVIEWS, body=b"{}")).status == 401


async def test_alone_without_a_verdict_is_a_500() -> None:
    """Security: standing alone it is no open oracle: a verdict that allows must have been left."""
    response = await alone(Widgets(), verdict=Outcome.NO_OPINION).request(
        "POST", "/apis/example.com/v1/widgets", body=b"{}"
    )
    assert response.status == 500
    assert "resources needs a verdict that allows" in response.json()["message"]


async def test_everything_else_passes() -> None:
    """Other resources of the same group, and other paths, are the application's."""
    for path in ("/apis/example.com/v1/others", "/", "/apis/example.com/v2/widgets"):
        assert (await alone(Widgets()).request("POST", path, body=b"{}")).status == 299


async def test_kind_of_an_embedder() -> None:
    """A kind that no table knows: its fields are its own, and it may warn."""
    response = await alone(Widgets()).request("POST", "/apis/example.com/v1/widgets", body=b'{"size": [1]}')
    assert response.json() == {"apiVersion": "example.com/v1", "kind": "Widget", "size": [1], "answer": 42}


async def test_kind_that_refuses() -> None:
    """Its StatusError is the answer."""
    error = StatusError(422, "Invalid", "no such size")
    response = await alone(Widgets(error)).request("POST", "/apis/example.com/v1/widgets", body=b"{}")
    assert (response.status, response.json()["message"]) == (422, "no such size")


async def test_kind_that_fails() -> None:
    """500 without a word of what it raised."""
    response = await alone(Widgets(RuntimeError("t0p-secret"))).request(
        "POST", "/apis/example.com/v1/widgets", body=b"{}"
    )
    assert response.status == 500
    assert b"t0p-secret" not in response.body


async def test_kind_that_does_not_end() -> None:
    """The request's own time is over some day: 504."""

    class Waiting(Widgets):
        async def create(self, value: Object, context: WriteContext) -> Object:
            return await asyncio.Future()

    response = await alone(Waiting()).request("POST", "/apis/example.com/v1/widgets?timeout=10ms", body=b"{}")
    assert (response.status, response.json()["reason"]) == (504, "Timeout")


async def test_discovery_lists_them() -> None:
    """In the group list, the resource list, the aggregated document and OpenAPI."""
    client = proxy()
    groups = (await client.request("GET", "/apis", TOKEN)).json()["groups"]
    assert [group["name"] for group in groups] == ["authentication.k8s.io"]
    resources = (await client.request("GET", BASE, TOKEN)).json()["resources"]
    assert [(each["name"], each["kind"], each["namespaced"], each["verbs"]) for each in resources] == [
        ("selfsubjectreviews", "SelfSubjectReview", False, ["create"]),
        ("tokenreviews", "TokenReview", False, ["create"]),
    ]
    accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    aggregated = (await client.request("GET", "/apis", TOKEN | accept)).json()
    assert [each["metadata"]["name"] for each in aggregated["items"]] == ["authentication.k8s.io"]
    index = (await client.request("GET", "/openapi/v3", TOKEN)).json()["paths"]
    document = await client.request("GET", index["apis/authentication.k8s.io/v1"]["serverRelativeURL"], TOKEN)
    assert list(document.json()["paths"])[:1] == [f"{BASE}/selfsubjectreviews"]


async def test_registered_server_goes_before_them() -> None:
    """A server that is registered for the group version serves all of it, also in discovery."""

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"of the server"})

    service = APIService.local("authentication.k8s.io", "v1", app=server)
    front_proxy = FrontProxy(authentication=[TOKENS], authorization=AllowAll(), kinds=KINDS, services=[service])
    async with front_proxy:
        assert (await Client(front_proxy).request("POST", WHO, TOKEN, body=b"{}")).status == 299


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        ([SelfSubjectReviews], TypeError),
        ([object()], TypeError),
        ([SelfSubjectReviews(), SelfSubjectReviews()], ValueError),
    ],
)
def test_mistakes_of_the_embedder(kinds: list[Any], error: type[Exception]) -> None:
    """They show when the front proxy is made."""
    with pytest.raises(error, match="kinds"):
        FrontProxy(kinds=kinds)


async def test_large_bodies_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security: reading and writing what is large holds up nobody else, and several wait for each other."""
    threads: list[int] = []

    def watched(work: Any) -> Any:
        def call(*values: Any) -> Any:
            threads.append(threading.get_ident())
            return work(*values)

        return call

    for name in ("decode_object", "encode_object"):
        monkeypatch.setattr(virtual, name, watched(getattr(virtual, name)))
    client = alone(Widgets())
    small, large = (json.dumps({"text": "x" * size}).encode() for size in (10, 20_000))
    assert (await client.request("POST", WIDGETS, body=small)).json()["answer"] == 42
    assert set(threads) == {threading.get_ident()}
    threads.clear()
    for answer in await asyncio.gather(*(client.request("POST", WIDGETS, body=large) for _ in range(3))):
        assert (answer.status, len(answer.json()["text"])) == (201, 20_000)
    assert len(threads) == 6
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
    assert (await client.request("POST", WIDGETS, body=large[:-1])).status == 400
