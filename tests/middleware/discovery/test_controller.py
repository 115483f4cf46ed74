"""The background work: who is asked, as whom, how often, and what is kept when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest
from structlog.testing import capture_logs
from tests.middleware.discovery.fakes import (
    FLUNDERS,
    GROUP,
    KUBECTL,
    V2,
    VERSION,
    FakeResponse,
    FakeTransport,
    Running,
    header,
    json_answer,
    remote,
)

from aggmw.contracts.backends import UpstreamRequest
from aggmw.contracts.catalog import APIVersion
from aggmw.errors import UpstreamBroken, UpstreamUnreachable
from aggmw.middleware.discovery import Discovery, Timing
from aggmw.middleware.discovery.controller import DiscoveryController, Learned, key_of
from aggmw.middleware.discovery.limits import MAX_BYTES, Offload
from aggmw.middleware.discovery.snapshot import SnapshotBuilder
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.objects.discovery import api_resource_list, group_discovery, group_discovery_list, version_discovery
from aggmw.testing import VirtualClock

Run = Callable[[Discovery], AbstractAsyncContextManager[Running]]
AGGREGATED = group_discovery_list([group_discovery(GROUP, [version_discovery(APIVersion(VERSION, (FLUNDERS,)))])])
LEGACY = api_resource_list(GROUP, VERSION, (FLUNDERS,))


def aggregated(request: UpstreamRequest) -> FakeResponse:
    """A server that knows the aggregated document, with a tag, and nothing else."""
    if request.target != b"/apis":
        return FakeResponse(404)
    if header(request, b"if-none-match") == [b'"one"']:
        return FakeResponse(304)
    return json_answer(AGGREGATED, V2, b'"one"')


def legacy(request: UpstreamRequest) -> FakeResponse:
    """A server that knows only lists."""
    if request.target == f"/apis/{GROUP}/{VERSION}".encode():
        return json_answer(LEGACY)
    return FakeResponse(404)


def source(*services: object) -> StaticRoutes:
    return StaticRoutes(make_routes(services or [remote()]))  # type: ignore[arg-type]  # only APIServices are given


def asked(transport: FakeTransport, prefix: str = "/api") -> list[str]:
    """The discovery requests, without those for OpenAPI."""
    return [target for target in transport.targets() if target.startswith(prefix)]


async def freshness(running: Running) -> str:
    """What `/apis` says of the first version of the first group."""
    document = (await running.get("/apis", KUBECTL)).json()
    return str(document["items"][0]["versions"][0]["freshness"])


async def test_asked_as_the_aggregator(transport: FakeTransport, running: Run) -> None:
    """§3.4: `/apis` is asked for as system:kube-aggregator in system:masters, in the aggregated form, uncompressed."""
    transport.backends[1] = aggregated
    async with running(Discovery(source(), transport)):
        [request] = [request for _, request in transport.requests if request.target == b"/apis"]
    assert request.headers == (
        (b"X-Remote-User", b"system:kube-aggregator"),
        (b"X-Remote-Group", b"system:masters"),
        (b"accept", V2),
    )
    assert (request.method, request.body, request.timeout) == (b"GET", None, 5.0)


async def test_openapi_is_asked_as_nobody_in_particular(transport: FakeTransport, running: Run) -> None:
    """§4.3: the index is asked for as system:aggregator, without groups."""
    transport.backends[1] = aggregated
    async with running(Discovery(source(), transport)):
        [request] = [request for _, request in transport.requests if request.target == b"/openapi/v3"]
    assert request.headers == ((b"X-Remote-User", b"system:aggregator"), (b"accept", b"application/json"))
    assert request.timeout == 60.0


async def test_responses_are_given_back(transport: FakeTransport, running: Run) -> None:
    """Every answer is closed, so that its connection is free again."""
    transport.backends[1] = legacy
    async with running(Discovery(source(), transport)):
        assert transport.responses
        assert all(response.closed for response in transport.responses)


async def test_refreshed_each_minute_with_its_tag(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """§3.4: after a good answer a minute passes; then the tag is presented, and 304 keeps what is known."""
    transport.backends[1] = aggregated
    async with running(Discovery(source(), transport)) as served:
        await clock.advance(59)
        assert asked(transport) == ["/apis"]
        await clock.advance(2)
        assert asked(transport) == ["/apis", "/apis"]
        assert header(transport.requests[-1][1], b"if-none-match") in ([b'"one"'], [])
        assert await freshness(served) == "Current"
        assert len((await served.get(f"/apis/{GROUP}/{VERSION}")).json()["resources"]) == 3


async def test_unsolicited_304_is_not_believed(transport: FakeTransport, running: Run) -> None:
    """A 304 to a request without a tag says nothing: the lists are asked for."""
    transport.backends[1] = lambda request: FakeResponse(304) if request.target == b"/apis" else legacy(request)
    async with running(Discovery(source(), transport)) as served:
        assert asked(transport) == ["/apis", f"/apis/{GROUP}/{VERSION}"]
        assert await freshness(served) == "Current"


async def test_failures_back_off(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """§3.4: half a second after the first failure, doubling up to a minute; without chance in it."""
    times: list[float] = []

    def refused(request: UpstreamRequest) -> Exception:
        if request.target == b"/apis":
            times.append(clock.time())
        return UpstreamUnreachable("connection refused")

    transport.backends[1] = refused
    async with running(Discovery(source(), transport)):
        await clock.advance(250)
    pauses = [round(after - before, 1) for before, after in pairwise(times)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0][: len(pauses)]
    assert len(pauses) >= 9


async def test_success_ends_the_back_off(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """After a good answer the pauses begin anew."""
    times: list[float] = []

    def good_once(request: UpstreamRequest) -> FakeResponse | Exception:
        if request.target != b"/apis":
            return FakeResponse(404)
        times.append(clock.time())
        return aggregated(request) if len(times) == 4 else UpstreamUnreachable("connection refused")

    transport.backends[1] = good_once
    async with running(Discovery(source(), transport)):
        await clock.advance(66)
    assert [round(after - before, 1) for before, after in pairwise(times)] == [0.5, 1.0, 2.0, 60.0, 0.5, 1.0]


async def test_last_good_answer_is_kept(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """Peers row 22: a dead backend's resources stay, marked stale, and the list says so in a warning."""
    transport.backends[1] = aggregated
    async with running(Discovery(source(), transport)) as served:
        transport.backends[1] = lambda request: UpstreamBroken("the connection broke")
        await clock.advance(61)
        document = (await served.get("/apis", KUBECTL)).json()
        [version] = document["items"][0]["versions"]
        assert version["freshness"] == "Stale"
        assert [each["resource"] for each in version["resources"]] == ["flunders"]
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).json() == LEGACY
        transport.backends[1] = aggregated
        await clock.advance(61)
        assert await freshness(served) == "Current"


