"""Moving one request to a backend and its answer back, both streamed, until either side is done or gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog

from aggmw.asgi.headers import first
from aggmw.asgi.responses import respond
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, PathService, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.contracts.connection import WhenGone
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer
from aggmw.errors import StatusError, UpstreamError
from aggmw.middleware.proxy.body import Body, ClientGone
from aggmw.middleware.proxy.errors import REDIRECTED, STOPPING, WRONG_LENGTH, failure
from aggmw.middleware.proxy.headers import backwards
from aggmw.middleware.proxy.paths import relocated
from aggmw.middleware.proxy.watching import Departures, Watched
from aggmw.objects.status import answer_of

__all__ = ["Forwarding"]

_log = structlog.get_logger("aggmw.proxy")

_HTTP_1 = frozenset({"1.0", "1.1"})
_USUALLY_WITH_A_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


class Forwarding:
    """Everything about one forwarded request.

    Args:
        transport: carries it.
        departures: notices when the client leaves.
        drain: ends long streams.
        backend: where it goes.
        request_id: for the log.
        scope, receive, send: the client's side.
        service: the path service, where it is not an API that is asked.
        prefix: what the client's path has in front of the path that is sent, for redirects of a path service.
        when_gone: how the server tells that the client left while nobody asks, where it does.
    """

    __slots__ = (
        "_backend",
        "_cancelled",
        "_departures",
        "_drain",
        "_gone",
        "_prefix",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_service",
        "_stopping",
        "_task",
        "_transport",
        "_watched",
        "_when_gone",
    )

    def __init__(
        self,
        transport: UpstreamTransport,
        departures: Departures,
        drain: Drain | None,
        backend: AnyBackend,
        request_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        service: PathService | None = None,
        prefix: bytes = b"",
        when_gone: WhenGone | None = None,
    ) -> None:
        self._transport = transport
        self._departures = departures
        self._drain = drain
        self._backend = backend
        self._request_id = request_id
        self._service = service
        self._prefix = prefix
        self._when_gone = when_gone
        self._scope = scope
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._watched: Watched | None = None
        self._gone = False
        self._stopping = False
        self._cancelled = False

    async def run(self, request: UpstreamRequest, *, chunked: bool) -> None:
        """Forward, and answer. A client that leaves ends it silently, whatever was going on.

        Args:
            request: as it is to go on, its body still with the client; `content_length` is what the client declared.
            chunked: a body follows whose length nobody knows.
        """
        tick = self._departures.tick()
        self._task = asyncio.current_task(tick.loop)
        try:
            # HTTP/1 says in the head whether there is a body; the later ones do not.
            if not (chunked or request.content_length) and self._scope.get("http_version", "1.1") in _HTTP_1:
                self._watched = tick.watch(self._receive, self._leave)
                if request.content_length is None and request.method in _USUALLY_WITH_A_BODY:
                    request.content_length = 0
            elif not await self._take_body(request, chunked):
                return
            await self._exchange(request)
        except asyncio.CancelledError:
            if not self._cancelled or self._task is None or self._task.uncancel() > 0:
                raise
            if self._stopping and not self._gone:
                self._gone = True  # no other interruption from here on
                await self._answer(STOPPING)
        except ClientGone:
            pass
        finally:
            self._gone = True  # a departure that is noticed now interrupts nothing
            if request.body is not None and self._when_gone is not None:
                self._when_gone(None)
            request.body = None  # it and `watched` hold our methods: no cycle for the collector
            watched, self._watched = self._watched, None
            if watched is not None and (ending := self._departures.forget(watched)) is not None:
                await asyncio.gather(ending, return_exceptions=True)

    async def _take_body(self, request: UpstreamRequest, chunked: bool) -> bool:
        """Give the request its body: whole when it is at hand, else as a stream. False when it was answered."""
        length = request.content_length
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        content: bytes = message.get("body", b"")
        if message.get("more_body", False):
            if self._when_gone is not None:
                self._when_gone(self._leave)  # nobody awaits `receive` while the backend takes no more
            request.body = Body(content, self._receive, whole=self._watch, broken_off=self._leave)
            return True
        if length is not None and length != len(content):
            await self._answer(WRONG_LENGTH)
            return False
        self._watch()
        request.content = content
        if content or request.method in _USUALLY_WITH_A_BODY or chunked:
            request.content_length = len(content)
        return True

    async def _exchange(self, request: UpstreamRequest) -> None:
        drain = self._drain if request.long_running else None
        if drain is not None:
            if drain.begun:
                await self._answer(STOPPING)
                return
            drain.add(self._stop)
        try:
            response = await self._transport.send(self._backend, request)
        except UpstreamError as error:
            if not self._gone:
                self._report("backend failed", error)
                await self._answer(failure(self._backend, error))
            return
        except StatusError as error:
            if not self._gone:
                await self._answer(answer_of(error))
            return
        finally:
            if drain is not None:
                drain.remove(self._stop)
        try:
            await self._pass_back(response, request)
        except (UpstreamError, StatusError) as error:
            # Returning without completing is how a server is told to cut the response.
            if not self._gone:
                self._report("backend broke off", error)
        except OSError:
            pass  # what `send` may raise once the client is gone; a backend's are translated
        finally:
            await response.aclose()

    async def _pass_back(self, response: UpstreamResponse, request: UpstreamRequest) -> None:
        status, headers = response.status, response.headers
        service = self._service
        if 300 <= status < 400 and status != 304 and first(headers, b"location") is not None:
            if service is None or not service.redirects:
                await self._answer(REDIRECTED)
                return
            headers = relocated(headers, self._backend, self._prefix)
        fields = backwards(status, headers, api=service is None)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        if request.method == b"HEAD" or status in (204, 304):
            await self._send({"type": "http.response.body", "body": b""})
        elif (content := response.content) is not None:
            await self._send({"type": "http.response.body", "body": content})
        elif (length := first(headers, b"content-length")) is not None:
            await self._pass_exactly(response, int(length))
        else:
            await self._pass_stream(response, request.long_running)

    async def _pass_exactly(self, response: UpstreamResponse, left: int) -> None:
        while chunk := await response.read():
            left -= len(chunk)
            if left <= 0:
                await self._send({"type": "http.response.body", "body": chunk})
                return
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _pass_stream(self, response: UpstreamResponse, long_running: bool) -> None:
        # Some servers hold the head back until there is a body.
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        drain = self._drain if long_running else None
        if drain is not None:
            drain.add(response.end)
        try:
            while chunk := await response.read():
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            if drain is not None:
                drain.remove(response.end)

    async def _answer(self, answer: Answer) -> None:
        with suppress(OSError):  # what `send` may raise once the client is gone
            await respond(self._scope, self._send, answer)

    def _watch(self) -> None:
        """From here on only the watcher calls `receive`, and only if this takes long."""
        self._watched = self._departures.watch(self._receive, self._leave)

    def _leave(self) -> None:
        """The client is gone: interrupt whatever this exchange waits for."""
        if self._gone:
            return
        self._gone = True
        self._interrupt()

    def _stop(self) -> None:
        """The front proxy stops before the head of a long-running answer came."""
        if not self._gone:
            self._stopping = True
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._cancelled and self._task is not asyncio.current_task():
            self._cancelled = True
            self._task.cancel()

    def _report(self, event: str, error: Exception) -> None:
        _log.warning(event, service=self._backend.name, request_id=self._request_id, cause=str(error))
