"""7. Metrics: what was asked for, how it was answered and how long that took, as a Prometheus page at /metrics.

Inside authorization the page is for whoever may `get /metrics`; alone, as here, it is for whoever reaches it.
Needs the extra `aggmw[metrics]`.

    uvicorn --app-dir examples 07_metrics:app

    $ python examples/07_metrics.py
    apiserver_request_total, code 200: 2.0
    apiserver_request_total, code 404: 1.0
"""

import asyncio
import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aggmw.middleware.metrics import MetricsMiddleware
from aggmw.testing import Client

app = Starlette(
    routes=[Route("/fine", lambda request: PlainTextResponse("fine"))],
    middleware=[Middleware(MetricsMiddleware)],
)


async def main() -> None:
    client = Client(app)
    for path in ("/fine", "/fine", "/unknown"):
        await client.request("GET", path)
    page = await client.request("GET", "/metrics")
    for code, number in re.findall(r'apiserver_request_total{code="(\d+)".*} (.*)', page.text):
        print(f"apiserver_request_total, code {code}: {number}")


if __name__ == "__main__":
    asyncio.run(main())
