"""A WebSocket between a client and a backend: the handshake, messages both ways, and one end for both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from aggmw.asgi.headers import first
from aggmw.asgi.responses import respond
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import AnyBackend, PathService, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.contracts.connection import WhenGone
from aggmw.contracts.exchange import Answer
from aggmw.contracts.websockets import Close, UpstreamWebSocket, connector
from aggmw.errors import StatusError, UpstreamBroken, UpstreamError
from aggmw.middleware.proxy.closing import ENDS, to_backend, to_client
from aggmw.middleware.proxy.errors import ENDED, REDIRECTED, failure
from aggmw.middleware.proxy.headers import backwards
from aggmw.middleware.proxy.lifetimes import Lifetime, Lifetimes
from aggmw.middleware.proxy.paths import relocated
from aggmw.objects.status import answer_of

__all__ = ["Relay"]

_log = structlog.get_logger("aggmw.proxy")

_REFUSAL_BYTES = 1_048_576
_REFUSAL_SECONDS = 10.0
_GOODBYE_SECONDS = 5.0
_NO_CODE, _ABNORMAL = 1005, 1006
_OUR_OWN = (b"sec-websocket-", b"content-length")


class Relay:
    """Everything about one forwarded WebSocket.

    The task that runs it carries what comes from the backend, and one more what comes from the client; a side that
    takes nothing stops the other. Pings are answered on each side and not passed on. Whoever ends first, and however,
    ends both; nothing is left behind then.

    Args:
        transport: opens the other half.
        lifetimes: end it.
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
        "_error",
        "_gone",
        "_lifetime",
        "_lifetimes",
        "_over",
        "_own_cookies",
        "_patience",
        "_prefix",
        "_reading",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_service",
        "_socket",
        "_task",
        "_transport",
        "_when_gone",
    )

    def __init__(
        self,
        transport: UpstreamTransport,
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
        self._lifetimes = lifetimes
        self._backend = backend
        self._request_id = request_id
        self._scope = scope
        self._receive = receive
        self._send = send
        self._service = service
        self._prefix = prefix
        self._when_gone = when_gone
        self._own_cookies = own_cookies
        self._task: asyncio.Task[Any] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._socket: UpstreamWebSocket | None = None
        self._cancelled = False  # by us, once
        self._over = False  # nothing interrupts from here on
        self._gone: Close | None = None  # how the client left
        self._lifetime: Lifetime | None = None
        self._error: Exception | None = None  # what `receive` raised
        self._patience: asyncio.TimerHandle | None = None

    async def run(self, request: UpstreamRequest, subprotocols: Sequence[str]) -> None:
        """Open the other half, accept or refuse, and carry messages until a side ends it.

        Args:
            request: the handshake as it goes on, without the fields that make it one.
            subprotocols: what the client offered and the backend may choose from.
        """
        lifetime = self._lifetime = self._lifetimes.of(request.identity, long_running=True)
        if lifetime is not None and lifetime.ended is not None:
            lifetime.close()
            await self._answer(ENDED[lifetime.ended])
            return
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._reading = loop.create_task(self._from_client(), name="WebSocket: from the client")
        if lifetime is not None:
            lifetime.then(self._interrupt)
        if self._when_gone is not None:
            self._when_gone(self._notice)  # nobody awaits `receive` while the backend takes no more
        try:
            await self._opened(request, subprotocols)
        except asyncio.CancelledError:
            if not self._cancelled or self._task is None or self._task.uncancel() > 0:
                raise
            self._over = True
            await self._finish()
        finally:
            self._over = True
            if lifetime is not None:
                lifetime.close()
            if self._patience is not None:
                self._patience.cancel()
            if self._when_gone is not None:
                self._when_gone(None)
            socket, self._socket = self._socket, None
            if socket is not None:
                await socket.aclose()
            await self._stop_reading()
        if self._error is not None:
            raise self._error

    # The handshake

    async def _opened(self, request: UpstreamRequest, subprotocols: Sequence[str]) -> None:
        try:
            answer = await connector(self._transport).connect(self._backend, request, subprotocols)
            if not isinstance(answer, UpstreamWebSocket):
                await self._refuse(answer)
                return
        except UpstreamError as error:
            self._report("backend failed", str(error))
            await self._answer(failure(self._backend, error))
            return
        except StatusError as error:
            await self._answer(answer_of(error))
            return
        self._socket = answer
        fields = backwards(101, answer.headers, api=self._service is None, own_cookies=self._own_cookies)
        headers = [field for field in fields if not field[0].startswith(_OUR_OWN)]
        try:
            await self._send({"type": "websocket.accept", "subprotocol": answer.subprotocol, "headers": headers})
            await self._from_backend(answer)
        except OSError:  # what `send` may raise once the client is gone; a backend's are translated
            if self._reading is not None:  # how it left is about to be received, behind what it sent last
                await asyncio.wait([self._reading], timeout=_GOODBYE_SECONDS)

    async def _refuse(self, response: UpstreamResponse) -> None:
        """The backend answered as to a plain request: so does this."""
        try:
            try:
                async with asyncio.timeout(_REFUSAL_SECONDS):
                    body = await _whole(response)
            except TimeoutError as error:
                raise UpstreamBroken("its answer to the WebSocket handshake does not end") from error
            status, headers = response.status, response.headers
        finally:
            await response.aclose()
        service = self._service
        if 300 <= status < 400 and status != 304 and first(headers, b"location") is not None:
            if service is None or not service.redirects:
                await self._answer(REDIRECTED)
                return
            headers = relocated(headers, self._backend, self._prefix)
        fields = backwards(status, headers, api=service is None, own_cookies=self._own_cookies)
        kept = tuple(field for field in fields if not field[0].startswith(_OUR_OWN))
        await self._answer(Answer(status, kept, body))

    # Messages

    async def _from_backend(self, socket: UpstreamWebSocket) -> None:
        """Carry messages to the client until either side has ended it."""
        while not isinstance(message := await socket.receive(), Close):
            if self._gone is None:
                kind = "text" if isinstance(message, str) else "bytes"
                await self._send({"type": "websocket.send", kind: message})
        if self._gone is not None:
            return  # the client's own end, which it was told
        self._over = True
        if message.code == _ABNORMAL:
            self._report("backend broke off", socket.fault or "it ended the connection without a close frame")
        await self._tell(to_client(message))
        await socket.close(message)

    async def _from_client(self) -> None:
        """Carry messages to the backend until the client ends it, whose departure is noticed in every phase."""
        try:
            while True:
                message = await self._receive()
                kind = message["type"]
                if kind == "websocket.receive" and self._socket is not None:
                    text = message.get("text")
                    await self._socket.send(message["bytes"] if text is None else text)
                elif kind == "websocket.disconnect":
                    self._leave(Close(message.get("code") or _NO_CODE, message.get("reason") or ""))
                    return
        except Exception as error:  # noqa: BLE001  raised by `run`
            if not self._over:
                self._error = error
                self._interrupt()

    # The end

    def _notice(self) -> None:
        """The client's connection is gone. What it sent before goes on, if the backend takes it in time."""
        if not self._over and self._task is not None:
            self._patience = self._task.get_loop().call_later(_GOODBYE_SECONDS, self._leave, Close(_ABNORMAL))

    def _leave(self, close: Close) -> None:
        """The client ended it, this way."""
        if self._gone is None:
            self._gone = close
            self._interrupt()

    async def _finish(self) -> None:
        """The client is gone, or the lifetime is over."""
        socket, end = self._socket, None if self._lifetime is None else self._lifetime.ended
        close: Close | None = None
        if self._gone is not None:
            close = to_backend(*self._gone)
        elif end is not None and socket is None:
            await self._answer(ENDED[end])
        elif end is not None:
            close = ENDS[end]
            await self._tell(close)
        if socket is not None and close is not None:
            await socket.close(close)

    async def _tell(self, close: Close) -> None:
        """Close the client's side; one that takes nothing is not waited for."""
        await self._stop_reading()  # granian sends no close frame while somebody awaits `receive`
        with suppress(OSError, TimeoutError):  # OSError: what `send` may raise once the client is gone
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason})

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _answer(self, answer: Answer) -> None:
        self._over = True
        with suppress(OSError):
            await respond(self._scope, self._send, answer)

    def _interrupt(self) -> None:
        if not self._over and not self._cancelled and self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def _report(self, event: str, cause: str) -> None:
        _log.warning(event, service=self._backend.name, request_id=self._request_id, cause=cause)


async def _whole(response: UpstreamResponse) -> bytes:
    """The body of a refusal.

    Raises:
        UpstreamBroken: it is longer than anybody's.
    """
    body = b""
    while piece := await response.read():
        body += piece
        if len(body) > _REFUSAL_BYTES:
            raise UpstreamBroken("its answer to the WebSocket handshake is too long")
    return body
