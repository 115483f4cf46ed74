"""What aggmw runs on here: our door under uvicorn, and granian. One process, one thread of Python each."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import TypeAlias

from aggmw.asgi.types import ASGIApp
from aggmw.contracts.drain import Drain
from aggmw.server.serving import make_server, run, settle_memory
from aggmw.server.tls import DoorTLS
from benchmarks.machine import free_port
from benchmarks.workspace import Workspace

__all__ = ["SERVERS", "Serve"]

Serve: TypeAlias = Callable[[ASGIApp, Drain, Workspace | None, Callable[[int], None]], None]
"""Serves an application until SIGTERM, with TLS when a workspace is given, and tells its port when it listens."""


def door(app: ASGIApp, drain: Drain, tls: Workspace | None, announce: Callable[[int], None]) -> None:
    """As `aggmw serve` does it."""
    settings = None
    if tls is not None:
        settings = DoorTLS(
            certificate=tls.certificate("front"), key=tls.key("front"), client_ca=[tls.certificate("front-ca")]
        )
    server = make_server(app, port=0, tls=settings, drain=drain, grace=1.0)

    async def up() -> None:
        settle_memory()
        announce(server.port)

    run(server, beside=up)


def granian(app: ASGIApp, drain: Drain, tls: Workspace | None, announce: Callable[[int], None]) -> None:
    """In this process on uvloop, HTTP/1 alone: what was the fastest of its modes that keeps asyncio's own tasks.

    (Its "rust" tasks are no asyncio tasks, so nothing that asks for the current one or cancels it works in them.)
    """
    import uvloop

    uvloop.run(_granian(app, tls, announce))


async def _granian(app: ASGIApp, tls: Workspace | None, announce: Callable[[int], None]) -> None:
    from granian.constants import HTTPModes, Interfaces, SSLProtocols
    from granian.server.embed import Server

    port = free_port()
    server = Server(
        app,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=4096,
        log_enabled=False,
        ssl_cert=None if tls is None else tls.certificate("front"),
        ssl_key=None if tls is None else tls.key("front"),
        ssl_protocol_min=SSLProtocols.tls12,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.ensure_future(server.serve())
    if await _accepts(port, serving):
        settle_memory()
        announce(port)
    await serving


async def _accepts(port: int, serving: asyncio.Future[None]) -> bool:
    """Wait until somebody listens; False when the server ended instead."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return True
    return False


SERVERS: Mapping[str, Serve] = {"door": door, "granian": granian}
