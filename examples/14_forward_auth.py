"""14. Deciding for another proxy: nginx asks whether it may forward a request, and the same stages answer.

The question states the request that is judged, so nobody may ask but listed peers, as the server's socket sees them.

    uvicorn --app-dir examples --http aggmw.server.door:Door 14_forward_auth:app

    $ python examples/14_forward_auth.py
    GET /orders: 200, X-Auth-Request-User: alice
    POST /orders: 403, forbidden: User "alice" cannot post path "/orders"
    GET /orders/../secret: 403, the request path holds a dot segment
    from elsewhere: 403, forbidden: only listed proxies may ask here
"""

import asyncio
import sys

import structlog

from aggmw import FrontProxy, Identity
from aggmw.contracts.connection import Connection
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.forward_auth import ForwardAuth
from aggmw.testing import Client, Response

app = FrontProxy(
    authentication=[StaticTokens({"of-alice": Identity("alice")})],
    authorization=CasbinAuthorizer.from_text("p2, user:alice, get, /orders*"),
    forward_auth={"/auth/nginx": ForwardAuth("nginx", peers=["127.0.0.1"])},
)


async def ask(method: str, target: str, peer: str = "127.0.0.1") -> Response:
    """What nginx does for `auth_request`: a GET of its own, with the client's fields and these two."""
    client = Client(app, connection=Connection((peer, 40000)))
    fields = {"Authorization": "Bearer of-alice", "X-Original-Method": method, "X-Original-URI": target}
    return await client.request("GET", "/auth/nginx", fields)


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    answer = await ask("GET", "/orders")
    user = answer.header("X-Auth-Request-User") or b""
    print(f"GET /orders: {answer.status}, X-Auth-Request-User: {user.decode()}")
    for method, target in (("POST", "/orders"), ("GET", "/orders/../secret")):
        answer = await ask(method, target)
        print(f"{method} {target}: {answer.status}, {answer.json()['message']}")
    answer = await ask("GET", "/orders", peer="192.0.2.1")
    print(f"from elsewhere: {answer.status}, {answer.json()['message']}")


if __name__ == "__main__":
    asyncio.run(main())
