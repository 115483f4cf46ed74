"""A service in the front proxy's process: keeps what arrives and from whom, and tells; echoes on WebSockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page.html").read_bytes()
seen: list[list[str]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("nothing to start")
    if scope["path"] == "/app/page":
        await answer(send, PAGE, b"text/html")
        return
    seen.append([scope.get("method", "WebSocket"), scope["query_string"].decode(), scope["aggmw.identity"].user])
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    else:
        while (await receive()).get("more_body"):
            pass
        await answer(send, json.dumps(seen).encode(), b"application/json")


async def answer(send: Any, body: bytes, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
