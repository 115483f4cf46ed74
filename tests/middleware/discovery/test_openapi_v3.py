"""OpenAPI v3: one index, documents of the backends forwarded as the caller, and made where there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from tests.middleware.discovery.fakes import (
    FLUNDER,
    FLUNDERS,
    GROUP,
    VERSION,
    FakeResponse,
    FakeTransport,
    Running,
    header,
    info_of,
    json_answer,
    nothing,
    remote,
)

from aggmw.contracts.backends import UpstreamRequest
from aggmw.contracts.catalog import APIResource, APIVersion, GroupVersionKind
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware
from aggmw.middleware.discovery.names import BadDocument
from aggmw.middleware.discovery.openapi_document import generate
from aggmw.middleware.discovery.openapi_v3 import index, parse_index
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.objects.discovery import api_resource_list
from aggmw.objects.etags import digest
from aggmw.testing import Client, VirtualClock

Run = Callable[[Discovery], AbstractAsyncContextManager[Running]]
KEY = f"apis/{GROUP}/{VERSION}"
PATH = f"/openapi/v3/{KEY}"
LEGACY = api_resource_list(GROUP, VERSION, (FLUNDERS,))
HASH = "0A1B"


def backend(paths: Any) -> Callable[[UpstreamRequest], FakeResponse]:
    """A server with lists, and with this in its index; None: without OpenAPI v3."""

    def answer(request: UpstreamRequest) -> FakeResponse:
        if request.target == b"/openapi/v3" and paths is not None:
            return json_answer({"paths": paths}, etag=b'"i"')
        if request.target == f"/apis/{GROUP}/{VERSION}".encode():
            return json_answer(LEGACY)
        return FakeResponse(404)

    return answer


def own(hash_: str = HASH) -> dict[str, Any]:
    """The index of a server that has its document."""
    return {KEY: {"serverRelativeURL": f"{PATH}?hash={hash_}"}}


def discovery(transport: FakeTransport) -> Discovery:
    return Discovery(StaticRoutes(make_routes([remote()])), transport, request_info=info_of)


async def test_index_is_merged(transport: FakeTransport, running: Run) -> None:
    """§4.3: our own paths with the backends' hashes, for what is registered for them and nothing else."""
    transport.backends[1] = backend({**own(), "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=EE"}})
    transport.backends[2] = lambda request: (
        json_answer({"paths": {"apis/b.io/v1": {"serverRelativeURL": "/openapi/v3/apis/b.io/v1"}, **own("STOLEN")}})
        if request.target == b"/openapi/v3"
        else FakeResponse(404)
    )
    routes = StaticRoutes(make_routes([remote(), remote("v1", "b.io", port=2)]))
    async with running(Discovery(routes, transport)) as served:
        response = await served.get("/openapi/v3", b"application/json, */*")
        assert response.body == (await served.get("/openapi/v3/")).body
    assert response.json() == {
        "paths": {
            "apis/b.io/v1": {"serverRelativeURL": "/openapi/v3/apis/b.io/v1"},
            KEY: {"serverRelativeURL": f"{PATH}?hash={HASH}"},
        }
    }
    assert response.header(b"content-type") == b"application/json"
    assert response.header(b"etag") == f'"{digest(response.body)}"'.encode()


@pytest.mark.parametrize(
    "target", [PATH, f"{PATH}?hash={HASH}", f"{PATH}?hash={HASH}&timeout=32s", f"{PATH}?timeout=3s"]
)
async def test_document_of_a_backend_is_forwarded(transport: FakeTransport, clock: VirtualClock, target: str) -> None:
    """§4.4: it is the caller who asks the backend, without a hash, so that the backend has nothing to redirect."""
    transport.backends[1] = backend(own())
    stage = discovery(transport)
    async with stage.running():
        await clock.advance(0.1)
        exchange = Exchange({"type": "http"}, (), request_info=RequestInfo(False, "get", "GET", PATH, target.encode()))
        assert await stage.decide(exchange) is None
    assert exchange.target == PATH.encode()


async def test_outdated_hash_of_a_backend(transport: FakeTransport, running: Run) -> None:
    """§4.4: answered here with 301 to the current one; the backend is not asked."""
    transport.backends[1] = backend(own())
    async with running(discovery(transport)) as served:
        response = await served.get(f"{PATH}?hash=OLD&timeout=32s")
    assert (response.status, response.header(b"location")) == (301, f"{PATH}?hash={HASH}".encode())


