"""How much one backend may say, and that saying it holds up nobody else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

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
    json_answer,
    remote,
)

from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.middleware.discovery import Discovery, limits, snapshot
from aggmw.middleware.discovery.aggregated import parse_group_discovery_list
from aggmw.middleware.discovery.controller import Learned, key_of
from aggmw.middleware.discovery.documents import parse_resource_list
from aggmw.middleware.discovery.limits import Offload, check_size
from aggmw.middleware.discovery.names import TooMuch
from aggmw.middleware.discovery.openapi_document import generate
from aggmw.middleware.discovery.snapshot import SnapshotBuilder
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.objects.discovery import api_resource_list
from aggmw.testing import VirtualClock

Run = Callable[[Discovery], AbstractAsyncContextManager[Running]]
TOO_MANY = "its discovery lists too many resources"
TOO_MANY_NAMES = "its discovery lists too many names for one resource"
EVERY_VERB = ["get", "list", "create", "update", "patch", "delete", "deletecollection", "watch"]


def resource(name: str, count: int = 0, **further: Any) -> dict[str, Any]:
    """One entry of an aggregated document."""
    return {
        "resource": name,
        "scope": "Namespaced",
        "responseKind": {"group": GROUP, "version": VERSION, "kind": "A"},
        "verbs": ["get"],
        "subresources": [{"subresource": f"s{n}", "verbs": ["get"]} for n in range(count)],
        **further,
    }


def aggregated(*versions: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A backend's aggregated document."""
    listed = [{"version": name, "freshness": "Current", "resources": entries} for name, entries in versions]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [{"metadata": {"name": GROUP}, "versions": listed}],
    }


def listing(*entries: dict[str, Any]) -> dict[str, Any]:
    """A backend's legacy document."""
    return {"kind": "APIResourceList", "groupVersion": f"{GROUP}/{VERSION}", "resources": list(entries)}


def large(resources: int, kind: str = "A") -> APIVersion:
    """A version whose documents are made in a thread."""
    names = [f"r{n}" for n in range(resources)]
    kinds = GroupVersionKind(GROUP, VERSION, kind)
    return APIVersion(VERSION, tuple(APIResource(name, kinds, verbs=tuple(EVERY_VERB)) for name in names))


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ([resource(f"r{n}") for n in range(limits.MAX_RESOURCES)], None),
        ([resource(f"r{n}") for n in range(limits.MAX_RESOURCES + 1)], TOO_MANY),
        ([resource("no name!") for _ in range(limits.MAX_RESOURCES + 1)], TOO_MANY),
        ([resource("a", limits.MAX_ENTRIES - 1)], None),
        ([resource("a", limits.MAX_ENTRIES)], TOO_MANY),
        ([resource("a", limits.MAX_ENTRIES // 2), resource("b", limits.MAX_ENTRIES // 2)], TOO_MANY),
        ([resource("a", verbs=["get"] * 33)], TOO_MANY_NAMES),
        ([resource("a", shortNames=["a"] * 33)], TOO_MANY_NAMES),
        ([resource("a", categories=["a"] * 33)], TOO_MANY_NAMES),
        ([resource("a", subresources=[{"subresource": "s", "verbs": ["get"] * 33}])], TOO_MANY_NAMES),
        ([resource("a", subresources=[{"subresource": "s", "acceptedTypes": [{}] * 33}])], TOO_MANY_NAMES),
        ([resource("a", verbs=["get"] * 32, shortNames=["a"] * 32, categories=["a"] * 32)], None),
    ],
)
def test_aggregated_is_limited(entries: list[dict[str, Any]], cause: str | None) -> None:
    """A hostile backend: a version that lists too much is not read, and the version beside it is."""
    found = parse_group_discovery_list(
        aggregated((VERSION, entries), ("v9", [resource("fine")])), {(GROUP, VERSION), (GROUP, "v9")}
    )
    first, second = found[GROUP, VERSION], found[GROUP, "v9"]
    assert isinstance(second, APIVersion)
    assert (first if isinstance(first, str) else None) == cause


def test_version_is_read_once() -> None:
    """What a backend lists twice is not read twice: the first counts."""
    document = aggregated((VERSION, [resource("first")]), *[(VERSION, [resource("a", 10_000)])] * 2)
    found = parse_group_discovery_list(document, {(GROUP, VERSION)})[GROUP, VERSION]
    assert isinstance(found, APIVersion)
    assert [each.name for each in found.resources] == ["first"]


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ([{"name": f"r{n}"} for n in range(limits.MAX_RESOURCES + 1)], TOO_MANY),
        ([{"name": f"r{n}/s"} for n in range(limits.MAX_RESOURCES + 1)], TOO_MANY),
        ([{"name": f"r/s{n}"} for n in range(limits.MAX_ENTRIES + 1)], TOO_MANY),
        ([{"name": "!"}] * (limits.MAX_ENTRIES + 1), TOO_MANY),
        ([{"name": "r", "verbs": ["get"] * 33}], TOO_MANY_NAMES),
        ([{"name": "r/s", "verbs": ["get"] * 33}], TOO_MANY_NAMES),
    ],
)
def test_list_is_limited(entries: list[dict[str, Any]], cause: str) -> None:
    """The legacy form has the same limits."""
    with pytest.raises(TooMuch, match=cause):
        parse_resource_list(listing(*entries), GROUP, VERSION)


