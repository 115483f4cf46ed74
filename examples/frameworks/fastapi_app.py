"""FastAPI: routes of its own that know the caller, one with bearer tokens of its own, and a front proxy mounted.

    WARDLE_URL=https://127.0.0.1:… uvicorn examples.frameworks.fastapi_app:app --http aggmw.server.door:Door

The middleware is for /me. /hook checks its callers itself, so it is exempt, and so is /k8s: the front proxy asks for
itself. Where the middleware is responsible, a token that it does not know is 401.
"""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from aggmw.middleware.authentication import AuthenticationMiddleware

from .front import make_front_proxy, tokens

front_proxy = make_front_proxy()
app = FastAPI(lifespan=front_proxy.lifespan())
app.add_middleware(AuthenticationMiddleware, authenticators=[tokens], exempt=["/hook", "/k8s/"])
app.mount("/k8s", front_proxy)


@app.get("/me")
async def me(request: Request) -> dict[str, Any]:
    return {"user": request.user.display_name, "groups": request.user.groups}


@app.get("/hook")
async def hook(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    if given.credentials != "of-the-hook":
        raise HTTPException(403)
    return "called"