@pytest.mark.parametrize("mount", ["/kube", "/kube/", "//kube"])
async def test_redirect_stays_below_the_mount(transport: FakeTransport, clock: VirtualClock, mount: str) -> None:
    """A mounted proxy redirects to where the client sees it, never to another host."""
    transport.backends[1] = backend(own())
    stage = discovery(transport)
    async with stage.running():
        await clock.advance(0.1)
        client = Client(DiscoveryMiddleware(nothing, discovery=stage), root_path=mount)
        response = await client.request("GET", f"{PATH}?hash=OLD")
    assert response.header(b"location") == f"/kube{PATH}?hash={HASH}".encode()


async def test_generated_document(transport: FakeTransport, running: Run) -> None:
    """§4.5: for a backend that has none there is one all the same, under the hash of its content."""
    transport.backends[1] = backend(None)
    async with running(discovery(transport)) as served:
        relative = (await served.get("/openapi/v3")).json()["paths"][KEY]["serverRelativeURL"]
        plain = await served.get(PATH)
        named = await served.get(f"{relative}&timeout=32s", b"application/json")
        wrong = await served.get(f"{PATH}?hash=OLD")
        unchanged = await served.get(relative, if_none_match=plain.header(b"etag") or b"")
        protobuf = await served.get(PATH, b"application/com.github.proto-openapi.spec.v3@v1.0+protobuf")
    assert relative == f"{PATH}?hash={digest(plain.body)}"
    assert plain.header(b"cache-control") == b"no-cache, private"
    assert named.body == plain.body
    assert [value for name, value in named.headers if name == b"cache-control"] == [b"public, immutable"]
    assert named.header(b"vary") == b"Accept"
    days = (parsedate_to_datetime((named.header(b"expires") or b"").decode()) - parsedate_to_datetime(_now())).days
    assert days in (364, 365)
    assert (wrong.status, wrong.header(b"location")) == (301, relative.encode())
    assert (unchanged.status, unchanged.header(b"cache-control")) == (304, b"public, immutable")
    assert protobuf.status == 406


def _now() -> str:
    from email.utils import formatdate

    return formatdate(usegmt=True)


@pytest.mark.parametrize(
    "answer", [FakeResponse(403), json_answer(b"<html>"), json_answer({"paths": []}), FakeResponse(500)]
)
async def test_unreadable_index_is_none(transport: FakeTransport, running: Run, answer: FakeResponse) -> None:
    """A backend whose index is forbidden, broken or nonsense gets a generated document."""
    lists = backend(None)
    transport.backends[1] = lambda request: answer if request.target == b"/openapi/v3" else lists(request)
    async with running(discovery(transport)) as served:
        assert (await served.get(PATH)).json()["openapi"] == "3.0.0"


async def test_index_of_a_backend_that_went_away(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """The last good index is kept; each minute it is asked for with its tag."""
    transport.backends[1] = backend(own())
    async with running(discovery(transport)) as served:
        await clock.advance(61)
        [first, second] = [request for _, request in transport.requests if request.target == b"/openapi/v3"]
        assert (header(first, b"if-none-match"), header(second, b"if-none-match")) == ([], [b'"i"'])
        transport.backends.clear()
        await clock.advance(61)
        assert (await served.get("/openapi/v3")).json()["paths"][KEY]["serverRelativeURL"].endswith(HASH)


async def test_nothing_known_is_not_in_the_index(transport: FakeTransport, running: Run) -> None:
    """A version of which nobody knows a resource has no document to offer."""
    async with running(discovery(transport)) as served:
        assert (await served.get("/openapi/v3")).json() == {"paths": {}}
        assert (await served.get(PATH)).status == 418


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        (f"{PATH}?hash=AB", "AB"),
        (f"{PATH}?x=1&hash=AB", "AB"),
        (PATH, ""),
        (f"{PATH}?hash=a%0D%0Ab", ""),
        (f"{PATH}?hash={'A' * 300}", ""),
        (f"https://evil.example{PATH}?hash=AB", None),
        (f"//evil.example{PATH}?hash=AB", None),
        (f"/other{PATH}?hash=AB", None),
        ("/openapi/v3/apis/rbac.authorization.k8s.io/v1?hash=AB", None),
        ("http://[", None),
        (5, None),
    ],
)
def test_hostile_urls(relative: object, expected: str | None) -> None:
    """A backend names a hash, not where the caller's identity is sent."""
    found = parse_index({"paths": {KEY: {"serverRelativeURL": relative}}}, [(GROUP, VERSION)])
    assert found.get((GROUP, VERSION)) == expected


