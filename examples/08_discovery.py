"""8. Discovery: which APIs exist, in the form that kubectl asks for; version and health. All from memory.

Here the application serves its group itself, so there is nobody to ask. What other servers serve is learned in the
background, for as long as the application's lifespan runs, and never on a request's behalf.

    uvicorn --app-dir examples 08_discovery:app

    $ python examples/08_discovery.py
    /apis    ["notes.example.com"]
    /version v1.37.0-notes
    /readyz  ok
    /others  of the application
"""

import asyncio
import json

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import APIService
from aggmw.middleware.discovery import Discovery, DiscoveryMiddleware, VersionInfo
from aggmw.middleware.proxy import Http1Transport
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

routes = StaticRoutes(make_routes([APIService.local("notes.example.com", "v1")]))
discovery = Discovery(routes, Http1Transport(), version=VersionInfo(git_version="v1.37.0-notes"))

app = Starlette(
    routes=[Route("/{path:path}", lambda request: PlainTextResponse("of the application"))],
    middleware=[Middleware(RequestInfoMiddleware), Middleware(DiscoveryMiddleware, discovery=discovery)],
)


async def main() -> None:
    client = Client(app)
    async with client.lifespan():
        groups = (await client.request("GET", "/apis")).json()["groups"]
        print("/apis   ", json.dumps([group["name"] for group in groups]))
        print("/version", (await client.request("GET", "/version")).json()["gitVersion"])
        print("/readyz ", (await client.request("GET", "/readyz")).text)
        print("/others ", (await client.request("GET", "/others")).text)


if __name__ == "__main__":
    asyncio.run(main())