def test_metrics_fit() -> None:
    """A metrics server lists each of its many metrics as a subresource of one resource."""
    entries = [{"name": f"pods/metric_{n}", "namespaced": True} for n in range(limits.MAX_ENTRIES)]
    [pods] = parse_resource_list(listing(*entries), GROUP, VERSION)
    assert len(pods.subresources) == limits.MAX_ENTRIES


@pytest.mark.parametrize("body", [b"[" * 200_000, b"[" + b"1.5," * 200_000, b"{}," * 200_000, b" " * 2_097_153])
def test_slow_documents_are_not_decoded(body: bytes) -> None:
    """Decoding cannot be interrupted: what has too many elements is refused before it, whatever they are."""
    with pytest.raises(TooMuch):
        check_size(body)


def test_usual_documents_are_decoded() -> None:
    """A megabyte of usual discovery has far fewer elements than are allowed."""
    documents = [api_resource_list(GROUP, VERSION, (FLUNDERS,)) for _ in range(2000)]
    body = json.dumps(documents, separators=(",", ":")).encode()
    assert len(body) > 1_000_000
    check_size(body[:1_000_000])


@pytest.mark.parametrize("aggregates", [True, False])
async def test_cause_is_told_and_nobody_else_is_affected(
    transport: FakeTransport, running: Run, aggregates: bool
) -> None:
    """A hostile backend: its group version says why it is not known; others are listed as ever."""
    many = aggregated((VERSION, [resource("a", verbs=["get"] * 33)]), ("v9", [resource("fine")]))
    old = listing({"name": "a", "verbs": ["get"] * 33})

    def hostile(request: Any) -> FakeResponse:
        if request.target == b"/apis" and aggregates:
            return json_answer(many, V2)
        return json_answer(old) if request.target.endswith(VERSION.encode()) else FakeResponse(404)

    transport.backends[1] = hostile
    transport.backends[2] = lambda request: (
        json_answer(api_resource_list("fine.io", "v1", ()))
        if request.target == b"/apis/fine.io/v1"
        else FakeResponse(404)
    )
    services = [remote(), remote("v9"), remote("v1", "fine.io", port=2)]
    async with running(Discovery(StaticRoutes(make_routes(services)), transport)) as served:
        response = await served.get(f"/apis/{GROUP}/{VERSION}")
        assert response.status == 503
        assert response.json()["message"].endswith(f"is not available: {TOO_MANY_NAMES}")
        assert (await served.get(f"/apis/{GROUP}/v9")).status == (200 if aggregates else 503)
        assert (await served.get("/apis/fine.io/v1")).status == 200


def test_openapi_document_is_limited() -> None:
    """What is made from discovery is many times its size: above the limit no document is offered."""
    body = generate(GROUP, large(250))
    assert body is not None
    assert len(body) <= limits.MAX_OPENAPI_BYTES
    kind = GroupVersionKind(GROUP, VERSION, "A")
    subresources = tuple(APISubresource(f"s{n}", kind, tuple(EVERY_VERB)) for n in range(limits.MAX_ENTRIES))
    assert generate(GROUP, APIVersion(VERSION, (APIResource("a", kind, subresources=subresources),))) is None
    kinds = (GroupVersionKind(GROUP, VERSION, f"{'A' * 250}{n % 10}") for n in range(limits.MAX_RESOURCES))
    long = tuple(APIResource(f"r{n}", each, verbs=tuple(EVERY_VERB)) for n, each in enumerate(kinds))
    assert generate(GROUP, APIVersion(VERSION, long)) is None


