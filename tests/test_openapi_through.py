"""An API server that publishes OpenAPI v3: its index is merged, its documents are fetched as the caller (§4.3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aggmw import APIService, Backend, FrontProxy, Identity
from aggmw.contracts.identity import Presented
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

GROUP_VERSION = "apis/wardle.example.com/v1alpha1"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "wardle.example.com/v1alpha1",
    "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get"]}
    ],
}
INDEX = {
    "paths": {
        GROUP_VERSION: {"serverRelativeURL": f"/openapi/v3/{GROUP_VERSION}?hash=AB12"},
        "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=FF"},
    }
}
ANSWERS: dict[str, Any] = {
    f"/{GROUP_VERSION}": RESOURCES,
    "/openapi/v3": INDEX,
    f"/openapi/v3/{GROUP_VERSION}": {"openapi": "3.0.0", "info": {"title": "its own"}},
}


class Alice:
    """Everybody is alice."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("alice")


@pytest.fixture
async def through() -> AsyncIterator[tuple[Client, list[ReceivedRequest]]]:
    """A client of a front proxy whose backend has OpenAPI, and what that backend received."""
    received: list[ReceivedRequest] = []

    def answer(raw: bytes) -> bytes:
        request = ReceivedRequest.of(raw)
        received.append(request)
        found = ANSWERS.get(request.target.decode())
        if found is None:
            return respond(404)
        return respond(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    async with ScriptedBackend(answer) as backend:
        upstream = Backend("v1alpha1.wardle.example.com", backend.host, backend.port, tls=False)
        services = [APIService("wardle.example.com", "v1alpha1", upstream)]
        async with FrontProxy(authentication=[Alice()], authorization=AllowAll(), services=services) as proxy:
            client = Client(proxy)
            async with asyncio.timeout(60):  # what was learned is published after a moment
                while not (await client.request("GET", "/openapi/v3")).json().get("paths"):
                    await asyncio.sleep(0.01)
            yield client, received


async def test_index_and_document(through: tuple[Client, list[ReceivedRequest]]) -> None:
    """The index lists what the backend owns, with its hash; the document is fetched as the caller, without it."""
    client, received = through
    index = (await client.request("GET", "/openapi/v3")).json()
    assert list(index["paths"]) == [GROUP_VERSION]
    url = index["paths"][GROUP_VERSION]["serverRelativeURL"]
    assert url == f"/openapi/v3/{GROUP_VERSION}?hash=AB12"
    document = await client.request("GET", url)
    assert (document.status, document.json()["info"]["title"]) == (200, "its own")
    asked = received[-1]
    assert asked.target == f"/openapi/v3/{GROUP_VERSION}".encode()
    assert asked.values("x-remote-user") == [b"alice"]


async def test_wrong_hash_is_redirected_by_us(through: tuple[Client, list[ReceivedRequest]]) -> None:
    """A stale hash is 301 to our own index's hash; the backend is not asked."""
    client, received = through
    before = len(received)
    response = await client.request("GET", f"/openapi/v3/{GROUP_VERSION}?hash=OLD")
    assert response.status == 301
    assert response.header(b"location") == f"/openapi/v3/{GROUP_VERSION}?hash=AB12".encode()
    assert len(received) == before


async def test_internal_fetches_say_who_they_are(through: tuple[Client, list[ReceivedRequest]]) -> None:
    """§3.4, §4.3: discovery asks as system:kube-aggregator, OpenAPI as system:aggregator without groups."""
    _, received = through
    users = {request.target: request.values("x-remote-user") for request in received}
    assert users[f"/{GROUP_VERSION}".encode()] == [b"system:kube-aggregator"]
    assert users[b"/openapi/v3"] == [b"system:aggregator"]
    index = next(request for request in received if request.target == b"/openapi/v3")
    assert index.values("x-remote-group") == []
