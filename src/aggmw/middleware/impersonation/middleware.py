"""The impersonation stage and its ASGI shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Authorizer, Verdict
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Sample
from aggmw.contracts.options import check_lookup, check_seam
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput, StatusError
from aggmw.middleware.impersonation.headers import has_impersonation, read_wanted, without_impersonation
from aggmw.middleware.impersonation.modes import LEGACY, MODES, Refusal, granted
from aggmw.objects.attributes import attributes_of, handshake_attributes
from aggmw.objects.refusal import forbidden, quoted

__all__ = ["Impersonation", "ImpersonationMiddleware"]

_log = structlog.get_logger("aggmw.impersonation")

_ATTEMPTS = "apiserver_impersonation_attempts_total"
_ATTEMPTS_HELP = "Requests to act as somebody else, by the right that let them."
_ASKED_FOR = "impersonation.aggmw/asked-for"


class Impersonation:
    """Lets callers act as others whom the authorizer lets them impersonate, as kube-apiserver does; else 403.

    `Impersonate-User`, `-Uid`, `-Group` and `-Extra-*` say whom. Each value is a right of its own: the verb
    `impersonate` on `users`, `groups` and `serviceaccounts`, and in `authentication.k8s.io` on `uids` and
    `userextras/KEY`. The newer rights, which are tried first, are bound to what is done: `impersonate:MODE` on the
    identity and `impersonate-on:MODE:VERB` on the request, where MODE is associated-node, arbitrary-node,
    serviceaccount or user-info.

    Whoever is acted as takes the caller's place on the exchange (`identity`), for authorization and for every backend;
    who really asks is `impersonator`. What the caller was known by, when that ends and whether browsers send it by
    themselves all stay as they are. The headers go no further.

    Args:
        authorizer: decides, as the caller itself.
        constrained: also grant the newer rights.
        identity: who asks, in place of what the authentication stage left.
        request_info: what is asked for, in place of what the request_info stage left.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        *,
        constrained: bool = True,
        identity: Callable[[Exchange], Identity | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        check_seam("authorizer", authorizer, "authorize")
        check_lookup("identity", identity)
        check_lookup("request_info", request_info)
        self._authorizer = authorizer
        self._modes = MODES if constrained else (LEGACY,)
        self._identity = identity
        self._request_info = request_info
        self._allowed = {mode.name: 0 for mode in self._modes}
        self._denied = 0

    def __repr__(self) -> str:
        return f"Impersonation({self._authorizer!r})"

    def samples(self) -> Iterable[Sample]:
        """How often it was let, by the way that let it, and how often not. See `aggmw.contracts.metrics.Source`."""
        for mode, value in self._allowed.items():
            yield Sample(_ATTEMPTS, _ATTEMPTS_HELP, "counter", (("mode", mode), ("decision", "allowed")), value)
        yield Sample(_ATTEMPTS, _ATTEMPTS_HELP, "counter", (("mode", ""), ("decision", "denied")), self._denied)

    async def decide(self, exchange: Exchange) -> Answer | None:
        """403, or None to go on, as the caller or as whom it may act.

        Raises:
            StatusError: 400 for headers that cannot be read, 500 for an authorizer that fails.
            MissingInput: nobody said who asks, or what for.
        """
        if not has_impersonation(exchange.headers):
            return None
        info = exchange.request_info if self._request_info is None else self._request_info(exchange)
        if info is None:
            raise MissingInput("impersonation", "the request info", "request_info")
        identity = exchange.identity if self._identity is None else self._identity(exchange)
        if identity is None:
            raise MissingInput("impersonation", "an identity", "authentication")
        wanted = read_wanted(exchange.headers)
        exchange.audit.annotate(_ASKED_FOR, wanted.user)
        asked = attributes_of(identity, info)
        attributes = [asked]
        if exchange.asked_by or exchange.scope["type"] == "websocket":
            besides = handshake_attributes(asked)
            if besides is not None:
                attributes.append(besides)

        async def judge(right: Attributes) -> Verdict:
            return await self._judge(right, exchange.request_id)

        found = await granted(self._modes, judge, wanted, attributes)
        if isinstance(found, Refusal):
            self._denied += 1
            _log.info(
                "impersonation refused",
                user=identity.user,
                missing=f"{found.attributes.verb} {found.attributes.resource or quoted(found.attributes.path)}",
                request_id=exchange.request_id,
            )
            return forbidden(found.attributes, found.reason)
        exchange.headers = without_impersonation(exchange.headers)
        exchange.impersonates = False
        exchange.impersonator = identity
        exchange.host_user = False  # whoever is acted as is nobody whom the application outside knows
        exchange.identity, mode = found
        self._allowed[mode.name] += 1
        exchange.impersonation = mode.verb if mode.on else ""
        return None

    async def _judge(self, attributes: Attributes, request_id: str) -> Verdict:
        try:
            return await self._authorizer.authorize(attributes)
        except Exception as error:
            _log.error("authorizer failed", error=type(error).__name__, request_id=request_id)
            raise StatusError(
                500,
                "InternalError",
                "Internal error occurred: the authorizer failed",
                {"causes": [{"message": "the authorizer failed"}]},
            ) from error


class ImpersonationMiddleware:
    """The impersonation stage alone, in any ASGI application, behind `AuthenticationMiddleware(impersonation=True)`.

    Args:
        app: what is inside.
        authorizer, constrained, identity, request_info: as for `Impersonation`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authorizer: Authorizer,
        constrained: bool = True,
        identity: Callable[[Exchange], Identity | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        needs = {"request_info": request_info, "authentication": identity}
        self.aggmw_stages = stand("impersonation", app, needs=[name for name, given in needs.items() if not given])
        self._app = app
        self._stage = Impersonation(authorizer, constrained=constrained, identity=identity, request_info=request_info)
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"ImpersonationMiddleware({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)
