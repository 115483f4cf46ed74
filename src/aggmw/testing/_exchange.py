"""The server's side of one HTTP exchange with an application: `receive`, `send`, and the task it runs in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable

from aggmw.asgi.types import ASGIApp, Headers, Message, Scope
from aggmw.testing._lint_shapes import LintError
from aggmw.testing._waiting import Signal

__all__ = ["AppTask", "ClientDisconnected", "HTTPExchange", "IncompleteResponse"]


class IncompleteResponse(Exception):
    """The application ended before its response was complete.

    A server cuts the connection then, so that the client sees a broken response and not a short one.
    """


class ClientDisconnected(OSError):
    """What `send` raises in a WebSocket application once the client is gone (specification 2.4)."""


class AppTask:
    """An application running in one task, and what became of it.

    Args:
        limit: seconds of real time for every wait; None for no limit.
    """

    def __init__(self, *, limit: float | None) -> None:
        self.changed = Signal()
        self.limit = limit
        self._task: asyncio.Task[None] | None = None
        self._reported = False

    def start(self, app: Awaitable[None]) -> None:
        async def run() -> None:
            await app

        self._task = asyncio.get_running_loop().create_task(run(), name="aggmw.testing: the application")
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved: when the test itself fails, that is what it reports
        self.changed.notify()

    @property
    def ended(self) -> bool:
        return self._task is not None and self._task.done()

    def failure(self) -> BaseException | None:
        """What the application raised, or None; a cancelled application failed with CancelledError."""
        if self._task is None or not self._task.done():
            return None
        if self._task.cancelled():
            return asyncio.CancelledError("the application was cancelled")
        return self._task.exception()

    def check(self, *, raise_app_exceptions: bool) -> None:
        """Raise what the application raised, once; `LintError` in any case, `ClientDisconnected` never."""
        error = self.failure()
        if isinstance(error, ClientDisconnected):
            return
        if error is None or self._reported or not (raise_app_exceptions or isinstance(error, LintError)):
            return
        self._reported = True
        if isinstance(error, asyncio.CancelledError):
            raise AssertionError("the application ended with CancelledError, although nobody had cancelled it")
        raise error

    async def end(self) -> None:
        """Wait until the application has ended.

        Raises:
            AssertionError: it did not within the limit; it has been cancelled.
        """
        try:
            await self.changed.until(lambda: self.ended, limit=self.limit, waiting_for="the application to end")
        except BaseException as error:
            stack = self._where()
            self._reported = True
            await self._cancel()
            if isinstance(error, AssertionError):
                raise AssertionError(f"the application did not end within {self.limit} seconds{stack}") from None
            raise

    def _where(self) -> str:
        assert self._task is not None
        frames = self._task.get_stack(limit=1)
        return "".join(f"; it waits in {f.f_code.co_qualname}, line {f.f_lineno}" for f in frames)

    async def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task], timeout=1)


class HTTPExchange(AppTask):
    """One request and its response.

    `send` of a body chunk returns when the reader took the chunk: nothing is buffered. Once the client is gone,
    messages are dropped silently, as servers do; `receive` gives `http.disconnect` then, and also when the response is
    complete.
    """

    def __init__(self, body: bytes | AsyncIterable[bytes] | None, *, head: bool, limit: float | None) -> None:
        super().__init__(limit=limit)
        self._upload = _Upload(body, self)
        self._head = head
        self._chunks: deque[bytes] = deque()
        self.start_message: Message | None = None
        self.trailers: Headers = ()
        self.complete = False
        self.disconnected = False

    def run(self, app: ASGIApp, scope: Scope) -> None:
        self.start(app(scope, self._receive, self._send))

    def disconnect(self) -> None:
        self.disconnected = True
        self._chunks.clear()
        self.changed.notify()

    async def close(self) -> None:
        """The client goes away; the application and the source of the request body end."""
        self.disconnect()
        try:
            await self.end()
        finally:
            await self._upload.close()

    async def next_chunk(self) -> bytes | None:
        """The next piece of the body, None at its end.

        Raises:
            IncompleteResponse: the application, or this client, ended the exchange before the body was complete.
        """
        await self.changed.until(
            lambda: self._chunks or self.complete or self.ended or self.disconnected,
            limit=self.limit,
            waiting_for="the next piece of the body",
        )
        if self._chunks:
            chunk = self._chunks.popleft()
            self.changed.notify()
            return chunk
        if self.complete:
            return None
        if self.disconnected:
            raise IncompleteResponse("this client disconnected before the response was complete")
        raise IncompleteResponse("the application ended before its response was complete")

    async def started(self) -> Message | None:
        """The response's start, or None when the application ended without one."""
        await self.changed.until(
            lambda: self.start_message is not None or self.ended, limit=self.limit, waiting_for="the response to start"
        )
        return self.start_message

    async def _receive(self) -> Message:
        message = None
        if not (self.disconnected or self.complete):
            message = await self._upload.next_message()
        if message is None:
            await self.changed.until(
                lambda: self.disconnected or self.complete, limit=None, waiting_for="the client to disconnect"
            )
            message = {"type": "http.disconnect"}
        return message

    async def _send(self, message: Message) -> None:
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start":
            self.start_message = message
            self.changed.notify()
        elif kind == "http.response.body":
            await self._send_body(message)
        elif kind == "http.response.trailers":
            self.trailers += tuple((bytes(name), bytes(value)) for name, value in message["headers"])
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            raise NotImplementedError(f"the testing client does not offer {kind}")

    async def _send_body(self, message: Message) -> None:
        chunk = b"" if self._head else message.get("body", b"")
        if chunk:
            self._chunks.append(chunk)
        if not message.get("more_body", False):
            self.complete = True
        self.changed.notify()
        if chunk:
            await self.changed.until(lambda: not self._chunks, limit=None, waiting_for="the client to read")


