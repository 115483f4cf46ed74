"""13. An ASGI application in this process as an API group, behind the front proxy as if it were a server of its own.

It gets a new scope with nothing of the front proxy's but the caller's identity, and its own lifespan.

    uvicorn --app-dir examples --http aggmw.server.door:Door 13_in_process:app

    $ python examples/13_in_process.py
    notes: ['of-alice']
    groups: ['notes.example.com']
"""

import asyncio
import sys

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from aggmw import APIService, FrontProxy, Identity
from aggmw.backend import ServeDiscovery, resource
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client

GROUP = "notes.example.com"


async def notes(request: Request) -> JSONResponse:
    items = [{"metadata": {"name": f"of-{request.scope['aggmw.identity'].user}"}}]
    return JSONResponse({"apiVersion": f"{GROUP}/v1", "kind": "NoteList", "metadata": {}, "items": items})


api_server = Starlette(
    routes=[Route(f"/apis/{GROUP}/v1/notes", notes)],
    middleware=[Middleware(ServeDiscovery, groups={GROUP: {"v1": [resource("notes", "Note", namespaced=False)]}})],
)

app = FrontProxy(
    authentication=[StaticTokens({"of-alice": Identity("alice", groups=("dev",))})],
    authorization=AllowAll(),
    services=[APIService.local(GROUP, "v1", app=api_server)],
)


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    client, token = Client(app), {"Authorization": "Bearer of-alice"}
    async with client.lifespan():
        notes = (await client.request("GET", f"/apis/{GROUP}/v1/notes", token)).json()
        print("notes:", [note["metadata"]["name"] for note in notes["items"]])
        groups = (await client.request("GET", "/apis", token)).json()["groups"]
        print("groups:", [group["name"] for group in groups])


if __name__ == "__main__":
    asyncio.run(main())
