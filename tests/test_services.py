"""Services of a front proxy that are no servers: applications in this process, and plain web services at a path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.asgi.mounts import MountedAt
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll, CasbinAuthorizer
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.testing import Client, IncompleteResponse, ScriptedBackend, respond

TOKEN = {"authorization": "Bearer t"}
GROUP = "notes.example.com"
NOTES = f"/apis/{GROUP}/v1/notes"
RESOURCE = {"name": "notes", "singularName": "note", "namespaced": False, "kind": "Note", "verbs": ["get", "list"]}


def notes(*, fails: bool = False) -> FastAPI:
    """An API group as a FastAPI application, with a lifespan that leaves something for its requests."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        if fails:
            raise RuntimeError("no database")
        yield {"database": "open"}

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get(f"/apis/{GROUP}/v1")
    async def discovery() -> dict[str, Any]:
        return {"kind": "APIResourceList", "groupVersion": f"{GROUP}/v1", "resources": [RESOURCE]}

    @app.get(NOTES)
    async def read(request: Request) -> dict[str, str]:
        return {"user": request.scope["aggmw.identity"].user, "database": request.state.database}

    @app.get(f"{NOTES}/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("in the middle")

        return StreamingResponse(pieces())

    @app.get(f"{NOTES}/broken")
    async def broken() -> None:
        raise RuntimeError("in a request")

    return app


def front(*services: Any, authorization: Any = None, source: Any = None) -> FrontProxy:
    return FrontProxy(
        authentication=[StaticTokens({"t": Identity("alice")})],
        authorization=authorization or AllowAll(),
        services=source or services,
    )


async def ready(proxy: FrontProxy) -> None:
    async with asyncio.timeout(60):
        while not proxy.ready:
            await asyncio.sleep(0.01)


async def test_a_group_in_this_process() -> None:
    """Listed like any other, called as the caller, with the state that its own lifespan made."""
    async with front(APIService.local(GROUP, "v1", app=notes())) as proxy:
        await ready(proxy)
        client = Client(proxy)
        listed = (await client.request("GET", f"/apis/{GROUP}/v1", headers=TOKEN)).json()["resources"]
        assert [each["name"] for each in listed] == ["notes"]
        accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
        (group,) = (await client.request("GET", "/apis", headers=TOKEN | accept)).json()["items"]
        assert (group["metadata"]["name"], group["versions"][0]["freshness"]) == (GROUP, "Current")
        answer = (await client.request("GET", NOTES, headers=TOKEN)).json()
        assert answer == {"user": "alice", "database": "open"}


async def test_its_exceptions_are_its_500() -> None:
    """In a request, and in the middle of a stream: the next request is served."""
    async with front(APIService.local(GROUP, "v1", app=notes())) as proxy:
        client = Client(proxy)
        assert (await client.request("GET", f"{NOTES}/broken", headers=TOKEN)).status == 500
        with pytest.raises(IncompleteResponse):
            await client.request("GET", f"{NOTES}/half", headers=TOKEN)
        assert (await client.request("GET", NOTES, headers=TOKEN)).status == 200


async def test_a_failed_start_is_its_503() -> None:
    """The service says that it is unavailable; discovery of it too; everything else works, and readiness is reached."""
    services = [APIService.local(GROUP, "v1", app=notes(fails=True)), APIService.local("good.io", "v1", app=notes())]
    async with front(*services) as proxy:
        await ready(proxy)
        client = Client(proxy)
        for path in (NOTES, f"/apis/{GROUP}/v1"):
            response = await client.request("GET", path, headers=TOKEN)
            assert (response.status, response.json()["reason"]) == (503, "ServiceUnavailable")
            assert "its application did not start" in response.json()["message"]
        assert (await client.request("GET", "/version", headers=TOKEN)).status == 200


async def test_without_lifespan_it_is_500() -> None:
    """Rule 4: an application in this process needs its lifespan, so the front proxy needs one."""
    for service in (APIService.local(GROUP, "v1", app=notes()), PathService("/notes/", app=notes())):
        response = await Client(front(service)).request("GET", NOTES, headers=TOKEN)
        assert response.status == 500
        assert "async with front_proxy" in response.json()["message"]


async def test_routes_that_are_swapped_start_and_stop_applications() -> None:
    """A source that puts a new application in its routes has it started; the one that is gone is stopped."""
    source = StaticRoutes(make_routes([]))
    async with front(source=source) as proxy:
        client = Client(proxy)
        assert (await client.request("GET", NOTES, headers=TOKEN)).status == 404
        source.swap(make_routes([APIService.local(GROUP, "v1", app=notes())]))
        async with asyncio.timeout(60):
            while (await client.request("GET", NOTES, headers=TOKEN)).status != 200:
                await asyncio.sleep(0.02)
        source.swap(make_routes([]))
        assert (await client.request("GET", NOTES, headers=TOKEN)).status == 404


async def test_a_path_is_authorised_as_a_path() -> None:
    """A path service is a non-resource path to the policy: verb and decoded path, nothing else."""
    seen: list[Attributes] = []

    class Noting:
        async def authorize(self, attributes: Attributes) -> Verdict:
            seen.append(attributes)
            return Verdict(Outcome.ALLOW)

    async with ScriptedBackend(lambda request: respond(200, body=b"invoice")) as server:
        url = f"http://{server.host}:{server.port}"
        async with front(PathService("/billing/", url), authorization=Noting()) as proxy:
            response = await Client(proxy).request("GET", "/billing/in%76oices?x=1", headers=TOKEN)
    assert response.body == b"invoice"
    assert (seen[0].is_resource, seen[0].verb, seen[0].path) == (False, "get", "/billing/invoices")


async def test_a_path_that_no_policy_allows_is_403() -> None:
    """Nothing is sent for it."""
    async with ScriptedBackend(lambda request: respond(200)) as server:
        url = f"http://{server.host}:{server.port}"
        policy = CasbinAuthorizer.from_text("p2, user:alice, get, /billing/public/*")
        async with front(PathService("/billing/", url), authorization=policy) as proxy:
            client = Client(proxy)
            refused = await client.request("GET", "/billing/private", headers=TOKEN)
            assert refused.json()["message"] == 'forbidden: User "alice" cannot get path "/billing/private"'
            assert (await client.request("GET", "/billing/public/x")).status == 401
            assert server.connections == []
            assert (await client.request("GET", "/billing/public/x", headers=TOKEN)).status == 200


async def test_an_application_at_a_path() -> None:
    """A web application in this process, its path taken off."""
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        return {"user": request.headers["x-remote-user"], "prefix": request.headers["x-forwarded-prefix"]}

    async with front(PathService("/tools/", app=app, strip_prefix=True)) as proxy:
        client = Client(proxy)
        answer = (await client.request("GET", "/tools/who", headers=TOKEN)).json()
        assert answer == {"user": "alice", "prefix": "/tools"}
        assert (await client.request("GET", "/tools/docs", headers=TOKEN)).status == 200
        assert (await client.request("GET", "/who", headers=TOKEN)).status == 404


async def test_an_application_that_makes_links() -> None:
    """Told where it is, at a path that stays on, its links have it, its page of itself too, and its lifespan is run."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"database": "open"}

    tools = FastAPI(lifespan=lifespan)

    @tools.get("/who")
    async def who(request: Request) -> list[str]:
        return [request.url_for("who").path, request.state.database]

    async with front(PathService("/tools/", app=MountedAt(tools, "/tools"))) as proxy:
        client = Client(proxy)
        assert (await client.request("GET", "/tools/who", headers=TOKEN)).json() == ["/tools/who", "open"]
        assert "'/tools/openapi.json'" in (await client.request("GET", "/tools/docs", headers=TOKEN)).text
        assert (await client.request("GET", "/tools/openapi.json", headers=TOKEN)).status == 200


async def test_a_web_service_needs_no_lifespan() -> None:
    """Nothing runs in the background for a server at a path."""
    async with ScriptedBackend(lambda request: respond(200, body=b"hello")) as server:
        proxy = front(PathService("/", f"http://{server.host}:{server.port}"))
        assert (await Client(proxy).request("GET", "/x", headers=TOKEN)).body == b"hello"
        async with proxy:
            pass
