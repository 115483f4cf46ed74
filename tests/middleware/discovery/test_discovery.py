"""The discovery stage: every path, from memory; what is not its own passes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from tests.middleware.discovery.fakes import (
    FLUNDERS,
    GROUP,
    KUBECTL,
    V2,
    VERSION,
    FakeResponse,
    FakeTransport,
    Running,
    info_of,
    json_answer,
    nothing,
    remote,
)

from aggmw.asgi.exchanges import Stages
from aggmw.contracts.backends import APIService
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware
from aggmw.middleware.registry import Registry, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoResolver
from aggmw.objects.discovery import api_resource_list
from aggmw.objects.etags import digest
from aggmw.testing import Client, VirtualClock

Run = Callable[[Discovery], AbstractAsyncContextManager[Running]]
LEGACY = api_resource_list(GROUP, VERSION, (FLUNDERS,))


def serving(transport: FakeTransport, *services: APIService, **options: object) -> Discovery:
    """A discovery of one server that knows lists only, and of further services."""
    transport.backends[1] = lambda request: (
        json_answer(LEGACY) if request.target == f"/apis/{GROUP}/{VERSION}".encode() else FakeResponse(404)
    )
    source = StaticRoutes(make_routes([remote(), *services]))
    return Discovery(source, transport, request_info=info_of, **options)  # type: ignore[arg-type]  # options vary


async def test_aggregated_document(transport: FakeTransport, running: Run) -> None:
    """§3.2: both roots in the form kubectl asks for, with the Content-Type it compares and the caching fields."""
    async with running(serving(transport)) as served:
        api, apis = await served.get("/api", KUBECTL), await served.get("/apis?timeout=32s", KUBECTL)
    assert api.json()["items"] == []
    [item] = apis.json()["items"]
    assert item["metadata"] == {"name": GROUP}
    assert [each["resource"] for each in item["versions"][0]["resources"]] == ["flunders"]
    assert apis.headers[:4] == (
        (b"content-type", V2),
        (b"etag", f'"{digest(apis.body)}"'.encode()),
        (b"vary", b"Accept"),
        (b"cache-control", b"public"),
    )


async def test_legacy_documents(transport: FakeTransport, running: Run) -> None:
    """§3.3: with and without a slash, because the Python clients ask with one."""
    async with running(serving(transport)) as served:
        for path, kind in (("/api", "APIVersions"), ("/apis", "APIGroupList"), (f"/apis/{GROUP}", "APIGroup")):
            plain, slash = await served.get(path), await served.get(f"{path}/", b"*/*")
            assert plain.status == slash.status == 200
            assert plain.body == slash.body
            assert plain.json()["kind"] == kind
            assert plain.header(b"content-type") == b"application/json"
        for path in (f"/apis/{GROUP}/{VERSION}", f"/apis/{GROUP}/{VERSION}/"):
            assert (await served.get(path, b"application/json")).json() == LEGACY


async def test_slash_is_legacy_only(transport: FakeTransport, running: Run) -> None:
    """§3.1: the aggregated form is for `/api` and `/apis` alone."""
    async with running(serving(transport)) as served:
        assert (await served.get("/apis/", KUBECTL)).json()["kind"] == "APIGroupList"
        assert (await served.get("/apis/", V2)).status == 406


async def test_not_acceptable(transport: FakeTransport, running: Run) -> None:
    """§3.1: when nothing fits, a Status names what would."""
    async with running(serving(transport)) as served:
        response = await served.get("/apis", b"application/vnd.kubernetes.protobuf")
        assert (await served.get(f"/apis/{GROUP}", b"text/html")).status == 406
    assert response.status == 406
    assert response.json()["reason"] == "NotAcceptable"
    assert response.json()["message"] == (
        f"only the following media types are accepted: application/json, {V2.decode()}"
    )


@pytest.mark.parametrize("accept", [KUBECTL, b"application/json"])
async def test_unchanged(transport: FakeTransport, running: Run, accept: bytes) -> None:
    """§3.2: the tag, byte for byte, gives 304 with the caching fields and no body; another tag does not."""
    async with running(serving(transport)) as served:
        full = await served.get("/apis", accept)
        tag = full.header(b"etag") or b""
        for presented in (tag, b'"x", ' + tag):
            unchanged = await served.get("/apis", accept, if_none_match=presented)
            assert (unchanged.status, unchanged.body) == (304, b"")
            assert unchanged.headers == tuple(
                field for field in full.headers if field[0] in (b"etag", b"vary", b"cache-control")
            )
        for presented in (tag.lower(), tag.strip(b'"'), b"W/" + tag, b"", b"*"):
            assert (await served.get("/apis", accept, if_none_match=presented)).status == 200


async def test_head(transport: FakeTransport, running: Run) -> None:
    """HEAD gives the head, with the body's length."""
    async with running(serving(transport)) as served:
        full, head = await served.get("/apis"), await served.get("/apis", method="HEAD")
    assert (head.status, head.body, head.headers) == (200, b"", full.headers)


