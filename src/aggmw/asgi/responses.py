"""Sending a whole `Answer` as ASGI messages, on HTTP and on a WebSocket that was not accepted."""

from __future__ import annotations

from aggmw.asgi.types import Scope, Send
from aggmw.contracts.exchange import Answer

__all__ = ["respond"]


async def respond(scope: Scope, send: Send, answer: Answer) -> None:
    """Send `answer`. A HEAD request gets the head, with the length of the body it would have had.

    A WebSocket handshake is refused with the answer itself where the server can (`websocket.http.response`), else it
    is closed before it is accepted, which servers turn into a bare 403.
    """
    headers = list(answer.headers)
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if scope["type"] == "websocket":
        await _refuse(scope, send, answer, headers)
        return
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, send: Send, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
