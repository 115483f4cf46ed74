"""Exchanges in and out of ASGI scopes, and the one coroutine that runs neighbouring stages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import structlog

from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown
from aggmw.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.exchange import Answer, Exchange, Stage
from aggmw.contracts.identity import SYSTEM_ANONYMOUS, Identity
from aggmw.errors import CompositionError, MisplacedStage, StatusError
from aggmw.objects.status import answer_of, status_answer

__all__ = ["Credentials", "Stages", "User", "enter", "entered", "inside", "leave", "misuse", "path_of"]

_log = structlog.get_logger("aggmw.stages")

Inside: TypeAlias = Callable[[Exchange, Receive, Send], Coroutine[Any, Any, None]]

_KEY = "aggmw.exchange"
_PARSED = ("type", "method", "path", "raw_path", "query_string")


class User:
    """`scope["user"]` in Starlette's convention: `request.user` and `@requires` work with it."""

    __slots__ = ("_identity",)

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __repr__(self) -> str:
        return f"User({self._identity.user!r})"

    @property
    def is_authenticated(self) -> bool:
        return self._identity.user != SYSTEM_ANONYMOUS

    @property
    def display_name(self) -> str:
        return self._identity.user

    @property
    def identity(self) -> str:
        return self._identity.user

    @property
    def groups(self) -> tuple[str, ...]:
        return self._identity.groups


class Credentials:
    """`scope["auth"]` in Starlette's convention: the scopes are "authenticated" and the groups."""

    __slots__ = ("_identity",)

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __repr__(self) -> str:
        return f"Credentials({self.scopes})"

    @property
    def scopes(self) -> list[str]:
        signed_in = self._identity.user != SYSTEM_ANONYMOUS
        return [*(["authenticated"] if signed_in else []), *self._identity.groups]


def enter(scope: Scope) -> Exchange:
    """The exchange of this request: the one an outer stage left in the scope, or a new one.

    The header list is frozen here. It is read again at each entry, because an application between two stages may have
    changed it; a server that appends trailers to its own list reaches only the outermost one.

    Raises:
        MisplacedStage: method, path or query are no longer what was parsed: nobody authorised that.
    """
    exchange: Exchange | None = scope.get(_KEY)
    if exchange is None:
        headers = _frozen(scope)
        connection = (scope.get("state") or {}).get("aggmw.connection", UNKNOWN)
        if not isinstance(connection, Connection):
            connection = UNKNOWN
        exchange = Exchange(scope, headers, connection=connection)
        if scope["type"] == "websocket":
            exchange.subprotocols = tuple(scope.get("subprotocols") or ())
        return exchange
    if exchange.request_info is not None and any(scope.get(key) != exchange.scope.get(key) for key in _PARSED):
        raise MisplacedStage(
            "method, path or query were changed behind the stage that parsed them: put what changes them in front of"
            " request_info"
        )
    exchange.scope = scope
    if tuple(scope["headers"]) != exchange.headers:
        exchange.headers = _frozen(scope)
    return exchange


def _frozen(scope: Scope) -> Headers:
    return tuple([(bytes(name), bytes(value)) for name, value in scope["headers"]])


def leave(exchange: Exchange) -> Scope:
    """A new scope for what is inside: the outer one is never changed."""
    scope: dict[str, Any] = {**exchange.scope}
    scope["headers"] = list(exchange.headers)
    scope[_KEY] = exchange
    if extensions := scope.get("extensions"):
        scope["extensions"] = dict(extensions)
    if exchange.subprotocols or "subprotocols" in scope:
        scope["subprotocols"] = list(exchange.subprotocols)
    if exchange.request_info is not None:
        scope["aggmw.request_info"] = exchange.request_info
    if exchange.identity is not None:
        scope["aggmw.identity"] = exchange.identity
        if not exchange.host_user:
            scope["user"] = User(exchange.identity)
            scope["auth"] = Credentials(exchange.identity)
    if exchange.verdict is not None:
        scope["aggmw.verdict"] = exchange.verdict
    if exchange.backend is not None:
        scope["aggmw.backend"] = exchange.backend
    if exchange.request_id:
        scope["aggmw.request_id"] = exchange.request_id
    return scope


def path_of(exchange: Exchange) -> str:
    """The decoded path below the mount: the request_info stage's where it ran, else what the server says.

    Without that stage a `root_path` that is not a prefix is left alone, as in Starlette.
    """
    if exchange.request_info is not None:
        return exchange.request_info.path
    path: str = exchange.scope["path"]
    root = (exchange.scope.get("root_path") or "").rstrip("/")
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :] or "/"
    return path


def misuse(error: CompositionError, request_id: str) -> Answer:
    """The 500 of a stack that was put together wrongly, in words for whoever did; also a line in the log."""
    _log.error("stages are put together wrongly", error=str(error), request_id=request_id)
    return status_answer(500, "InternalError", f"Internal error occurred: {error}")


async def entered(scope: Scope, send: Send) -> Exchange | None:
    """As `enter`; None when that cannot be, and the client has its answer."""
    try:
        return enter(scope)
    except CompositionError as error:
        await respond(scope, send, misuse(error, scope.get("aggmw.request_id", "")))
        return None


def inside(app: ASGIApp) -> Inside:
    """How a stage hands a request on to `app`: one of ours takes the exchange as it is, any other gets a new scope.

    Ours are those with a method `aggmw_take`. Between neighbours nobody can change the scope, so nothing is copied and
    nothing compared.
    """
    take: Inside | None = getattr(app, "aggmw_take", None)
    if take is not None:
        return take

    async def pass_on(exchange: Exchange, receive: Receive, send: Send) -> None:
        scope = exchange.scope
        try:
            await app(leave(exchange), receive, send)
        finally:
            exchange.scope = scope  # not the inner one, which holds the exchange: no cycle for the collector

    return pass_on


class Stages:
    """Neighbouring deciding stages around an application, run in one coroutine; also the shell of a stage alone.

    The first answer ends the request; without one the application gets a new scope with what the stages left.
    """

    __slots__ = ("_app", "_decisions", "_inside", "_stages")

    def __init__(self, app: ASGIApp, *stages: Stage) -> None:
        self._app = app
        self._inside = inside(app)
        self._stages = stages
        self._decisions = tuple(stage.decide for stage in stages)

    def __repr__(self) -> str:
        return f"Stages({', '.join(type(stage).__name__ for stage in self._stages)}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif (exchange := await entered(scope, send)) is not None:
            await self.aggmw_take(exchange, receive, send)

    async def aggmw_take(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Decide on a request whose exchange is at hand."""
        answer = None
        try:
            for decide in self._decisions:
                answer = await decide(exchange)
                if answer is not None:
                    break
        except StatusError as error:
            answer = answer_of(error)
        except CompositionError as error:
            answer = misuse(error, exchange.request_id)
        if answer is not None:
            await respond(exchange.scope, send, answer)
        else:
            await self._inside(exchange, receive, send)
