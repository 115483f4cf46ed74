"""An ASGI application on a real socket, for what has to be tried over one: plain HTTP/1.1, one connection one task."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote

from aggmw.asgi.types import ASGIApp, Message, Scope
from aggmw.testing._connection import BackendConnection, PeerGone
from aggmw.testing.backend import ScriptedBackend
from aggmw.testing.raw import ReceivedRequest, body_length, chunk_length

__all__ = ["served"]


@asynccontextmanager
async def served(app: ASGIApp, *, context: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedBackend]:
    """Serve an application on a free port of the loopback, without a lifespan. What it raises breaks its connection.

    Args:
        app: the application.
        context: the TLS context of the server; None for plain TCP.
    """

    async def serve(connection: BackendConnection) -> None:
        while await _Exchange(connection, context is not None).run(app):
            pass

    async with ScriptedBackend([serve], context, limit=None) as backend:
        yield backend


class _Exchange:
    """One request and its answer."""

    def __init__(self, connection: BackendConnection, secure: bool) -> None:
        self._connection = connection
        self._secure = secure
        self._left: int | None = 0  # of the request's body; None while it comes in chunks, -1 after its end
        self._head_only = False
        self._chunked = False
        self._over = False

    async def run(self, app: ASGIApp) -> bool:
        """Whether the connection may carry another one."""
        head = await self._connection.read_until(b"\r\n\r\n")
        request = ReceivedRequest.of(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n0\r\n\r\n")
        self._left = body_length(head)
        self._head_only = request.method == "HEAD"
        path, _, query = request.target.partition(b"?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "https" if self._secure else "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._connection.peer[:2],
            "server": None,
            "extensions": {},
        }
        try:
            await app(scope, self._receive, self._send)
        except PeerGone:
            raise
        except Exception:  # noqa: BLE001  the connection tells
            return False
        return self._over and self._left in (0, -1)

    async def _receive(self) -> Message:
        try:
            if self._left is None:
                length = chunk_length(await self._connection.read_until(b"\r\n"))
                body = (await self._connection.read_exactly(length + 2))[:-2]
                self._left = None if length else -1
                return {"type": "http.request", "body": body, "more_body": length > 0}
            if not self._over and self._left >= 0:
                body = await self._connection.read_some(self._left) if self._left else b""
                if self._left and not body:
                    return {"type": "http.disconnect"}
                self._left = self._left - len(body) or -1
                return {"type": "http.request", "body": body, "more_body": self._left > 0}
            await self._connection.gone()
        except PeerGone:
            pass
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            bodiless = message["status"] in (204, 304)
            self._chunked = not (bodiless or self._head_only or b"content-length" in names)
            fields = [*message["headers"], *([(b"Transfer-Encoding", b"chunked")] if self._chunked else [])]
            lines = b"".join(b"%b: %b\r\n" % field for field in fields)
            await self._connection.send(b"HTTP/1.1 %d As told\r\n%b\r\n" % (message["status"], lines))
            return
        body = b"" if self._head_only else message.get("body", b"")
        if self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if message.get("more_body") else b"0\r\n\r\n"
        if body:
            await self._connection.send(body)
        if not message.get("more_body"):
            self._over = True
