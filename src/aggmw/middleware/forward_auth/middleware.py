"""ForwardAuthMiddleware: a question becomes the request that it is about, and what becomes of that is the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import structlog

from aggmw.asgi.exchanges import entered, inside, misuse
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Headers, Message, Receive, Scope, Send
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.options import check_type
from aggmw.errors import CompositionError, MisplacedStage, StatusError
from aggmw.middleware.forward_auth.answers import allowing, refusing
from aggmw.middleware.forward_auth.forward_auth import ForwardAuth, check_path
from aggmw.middleware.forward_auth.questions import Question, is_handshake, read, subprotocols_of
from aggmw.objects.status import answer_of, status_answer

__all__ = ["AskedAt", "ForwardAuthMiddleware", "allowed"]

_log = structlog.get_logger("aggmw.forward_auth")

_NOT_ASKED = status_answer(403, "Forbidden", "forbidden: only listed proxies may ask here")
_NOT_HERE = status_answer(403, "Forbidden", "forbidden: requests for this host are not judged here")
_NO_QUESTION = status_answer(400, "BadRequest", "a WebSocket handshake is no question")
_YES = Answer(200, (), b"")
_HANDSHAKES = "websocket.http.response"
_UNDECIDED = (
    "forward_auth: what is inside answered without a verdict: put request_info, authentication and authorization there"
)
_BEHIND = "forward_auth stands behind authentication, which took the proxy for the caller: put it in front"


async def allowed(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands innermost, in place of what would serve the request: whatever gets here was allowed."""
    if scope["type"] in ("http", "websocket"):
        await respond(scope, send, _YES)


class ForwardAuthMiddleware:
    """Answers another proxy that asks whether it may forward a request.

    The request is judged by the stages inside as if it had come here itself, with its own credentials and path: what
    they refuse is refused. A yes is a 200 with `X-Auth-Request-User` and `X-Auth-Request-Groups`, and needs a verdict
    of the authorization stage: an answer from in between is none.

    Whatever arrives is a question, so this is mounted at a path of its own; for Envoy that path is its `path_prefix`.

    Args:
        app: request_info, authentication and authorization around `allowed`.
        forward_auth: how the proxy asks, and who may.
    """

    def __init__(self, app: ASGIApp, *, forward_auth: ForwardAuth) -> None:
        check_type("forward_auth", forward_auth, ForwardAuth)
        self.aggmw_stages = stand("forward_auth", app)
        self._app = app
        self._inside = inside(app)
        self._forward_auth = forward_auth

    def __repr__(self) -> str:
        return f"ForwardAuthMiddleware({self._forward_auth!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif (exchange := await entered(scope, send)) is not None:
            await self.aggmw_take(exchange, receive, send)

    async def aggmw_take(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """As when called, with the exchange at hand."""
        scope = exchange.scope
        answer = await self._answer(exchange, receive)
        await respond(scope, send, refusing(self._forward_auth.proxy, answer) if answer.status != 200 else answer)

    async def _answer(self, exchange: Exchange, receive: Receive) -> Answer:
        asking, proxy = self._forward_auth, self._forward_auth.proxy
        if exchange.identified or exchange.identity is not None:
            return misuse(MisplacedStage(_BEHIND), exchange.request_id)
        if (reason := asking.refuses(exchange.connection, exchange.headers)) is not None:
            peer = exchange.connection.peer
            _log.warning(
                "question refused", reason=reason, peer=peer[0] if peer else "", request_id=exchange.request_id
            )
            return _NOT_ASKED
        if exchange.scope["type"] == "websocket":
            return _NO_QUESTION
        try:
            question = read(proxy, exchange.headers)
        except StatusError as error:
            if error.code == 500:
                _log.error("the proxy in front is not set up", error=error.message, request_id=exchange.request_id)
            return answer_of(error)
        if not asking.judges(question.host):
            return _NOT_HERE
        heard = _Heard()
        with _asked(exchange, question, proxy):
            await self._inside(exchange, receive, heard.send)
        return _yes(exchange) if heard.status == 200 else heard.answer(exchange)


class AskedAt:
    """Paths at which questions are answered, in front of an application that gets everything else.

    Args:
        app: gets everything else.
        paths: by path, such as "/auth/nginx": what answers there and below.

    Raises:
        ValueError: a path that is not plain.
    """

    def __init__(self, app: ASGIApp, paths: Mapping[str, ASGIApp]) -> None:
        for path in paths:
            check_path(path)
        self._app = app
        self._paths = sorted(paths.items(), key=lambda each: -len(each[0]))

    def __repr__(self) -> str:
        return shown(self._app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            root = (scope.get("root_path") or "").rstrip("/")
            for path, app in self._paths:
                # `OPTIONS *` comes from Envoy as its prefix and a star: no path, but a question.
                if f"{scope['path']}/".startswith((f"{root}{path}/", f"{root}{path}*/")):
                    await app({**scope, "root_path": root + path}, receive, send)
                    return
        await self._app(scope, receive, send)


class _Heard:
    """What the stages inside answer. Only a refusal is passed on."""

    __slots__ = ("_body", "_headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self._headers: Headers = ()
        self._body = b""

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith("response.start"):
            self.status = message["status"]
            self._headers = tuple([(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())])
        elif kind.endswith("response.body"):
            self._body += message.get("body", b"")
        elif kind == "websocket.close" and not self.status:
            self.status = 403

    def answer(self, exchange: Exchange) -> Answer:
        """As it was given; a 500 for none, and for one that would be a yes."""
        if self.status < 300:
            return misuse(CompositionError(_UNDECIDED), exchange.request_id)
        return Answer(self.status, self._headers, self._body)


def _yes(exchange: Exchange) -> Answer:
    """What is said when the stages inside let the request through, and a 500 when they never asked about it."""
    if exchange.verdict is None or not exchange.verdict.allowed or exchange.identity is None:
        return misuse(CompositionError(_UNDECIDED), exchange.request_id)
    return allowing(exchange.identity)


@contextmanager
def _asked(exchange: Exchange, question: Question, proxy: str) -> Iterator[None]:
    """The exchange as that of the original request; afterwards its scope is the question's again."""
    scope = exchange.scope
    exchange.scope = asked = _scope_of(scope, exchange.headers, question)
    exchange.headers = tuple(asked["headers"])
    exchange.subprotocols = tuple(asked.get("subprotocols", ()))
    exchange.connection = _without_certificate(exchange.connection)
    exchange.asked_by = proxy
    try:
        yield
    finally:
        exchange.scope = scope


def _without_certificate(connection: Connection) -> Connection:
    """The proxy's certificate is not the caller's."""
    return replace(connection, chain=()) if connection.chain else connection


def _scope_of(scope: Scope, headers: Headers, question: Question) -> Scope:
    """The original request as the server would have handed it in."""
    host = ((b"host", question.host),) if question.host else ()
    asked: dict[str, Any] = {**scope, "headers": (*host, *(field for field in headers if field[0] != b"host"))}
    if question.target is not None:
        raw_path, _, query = question.target.partition(b"?")
        asked |= {
            "method": question.method,
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
        }
    scheme = question.scheme or scope.get("scheme", "http")
    asked["scheme"] = scheme
    if is_handshake(asked["method"], headers):
        del asked["method"]
        extensions = {**(scope.get("extensions") or {}), _HANDSHAKES: {}}
        asked |= {
            "type": "websocket",
            "scheme": "wss" if scheme == "https" else "ws",
            "subprotocols": subprotocols_of(headers),
            "extensions": extensions,
        }
    return asked
