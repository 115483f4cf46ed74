"""The peer fastapi-proxy-lib: its reverse proxy on httpx in a FastAPI application, one for each of the two backends."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from fastapi_proxy_lib.core.http import ReverseHttpProxy
from fastapi_proxy_lib.fastapi.router import RouterHelper

from benchmarks.load import CONNECTIONS
from benchmarks.peers.serving import PATIENCE, Upstream, serve
from benchmarks.workspace import STREAMS


def _make(upstream: Upstream) -> Any:
    helper = RouterHelper()
    app = FastAPI(lifespan=helper.get_lifespan())
    for prefix, base in ((f"/apis/{STREAMS}", upstream.streams), ("", upstream.things)):
        proxy = ReverseHttpProxy(_client(upstream), base_url=f"{base}{prefix}/")
        app.include_router(helper.register_router(proxy, APIRouter(prefix=prefix)))
    return app


def _client(upstream: Upstream) -> httpx.AsyncClient:
    """A connection kept for each client; the time-outs are long, because its pool makes requests wait."""
    return httpx.AsyncClient(
        verify=True if upstream.tls is None else upstream.tls,
        timeout=PATIENCE,
        limits=httpx.Limits(max_connections=2 * CONNECTIONS, max_keepalive_connections=2 * CONNECTIONS),
        trust_env=False,
    )


if __name__ == "__main__":
    serve(_make, __doc__)