@pytest.mark.parametrize("path", ["/api", "/apis", f"/apis/{GROUP}", f"/apis/{GROUP}/{VERSION}", "/version", "/readyz"])
async def test_other_methods(transport: FakeTransport, running: Run, path: str) -> None:
    """These documents are read only."""
    async with running(serving(transport)) as served:
        response = await served.get(path, method="POST")
    assert (response.status, response.header(b"allow")) == (405, b"GET, HEAD")
    assert response.json()["reason"] == "MethodNotAllowed"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/apis/unknown.io",
        "/apis/unknown.io/v1",
        f"/apis/{GROUP}/v2",
        f"/apis/{GROUP}/{VERSION}/flunders",
        "/api/v1",
        "/openapi/v2",
        "/openapi/v3/apis/unknown.io/v1",
        "/readyz/nosuch",
        "/apisx",
        "/API",
    ],
)
async def test_passes_on(transport: FakeTransport, running: Run, path: str) -> None:
    """What discovery does not know is the wrapped application's."""
    async with running(serving(transport)) as served:
        assert (await served.get(path)).status == 418


async def test_local_group_version(transport: FakeTransport, running: Run) -> None:
    """A local version is listed; only the wrapped application knows its resources, so no aggregated form hides them."""
    async with running(serving(transport, APIService("local.io", "v1", None, 2000))) as served:
        response = await served.get("/apis", KUBECTL)
        assert response.header(b"content-type") == b"application/json"
        assert [group["name"] for group in response.json()["groups"]] == ["local.io", GROUP]
        assert (await served.get("/apis/local.io")).status == 200
        assert (await served.get("/apis/local.io/v1")).status == 418
        assert (await served.get("/apis", V2)).status == 406


async def test_order_of_groups_and_versions(transport: FakeTransport, running: Run) -> None:
    """§1.9: groups by priority, versions by maturity; the first version is the preferred one, in both forms."""
    services = [remote("v1beta1"), remote("v2"), remote("v1"), APIService("first.io", "v1", remote().backend, 20000)]
    async with running(serving(transport, *services)) as served:
        legacy, aggregated = (await served.get("/apis")).json(), (await served.get("/apis", KUBECTL)).json()
    assert [group["name"] for group in legacy["groups"]] == ["first.io", GROUP]
    versions = ["v2", "v1", "v1beta1", VERSION]
    assert [each["version"] for each in legacy["groups"][1]["versions"]] == versions
    assert legacy["groups"][1]["preferredVersion"] == {"groupVersion": f"{GROUP}/v2", "version": "v2"}
    assert [item["metadata"]["name"] for item in aggregated["items"]] == ["first.io", GROUP]
    assert [each["version"] for each in aggregated["items"][1]["versions"]] == versions


async def test_no_services(transport: FakeTransport) -> None:
    """A front proxy without services still answers every discovery path, and is ready at once."""
    served = Running(Discovery(StaticRoutes(), transport, request_info=info_of, server_address="proxy:6443"))
    assert (await served.get("/apis", KUBECTL)).json()["items"] == []
    assert (await served.get("/apis")).json()["groups"] == []
    assert (await served.get("/api")).json()["serverAddressByClientCIDRs"] == [
        {"clientCIDR": "0.0.0.0/0", "serverAddress": "proxy:6443"}
    ]
    assert (await served.get("/openapi/v3")).json() == {"paths": {}}
    assert (await served.get("/readyz")).body == b"ok"
    assert served.discovery.has_work is False


async def test_version(transport: FakeTransport, running: Run) -> None:
    """§3.5: with and without a slash."""
    async with running(serving(transport)) as served:
        plain, slash = await served.get("/version?timeout=32s"), await served.get("/version/")
    assert plain.body == slash.body
    assert plain.json()["major"] == "1"


async def test_health_paths(transport: FakeTransport, running: Run) -> None:
    """§3.6: readiness knows of discovery, further checks and shutdown; a process that drains is alive."""

    class Broken:
        name = "database"

        def check(self) -> str | None:
            return "down"

    drain = Drain()
    async with running(serving(transport, checks=[Broken()], drain=drain)) as served:
        assert (await served.get("/readyz?verbose&exclude=database")).text.splitlines() == [
            "[+]ping ok",
            "[+]poststarthook/apiservice-discovery-controller ok",
            "[+]database excluded: ok",
            "[+]shutdown ok",
            "readyz check passed",
        ]
        assert (await served.get("/readyz/poststarthook/apiservice-discovery-controller")).text == "ok"
        assert (await served.get("/readyz/database")).status == 500
        drain.begin()
        assert (await served.get("/readyz/shutdown")).status == 500
        assert (await served.get("/livez")).text == (await served.get("/healthz/ping")).text == "ok"
        assert (await served.get("/livez/shutdown")).status == 418


