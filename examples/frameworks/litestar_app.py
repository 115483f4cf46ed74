"""Litestar: a handler of its own that knows the caller, and a front proxy in a mount.

    WARDLE_URL=https://127.0.0.1:… uvicorn examples.frameworks.litestar_app:app --http aggmw.server.door:Door

Litestar cuts the mount's path out of the request and says so nowhere; `MountedAt` does. Its middlewares run when a
route was found, and get no lifespan: what must be open goes into the application's own list.
"""

from typing import Any

from litestar import Litestar, Request, asgi, get
from litestar.middleware import DefineMiddleware
from litestar.types import Receive, Scope, Send

from aggmw.asgi.mounts import MountedAt
from aggmw.middleware.authentication import AuthenticationMiddleware

from .front import make_front_proxy, tokens

front_proxy = make_front_proxy()
mounted = MountedAt(front_proxy, "/k8s")


@get("/me", middleware=[DefineMiddleware(AuthenticationMiddleware, authenticators=[tokens])])
async def me(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"user": request.user.display_name, "groups": request.user.groups}


@asgi("/k8s", is_mount=True, copy_scope=True)
async def k8s(scope: Scope, receive: Receive, send: Send) -> None:
    await mounted(scope, receive, send)


app = Litestar([me, k8s], lifespan=[front_proxy.lifespan()])
