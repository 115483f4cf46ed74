"""hypercorn in this process, for what has to be tried over HTTP/2."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import Backend
from aggmw.pki.make import issue_server, make_ca

__all__ = ["NAME", "http2_served"]

NAME = "api.model.svc"
CA = make_ca("backends")
PAIR = issue_server(CA, "backend", names=[NAME])


@asynccontextmanager
async def http2_served(app: ASGIApp, directory: Path, **settings: Any) -> AsyncIterator[Backend]:
    """Serve an application over TLS, HTTP/2 alone, without a lifespan.

    Args:
        app: the application.
        directory: for the certificate.
        settings: further ones of hypercorn.
    """

    async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await app(scope, receive, send)

    certificate, key = directory / "backend.crt", directory / "backend.key"
    certificate.write_bytes(PAIR.certificate)
    key.write_bytes(PAIR.key)
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = str(certificate), str(key)
    config.alpn_protocols = ["h2"]
    config.errorlog = None
    config.keep_alive_timeout = 0.5  # after a failure it says nothing until then
    config.include_server_header = False
    for name, value in settings.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve(without_lifespan, config, shutdown_trigger=stop.wait))
    try:
        yield Backend("v1.model.example.com", "127.0.0.1", port, True, NAME, CA.certificate)
    finally:
        stop.set()
        await serving
        listener.detach()
