"""A WebSocket to an application in this process: messages handed over, with everything a connection would promise."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from aggmw.asgi.headers import unfit
from aggmw.asgi.types import ASGIApp, Headers, Message, Scope
from aggmw.contracts.backends import LocalBackend
from aggmw.contracts.websockets import Close
from aggmw.errors import UpstreamTimeout, fault
from aggmw.net.websocket import travels
from aggmw.objects.status import status_answer

__all__ = ["ApplicationRefusal", "ApplicationWebSocket", "websocket_scope"]

_log = structlog.get_logger("aggmw.proxy")

_HIGH_WATER = 65_536
_OVERHEAD = 64
_REFUSAL_BYTES = 1_048_576
_GONE = Close(1006)
_FAILED = Close(1011)


class ApplicationGone(OSError):
    """What `send` raises in an application whose client is gone (specification 2.4)."""


def websocket_scope(scope: Scope, subprotocols: Sequence[str]) -> Scope:
    """The scope of a handshake, from that of the request it is."""
    scope = {**scope, "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}}
    del scope["method"]
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = list(subprotocols)
    scope["extensions"] = {"websocket.http.response": {}}
    return scope


class ApplicationRefusal:
    """An `UpstreamResponse`: what an application answered a handshake with, whole."""

    __slots__ = ("_unread", "content", "headers", "status")

    def __init__(self, status: int, headers: Headers, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content: bytes | None = content
        self._unread = content

    async def read(self) -> bytes:
        """The body, then b""."""
        unread, self._unread = self._unread, b""
        return unread

    def end(self) -> None:
        """Nothing more is read."""
        self._unread = b""

    async def aclose(self) -> None:
        """Nothing is held."""


class ApplicationWebSocket:
    """An `UpstreamWebSocket`, once `opened` has returned None.

    Args:
        backend: the application.
        subprotocols: what it may choose from.
        grace: seconds that it may go on after its client has left.
    """

    __slots__ = (
        "_backend",
        "_connect",
        "_denial",
        "_grace",
        "_inbox",
        "_inbox_bytes",
        "_left",
        "_loop",
        "_outbox",
        "_outbox_bytes",
        "_subprotocols",
        "_wakes",
        "accepted",
        "ended",
        "fault",
        "headers",
        "refusal",
        "subprotocol",
        "task",
    )

    def __init__(self, backend: LocalBackend, subprotocols: Sequence[str], grace: float) -> None:
        self._backend = backend
        self._subprotocols = tuple(subprotocols)
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._wakes: set[asyncio.Future[None]] = set()
        self._connect = True
        self._inbox: deque[str | bytes] = deque()
        self._inbox_bytes = 0
        self._outbox: deque[str | bytes] = deque()
        self._outbox_bytes = 0
        self._denial: tuple[int, Headers, bytearray] | None = None
        self._left: Close | None = None  # how the client left, as the application sees it
        self.accepted = False
        self.ended: Close | None = None  # how the application ended it
        self.fault = ""
        self.refusal: ApplicationRefusal | None = None
        self.subprotocol: str | None = None
        self.headers: Headers = ()
        self.task: asyncio.Task[None]

    # The proxy's side

    async def opened(self, timeout: float | None) -> ApplicationRefusal | None:
        """Wait until the application has accepted, or refused.

        Raises:
            UpstreamTimeout: neither within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: self.accepted or self.refusal is not None)
        except TimeoutError as error:
            raise UpstreamTimeout("its application did not answer in time") from error
        return self.refusal

    async def receive(self) -> str | bytes | Close:
        """The next message, or how it ended."""
        await self._until(lambda: self._outbox or self.ended is not None or self._left is not None)
        if self._left is not None:
            return self._left
        if not self._outbox:
            return self.ended or _GONE
        message = self._outbox.popleft()
        self._outbox_bytes -= len(message) + _OVERHEAD
        self._wake()
        return message

    async def send(self, message: str | bytes) -> None:
        """Hand a message over, and wait until there is room for the next one."""
        await self._until(lambda: self._inbox_bytes <= _HIGH_WATER or self._over)
        if self._over:
            return
        self._inbox.append(message)
        self._inbox_bytes += len(message) + _OVERHEAD
        self._wake()
        await self._until(lambda: self._inbox_bytes <= _HIGH_WATER or self._over)

    async def close(self, close: Close) -> None:
        """The client closes; wait for the application, for the grace time."""
        self._leave(close)
        await asyncio.wait([self.task], timeout=self._grace)

    async def aclose(self) -> None:
        """The client is gone. An application that does not end then is cancelled."""
        self._leave(_GONE)
        if not self.task.done():
            timer = self._loop.call_later(self._grace, self.task.cancel)
            self.task.add_done_callback(lambda _: timer.cancel())

    def _leave(self, close: Close) -> None:
        if self._left is None and self.ended is None:
            self._left = close
        self._outbox.clear()
        self._wake()

    # The application's side

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Call the application. Whatever it does ends here."""
        try:
            await app(scope, self._receive, self._send)
        except GeneratorExit:
            raise
        except BaseException as error:
            if self._left is None and not isinstance(error, ApplicationGone):
                _log.error("application failed", service=self._backend.name, **fault(error))
            self._stopped("failed")
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if not self._over and self.refusal is None:
                _log.error("application returned without closing its WebSocket", service=self._backend.name)
            self._stopped("ended")

    @property
    def _over(self) -> bool:
        return self.ended is not None or self._left is not None

    def _stopped(self, what: str) -> None:
        if not self.accepted and self.refusal is None:
            failed = f"Internal error occurred: the application of {self._backend.name} {what} without an answer"
            self._refuse(*status_answer(500, "InternalError", failed))
        elif self.accepted and not self._over:
            self.ended = _FAILED
            self.fault = f"its application {what}"
        self._wake()

    def _refuse(self, status: int, headers: Headers, body: bytes) -> None:
        self.refusal = ApplicationRefusal(status, headers, body)
        if self._left is None:
            self._left = _GONE
        self._wake()

    async def _receive(self) -> Message:
        """`websocket.connect`, then `websocket.receive`, and `websocket.disconnect` when either side closed.

        What a client sent before it left is received before that.
        """
        if self._connect:
            self._connect = False
            return {"type": "websocket.connect"}
        await self._until(lambda: self._inbox or self._over)
        close = self.ended or (None if self._inbox else self._left)
        if close is not None:
            return {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        message = self._inbox.popleft()
        self._inbox_bytes -= len(message) + _OVERHEAD
        self._wake()
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def _send(self, message: Message) -> None:
        """Accept or refuse, then messages, then a close.

        Raises:
            ApplicationGone: a message to a client that is gone.
            RuntimeError: a message out of order, or one that could not be sent.
        """
        kind = message["type"]
        if self._left is not None and self.refusal is None:
            if kind == "websocket.send":
                raise ApplicationGone("the client is gone")
        elif self.ended is not None or self.refusal is not None:
            raise RuntimeError(f"unexpected '{kind}'")
        elif self.accepted:
            await self._send_open(kind, message)
        elif self._denial is not None:
            self._deny(kind, message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._refuse(*status_answer(403, "Forbidden", f"the application of {self._backend.name} refused it"))
        elif kind == "websocket.http.response.start":
            self._denial = _status(message["status"]), _fields(message), bytearray()
        else:
            raise RuntimeError(f"unexpected '{kind}'")

    async def _send_open(self, kind: str, message: Message) -> None:
        if kind == "websocket.close":
            self.ended = _closing(message)
            self._wake()
            return
        if kind != "websocket.send":
            raise RuntimeError(f"unexpected '{kind}'")
        data: Any = message.get("bytes")
        if data is None:
            data = message["text"]
        self._outbox.append(data if isinstance(data, str) else bytes(data))
        self._outbox_bytes += len(data) + _OVERHEAD
        self._wake()
        await self._until(lambda: self._outbox_bytes <= _HIGH_WATER or self._over)

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise RuntimeError("the application chose a subprotocol that was not offered")
        self.headers = _fields(message)
        self.subprotocol = subprotocol
        self.accepted = True
        self._wake()

    def _deny(self, kind: str, message: Message) -> None:
        assert self._denial is not None
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"unexpected '{kind}'")
        status, headers, body = self._denial
        body += message.get("body", b"")
        if len(body) > _REFUSAL_BYTES:
            raise RuntimeError(f"the answer to a handshake is longer than {_REFUSAL_BYTES} bytes")
        if not message.get("more_body", False):
            self._refuse(status, headers, bytes(body))

    # Waiting

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            wake = self._loop.create_future()
            self._wakes.add(wake)
            try:
                await wake
            finally:
                self._wakes.discard(wake)

    def _wake(self) -> None:
        for wake in self._wakes:
            if not wake.done():
                wake.set_result(None)


def _status(status: int) -> int:
    if not 200 <= status <= 599:
        raise RuntimeError(f"not a final status: {status}")
    return status


def _fields(message: Message) -> Headers:
    headers = tuple((bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ())
    if reason := unfit(headers):
        raise RuntimeError(reason)
    return headers


def _closing(message: Message) -> Close:
    code = message.get("code", 1000)
    if not travels(code):
        raise RuntimeError(f"a WebSocket cannot be closed with the code {code}")
    return Close(code, message.get("reason") or "")
