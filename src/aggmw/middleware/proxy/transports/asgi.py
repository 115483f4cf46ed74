"""Applications in this process as backends: an exchange is a call, with everything that a connection would promise."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any
from urllib.parse import unquote

import structlog

from aggmw.asgi.applications import Applications
from aggmw.asgi.headers import unfit
from aggmw.asgi.types import ASGIApp, Headers, Message, Scope
from aggmw.contracts.backends import AnyBackend, LocalBackend, UpstreamRequest, UpstreamResponse
from aggmw.contracts.websockets import UpstreamWebSocket
from aggmw.errors import StatusError, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable, fault
from aggmw.middleware.proxy.transports.asgi_websocket import ApplicationWebSocket, websocket_scope
from aggmw.objects.status import status_answer

__all__ = ["AsgiTransport"]

_log = structlog.get_logger("aggmw.proxy")

_HIGH_WATER = 65_536
_GRACE_SECONDS = 1.0
_APPLICATIONS_ONLY = "this transport reaches applications in this process only"
_CUT = "the request's body broke off"
_WRONG_LENGTH = "the request's body is not as long as its Content-Length says"


class AsgiTransport:
    """Hands requests to ASGI applications in this process, as if each were a server of its own.

    An application gets a new scope with nothing of ours in it but `aggmw.identity`, the caller; a task and a context of
    its own; and the state that its own lifespan made. Both bodies are streamed, with 64 KiB between the two sides at
    most. When the client leaves, the application sees `http.disconnect`; one that does not end then is cancelled after
    a second. What it raises is its 500.

    Args:
        applications: who is started.
        grace_seconds: so long an application may go on after its client has left.
    """

    def __init__(self, applications: Applications | None = None, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        self.applications = applications or Applications()
        self._grace_seconds = grace_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"AsgiTransport({self.applications!r}, {len(self._tasks)} running)"

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> UpstreamResponse:
        """As `UpstreamTransport.send`."""
        if not isinstance(backend, LocalBackend):
            raise UpstreamUnreachable(_APPLICATIONS_ONLY)
        state = self.applications.state_of(backend)
        call = _Call(backend, request, self._grace_seconds)
        call.task = self._start(backend, call.run(backend.app, _scope(request, state)))
        try:
            await call.head(request.timeout)
        except BaseException:
            await call.aclose()
            raise
        return call

    async def connect(
        self, backend: AnyBackend, request: UpstreamRequest, subprotocols: Sequence[str]
    ) -> UpstreamWebSocket | UpstreamResponse:
        """As `UpstreamWebSocketTransport.connect`."""
        if not isinstance(backend, LocalBackend):
            raise UpstreamUnreachable(_APPLICATIONS_ONLY)
        scope = websocket_scope(_scope(request, self.applications.state_of(backend)), subprotocols)
        socket = ApplicationWebSocket(backend, subprotocols, self._grace_seconds)
        socket.task = self._start(backend, socket.run(backend.app, scope))
        try:
            refusal = await socket.opened(request.timeout)
        except BaseException:
            await socket.aclose()
            raise
        if refusal is None:
            return socket
        await socket.aclose()
        return refusal

    def _start(self, backend: LocalBackend, running: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an application in a task and a context of its own."""
        task = asyncio.get_running_loop().create_task(
            running, name=f"application of {backend.name}", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Wait for applications that still run, for the grace time, then cancel them."""
        tasks = set(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=self._grace_seconds)


def _scope(request: UpstreamRequest, state: dict[str, Any]) -> Scope:
    """A new scope, from a listed set of keys (security cases C5.13)."""
    raw_path, _, query = request.target.partition(b"?")
    headers = [(name.lower(), value) for name, value in request.headers]
    if request.host:
        headers.insert(0, (b"host", request.host))
    length = request.content_length
    if request.body is None and (request.content or length is not None):
        length = len(request.content)
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    elif request.body is not None:
        headers.append((b"transfer-encoding", b"chunked"))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method.decode("ascii"),
        "scheme": next((value.decode("ascii") for name, value in headers if name == b"x-forwarded-proto"), "http"),
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": request.client,
        "server": None,
        "state": state,
        "extensions": {},
    }
    if request.identity is not None:
        scope["aggmw.identity"] = request.identity
    return scope


class _Call:
    """One request to an application and its answer: an `UpstreamResponse` once `head` has returned."""

    __slots__ = (
        "_backend",
        "_bodiless",
        "_buffered",
        "_chunks",
        "_closed",
        "_complete",
        "_content",
        "_ended",
        "_error",
        "_expected",
        "_grace",
        "_head_only",
        "_left",
        "_loop",
        "_pull",
        "_reader",
        "_source",
        "_wakes",
        "headers",
        "status",
        "task",
    )

    def __init__(self, backend: LocalBackend, request: UpstreamRequest, grace: float) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._grace = grace
        self._head_only = request.method == b"HEAD"
        # The request's body
        self._content: bytes | None = request.content if request.body is None else None
        self._source: AsyncIterator[bytes] | None = request.body
        self._expected = request.content_length
        self._pull: asyncio.Task[bytes | None] | None = None
        # The answer
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._left: int | None = None
        self._bodiless = False
        self._complete = False
        self._ended = False  # `end` was called: whoever reads sees a proper end
        self._closed = False  # nobody reads any more: the client is gone, as the application sees it
        self._error: UpstreamError | StatusError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._wakes: set[asyncio.Future[None]] = set()  # what the application waits for in `receive` and `send`
        self.task: asyncio.Task[None]
        self.status = 0
        self.headers: Headers = ()

    # The proxy's side

    async def head(self, timeout: float | None) -> None:
        """Wait for the head of the answer.

        Raises:
            UpstreamTimeout: it did not come within `timeout` seconds.
            StatusError: the request's body broke off.
        """
        timer = None if timeout is None else self._loop.call_later(timeout, self._timed_out)
        try:
            while not self.status:
                if self._error is not None:
                    raise self._failure(self._error)
                await self._wait()
        finally:
            if timer is not None:
                timer.cancel()

    @property
    def content(self) -> bytes | None:
        """The whole body, when the application was done with it before anybody looked; None when it has to be read."""
        return b"".join(self._chunks) if self._complete else None

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        while not self._chunks:
            if self._complete or self._ended or self._closed:
                return b""
            if self._error is not None:
                raise self._failure(self._error)
            await self._wait()
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        self._wake_application()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end(self) -> None:
        """From now on `read` gives b""."""
        self._ended = True
        self._wake_reader()

    async def aclose(self) -> None:
        """The application sees that its client is gone. It may finish what follows a complete answer."""
        if self._closed:
            return
        self._closed = True
        self._chunks.clear()
        if self._pull is not None:
            self._pull.cancel()
        self._wake_application()
        if not self._complete and not self.task.done():
            timer = self._loop.call_later(self._grace, self.task.cancel)
            self.task.add_done_callback(lambda _: timer.cancel())

    def _failure(self, error: UpstreamError | StatusError) -> UpstreamError | StatusError:
        """To be raised, and not kept: it will hold frames that hold us."""
        self._error = UpstreamBroken("its answer was broken off")
        return error

    async def _wait(self) -> None:
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _timed_out(self) -> None:
        self._error = UpstreamTimeout("its application did not answer in time")
        self._wake_reader()

    # The application's side

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Call the application. Whatever it does ends here."""
        try:
            await app(scope, self._receive, self._send)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not self._closed or not isinstance(error, asyncio.CancelledError):
                _log.error("application failed", service=self._backend.name, **fault(error))
            self._fail("failed")
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if not self._complete and not self._closed:
                _log.error("application returned without a whole response", service=self._backend.name)
            self._fail("ended")

    def _fail(self, what: str) -> None:
        """The application can say no more: without a head that is a 500, in the middle of a body a broken one."""
        if self._complete or self._error is not None:
            return
        if self.status:
            self._error = UpstreamBroken(f"its application {what} in the middle of its answer")
        else:
            failed = f"Internal error occurred: the application of {self._backend.name} {what} without an answer"
            answer = status_answer(500, "InternalError", failed)
            self.status = answer.status
            self.headers = (*answer.headers, (b"content-length", b"%d" % len(answer.body)))
            if not self._head_only:
                self._chunks.append(answer.body)
            self._complete = True
        self._wake_reader()

    def _over(self) -> bool:
        """Whether the application has nothing more to receive."""
        return self._closed or self._complete

    async def _receive(self) -> Message:
        """`http.request` until the body is complete, then `http.disconnect` when the client goes or has its answer."""
        if self._over():
            return {"type": "http.disconnect"}
        if self._content is not None:
            content, self._content = self._content, None
            return {"type": "http.request", "body": content, "more_body": False}
        if self._source is not None and (message := await self._piece(self._source)) is not None:
            return message
        while not self._over():
            await self._until_woken()
        return {"type": "http.disconnect"}

    async def _piece(self, source: AsyncIterator[bytes]) -> Message | None:
        """The next piece of a body that comes as a stream, None when the client is gone.

        It is fetched by a task: an application may cancel its `receive`, which must not lose what was on its way.
        """
        if self._pull is None:
            self._pull = self._loop.create_task(_next(source), name="taking a request's body")
            self._pull.add_done_callback(self._pulled)
        pull = self._pull
        while not pull.done() and not self._over():
            await self._until_woken()
        if not pull.done() or pull.cancelled():
            return None
        self._pull = None
        if (error := pull.exception()) is not None:
            broken = error if isinstance(error, StatusError) else StatusError(400, "BadRequest", _CUT)
            self._break(broken.with_traceback(None))
            return None
        piece = pull.result()
        if self._expected is not None:
            self._expected -= len(piece or b"")
            if self._expected < 0 or (piece is None and self._expected):
                self._break(StatusError(400, "BadRequest", _WRONG_LENGTH))
                return None
        if piece is not None:
            return {"type": "http.request", "body": piece, "more_body": True}
        self._source = None
        return {"type": "http.request", "body": b"", "more_body": False}

    def _break(self, error: StatusError) -> None:
        """The request's body is not what it should be: whoever waits for the answer is told."""
        self._error = error
        self._source = None
        self._wake_reader()

    def _pulled(self, pull: asyncio.Task[bytes | None]) -> None:
        if not pull.cancelled():
            pull.exception()  # retrieved: it may come when nobody waits any more
        self._wake_application()

    async def _send(self, message: Message) -> None:
        """`http.response.start`, then `http.response.body` until `more_body` is false. After the client left: nothing.

        Raises:
            RuntimeError: a message out of order, a head that may not be sent, a body that is not as long as declared.
        """
        if self._closed and not self._complete:
            await asyncio.sleep(0)  # an application that only sends must not hold the loop
            return
        kind = message["type"]
        if not self.status:
            if kind != "http.response.start":
                raise RuntimeError(f"expected 'http.response.start', got '{kind}'")
            self._begin(message)
        elif kind != "http.response.body" or self._complete:
            raise RuntimeError(f"unexpected '{kind}'")
        else:
            await self._body(message.get("body", b""), message.get("more_body", False))

    def _begin(self, message: Message) -> None:
        status: int = message["status"]
        if not 200 <= status <= 599:
            raise RuntimeError(f"not a final status: {status}")
        headers = tuple((bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ())
        if reason := unfit(headers):
            raise RuntimeError(reason)
        lengths = [value for name, value in headers if name == b"content-length"]
        if len(lengths) > 1 or not all(value.isdigit() and len(value) <= 18 for value in lengths):
            raise RuntimeError("content-length is repeated or no number")
        self._bodiless = self._head_only or status in (204, 304)
        self._left = int(lengths[0]) if lengths and not self._bodiless else None
        self.headers = headers
        self.status = status
        self._wake_reader()

    async def _body(self, chunk: bytes, more: bool) -> None:
        if not self._bodiless and self._left is not None:
            self._left -= len(chunk)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as content-length says")
        if chunk and not self._bodiless:
            self._chunks.append(bytes(chunk))
            self._buffered += len(chunk)
        if not more:
            self._complete = True
            self._wake_application()  # another task of its may wait in `receive`
        self._wake_reader()
        while more and self._buffered > _HIGH_WATER and not self._closed:
            await self._until_woken()

    async def _until_woken(self) -> None:
        wake = self._loop.create_future()
        self._wakes.add(wake)
        try:
            await wake
        finally:
            self._wakes.discard(wake)

    def _wake_application(self) -> None:
        for wake in self._wakes:
            if not wake.done():
                wake.set_result(None)


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)
