"""Moving one request to a backend and its answer back, both streamed, until either side is done or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import structlog

from aggmw.asgi.headers import first
from aggmw.asgi.responses import respond
from aggmw.asgi.types import Headers, Receive, Scope, Send
from aggmw.contracts.backends import Backend, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.contracts.drain import Drain
from aggmw.errors import UpstreamError
from aggmw.middleware.proxy.errors import REDIRECTED, failure
from aggmw.middleware.proxy.headers import backwards
from aggmw.middleware.proxy.watching import Departures, Watched

__all__ = ["Forwarding"]

_log = structlog.get_logger("aggmw.proxy")


class _ClientGone(Exception):
    """The client disconnected while it was still sending."""


class Forwarding:
    """Everything about one forwarded request.

    Args:
        transport: carries it.
        departures: notices when the client leaves.
        drain: ends long streams.
        backend: where it goes.
        request_id: for the log.
    """

    __slots__ = ("_backend", "_departures", "_drain", "_gone", "_log_fields", "_task", "_transport", "_watched")

    def __init__(
        self,
        transport: UpstreamTransport,
        departures: Departures,
        drain: Drain | None,
        backend: Backend,
        request_id: str,
    ) -> None:
        self._transport = transport
        self._departures = departures
        self._drain = drain
        self._backend = backend
        self._log_fields = {"service": backend.name, "request_id": request_id}
        self._gone = False
        self._task = asyncio.current_task()
        self._watched: Watched | None = None

    async def run(
        self, request: UpstreamRequest, incoming: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Forward, and answer.

        Args:
            request: what goes upstream, its body still to be taken from `receive`.
            incoming: the client's fields, for the framing of the body.
        """
        try:
            await self._run(request, incoming, scope, receive, send)
        except asyncio.CancelledError:
            if not self._gone or self._task is None or self._task.uncancel() > 0:
                raise
        finally:
            if self._watched is not None:
                await self._departures.forget(self._watched)

    async def _run(
        self, request: UpstreamRequest, incoming: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            prepared = await self._with_body(request, incoming, receive)
        except _ClientGone:
            return
        try:
            response = await self._transport.send(self._backend, prepared)
        except UpstreamError as error:
            if not self._gone:
                _log.warning("backend failed", cause=str(error), **self._log_fields)
                await respond(scope, send, failure(self._backend, error))
            return
        try:
            await self._answer(response, prepared, scope, send)
        finally:
            await response.aclose()

    async def _with_body(self, request: UpstreamRequest, incoming: Headers, receive: Receive) -> UpstreamRequest:
        """The request with its body: none, whole when it is at hand, else as a stream."""
        length = first(incoming, b"content-length")
        declared = int(length) if length is not None and length.isdigit() else None
        if first(incoming, b"transfer-encoding") is None and not declared:
            self._watch(receive)
            return replace(request, content_length=declared)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            return replace(request, body=self._stream(body, receive), content_length=declared)
        self._watch(receive)
        if declared is not None and declared != len(body):
            raise _ClientGone  # the server cut it: nothing whole can be sent
        return replace(request, content=body, content_length=len(body))

    async def _stream(self, chunk: bytes, receive: Receive) -> AsyncIterator[bytes]:
        more = True
        while True:
            if chunk:
                yield chunk
            if not more:
                break
            message = await receive()
            if message["type"] == "http.disconnect":
                self._leave()
                raise _ClientGone
            chunk, more = message.get("body", b""), message.get("more_body", False)
        self._watch(receive)

    def _watch(self, receive: Receive) -> None:
        """From here on only the watcher calls `receive`, and only if this takes long."""
        self._watched = self._departures.watch(receive, self._leave)

    def _leave(self) -> None:
        """The client is gone: interrupt whatever this exchange waits for."""
        if not self._gone and self._task is not None:
            self._gone = True
            self._task.cancel()

    async def _answer(self, response: UpstreamResponse, request: UpstreamRequest, scope: Scope, send: Send) -> None:
        status, headers = response.status, response.headers
        if 300 <= status < 400 and status != 304 and first(headers, b"location") is not None:
            await respond(scope, send, REDIRECTED)
            return
        await send({"type": "http.response.start", "status": status, "headers": backwards(status, headers)})
        length = first(headers, b"content-length")
        left = None if length is None or request.method == b"HEAD" else int(length)
        if left is None and request.long_running:
            # Some servers hold the head back until there is a body.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            if self._drain is not None:
                self._drain.add(response.end)
        try:
            await self._body(response, left, send)
        except UpstreamError as error:
            # Returning without completing is how a server is told to cut the response.
            if not self._gone:
                _log.warning("backend broke off", cause=str(error), **self._log_fields)
        finally:
            if self._drain is not None:
                self._drain.remove(response.end)

    async def _body(self, response: UpstreamResponse, left: int | None, send: Send) -> None:
        while chunk := await response.read():
            if left is not None:
                left -= len(chunk)
                if left <= 0:
                    await send({"type": "http.response.body", "body": chunk})
                    return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
