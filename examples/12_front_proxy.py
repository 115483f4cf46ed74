"""12. All stages in their order: a front proxy in ten lines.

What is not configured is denied: without authenticators everybody gets 401, without a policy everything is 403.

    BACKEND=https://127.0.0.1:7443 uvicorn --app-dir examples --http aggmw.server.door:Door 12_front_proxy:app

    $ python examples/12_front_proxy.py
    FrontProxy(recovery → request_info → authentication → authorization → discovery → registry → proxy → not_found)
    /healthz                                                   200 ok
    /apis                                                      401
    /apis/wardle.example.com/v1alpha1/namespaces/dev/flunders  200 asked by alice
    /apis/wardle.example.com/v1alpha1/namespaces/x/flunders    403
"""

import asyncio
import os
import sys

import structlog

from aggmw import APIService, FrontProxy, Identity
from aggmw.middleware.authentication import Anonymous, StaticTokens
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

POLICY = """
p, group:dev, get|list|watch, wardle.example.com, flunders, dev, *
p2, group:system:authenticated, get, /api|/apis|/apis/*|/version
p2, group:system:unauthenticated, get, /healthz
"""


def make_front_proxy(url: str) -> FrontProxy:
    return FrontProxy(
        authentication=[StaticTokens({"of-alice": Identity("alice", groups=("dev",))})],
        anonymous=Anonymous(["/healthz"]),
        authorization=CasbinAuthorizer.from_text(POLICY),
        services=[APIService.remote("wardle.example.com", "v1alpha1", url)],
    )


app = make_front_proxy(os.environ.get("BACKEND", "http://127.0.0.1:7443"))


def behind(raw: bytes) -> bytes:
    return respond(200, body=b"asked by " + b", ".join(ReceivedRequest.of(raw).values("x-remote-user")))


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    alice, flunders = {"Authorization": "Bearer of-alice"}, "/apis/wardle.example.com/v1alpha1/namespaces/{}/flunders"
    async with ScriptedBackend(behind) as server, make_front_proxy(server.url) as front_proxy:
        print(front_proxy)
        for path in ("/healthz", "/apis", flunders.format("dev"), flunders.format("x")):
            response = await Client(front_proxy).request("GET", path, alice if "flunders" in path else {})
            print(f"{path:<58} {response.status} {response.text if response.status == 200 else ''}".rstrip())


if __name__ == "__main__":
    asyncio.run(main())