async def test_never_answered(transport: FakeTransport, running: Run) -> None:
    """§3.3: what cannot be asked is listed all the same; only its resources are a 503 that names the APIService."""
    async with running(Discovery(source(), transport)) as served:
        assert await freshness(served) == "Stale"
        assert (await served.get("/apis")).json()["groups"][0]["name"] == GROUP
        response = await served.get(f"/apis/{GROUP}/{VERSION}")
    assert response.status == 503
    assert response.header(b"retry-after") is None
    assert response.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'APIService "v1alpha1.wardle.example.com" is not available: connection refused',
        "reason": "ServiceUnavailable",
        "details": {
            "name": "v1alpha1.wardle.example.com",
            "group": "apiregistration.k8s.io",
            "kind": "apiservices",
        },
        "code": 503,
    }


async def test_not_asked_yet(transport: FakeTransport, running: Run) -> None:
    """§2.7: before anybody has answered, a 503 asks to come back soon."""
    transport.backends[1] = lambda request: None
    async with running(Discovery(source(), transport)) as served:
        response = await served.get(f"/apis/{GROUP}/{VERSION}")
    assert (response.status, response.header(b"retry-after")) == (503, b"1")


async def test_slow_backend_has_five_seconds(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """§3.4: an answer that does not come is a failure after five seconds, and its request is given up."""
    transport.backends[1] = lambda request: None
    async with running(Discovery(source(), transport)) as served:
        await clock.advance(5)
        response = await served.get(f"/apis/{GROUP}/{VERSION}")
    assert "no answer within 5 seconds" in response.json()["message"]
    assert transport.now == 0


async def test_readiness_waits_for_every_backend(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """§3.4: ready once every backend was asked, with whatever outcome; a later outage does not take that back."""
    transport.backends[1] = aggregated
    transport.backends[2] = lambda request: None
    routes = source(remote(), remote("v1", "slow.io", port=2))
    async with running(Discovery(routes, transport)) as served:
        assert (await served.get("/readyz")).status == 500
        assert (await served.get("/livez")).status == 200
        assert not served.discovery.ready
        await clock.advance(5.1)
        assert (await served.get("/readyz")).status == 200
        assert served.discovery.ready
        routes.swap(make_routes([remote("v1", "new.io", port=3)]))
        assert (await served.get("/readyz")).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        FakeResponse(404),
        FakeResponse(406),
        FakeResponse(403),
        FakeResponse(500),
        json_answer(AGGREGATED),
        json_answer(AGGREGATED, V2.replace(b"v=v2", b"v=v2beta1")),
        json_answer(b"", V2),
        json_answer(b"[" * 200_000, V2),
        json_answer({"kind": "Status"}, V2),
    ],
)
async def test_falls_back_to_lists(transport: FakeTransport, running: Run, answer: FakeResponse) -> None:
    """§3.4: whatever is not the aggregated document leads to `/apis/G/V`, asked for without any group."""
    transport.backends[1] = lambda request: answer if request.target == b"/apis" else legacy(request)
    async with running(Discovery(source(), transport)) as served:
        [request] = [request for _, request in transport.requests if request.target.endswith(VERSION.encode())]
        assert request.headers == ((b"X-Remote-User", b"system:kube-aggregator"), (b"accept", b"application/json"))
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).json() == LEGACY


