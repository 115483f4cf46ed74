"""A service with several servers behind a whole front proxy: discovery, redirects, errors, and the metrics page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.middleware.proxy.proxying import dead_port

from aggmw import APIService, Balancing, FrontProxy, PathService
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.metrics import Metrics
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

GROUP = "notes.example.com"
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": f"{GROUP}/v1",
    "resources": [
        {
            "name": "notes",
            "singularName": "note",
            "namespaced": True,
            "kind": "Note",
            "verbs": ["get", "list", "create"],
        }
    ],
}


def notes(raw: bytes) -> bytes:
    """A server of the group, without aggregated discovery."""
    if ReceivedRequest.of(raw).target == f"/apis/{GROUP}/v1".encode():
        return respond(headers={"Content-Type": "application/json"}, body=json.dumps(RESOURCES).encode())
    return respond(404 if b" /apis " in raw or b"/openapi" in raw else 200, body=b"{}")


def front(*services: APIService | PathService, **options: Any) -> FrontProxy:
    return FrontProxy(services=services, anonymous=Anonymous.everywhere(), authorization=AllowAll(), **options)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


async def test_discovery_from_any_that_lives() -> None:
    """What a group has is learned although the first server is dead; a group of which all are dead holds nobody up."""
    async with ScriptedBackend(notes) as alive:
        dead = [f"http://127.0.0.1:{await dead_port()}" for _ in range(2)]
        proxy = front(
            APIService.remote(GROUP, "v1", [dead[0], alive.url]), APIService.remote("dead.example.com", "v1", dead)
        )
        async with proxy:
            client = Client(proxy)
            await until(lambda: proxy.ready)
            answer = await client.request("GET", f"/apis/{GROUP}/v1")
            assert [each["name"] for each in answer.json()["resources"]] == ["notes"]
            answer = await client.request("GET", "/apis/dead.example.com/v1/things")
            assert answer.status == 503
            assert answer.json()["message"] == (
                "the server of APIService v1.dead.example.com cannot be reached: connection refused"
            )


@pytest.mark.parametrize("number", [0, 1])
async def test_redirects_to_any_of_them(number: int) -> None:
    """A redirect that names the address of any of the servers becomes a path, whichever it came from."""
    urls: list[str] = []

    def redirect(raw: bytes) -> bytes:
        return respond(302, {"Location": f"{urls[number]}/files/there"})

    async with ScriptedBackend(redirect) as one, ScriptedBackend(redirect) as other:
        urls += [one.url, other.url]
        proxy = front(PathService("/files/", urls))
        async with proxy:
            client = Client(proxy)
            for _ in range(6):
                answer = await client.request("GET", "/files/here")
                assert (answer.status, dict(answer.headers)[b"location"]) == (302, b"/files/there")


async def test_nothing_of_an_answer_is_mixed() -> None:
    """The client gets one answer: that of the server to which its request went on."""

    def unwell(raw: bytes) -> bytes:
        return respond(503, {"X-From": "unwell", "Retry-After": "7"}, b"unwell" * 1000)

    async with (
        ScriptedBackend(unwell) as bad,
        ScriptedBackend(lambda raw: respond(200, {"X-From": "well"}, b"well")) as good,
    ):
        proxy = front(PathService("/x/", [bad.url, good.url]))
        async with proxy:
            client = Client(proxy)
            for _ in range(20):
                answer = await client.request("GET", "/x/y")
                fields = dict(answer.headers)
                assert (answer.status, answer.body, fields[b"x-from"]) == (200, b"well", b"well")
                assert b"retry-after" not in fields
        assert bad.connections


async def test_the_metrics_page() -> None:
    """It has the pools once, and each server; what a caller asks for is no label."""
    metrics = Metrics()
    async with ScriptedBackend(notes) as alive:
        dead = f"127.0.0.1:{await dead_port()}"
        service = PathService("/x/", [f"http://{dead}", alive.url], balancing=Balancing(failures=1))
        proxy = front(service, metrics=metrics)
        async with proxy:
            client = Client(proxy)
            for number in range(40):
                assert (await client.request("POST", f"/x/{number}", body=b"a")).status == 200
            page = (await client.request("GET", "/metrics")).body.decode()
        address = f"127.0.0.1:{alive.port}"
        assert f'aggmw_endpoint_ejected{{backend="{dead}"}} 1.0' in page
        assert f'aggmw_endpoint_ejections_total{{backend="{dead}"}} 1.0' in page
        assert f'aggmw_endpoint_requests_total{{backend="{address}"}} 40.0' in page
        assert 'aggmw_balanced_requests_refused_total{service="/x/"} 0.0' in page
        assert page.count(f'aggmw_upstream_waiting_requests{{backend="{address}"}}') == 1
