"""11. Resources: kinds that the front proxy serves itself. A virtual kind stores nothing: its objects are answers.

These two tell who asks (`kubectl auth whoami`) and whose a token is. They come and go as JSON, YAML or protobuf.

    uvicorn --app-dir examples 11_resources:app

    $ python examples/11_resources.py
    who am I      201 alice ['devs', 'system:authenticated']
    bob's token   201 bob
    wrong token   201 invalid bearer token
    another path  200 of the application
"""

import asyncio
import sys

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Identity
from aggmw.middleware.authentication import AuthenticationMiddleware, SelfSubjectReviews, StaticTokens, TokenReviews
from aggmw.middleware.authorization import AllowAll, AuthorizationMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.middleware.resources import ResourcesMiddleware
from aggmw.testing import Client

BASE = "/apis/authentication.k8s.io/v1"
tokens = StaticTokens({"a": Identity("alice", groups=("devs",)), "b": Identity("bob")})

app = Starlette(
    routes=[Route("/{path:path}", lambda request: PlainTextResponse("of the application"))],
    middleware=[
        Middleware(RequestInfoMiddleware),
        Middleware(AuthenticationMiddleware, authenticators=[tokens]),
        Middleware(AuthorizationMiddleware, authorizer=AllowAll()),  # better: servers only may create tokenreviews
        Middleware(ResourcesMiddleware, kinds=[SelfSubjectReviews(), TokenReviews([tokens])]),
    ],
)


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    client, alice = Client(app), {"Authorization": "Bearer a"}
    me = await client.request("POST", f"{BASE}/selfsubjectreviews", alice, body=b"{}")
    user = me.json()["status"]["userInfo"]
    print("who am I     ", me.status, user["username"], user["groups"])
    for name, token in (("bob's token  ", b"b"), ("wrong token  ", b"x")):
        review = await client.request("POST", f"{BASE}/tokenreviews", alice, body=b'{"spec": {"token": "%b"}}' % token)
        status = review.json()["status"]
        print(name, review.status, status["user"]["username"] if "user" in status else status["error"])
    other = await client.request("GET", "/others", alice)
    print("another path ", other.status, other.text)


if __name__ == "__main__":
    asyncio.run(main())
