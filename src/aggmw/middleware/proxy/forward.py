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
from aggmw.contracts.exchange import Answer
from aggmw.errors import StatusError, UpstreamError
from aggmw.middleware.proxy.body import Body, ClientGone
from aggmw.middleware.proxy.errors import ENDED, REDIRECTED, WRONG_LENGTH, failure
from aggmw.middleware.proxy.headers import backwards
from aggmw.middleware.proxy.lifetimes import End, Lifetime, Lifetimes
from aggmw.middleware.proxy.paths import relocated
from aggmw.middleware.proxy.watching import Departures, Watched
from aggmw.objects.status import answer_of

__all__ = ["Forwarding"]

_log = structlog.get_logger("aggmw.proxy")

_CUTTING = (End.EXPIRED, End.REVOKED, End.LATE)
_HTTP_1 = frozenset({"1.0", "1.1"})
_USUALLY_WITH_A_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


class Forwarding:
    """Everything about one forwarded request.

    Args:
        transport: carries it.
        departures: notices when the client leaves.
        lifetimes: end streams.
        backend: where it goes.
        request_id: for the log.
        scope, receive, send: the client's side.
        service: the path service, where it is not an API that is asked.
        prefix: what the client's path has in front of the path that is sent, for redirects of a path service.
        when_gone: how the server tells that the client left while nobody asks, where it does.
        own_cookies: names of cookies that the backend may not set.
    """

    __slots__ = (
        "_backend",
        "_cancelled",
        "_deadline",
        "_departures",
        "_gone",
        "_lifetime",
        "_lifetimes",
        "_own_cookies",
        "_prefix",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_service",
        "_task",
        "_transport",
        "_watched",
        "_when_gone",
    )

    def __init__(
        self,
        transport: UpstreamTransport,
        departures: Departures,
        lifetimes: Lifetimes,
        backend: AnyBackend,
        request_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        service: PathService | None = None,
        prefix: bytes = b"",
        when_gone: WhenGone | None = None,
        own_cookies: frozenset[bytes] = frozenset(),
    ) -> None:
        self._transport = transport
        self._departures = departures
        self._lifetimes = lifetimes
        self._backend = backend
        self._request_id = request_id
        self._service = service
        self._prefix = prefix
        self._when_gone = when_gone
        self._own_cookies = own_cookies
        self._scope = scope
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._watched: Watched | None = None
        self._lifetime: Lifetime | None = None
        self._deadline: float | None = None
        self._gone = False
        self._cancelled = False

    async def run(self, request: UpstreamRequest, *, chunked: bool, whole: bool = False) -> None:
        """Forward, and answer. A client that leaves ends it silently, whatever was going on.

        Args:
            request: as it is to go on, its body still with the client; `content_length` is what the client declared.
            chunked: a body follows whose length nobody knows.
            whole: the time-out is for the whole answer, and cuts it; else for its head.
        """
        tick = self._departures.tick()
        if whole and request.timeout is not None:
            self._deadline = tick.loop.time() + request.timeout
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
            if self._lifetime is not None and self._lifetime.ended is not None and not self._gone:
                self._gone = True  # no other interruption from here on
                await self._answer(ENDED[self._lifetime.ended])
        except ClientGone:
            pass
        finally:
            self._gone = True  # a departure that is noticed now interrupts nothing
            lifetime, self._lifetime = self._lifetime, None
            if lifetime is not None:
                lifetime.close()
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
        if request.long_running and (lifetime := self._begin(request)) is not None:
            if lifetime.ended is not None:
                await self._answer(ENDED[lifetime.ended])
                return
            lifetime.then(self._stop)
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
            if self._lifetime is not None:
                self._lifetime.then(None)
        try:
            await self._pass_back(response, request)
            if self._lifetime is not None and self._lifetime.ended is End.LATE:
                _log.warning(
                    "answer cut", service=self._backend.name, request_id=self._request_id, cause=End.LATE.value
                )
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
        fields = backwards(status, headers, api=service is None, own_cookies=self._own_cookies)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        if request.method == b"HEAD" or status in (204, 304):
            await self._send({"type": "http.response.body", "body": b""})
        elif (content := response.content) is not None:
            await self._send({"type": "http.response.body", "body": content})
        elif (length := first(headers, b"content-length")) is not None:
            await self._pass_exactly(response, request, int(length))
        else:
            await self._pass_stream(response, request)

    async def _pass_exactly(self, response: UpstreamResponse, request: UpstreamRequest, left: int) -> None:
        lifetime = self._begin(request)
        if lifetime is not None:
            lifetime.then(lambda: response.end() if lifetime.ended in _CUTTING else None)
        while chunk := await response.read():
            left -= len(chunk)
            if left <= 0:
                await self._send({"type": "http.response.body", "body": chunk})
                return
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        if lifetime is None or lifetime.ended not in _CUTTING:
            await self._send({"type": "http.response.body", "body": b""})

    async def _pass_stream(self, response: UpstreamResponse, request: UpstreamRequest) -> None:
        # Some servers hold the head back until there is a body.
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        lifetime = self._begin(request)
        if lifetime is not None:
            lifetime.then(response.end)
        while chunk := await response.read():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        # A watch may end anywhere. What has an end of its own must not look as if it had come.
        if request.long_running or lifetime is None or lifetime.ended is None:
            await self._send({"type": "http.response.body", "body": b""})

    def _begin(self, request: UpstreamRequest) -> Lifetime | None:
        """The lifetime of this exchange, from its first use."""
        if self._lifetime is None:
            self._lifetime = self._lifetimes.of(
                request.identity, long_running=request.long_running, deadline=self._deadline
            )
        return self._lifetime

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
        """The lifetime of a long-running request is over before the head of its answer came."""
        if not self._gone:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._cancelled and self._task is not asyncio.current_task():
            self._cancelled = True
            self._task.cancel()

    def _report(self, event: str, error: Exception) -> None:
        _log.warning(event, service=self._backend.name, request_id=self._request_id, cause=str(error))