async def test_version_without_a_document_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a document a group version is listed all the same; the index leaves it out."""
    monkeypatch.setattr(snapshot, "generate", lambda group, version: None)
    routes = make_routes([remote()])
    known = {key_of(routes.services[0]): Learned(large(2), asked=True)}
    pages = SnapshotBuilder("", {}).build(routes, known).pages
    assert f"/apis/{GROUP}/{VERSION}" in pages
    assert f"/openapi/v3/apis/{GROUP}/{VERSION}" not in pages


async def test_large_work_is_off_the_loop() -> None:
    """A little is done at once, a lot in a thread, one after the other; what it raises arrives."""
    offload, threads, busy = Offload(), set[int](), threading.Lock()

    def work() -> int:
        assert busy.acquire(blocking=False)
        threads.add(threading.get_ident())
        busy.release()
        return 1

    def broken() -> None:
        raise TooMuch("x")

    assert await offload(limits.SMALL_BYTES, work) == 1
    assert threads == {threading.get_ident()}
    threads.clear()
    assert await asyncio.gather(*(offload(limits.SMALL_BYTES + 1, work) for _ in range(4))) == [1] * 4
    assert threading.get_ident() not in threads
    with pytest.raises(TooMuch):
        await offload(limits.SMALL_BYTES + 1, broken)


async def test_large_answer_is_encoded_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a prepared snapshot shows a large answer, also where routes are swapped by a request in between."""
    made: list[int] = []

    def recorded(group: str, version: APIVersion) -> bytes | None:
        made.append(threading.get_ident())
        return generate(group, version)

    monkeypatch.setattr(snapshot, "generate", recorded)
    routes = make_routes([remote()])
    [service] = routes.services
    builder, path = SnapshotBuilder("", {}), f"/apis/{GROUP}/{VERSION}"
    known = {key_of(service): Learned(large(50), asked=True)}
    early = builder.build(routes, known).pages[path]
    assert made == []
    await builder.prepare(routes, known, Offload())
    shown = builder.build(routes, known).pages[path]
    assert shown is not early
    assert len(made) == 1
    assert threading.get_ident() not in made
    newer = {key_of(service): Learned(large(50, "B"), asked=True)}
    assert builder.build(routes, newer).pages[path] is shown


async def test_unchanged_answer_is_not_described_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that only becomes stale, or whose index changes, costs no new documents."""
    made: list[str] = []

    def recorded(group: str, version: APIVersion) -> bytes | None:
        made.append(group)
        return generate(group, version)

    monkeypatch.setattr(snapshot, "generate", recorded)
    routes = make_routes([remote()])
    key, builder, offload = key_of(routes.services[0]), SnapshotBuilder("", {}), Offload()
    learned = Learned(large(50), asked=True)
    for each in (learned, replace(learned, cause="x"), replace(learned, openapi="AB"), replace(learned, openapi=None)):
        await builder.prepare(routes, {key: each}, offload)
        builder.build(routes, {key: each})
    assert made == [GROUP]


async def test_aggregated_document_is_joined_once() -> None:
    """The joined document of many group versions is made when one of them changes, before the snapshot is."""
    routes = make_routes([remote()])
    known = {key_of(routes.services[0]): Learned(large(300), asked=True)}
    builder = SnapshotBuilder("", {})
    await builder.prepare(routes, known, Offload())
    first, second = builder.build(routes, known).pages["/apis"], builder.build(routes, known).pages["/apis"]
    assert getattr(first, "aggregated", None) is getattr(second, "aggregated", 0)


async def test_changing_document_leaves_nothing_behind(
    transport: FakeTransport, running: Run, clock: VirtualClock
) -> None:
    """A document that changes at each refresh costs one reading a minute, and replaces what was there."""
    reads = 0

    def changing(request: Any) -> FakeResponse:
        nonlocal reads
        if request.target != b"/apis":
            return FakeResponse(404)
        reads += 1
        return json_answer(aggregated((VERSION, [resource(f"r{reads}")])), V2)

    transport.backends[1] = changing
    async with running(Discovery(StaticRoutes(make_routes([remote()])), transport)) as served:
        await clock.advance(60 * 5 + 1)
        assert reads == 6
        [group] = (await served.get("/apis", KUBECTL)).json()["items"]
        assert [each["resource"] for each in group["versions"][0]["resources"]] == ["r6"]