async def test_503_does_not_fall_back(transport: FakeTransport, running: Run) -> None:
    """§3.4: a server that says 503 is not available, and is not asked further."""
    transport.backends[1] = lambda request: FakeResponse(503)
    async with running(Discovery(source(), transport)) as served:
        assert asked(transport) == ["/apis"]
        assert await freshness(served) == "Stale"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (FakeResponse(500), "its discovery was answered with status 500"),
        (FakeResponse(302, [(b"location", b"http://evil/")]), "its discovery was answered with status 302"),
        (json_answer(b"<html>"), "its discovery answer is not JSON"),
        (json_answer({"kind": "Status"}), "its discovery answer is not an APIResourceList"),
        (
            json_answer(api_resource_list("rbac.authorization.k8s.io", "v1", ())),
            "its discovery answer is an APIResourceList of another group version",
        ),
        (
            FakeResponse(200, [(b"content-encoding", b"gzip")], b"x"),
            "its answer is encoded, which nobody asked for",
        ),
        (json_answer(b" " * (MAX_BYTES + 1)), "its answer is larger than 2097152 bytes"),
    ],
)
async def test_hostile_list(transport: FakeTransport, running: Run, answer: FakeResponse, cause: str) -> None:
    """A backend that answers nonsense is stale, says why, and disturbs nobody else; no redirect is followed."""
    transport.backends[1] = lambda request: FakeResponse(404) if request.target == b"/apis" else answer
    transport.backends[2] = lambda request: (
        json_answer(api_resource_list("fine.io", "v1", ()))
        if request.target == b"/apis/fine.io/v1"
        else FakeResponse(404)
    )
    async with running(Discovery(source(remote(), remote("v1", "fine.io", port=2)), transport)) as served:
        response = await served.get(f"/apis/{GROUP}/{VERSION}")
        assert response.json()["message"].endswith(f": {cause}")
        assert (await served.get("/apis/fine.io/v1")).status == 200


async def test_fault_of_ours_is_a_failure(transport: FakeTransport, running: Run) -> None:
    """Even an unforeseen exception only makes that backend stale; the log has it."""
    transport.backends[1] = lambda request: RuntimeError("bug")
    transport.backends[2] = aggregated
    with capture_logs() as logs:
        async with running(Discovery(source(remote(port=2), remote("v1", "bad.io", port=1)), transport)) as served:
            assert (await served.get("/apis/bad.io/v1")).status == 503
            assert (await served.get(f"/apis/{GROUP}/{VERSION}")).status == 200
    assert {log["log_level"] for log in logs if "fault" in log["event"]} == {"error"}


async def test_one_request_for_all_versions_of_a_server(transport: FakeTransport, running: Run) -> None:
    """§3.4: APIServices of one server share one document, whatever they are called; what it lacks has no resources."""
    transport.backends[1] = aggregated
    async with running(Discovery(source(remote(), remote("v1"), remote("v1", "other.io")), transport)) as served:
        assert asked(transport) == ["/apis"]
        assert (await served.get("/apis/other.io/v1")).json()["resources"] == []
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).json() == LEGACY


async def test_core_group_of_a_backend(transport: FakeTransport, running: Run) -> None:
    """A remote core group is asked for below `/api`."""
    core = group_discovery_list([group_discovery("", [version_discovery(APIVersion("v1", (FLUNDERS,)))])])
    transport.backends[1] = lambda request: json_answer(core, V2) if request.target == b"/api" else FakeResponse(404)
    async with running(Discovery(source(remote("v1", "")), transport)) as served:
        assert (await served.get("/api", KUBECTL)).body == core
        assert (await served.get("/api")).json()["versions"] == ["v1"]
        assert (await served.get("/api/v1")).json()["groupVersion"] == "v1"
        assert (await served.get("/apis")).json()["groups"] == []


async def test_stale_at_its_own_server(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """A backend that is itself an aggregator may call a version stale: what was known before is kept."""
    stale = group_discovery_list([group_discovery(GROUP, [version_discovery(APIVersion(VERSION, (), True))])])
    transport.backends[1] = aggregated
    async with running(Discovery(source(), transport)) as served:
        transport.backends[1] = lambda request: (
            json_answer(stale, V2) if request.target == b"/apis" else FakeResponse(404)
        )
        await clock.advance(61)
        assert await freshness(served) == "Stale"
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).json() == LEGACY


