"""The authorization stage and its ASGI shell."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Authorizer, Outcome, Verdict
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.options import check_lookup, check_seam
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import CompositionError, MissingInput
from aggmw.objects.attributes import attributes_of, handshake_attributes
from aggmw.objects.refusal import forbidden
from aggmw.objects.status import status_answer

__all__ = ["Authorization", "AuthorizationMiddleware"]

_log = structlog.get_logger("aggmw.authorization")
_DENIED = Verdict()
_BROKEN = status_answer(
    500,
    "InternalError",
    "Internal error occurred: the authorizer failed",
    {"causes": [{"message": "the authorizer failed"}]},
)


class Authorization:
    """Lets a request pass when the authorizer allows it; else answers 403, and leaves the verdict on the exchange.

    Only `ALLOW` passes: no opinion denies, and an authorizer that fails, or denies because something failed, is a 500.
    A request without a user or a verb is denied before any authorizer sees it. A WebSocket handshake for exec, attach
    or portforward needs the right to create besides its own verb, and so does any request for them that another proxy
    only asks about, because that proxy may not have said that it is one.

    Who was judged is who goes on: what `identity` found is left for the stages inside, which forward as that caller.

    Args:
        authorizer: decides.
        identity: who asks, in place of what the authentication stage left; `host_user` is one such function.
        request_info: what is asked for, in place of what the request_info stage left.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        *,
        identity: Callable[[Exchange], Identity | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        check_seam("authorizer", authorizer, "authorize")
        check_lookup("identity", identity)
        check_lookup("request_info", request_info)
        self._authorizer = authorizer
        self._at_once: Callable[[Attributes], Verdict | None] | None = getattr(authorizer, "verdict", None)
        self._identity = identity
        self._request_info = request_info

    def __repr__(self) -> str:
        return f"Authorization({self._authorizer!r})"

    async def decide(self, exchange: Exchange) -> Answer | None:
        """403 or 500, or None to go on.

        Raises:
            MissingInput: nobody said who asks, or what for.
            CompositionError: `identity` gave something else.
        """
        info = exchange.request_info if self._request_info is None else self._request_info(exchange)
        if info is None:
            raise MissingInput("authorization", "the request info", "request_info")
        if exchange.impersonates:
            raise MissingInput("authorization", "the word on whom the caller may act as", "impersonation")
        # Whom the caller acts as is known to nobody outside.
        look_up = None if exchange.impersonator is not None else self._identity
        identity = exchange.identity if look_up is None else look_up(exchange)
        if identity is None:
            raise MissingInput("authorization", "an identity", "authentication")
        if look_up is not None:
            if not isinstance(identity, Identity):
                raise CompositionError(f"authorization: identity= gave a value that is a {type(identity).__name__}")
            exchange.host_user = exchange.host_user or exchange.identity is None
            exchange.identity = identity
        attributes = attributes_of(identity, info)
        answer = await self._check(exchange, attributes)
        if answer is None and (exchange.asked_by or exchange.scope["type"] == "websocket"):
            besides = handshake_attributes(attributes)
            if besides is not None:
                answer = await self._check(exchange, besides)
        return answer

    async def _check(self, exchange: Exchange, attributes: Attributes) -> Answer | None:
        exchange.verdict = _DENIED
        if not attributes.identity.user or not attributes.verb:
            return forbidden(attributes)
        try:
            verdict = None if self._at_once is None else self._at_once(attributes)
            if verdict is None:
                verdict = await self._authorizer.authorize(attributes)
            allowed = verdict.outcome is Outcome.ALLOW
            problem = verdict.error
        except Exception as error:  # noqa: BLE001  whatever it was, it is not an allow
            _log.error("authorizer failed", error=type(error).__name__, request_id=exchange.request_id)
            return _BROKEN
        exchange.verdict = verdict
        if allowed:
            return None
        if problem:
            _log.error("authorization failed", problem=problem, request_id=exchange.request_id)
            return _BROKEN
        return forbidden(attributes, verdict.reason)


class AuthorizationMiddleware:
    """The authorization stage alone, in any ASGI application.

    Args:
        app: what is inside; it sees allowed requests only.
        authorizer, identity, request_info: as for `Authorization`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authorizer: Authorizer,
        identity: Callable[[Exchange], Identity | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        needs = {"request_info": request_info, "authentication": identity}
        self.aggmw_stages = stand("authorization", app, needs=[name for name, given in needs.items() if not given])
        self._app = app
        self._stage = Authorization(authorizer, identity=identity, request_info=request_info)
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"AuthorizationMiddleware({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)
