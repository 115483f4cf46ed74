"""1. Recovery, the outermost stage: one id on every response, and an answer when everything inside has failed.

The id is the caller's own `Audit-ID` if that is fit to be repeated. What failed stands in the log, with the id.

    uvicorn --app-dir examples 01_recovery:app

    $ python examples/01_recovery.py
    GET /fine   200 fine, Audit-ID: example-1
    GET /fails  500 Internal error occurred: the request failed; its id is example-1
"""

import asyncio
import sys

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.testing import Client


async def fine(request: Request) -> Response:
    return PlainTextResponse("fine")


async def fails(request: Request) -> Response:
    raise LookupError("a fault of the application")


app = Starlette(routes=[Route("/fine", fine), Route("/fails", fails)], middleware=[Middleware(RecoveryMiddleware)])


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    headers = {"Audit-ID": "example-1"}
    response = await Client(app).request("GET", "/fine", headers)
    print(f"GET /fine   {response.status} {response.text}, Audit-ID: {(response.header('audit-id') or b'').decode()}")
    response = await Client(app).request("GET", "/fails", headers)
    print(f"GET /fails  {response.status} {response.json()['message']}")


if __name__ == "__main__":
    asyncio.run(main())
