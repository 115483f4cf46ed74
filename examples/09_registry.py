"""9. Registry: what is served where. Leaves the backend of a group version, or of a path, for the proxy inside.

What nobody registered, and what is local, passes without one.

    uvicorn --app-dir examples 09_registry:app

    $ python examples/09_registry.py
    /apis/wardle.example.com/v1alpha1/flunders  v1alpha1.wardle.example.com at 127.0.0.1:7443
    /apis/notes.example.com/v1/notes            the application
    /billing/invoices?year=2026                 /billing/ at 127.0.0.1:8001
    /elsewhere                                  the application
"""

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aggmw import APIService, PathService
from aggmw.middleware.registry import RegistryMiddleware, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client


async def show(request: Request) -> Response:
    backend = request.scope.get("aggmw.backend")
    return PlainTextResponse(f"{backend.name} at {backend.authority}" if backend else "the application")


services: list[APIService | PathService] = [
    APIService.remote("wardle.example.com", "v1alpha1", "https://127.0.0.1:7443"),
    APIService.local("notes.example.com", "v1"),
    PathService("/billing/", "http://127.0.0.1:8001"),
]
app = Starlette(
    routes=[Route("/{path:path}", show)],
    middleware=[
        Middleware(RequestInfoMiddleware),
        Middleware(RegistryMiddleware, source=StaticRoutes(make_routes(services))),
    ],
)


async def main() -> None:
    for path in [
        "/apis/wardle.example.com/v1alpha1/flunders",
        "/apis/notes.example.com/v1/notes",
        "/billing/invoices?year=2026",
        "/elsewhere",
    ]:
        print(f"{path:<43} {(await Client(app).request('GET', path)).text}")


if __name__ == "__main__":
    asyncio.run(main())
