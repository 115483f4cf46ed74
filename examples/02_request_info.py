"""2. Request info: the one parser: everybody inside reads the same `RequestInfo`.

What two readers could understand differently ends here with 400.

    uvicorn --app-dir examples 02_request_info:app

    $ python examples/02_request_info.py
    GET /healthz                                       200 get path /healthz
    GET /api/v1/namespaces/dev/pods/web/log            200 get pods/log "web" in namespace dev, long-running
    GET /apis/apps/v1/deployments?watch=1              200 watch apps/deployments in all namespaces, long-running
    POST /apis/wardle.example.com/v1/flunders          200 create wardle.example.com/flunders in all namespaces
    GET /apis/apps/v1/namespaces/dev/../deployments    400 the request path holds a dot segment
"""

import asyncio

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client


def described(info: RequestInfo) -> str:
    if not info.is_resource:
        return f"{info.verb} path {info.path}"
    what = "/".join(part for part in (info.api_group, info.resource, info.subresource) if part)
    name = f' "{info.name}"' if info.name else ""
    where = f"namespace {info.namespace}" if info.namespace else "all namespaces"
    return f"{info.verb} {what}{name} in {where}{', long-running' if info.long_running else ''}"


async def describe(scope: Scope, receive: Receive, send: Send) -> None:
    body = described(scope["aggmw.request_info"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


app = RequestInfoMiddleware(describe)


async def main() -> None:
    for method, target in [
        ("GET", "/healthz"),
        ("GET", "/api/v1/namespaces/dev/pods/web/log"),
        ("GET", "/apis/apps/v1/deployments?watch=1"),
        ("POST", "/apis/wardle.example.com/v1/flunders"),
        ("GET", "/apis/apps/v1/namespaces/dev/../deployments"),
    ]:
        response = await Client(app).request(method, target)
        said = response.text if response.status == 200 else response.json()["message"]
        print(f"{f'{method} {target}':<50} {response.status} {said}")


if __name__ == "__main__":
    asyncio.run(main())
