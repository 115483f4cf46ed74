"""The client's end of a WebSocket to an ASGI application, and the server's side that stands behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from types import TracebackType

from aggmw.asgi.types import ASGIApp, Headers, Message, Scope
from aggmw.testing._exchange import AppTask, ClientDisconnected, IncompleteResponse

__all__ = ["WebSocket", "WebSocketClosed", "WebSocketExchange"]


class WebSocketClosed(Exception):
    """The application closed the WebSocket.

    Args:
        code: the close code; 1006 when the application ended without closing.
        reason: the text of the close frame.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocketExchange(AppTask):
    """The server's side: messages as in the specification, nothing buffered towards the client."""

    def __init__(self, *, limit: float | None) -> None:
        super().__init__(limit=limit)
        self.inbound: deque[Message] = deque([{"type": "websocket.connect"}])
        self._outbound: deque[str | bytes] = deque()
        self._queued = 0
        self._taken = 0
        self.accept_message: Message | None = None
        self.denial_start: Message | None = None
        self.denial_body = b""
        self.close_frame: tuple[int, str] | None = None
        self.denied = False
        self.disconnected: Message | None = None

    def run(self, app: ASGIApp, scope: Scope) -> None:
        self.start(app(scope, self._receive, self._send))

    def put(self, message: Message) -> None:
        self.inbound.append(message)
        self.changed.notify()

    def disconnect(self, code: int, reason: str) -> None:
        if self.disconnected is None:
            self.disconnected = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self.changed.notify()

    async def next_message(self) -> str | bytes | None:
        """The next message to the client, or None when no more will come."""
        await self.changed.until(
            lambda: self._outbound or self.close_frame or self.ended or self.disconnected,
            limit=self.limit,
            waiting_for="a message from the application",
        )
        if not self._outbound or (self.disconnected and not self.close_frame):
            return None
        self._taken += 1
        self.changed.notify()
        return self._outbound.popleft()

    async def _receive(self) -> Message:
        await self.changed.until(
            lambda: self.inbound or self.disconnected is not None, limit=None, waiting_for="a message"
        )
        if self.inbound:
            return self.inbound.popleft()
        assert self.disconnected is not None
        return self.disconnected

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self.disconnected is not None:
            if kind == "websocket.close":
                return
            raise ClientDisconnected("the client is gone")
        if kind == "websocket.accept":
            self.accept_message = message
        elif kind == "websocket.close":
            self._close(message.get("code") or 1000, message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self.denial_start = message
        elif kind == "websocket.http.response.body":
            self.denial_body += message.get("body", b"")
            self.denied = not message.get("more_body", False)
        else:
            await self._deliver(message)
        self.changed.notify()

    def _close(self, code: int, reason: str) -> None:
        self.close_frame = code, reason
        self.denied = self.accept_message is None
        if self.accept_message is not None:
            self.disconnected = {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def _deliver(self, message: Message) -> None:
        payload = message.get("bytes")
        self._outbound.append(message["text"] if payload is None else payload)
        self._queued += 1
        number = self._queued
        self.changed.notify()
        await self.changed.until(
            lambda: self._taken >= number or self.disconnected is not None,
            limit=None,
            waiting_for="the client to read",
        )
        if self._taken < number:
            raise ClientDisconnected("the client is gone")


class WebSocket:
    """A WebSocket as its client sees it, or the response that refused it.

    After opening, either `accepted` is true, or `status`, `headers` and `body` tell how the handshake was refused (a
    bare 403 for an application that closed without accepting).
    """

    def __init__(self, exchange: WebSocketExchange, app: ASGIApp, scope: Scope, *, raise_app_exceptions: bool) -> None:
        self._exchange = exchange
        self._app = app
        self._scope = scope
        self._raise = raise_app_exceptions
        self.accepted = False
        self.subprotocol: str | None = None
        self.status = 0
        self.headers: Headers = ()
        self.body = b""

    def __await__(self) -> Generator[object, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exchange.disconnect(1000 if error is None else 1006, "")
        await self._exchange.end()
        if error is None:
            self._exchange.check(raise_app_exceptions=self._raise)

    def header(self, name: bytes | str) -> bytes | None:
        """The value of a field of the accepting or refusing response, or None."""
        wanted = (name.encode() if isinstance(name, str) else name).lower()
        return next((value for key, value in self.headers if key == wanted), None)

    @property
    def pending(self) -> int:
        """How many messages were sent that the application has not received yet."""
        return len(self._exchange.inbound)

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message. It does not wait for the application: see `pending`."""
        if isinstance(message, str):
            self._exchange.put({"type": "websocket.receive", "text": message})
        else:
            self._exchange.put({"type": "websocket.receive", "bytes": message})

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            WebSocketClosed: the application closed, or ended without closing (1006).
            AssertionError: nothing came within the client's limit.
        """
        exchange = self._exchange
        message = await exchange.next_message()
        if message is not None:
            return message
        if exchange.close_frame is not None:
            raise WebSocketClosed(*exchange.close_frame)
        exchange.check(raise_app_exceptions=self._raise)
        raise WebSocketClosed(1006)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close from the client's side, and wait until the application has returned.

        Raises:
            AssertionError: it did not within the client's limit; it has been cancelled.
        """
        await self.disconnect(code, reason)
        await self.finished()

    async def disconnect(self, code: int = 1006, reason: str = "") -> None:
        """The client goes away, without a close frame unless a code is given. Does not wait for the application."""
        self._exchange.disconnect(code, reason)

    async def finished(self) -> None:
        """Wait until the application has returned. Raises as `close` does."""
        await self._exchange.end()
        self._exchange.check(raise_app_exceptions=self._raise)

    async def _open(self) -> WebSocket:
        exchange = self._exchange
        exchange.run(self._app, self._scope)
        try:
            await exchange.changed.until(
                lambda: exchange.accept_message is not None or exchange.denied or exchange.ended,
                limit=exchange.limit,
                waiting_for="the WebSocket to be accepted or refused",
            )
        except BaseException:
            exchange.disconnect(1006, "")
            await exchange.end()
            raise
        if exchange.accept_message is not None:
            self.accepted = True
            self.status = 101
            self.subprotocol = exchange.accept_message.get("subprotocol")
            self.headers = tuple(exchange.accept_message.get("headers") or ())
        else:
            await self._refused()
        return self

    async def _refused(self) -> None:
        exchange = self._exchange
        exchange.disconnect(1006, "")
        await self.finished()
        if exchange.denial_start is not None:
            if not exchange.denied:
                raise IncompleteResponse("the application ended before its refusal was complete")
            self.status = exchange.denial_start["status"]
            self.headers = tuple(exchange.denial_start.get("headers") or ())
            self.body = exchange.denial_body
        elif exchange.close_frame is not None:
            self.status = 403
        elif exchange.failure() is not None:
            self.status = 500
        else:
            raise IncompleteResponse("the application ended without accepting or refusing the WebSocket")
