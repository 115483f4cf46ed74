"""Starlette: routes of its own that know the caller, and a front proxy in a `Mount`.

    WARDLE_URL=https://127.0.0.1:… uvicorn examples.frameworks.starlette_app:app --http aggmw.server.door:Door

The middleware is for the application's own routes; what is below /k8s is the front proxy's, which asks for itself.
"""

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from aggmw.middleware.authentication import AuthenticationMiddleware

from .front import make_front_proxy, tokens


@requires("authenticated")
async def me(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.user.display_name, "groups": request.user.groups})


front_proxy = make_front_proxy()
app = Starlette(
    routes=[Route("/me", me), Mount("/k8s", app=front_proxy)],
    middleware=[Middleware(AuthenticationMiddleware, authenticators=[tokens], exempt=["/k8s/"])],
    lifespan=front_proxy.lifespan(),
)
