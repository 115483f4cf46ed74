"""What stands behind a transport under test: one application, as ASGI and as WSGI, that does what a request says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.testing._waiting import DEFAULT_LIMIT, Signal

__all__ = ["Do", "ModelBackend", "Seen"]

_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Do:
    """What the application is to do, carried by a header field of the request.

    Args:
        read: read the request's body first.
        answer: begin an answer; otherwise the head never comes.
        status, headers: of the answer, as text.
        pieces: sizes of the pieces of its body.
        echo: the body is that of the request.
        length: say how long the body is.
        gate: wait for `ModelBackend.go` before the last piece.
        then: "end" the answer properly, "break" it off, or "hold" it open.
    """

    read: bool = True
    answer: bool = True
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[int, ...] = ()
    echo: bool = False
    length: bool = True
    gate: bool = False
    then: str = "end"

    def field(self) -> tuple[bytes, bytes]:
        """The header field."""
        return b"X-Do", json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, value: str) -> Do:
        """What the field's value says."""
        given = json.loads(value)
        headers = tuple((name, text) for name, text in given.pop("headers"))
        return cls(**{**given, "headers": headers, "pieces": tuple(given["pieces"])})


@dataclass(slots=True)
class Seen:
    """One request as the application saw it.

    Attributes:
        method, target: the target as bytes.
        headers: in order, names in lower case; without the one that says what to do.
        body: what came of it.
        whole: whether it came to its end.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for key, value in self.headers if key == name]


class ModelBackend:
    """The application: `asgi` and `wsgi` are its two forms.

    Attributes:
        seen: the requests, in order.
        running: how many are being answered.
        sent: bytes of bodies that it got rid of.
        broken: what sending and reading raised.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.running = 0
        self.sent = 0
        self.broken: list[BaseException] = []
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._signal = Signal()
        self._gate = threading.Event()
        self._released = threading.Event()

    def go(self) -> None:
        """Let answers with a gate go on."""
        self._gate.set()
        self._signal.notify()

    def release(self) -> None:
        """Let everything end that is held."""
        self._released.set()
        self.go()

    async def until(self, condition: Callable[[], object], waiting_for: str, *, limit: float = DEFAULT_LIMIT) -> None:
        """Wait until something is so. Raises AssertionError when it is not within some seconds of real time."""
        await self._signal.until(condition, limit=limit, waiting_for=waiting_for)

    def _changed(self, **change: int) -> None:
        with self._lock:
            for name, number in change.items():
                setattr(self, name, getattr(self, name) + number)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._signal.notify)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application without a lifespan of its own."""
        if scope["type"] != "http":
            raise NotImplementedError("this application is for HTTP")
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        fields = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        do = Do.of(next((value.decode() for name, value in fields if name == b"x-do"), _PLAIN))
        seen = Seen(scope["method"], target, [each for each in fields if each[0] != b"x-do"])
        self.seen.append(seen)
        self._changed(running=1)
        try:
            await self._asgi(do, seen, receive, send)
        finally:
            self._changed(running=-1)

    async def _asgi(self, do: Do, seen: Seen, receive: Receive, send: Send) -> None:
        while do.read and not seen.whole:
            message = await receive()
            if message["type"] != "http.request":
                return
            seen.body += message.get("body", b"")
            seen.whole = not message.get("more_body", False)
            self._changed()
        if do.answer:
            body = _body(do, seen)
            fields = [(name.encode(), value.encode()) for name, value in _fields(do, body)]
            await send({"type": "http.response.start", "status": do.status, "headers": fields})
            for number, piece in enumerate(body):
                if do.gate and number == len(body) - 1:
                    await self._signal.until(self._gate.is_set, limit=None, waiting_for="the gate")
                await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
                self._changed(sent=len(piece))
        if do.then == "break":
            raise RuntimeError("broken off, as it was told")
        while do.then == "hold" or not do.answer:
            if (await receive())["type"] == "http.disconnect":
                return
        await send({"type": "http.response.body", "body": b""})

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        """As a WSGI application."""
        do = Do.of(environ.get("HTTP_X_DO", _PLAIN))
        fields = [
            (name.removeprefix("HTTP_").lower().replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in environ.items()
            if (name.startswith("HTTP_") and name != "HTTP_X_DO") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        ]
        seen = Seen(environ["REQUEST_METHOD"], environ["REQUEST_URI"].encode("latin-1"), fields)
        self.seen.append(seen)
        self._changed(running=1)
        try:
            yield from self._wsgi(do, seen, environ["wsgi.input"], start_response)
        except Exception as error:
            self.broken.append(error)
            raise
        finally:
            self._changed(running=-1)

    def _wsgi(self, do: Do, seen: Seen, source: Any, start_response: Callable[..., Any]) -> Iterator[bytes]:
        while do.read and not seen.whole:
            piece = source.read1(_PIECE)
            seen.body += piece
            seen.whole = not piece
            self._changed()
        if do.answer:
            body = _body(do, seen)
            start_response(f"{do.status} As told", _fields(do, body))
            for number, piece in enumerate(body):
                if do.gate and number == len(body) - 1:
                    self._gate.wait()
                yield bytes(piece)
                self._changed(sent=len(piece))
        if do.then == "break":
            raise RuntimeError("broken off, as it was told")
        while (do.then == "hold" or not do.answer) and not self._released.wait(0.005):
            if do.answer:
                yield b""


_PLAIN = json.dumps(asdict(Do()))


def _body(do: Do, seen: Seen) -> list[bytes]:
    if do.echo:
        return [bytes(seen.body[start : start + _PIECE]) for start in range(0, len(seen.body), _PIECE)]
    return [bytes([number % 251]) * size for number, size in enumerate(do.pieces)]


def _fields(do: Do, body: list[bytes]) -> list[tuple[str, str]]:
    length = [("Content-Length", str(sum(map(len, body))))] if do.length and do.status not in (204, 304) else []
    if do.then != "end" and length:
        length = [("Content-Length", str(sum(map(len, body)) + 100))]
    return [*do.headers, *length]
