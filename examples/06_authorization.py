"""6. Authorization: may they? Policies in casbin's form, on what the two stages in front have found out.

The host's own authentication can stand in for ours: `AuthorizationMiddleware(…, identity=host_user)`.

    uvicorn --app-dir examples 06_authorization:app

    $ python examples/06_authorization.py
    /reports 200 served
    /reports/secret 403 forbidden: User "alice" cannot get path "/reports/secret"
    /api/v1/namespaces/dev/pods 200 served
    /api/v1/pods 403 pods is forbidden: User "alice" cannot list resource "pods" in API group "" at the cluster scope
"""

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Identity
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens
from aggmw.middleware.authorization import AuthorizationMiddleware, CasbinAuthorizer
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client

POLICY = """
p2, group:dev, get, /reports
p, group:dev, get|list|watch, core, pods, dev, *
"""

app = Starlette(
    routes=[Route("/{path:path}", lambda request: PlainTextResponse("served"))],
    middleware=[
        Middleware(RequestInfoMiddleware),
        Middleware(
            AuthenticationMiddleware,
            authenticators=[StaticTokens({"of-alice": Identity("alice", groups=("dev",))})],
        ),
        Middleware(AuthorizationMiddleware, authorizer=CasbinAuthorizer.from_text(POLICY)),
    ],
)


async def main() -> None:
    for path in ["/reports", "/reports/secret", "/api/v1/namespaces/dev/pods", "/api/v1/pods"]:
        response = await Client(app).request("GET", path, {"Authorization": "Bearer of-alice"})
        said = response.text if response.status == 200 else response.json()["message"]
        print(path, response.status, said)


if __name__ == "__main__":
    asyncio.run(main())