async def test_swapped_routes_are_followed(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """A new snapshot is answered from at once, its backends are asked within a second; who is gone is left alone."""
    transport.backends[1] = aggregated
    transport.backends[2] = lambda request: FakeResponse(404)
    routes = source(remote("v1", "old.io", port=2))
    async with running(Discovery(routes, transport)) as served:
        routes.swap(make_routes([remote()]))
        assert [group["name"] for group in (await served.get("/apis")).json()["groups"]] == [GROUP]
        assert await freshness(served) == "Stale"
        await clock.advance(1.1)
        assert await freshness(served) == "Current"
        transport.requests.clear()
        await clock.advance(120)
        assert {backend.port for backend, _ in transport.requests} == {1}


async def test_refresh_looks_at_once(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """Who swaps routes may say so instead of letting a second pass."""
    transport.backends[1] = aggregated
    routes = source(remote("v1", "old.io", port=2))
    async with running(Discovery(routes, transport)) as served:
        routes.swap(make_routes([remote()]))
        served.discovery.refresh()
        await clock.advance(0.1)
        assert await freshness(served) == "Current"


async def test_moved_service_is_learned_anew(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """What one server said is not told of another that took its place."""
    transport.backends[1] = aggregated
    routes = source(remote())
    async with running(Discovery(routes, transport)) as served:
        routes.swap(make_routes([remote(port=2)]))
        await clock.advance(2)
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).status == 503


async def test_bounded_concurrency(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """Many dead backends are not all dialled at the same time."""
    services = [remote("v1", f"g{n}.io", port=100 + n) for n in range(30)]
    for service in services:
        assert service.backend
        transport.backends[service.backend.port] = lambda request: None
    timing = Timing(at_once=3, openapi_at_once=2)
    async with running(Discovery(source(*services), transport, timing=timing)):
        await clock.advance(20)
    assert transport.most <= 5


async def test_changes_are_logged_once(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """A backend that stays down is one line, and its return another."""
    with capture_logs() as logs:
        async with running(Discovery(source(), transport)):
            await clock.advance(120)
            transport.backends[1] = aggregated
            await clock.advance(120)
    assert [(log["log_level"], log["service"], log.get("cause")) for log in logs] == [
        ("warning", "v1alpha1.wardle.example.com", "connection refused"),
        ("info", "v1alpha1.wardle.example.com", None),
    ]


async def test_cancelled_in_the_middle(transport: FakeTransport, clock: VirtualClock) -> None:
    """The end of the lifespan ends every attempt that is under way."""
    transport.backends[1] = lambda request: None
    task = asyncio.create_task(Discovery(source(), transport).controller.run())
    await clock.advance(1)
    assert transport.now == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.now == 0


async def test_answers_that_come_together_are_published_together(transport: FakeTransport, clock: VirtualClock) -> None:
    """Publishing encodes: a hundred backends at start-up are not a hundred snapshots."""
    services = [remote("v1", f"g{n}.io", port=100 + n) for n in range(100)]
    published: list[int] = []

    async def publish(offload: Offload) -> None:
        published.append(len(controller.learned))

    controller = DiscoveryController(source(*services), transport, publish, Timing(at_once=100))
    task = asyncio.create_task(controller.run())
    await clock.advance(0.4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert published[-1] == 100
    assert len(published) <= 3


async def test_started_again(transport: FakeTransport, clock: VirtualClock, running: Run) -> None:
    """What was learned outlives a controller that is started again."""
    transport.backends[1] = aggregated
    discovery = Discovery(source(), transport)
    async with running(discovery):
        pass
    transport.backends.clear()
    async with running(discovery) as served:
        assert (await served.get(f"/apis/{GROUP}/{VERSION}")).json() == LEGACY
        assert await freshness(served) == "Stale"


async def test_unchanged_group_versions_are_not_encoded_again() -> None:
    """One change among many costs the encoding of one."""
    routes = make_routes([remote(), remote("v1", "b.io", port=2)])
    builder = SnapshotBuilder("", {})
    first, second = routes.services
    known = {key_of(each): Learned(APIVersion(each.version, (FLUNDERS,)), asked=True) for each in routes.services}
    before = builder.build(routes, known)
    after = builder.build(routes, {**known, key_of(second): Learned(APIVersion(second.version), asked=True)})
    for service, same in ((first, True), (second, False)):
        path = f"/apis/{service.group}/{service.version}"
        assert (before.pages[path] is after.pages[path]) is same
        assert before.pages[f"/apis/{service.group}"] is after.pages[f"/apis/{service.group}"]
