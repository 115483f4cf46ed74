"""RecoveryMiddleware: outermost. Gives the request its id and turns what nobody caught into a `Status`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence

import structlog

from aggmw.asgi.exchanges import entered, inside, misuse
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.tally import Tally
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send
from aggmw.contracts.exchange import Answer, Exchange, Observer
from aggmw.errors import CompositionError, StatusError, fault
from aggmw.middleware.recovery.request_ids import RequestIds
from aggmw.objects.status import answer_of, status_answer

__all__ = ["RecoveryMiddleware"]

_log = structlog.get_logger("aggmw.recovery")
_levels = logging.getLogger("aggmw")  # tracebacks are for whoever asks the standard library's logger for debug
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ENDS = frozenset({"websocket.close", "websocket.http.response.body"})


class RecoveryMiddleware:
    """Every response carries one `Audit-ID` and the warnings collected inside; no exception reaches the server.

    An error before the response began becomes a `Status`: the one that was raised (`StatusError`), 500 with both
    stages named for a missing stage, else 500 with nothing but the request's id. After that the response is cut
    without being completed, which the client sees as broken.

    Below another one, as in a front proxy that is mounted in an application with this middleware, it only recovers:
    the request keeps its id.

    Args:
        app: what is inside.
        observers: are told of every request when it is over, whatever became of it.
    """

    def __init__(self, app: ASGIApp, *, observers: Sequence[Observer] = ()) -> None:
        self.aggmw_stages = stand("recovery", app)
        self._app = app
        self._inside = inside(app)
        self._observers = tuple(observers)
        self._ids = RequestIds()

    def __repr__(self) -> str:
        return f"RecoveryMiddleware → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = await entered(scope, send)
        if exchange is None:
            return
        nested = bool(exchange.request_id)
        if not nested:
            exchange.request_id = self._ids.of(exchange.headers)
        tally = Tally() if self._observers else None
        outer, exchange.in_flight = exchange.in_flight, None  # what is observed inside is no business of one outside
        outgoing = _Outgoing(exchange, send, tally, nested=nested)
        try:
            await self._inside(exchange, receive, outgoing.send)
        except Exception as error:  # noqa: BLE001  the last line of defence: whatever it was, the client gets a Status
            answer = _answer(error, exchange)
            if not outgoing.started:
                await respond(scope, outgoing.send, answer)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1011})
        finally:
            if tally is not None:
                self._tell(exchange, tally)
            exchange.in_flight = outer

    def _tell(self, exchange: Exchange, tally: Tally) -> None:
        for observer in self._observers:
            try:
                observer.ended(exchange, tally.status, tally.seconds, tally.size)
            except Exception as error:  # noqa: BLE001  who only looks on must not break the response
                name = type(observer).__name__
                _log.error("observer failed", observer=name, request_id=exchange.request_id, **fault(error))


class _Outgoing:
    """The messages of one answer on their way out. An object, because a function inside of the coroutine that hands it
    on would be a reference cycle per request where this is compiled.

    Attributes:
        started: whether the answer has begun, or the connection is over.
    """

    __slots__ = ("_exchange", "_nested", "_send", "_tally", "started")

    def __init__(self, exchange: Exchange, send: Send, tally: Tally | None, *, nested: bool) -> None:
        self._exchange = exchange
        self._send = send
        self._tally = tally
        self._nested = nested
        self.started = False

    def send(self, message: Message) -> Awaitable[None]:  # no coroutine of its own: every message comes through
        if self._tally is not None:
            self._tally.note(message)
        if not self.started:
            self.started = message["type"] in _STARTS or message["type"] in _ENDS
            if message["type"] in _STARTS and not self._nested:
                message = {**message, "headers": _head(message, self._exchange)}
        return self._send(message)


def _head(message: Message, exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The response's fields with our audit id in place of any other, and the warnings."""
    headers = [field for field in message.get("headers") or () if field[0].lower() != b"audit-id"]
    headers.append((b"audit-id", exchange.request_id.encode()))
    headers.extend((b"warning", b'299 - "%s"' % _quotable(text)) for text in exchange.warnings)
    return headers


def _quotable(text: str) -> bytes:
    """A warn-text (RFC 7234 §5.5): printable, quotes and backslashes escaped."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"').encode()


def _answer(error: Exception, exchange: Exchange) -> Answer:
    if isinstance(error, StatusError):
        return answer_of(error)
    if isinstance(error, CompositionError):
        return misuse(error, exchange.request_id)
    _log.error("request failed", request_id=exchange.request_id, **fault(error))
    if _levels.isEnabledFor(logging.DEBUG):
        _log.debug("request failed", request_id=exchange.request_id, exc_info=error)
    return status_answer(
        500, "InternalError", f"Internal error occurred: the request failed; its id is {exchange.request_id}"
    )