@pytest.mark.parametrize("document", [None, [], {}, {"paths": []}])
def test_no_index(document: object) -> None:
    """Anything without paths is no index."""
    with pytest.raises(BadDocument):
        parse_index(document, [(GROUP, VERSION)])


def test_index_is_read_back() -> None:
    """What is written is understood, the core group too."""
    written = json.loads(index([(GROUP, VERSION, "AB"), ("", "v1", "CD")]))
    assert list(written["paths"]) == [KEY, "api/v1"]
    assert parse_index(written, [(GROUP, VERSION), ("", "v1"), ("x", "v1")]) == {
        (GROUP, VERSION): "AB",
        ("", "v1"): "CD",
    }


def described(*resources: APIResource) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(generate(GROUP, APIVersion(VERSION, resources)) or b"")
    return document


def parameters(operation: dict[str, Any]) -> set[str]:
    return {each["name"] for each in operation["parameters"]}


def test_paths_of_a_namespaced_resource() -> None:
    """§4.6: collection, item, subresources and the list over all namespaces, each with the verbs that it has."""
    paths = described(FLUNDERS)["paths"]
    base = f"/apis/{GROUP}/{VERSION}"
    assert {path: sorted(set(item) - {"parameters"}) for path, item in paths.items()} == {
        f"{base}/namespaces/{{namespace}}/flunders": ["get", "post"],
        f"{base}/namespaces/{{namespace}}/flunders/{{name}}": ["delete", "get", "patch", "put"],
        f"{base}/namespaces/{{namespace}}/flunders/{{name}}/status": ["get", "patch", "put"],
        f"{base}/namespaces/{{namespace}}/flunders/{{name}}/scale": ["get"],
        f"{base}/flunders": ["get"],
    }
    item = paths[f"{base}/namespaces/{{namespace}}/flunders/{{name}}"]
    assert [each["name"] for each in item["parameters"]] == ["name", "namespace"]
    assert item["get"]["operationId"] == "readWardleExampleComV1alpha1NamespacedFlunder"
    status = paths[f"{base}/namespaces/{{namespace}}/flunders/{{name}}/status"]
    assert status["put"]["operationId"] == "replaceWardleExampleComV1alpha1NamespacedFlunderStatus"


def test_patch_is_what_kubectl_looks_for() -> None:
    """§4.5: without `fieldValidation` on the PATCH of this kind `kubectl create` aborts."""
    operation = described(FLUNDERS)["paths"][f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/flunders/{{name}}"][
        "patch"
    ]
    assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= parameters(operation)
    assert operation["x-kubernetes-group-version-kind"] == {"group": GROUP, "version": VERSION, "kind": "Flunder"}
    assert operation["x-kubernetes-action"] == "patch"
    assert set(operation["requestBody"]["content"]) == {
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    }


def test_creatable_kind_without_patch() -> None:
    """§4.5: kubectl looks for the PATCH of whatever it creates, also of kinds that can only be created."""
    paths = described(APIResource("reviews", FLUNDER, False, verbs=("create",)))["paths"]
    assert "fieldValidation" in parameters(paths[f"/apis/{GROUP}/{VERSION}/reviews/{{name}}"]["patch"])


def test_schemas() -> None:
    """§4.6: a schema for each kind and its list, with the kind in an array, open to unknown fields."""
    schemas = described(FLUNDERS)["components"]["schemas"]
    schema = schemas["com.example.wardle.v1alpha1.Flunder"]
    assert schema["x-kubernetes-group-version-kind"] == [{"group": GROUP, "version": VERSION, "kind": "Flunder"}]
    assert schema["x-kubernetes-preserve-unknown-fields"] is True
    assert schema["properties"]["metadata"]["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    ]
    assert "com.example.wardle.v1alpha1.FlunderList" in schemas
    assert "autoscaling.v1.Scale" in schemas
    document = described(FLUNDERS)
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for item in value for each in _references(item)]
    if isinstance(value, dict):
        here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return here + [each for item in value.values() for each in _references(item)]
    return []


def test_resource_without_a_kind() -> None:
    """An orphan's parent has no kind, and no paths."""
    assert described(APIResource("a", GroupVersionKind(), verbs=("get",)))["paths"] == {}
