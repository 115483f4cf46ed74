"""WsgiApplication: Flask, Django or any other WSGI application as an ASGI application, with the caller it is for."""

from __future__ import annotations

import asyncio
import contextvars
import io
import re
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

from aggmw.asgi.headers import first, is_identity
from aggmw.asgi.remote_headers import write_identity
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown
from aggmw.asgi.types import Message, Receive, Scope, Send
from aggmw.backend.threads import Threads
from aggmw.contracts.identity import Identity
from aggmw.contracts.options import check_wsgi_application
from aggmw.objects.status import status_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["WsgiApplication"]

_T = TypeVar("_T")

_PLAIN_NAME = re.compile(rb"[a-z0-9-]+").fullmatch
_BODY_BYTES = 65_536

_BUSY = status_answer(
    503,
    "ServiceUnavailable",
    "all threads of this service are busy, and too many requests wait for one",
    {"retryAfterSeconds": 1},
)
_LENGTH_REQUIRED = status_answer(
    411, "LengthRequired", "this service needs a Content-Length; send the body with one instead of chunked"
)
_NO_WEBSOCKET = status_answer(400, "BadRequest", "this service does not speak WebSocket")


class WsgiApplication:
    """A WSGI application (PEP 3333) as an ASGI application, on threads of its own.

    Both bodies are streamed: `wsgi.input` waits for what the client sends, and what the application yields goes out
    before it is asked for more. A body that breaks off raises `ConnectionResetError` where it is read, and never looks
    whole. When the client has left and the application goes on, the next thing that it yields raises that, too. The
    iterable is always closed, in its thread. What the application raises is this application's exception.

    The caller comes from `scope["aggmw.identity"]` alone, where a front proxy in the same process or
    `RequestHeaderAuthentication` leaves it, never from header fields:

    - `environ["aggmw.identity"]` is the `Identity`,
    - `REMOTE_USER` its name, for frameworks that take it from there,
    - `HTTP_X_REMOTE_USER`, `HTTP_X_REMOTE_UID`, `HTTP_X_REMOTE_GROUP` and `HTTP_X_REMOTE_EXTRA_…` say what a front
      proxy would say to a server; several groups are joined by commas, as WSGI joins fields.

    A header field whose name has anything but letters, digits and dashes is dropped: `X_Remote_User` would come out as
    the same variable as `X-Remote-User`. So is `Proxy`, which would come out as the `HTTP_PROXY` of HTTP clients.

    Args:
        app: the WSGI application.
        threads: requests at a time.
        waiting: requests that may wait for a thread; more are 503 with `Retry-After: 1`.
        chunked: the application reads a body of unknown length to its end, as Flask and all of Werkzeug do
            (`wsgi.input_terminated`). To others, Django among them, it would be empty, so without this such a request
            is answered 411.

    Raises:
        TypeError: what is no WSGI application.
        ValueError: no threads.
    """

    def __init__(self, app: WSGIApplication, *, threads: int = 40, waiting: int = 1000, chunked: bool = False) -> None:
        check_wsgi_application("WsgiApplication: app", app)
        if threads < 1 or waiting < 0:
            raise ValueError(f"threads must be at least 1 and waiting at least 0, not {threads} and {waiting}")
        self._app = app
        self._threads = Threads(threads, waiting)
        self._chunked = chunked

    def __repr__(self) -> str:
        return f"WsgiApplication({shown(self._app)})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await respond(scope, send, _NO_WEBSOCKET)
        elif not self._chunked and _of_unknown_length(scope):
            await respond(scope, send, _LENGTH_REQUIRED)
        else:
            call = _Call(self._app, scope, receive, send)
            if self._threads.submit(call.run):
                await call.serve()
            else:
                await respond(scope, send, _BUSY)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._threads.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _of_unknown_length(scope: Scope) -> bool:
    return _has_body(scope) and first(scope["headers"], b"content-length") is None


def _has_body(scope: Scope) -> bool:
    """Whether there may be one. HTTP/1 says it in the head, the later ones need not."""
    length = first(scope["headers"], b"content-length")
    if length is not None:
        return length.strip(b"0") != b""
    if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
        return scope["method"] in ("POST", "PUT", "PATCH")
    return first(scope["headers"], b"transfer-encoding") is not None


