"""A server for the tests of signals: run as a script, it prints its port and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from aggmw.contracts.drain import Drain
from aggmw.server.serving import make_server, run
from aggmw.server.tls import DoorTLS

drain = Drain()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/polite` streams until the drain, `/stubborn` for ever; the lifespan says when it ends."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan ended", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"event", "more_body": True})
    if scope["path"] == "/polite":
        ended = asyncio.Event()
        drain.add(ended.set)
        await ended.wait()
        await send({"type": "http.response.body", "body": b"last", "more_body": False})
        return
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if scope["path"] != "/immortal":
                raise


async def announce() -> None:
    """The port, once the server is up."""
    print(server.port, flush=True)


if __name__ == "__main__":
    loop, grace, *files = sys.argv[1:]
    tls = DoorTLS(certificate=Path(files[0]), key=Path(files[1])) if files else None
    server = make_server(app, port=0, drain=drain, grace=float(grace), loop=loop, tls=tls)
    sys.exit(run(server, beside=announce))