async def test_warning_of_a_stale_list(transport: FakeTransport, clock: VirtualClock) -> None:
    """Peers row 22: the list of a backend that is gone says that it is old."""
    discovery = serving(transport)
    info = RequestInfo(False, "get", "GET", f"/apis/{GROUP}/{VERSION}", b"/")
    async with discovery.running():
        await clock.advance(0.1)
        fresh = Exchange({"type": "http"}, (), request_info=info)
        await discovery.decide(fresh)
        transport.backends.clear()
        await clock.advance(61)
        stale = Exchange({"type": "http"}, (), request_info=info)
        answer = await discovery.decide(stale)
    assert answer is not None
    assert answer.status == 200
    assert fresh.warnings == []
    assert stale.warnings == [f"{VERSION}.{GROUP}: its server cannot be asked; this is what it last said"]


async def test_resource_requests_pass(transport: FakeTransport) -> None:
    """A request for a resource is never discovery's, whatever its path."""
    exchange = Exchange({"type": "http"}, (), request_info=RequestInfo(True, "list", "GET", "/apis", b"/apis"))
    assert await serving(transport).decide(exchange) is None


async def test_missing_request_info_is_an_error(transport: FakeTransport) -> None:
    """Mounted without the stage before it, it says which one is missing."""
    with pytest.raises(MissingInput, match="put request_info in front of discovery"):
        await Discovery(StaticRoutes(), transport).decide(Exchange({"type": "http"}, ()))


async def test_alone_in_an_application(transport: FakeTransport, clock: VirtualClock) -> None:
    """Its background work runs with the lifespan, also around an application that has none."""
    client = Client(DiscoveryMiddleware(nothing, discovery=serving(transport)))
    async with client.lifespan():
        await clock.advance(0.1)
        assert (await client.request("GET", f"/apis/{GROUP}/{VERSION}")).json() == LEGACY
    assert transport.now == 0


async def test_in_the_stack(transport: FakeTransport, clock: VirtualClock) -> None:
    """Between the parser and the registry: documents from memory, and a backend for what is to be forwarded."""
    lists = serving(transport)
    answer = transport.backends[1]
    path = f"/openapi/v3/apis/{GROUP}/{VERSION}"
    index = {"paths": {path.removeprefix("/openapi/v3/"): {"serverRelativeURL": f"{path}?hash=AB"}}}
    transport.backends[1] = lambda request: json_answer(index) if request.target == b"/openapi/v3" else answer(request)
    seen: list[Exchange] = []

    class Last:
        async def decide(self, exchange: Exchange) -> None:
            seen.append(exchange)

    registry = Registry(StaticRoutes(make_routes([remote()])))
    client = Client(Stages(nothing, RequestInfoResolver(), lists, registry, Last()))
    async with lists.running():
        await clock.advance(0.1)
        for target in ("/apis?timeout=32s", "/apis/", f"/apis/{GROUP}/{VERSION}?timeout=32s", "/readyz?verbose"):
            assert (await client.request("GET", target)).status == 200
        assert seen == []
        assert (await client.request("GET", f"{path}?hash=AB&timeout=32s")).status == 418
        assert (await client.request("GET", f"/apis/{GROUP}/{VERSION}/flunders")).status == 418
    assert [(each.backend, each.target) for each in seen] == [
        (remote().backend, path.encode()),
        (remote().backend, None),
    ]


async def test_not_opened(transport: FakeTransport) -> None:
    """Rule 4: with backends and without a lifespan what it knows is nothing: a 500 that says how to open it; the
    application's own paths are served all the same."""
    client = Client(DiscoveryMiddleware(nothing, discovery=serving(transport)))
    for path in ("/apis", "/readyz"):
        response = await client.request("GET", path)
        assert response.status == 500
        assert "async with discovery.running()" in response.json()["message"]
    assert (await client.request("GET", "/elsewhere")).status == 418


async def test_nothing_to_ask_needs_no_lifespan(transport: FakeTransport) -> None:
    """Without backends there is no background work to be missed."""
    stage = Discovery(StaticRoutes(), transport, request_info=info_of)
    assert (await Client(DiscoveryMiddleware(nothing, discovery=stage)).request("GET", "/apis")).status == 200


async def test_opened_twice(transport: FakeTransport, clock: VirtualClock) -> None:
    """By a lifespan and by hand, say: backends are asked once, until the last who opened it has closed it."""
    stage = serving(transport)
    async with stage.running():
        async with stage.running():
            await clock.advance(0.1)
        asked = len(transport.requests)
        await clock.advance(61)
        assert len(transport.requests) > asked
    asked = len(transport.requests)
    await clock.advance(61)
    assert len(transport.requests) == asked