class _Upload:
    """The request body as messages. An iterator is asked for its next chunk only when the application wants one."""

    def __init__(self, body: bytes | AsyncIterable[bytes] | None, exchange: HTTPExchange) -> None:
        self._whole = body or b"" if body is None or isinstance(body, bytes) else None
        self._iterator: AsyncIterator[bytes] | None = None if isinstance(body, bytes) or body is None else aiter(body)
        self._exchange = exchange
        self._pending: asyncio.Task[bytes | None] | None = None
        self._lock = asyncio.Lock()
        self._ended = False
        self._error: Exception | None = None

    async def next_message(self) -> Message | None:
        """The next `http.request`, or None once the body is complete or the exchange is over."""
        async with self._lock:
            if self._ended:
                return None
            if self._whole is not None:
                self._ended = True
                return {"type": "http.request", "body": self._whole, "more_body": False}
            return await self._next_chunk()

    async def _next_chunk(self) -> Message | None:
        # The iterator runs in a task of its own: an application may cancel its `receive`, which must not end the body.
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_task(self._pull(), name="aggmw.testing: the request body")
            self._pending.add_done_callback(lambda _: self._exchange.changed.notify())
        pending, exchange = self._pending, self._exchange
        await exchange.changed.until(
            lambda: pending.done() or exchange.disconnected or exchange.complete,
            limit=None,
            waiting_for="the request body",
        )
        if exchange.disconnected or exchange.complete:
            return None
        self._pending = None
        chunk = self._result(pending)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        self._ended = True
        return None if self._error is not None else {"type": "http.request", "body": b"", "more_body": False}

    async def _pull(self) -> bytes | None:
        assert self._iterator is not None
        return await anext(self._iterator, None)

    def _result(self, pending: asyncio.Task[bytes | None]) -> bytes | None:
        try:
            return pending.result()
        except Exception as error:  # noqa: BLE001 - raised in the test by close()
            self._error = error
            self._exchange.disconnect()
            return None

    async def close(self) -> None:
        """End the source of the body; raises what it raised."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait([self._pending])
            if not self._pending.cancelled() and (error := self._pending.exception()) is not None:
                raise error
        if self._iterator is not None and hasattr(self._iterator, "aclose"):
            await self._iterator.aclose()
        if self._error is not None:
            raise self._error
