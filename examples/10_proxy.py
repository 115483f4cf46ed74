"""10. Proxy: forwards where a backend was left, both bodies streamed; all else is the application's.

In a stack it forwards what authorization has allowed, as the caller that authentication has found. Alone, as here, it
is a plain reverse proxy for one server: the inputs of other stages come by keyword, and `anonymous` says that nobody
needs to be known. It makes its own transport, and closes it when the lifespan ends.

    BACKEND=http://127.0.0.1:8001 uvicorn --app-dir examples 10_proxy:app

    $ python examples/10_proxy.py
    /behind/a%20b?c=d /behind/a%20b?c=d, 127.0.0.1
    /own              of the application
"""

import asyncio
import os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw import Backend
from aggmw.asgi.types import ASGIApp
from aggmw.middleware.proxy import ProxyMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond


def make_app(url: str) -> ASGIApp:
    backend = Backend.at(url)
    host = Starlette(routes=[Route("/own", lambda request: PlainTextResponse("of the application"))])
    proxy = ProxyMiddleware(
        host,
        backend=lambda exchange: backend if exchange.scope["path"].startswith("/behind/") else None,
        anonymous=True,
    )
    return RequestInfoMiddleware(proxy)


app = make_app(os.environ.get("BACKEND", "http://127.0.0.1:8001"))


def behind(raw: bytes) -> bytes:
    request = ReceivedRequest.of(raw)
    return respond(200, body=b"%b, %b" % (request.target, request.header("x-forwarded-for") or b""))


async def main() -> None:
    async with ScriptedBackend(behind) as server:
        client = Client(make_app(server.url))
        async with client.lifespan():
            for path in ("/behind/a%20b?c=d", "/own"):
                print(f"{path:<17} {(await client.request('GET', path)).text}")


if __name__ == "__main__":
    asyncio.run(main())
