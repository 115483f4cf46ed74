"""3. Authentication: who is asking. Believed credentials and forged identity headers do not go on.

A token that nobody knows is 401 on every path, never an anonymous caller; a route with tokens of its own is exempt.

    uvicorn --app-dir examples 03_authentication:app

    $ python examples/03_authentication.py
    /me               401 Unauthorized
    /me of-alice      200 alice, X-Remote-User: None
    /me unknown       401 Unauthorized
    /healthz          200 ok
    /hook of-the-hook 200 Bearer of-the-hook
"""

import asyncio
import sys

import structlog
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Identity
from aggmw.middleware.authentication import Anonymous, AuthenticationMiddleware, StaticTokens
from aggmw.testing import Client


@requires("authenticated")
async def me(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.user.display_name}, X-Remote-User: {request.headers.get('x-remote-user')}")


authentication = Middleware(
    AuthenticationMiddleware,
    authenticators=[StaticTokens({"of-alice": Identity("alice", groups=("dev",))})],
    anonymous=Anonymous(["/healthz"]),
    exempt=["/hook"],
)
routes = [
    Route("/me", me),
    Route("/healthz", lambda request: PlainTextResponse("ok")),
    Route("/hook", lambda request: PlainTextResponse(request.headers["authorization"])),
]
app = Starlette(routes=routes, middleware=[authentication])


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for call in ["/me", "/me of-alice", "/me unknown", "/healthz", "/hook of-the-hook"]:
        path, _, token = call.partition(" ")
        credentials = {"Authorization": f"Bearer {token}"} if token else {}
        response = await Client(app).request("GET", path, {"X-Remote-User": "root", **credentials})
        print(f"{call:<17} {response.status}", response.text if response.status == 200 else "Unauthorized")


if __name__ == "__main__":
    asyncio.run(main())