class _Call:
    """One request: a thread runs the application, and asks the event loop for one thing at a time."""

    def __init__(self, app: WSGIApplication, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._wake: asyncio.Future[None] = self._loop.create_future()
        self._asked: tuple[Callable[[], Awaitable[Any]], Future[Any]] | None = None
        self._over = False  # nothing is served any more: the client is gone, or all is done
        self._complete = False  # the whole answer was sent
        self._watching: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._head: Message | None = None
        self._begun = False

    # On the event loop

    async def serve(self) -> None:
        """Do what the thread asks for until it ends or the client is gone. Raises what the application raised."""
        try:
            if not _has_body(self._scope):
                self._watch()
            while True:
                await self._wake
                self._wake = self._loop.create_future()
                if self._asked is None or self._over:
                    break
                (work, answer), self._asked = self._asked, None
                try:
                    answer.set_result(await work())
                except Exception as error:  # noqa: BLE001  it is the application that sent or read
                    answer.set_exception(error)
                except BaseException:
                    answer.set_exception(_gone())
                    raise
        finally:
            self._over = True
            if self._asked is not None:
                self._asked[1].set_exception(_gone())
            if self._watching is not None:
                self._watching.cancel()
        raised, self._error = self._error, None
        try:
            if isinstance(raised, Exception):
                raise raised
            if raised is not None:
                raise RuntimeError(f"a WSGI application raised {type(raised).__name__}") from raised
        finally:
            del raised  # it holds this frame

    def _watch(self) -> None:
        """The request's body is whole: what comes now is the client's departure."""
        self._watching = self._loop.create_task(self._until_gone(), name="watching for the client to leave")

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":  # noqa: ASYNC110  nothing is polled
            await asyncio.sleep(0)  # a server that gives empty messages without end must not hold the loop
        if not self._complete:
            self._over = True
            self._go_on()

    async def _message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watch()
        return message

    def _put(self, work: Callable[[], Awaitable[Any]], answer: Future[Any]) -> None:
        if self._over:
            answer.set_exception(_gone())
        else:
            self._asked = (work, answer)
            self._go_on()

    def _go_on(self) -> None:
        """Go on: there is something to be done, or the thread has ended."""
        if not self._wake.done():
            self._wake.set_result(None)

    # In the thread

    def run(self) -> None:
        """Run the application. Whatever it does ends here."""
        if not self._over:
            try:
                self._context.run(self._work)
            except BaseException as raised:  # noqa: BLE001  it is raised where the request is served
                self._error = raised
        with suppress(RuntimeError):  # the event loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(self._go_on)

    def ask(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Have something done on the event loop.

        Raises:
            ConnectionResetError: the client is gone.
        """
        answer: Future[_T] = Future()
        self._loop.call_soon_threadsafe(self._put, work, answer)
        return answer.result()

    def receive(self) -> Message:
        """The next message of the client, until its body is whole."""
        return self.ask(self._message)

    def _work(self) -> None:
        iterable = self._app(_environ(self._scope, self), self._start_response)
        try:
            only = isinstance(iterable, list | tuple) and len(iterable) == 1
            for chunk in iterable:
                if chunk:
                    self._write(chunk, last=only)
                elif self._over:
                    raise _gone()
            if not (only and self._begun):
                self._write(b"", last=True)
        finally:
            if (close := getattr(iterable, "close", None)) is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """As PEP 3333 has it: a head that was not sent yet may be replaced, by who has an exception to report."""
        if exc_info is not None:
            if self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._head is not None:
            raise RuntimeError("start_response was called twice")
        fields = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in headers]
        self._head = {"type": "http.response.start", "status": int(status[:3]), "headers": fields}
        return partial(self._write, last=False)

    def _write(self, chunk: bytes, *, last: bool) -> None:
        messages: list[Message] = []
        if not self._begun:
            if self._head is None:
                raise RuntimeError("start_response was not called before the body")
            if last and chunk and first(self._head["headers"], b"content-length") is None:
                self._head["headers"].append((b"content-length", b"%d" % len(chunk)))
            messages.append(self._head)
            self._begun = True
        messages.append({"type": "http.response.body", "body": bytes(chunk), "more_body": not last})
        self.ask(partial(self._send_all, messages))

    async def _send_all(self, messages: list[Message]) -> None:
        self._complete = not messages[-1]["more_body"]
        for message in messages:
            await self._send(message)


def _gone() -> ConnectionResetError:
    return ConnectionResetError("the client is gone")


class _Input(io.RawIOBase):
    """The request's body, as it comes."""

    def __init__(self, call: _Call, *, more: bool) -> None:
        self._call = call
        self._left = memoryview(b"")
        self._more = more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            if not self._more:
                return 0
            message = self._call.receive()
            if message["type"] != "http.request":
                raise _gone()
            self._left = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        number = min(len(buffer), len(self._left))
        buffer[:number] = self._left[:number]
        self._left = self._left[number:]
        return number


def _environ(scope: Scope, call: _Call) -> dict[str, Any]:
    """The variables of PEP 3333."""
    root: bytes = (scope.get("root_path") or "").rstrip("/").encode()
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = unquote_to_bytes(raw)
    if root and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :]
    scheme = scope.get("scheme", "http")
    query = scope["query_string"].decode("latin-1")
    host, port = scope.get("server") or ("", None)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": raw.decode("latin-1") + ("?" + query if query else ""),
        "SERVER_NAME": host or "localhost",
        "SERVER_PORT": str(port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BufferedReader(_Input(call, more=_has_body(scope)), _BODY_BYTES),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client := scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    fields = [
        field
        for field in scope["headers"]
        if _PLAIN_NAME(field[0]) and not is_identity(field[0]) and field[0] != b"proxy"
    ]
    identity = scope.get("aggmw.identity")
    if isinstance(identity, Identity):
        environ["aggmw.identity"] = identity
        environ["REMOTE_USER"] = identity.user.encode().decode("latin-1")
        fields += [(name.lower(), value) for name, value in write_identity(identity) if _PLAIN_NAME(name.lower())]
    for name, value in fields:
        variable = name.upper().replace(b"-", b"_").decode("ascii")
        if name not in (b"content-type", b"content-length"):
            variable = f"HTTP_{variable}"
        text = value.decode("latin-1")
        if variable in environ:
            text = f"{environ[variable]}{';' if name == b'cookie' else ','}{text}"
        environ[variable] = text
    return environ
