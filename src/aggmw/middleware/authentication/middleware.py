"""AuthenticationMiddleware: who is asking, or 401."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from aggmw.asgi.exchanges import Stages, path_of
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.anonymous import Anonymous
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Authenticator, Presented
from aggmw.contracts.options import check_lookup, check_type
from aggmw.errors import MisplacedStage
from aggmw.middleware.authentication.bearer import without_token
from aggmw.middleware.authentication.cookies import declared_cookies
from aggmw.middleware.authentication.exempt import Exempt
from aggmw.middleware.authentication.hygiene import Sieve
from aggmw.middleware.authentication.origins import Origins, says_its_server
from aggmw.middleware.authentication.union import (
    AuthenticatorUnion,
    Failure,
    credentials_of,
    identity_fields_of,
)
from aggmw.objects.status import UNAUTHORIZED, status_answer

__all__ = ["Authentication", "AuthenticationMiddleware"]

_log = structlog.get_logger("aggmw.authentication")

_NO_IMPERSONATION = status_answer(
    403, "Forbidden", "forbidden: nobody can be impersonated here; send the request without Impersonate- headers"
)
_TWICE = (
    "authentication stands twice, and the credentials are consumed: take the inner one away, or let the outer one"
    " exempt the path of the inner one (a middleware that makes several requests of one goes in front of all stages)"
)
_ALWAYS_TAKEN = frozenset({b"authorization"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Authentication:
    """The stage: leaves `exchange.identity`, and headers and subprotocols that may go on.

    Args:
        authenticators: asked in this order until one knows the caller.
        anonymous: where callers who present nothing are let in; nowhere when left out.
        strip_credentials: take `Authorization` and every authenticator's credentials out of each request. When false,
            only those of the authenticator that knew the caller.
        exempt: paths whose callers the application identifies itself.
        impersonation: leave `Impersonate-*` headers to a stage behind this one; otherwise they are 403.
        origins: whose pages may change something with what browsers send by themselves; nobody's when left out.
        path: where the path for `anonymous` and `exempt` comes from.
    """

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        *,
        anonymous: Anonymous | None = None,
        strip_credentials: bool = True,
        exempt: Iterable[str] = (),
        impersonation: bool = False,
        origins: Iterable[str] = (),
        path: Callable[[Exchange], str] = path_of,
    ) -> None:
        if anonymous is not None:
            check_type("anonymous", anonymous, Anonymous)
        check_lookup("path", path)
        self._union = AuthenticatorUnion(authenticators)
        self._anonymous = anonymous
        self._exempt = Exempt(exempt)
        self._impersonation = impersonation
        self._origins = Origins(origins)
        self._path = path
        everything = self._union.credentials | _ALWAYS_TAKEN
        told = identity_fields_of(self._union.members)
        self._sieves = {
            consumed: Sieve(
                everything if strip_credentials else consumed, identity=told, keep_impersonation=impersonation
            )
            for consumed in (frozenset[bytes](), *map(credentials_of, self._union.members))
        }
        self._cookies = declared_cookies(everything)
        self._exempt_sieve = Sieve(identity=told, keep_impersonation=impersonation)

    def __repr__(self) -> str:
        options = [f"[{', '.join(map(shown, self._union.members))}]"]
        if self._anonymous is not None:
            options.append(repr(self._anonymous))
        if self._exempt:
            options.append(f"exempt={self._exempt!r}")
        if self._origins:
            options.append(f"origins={self._origins!r}")
        return f"Authentication({', '.join(options)})"

    async def decide(self, exchange: Exchange) -> Answer | None:
        """Find the caller, refuse what may not be asked for, and clean the headers, in this order.

        A bad credential is 401 before a page or impersonation is 403, so that nobody learns anything without being
        known. Identity headers go on every path, also where anonymous callers are let in.

        Raises:
            MisplacedStage: a stage outside knows the caller already, and has consumed the credentials; or a middleware
                in front of this one makes several requests of one, which then share an exchange.
        """
        if exchange.identified or exchange.identity is not None:
            raise MisplacedStage(_TWICE)
        exchange.own_cookies = self._cookies
        path = self._path(exchange)
        if self._exempt and path in self._exempt:
            exchange.headers, exchange.impersonates = self._exempt_sieve.sift(exchange.headers)
            return _NO_IMPERSONATION if exchange.impersonates and not self._impersonation else None
        exchange.identified = True
        presented = Presented(exchange.headers, exchange.connection, path, exchange.subprotocols, exchange.warnings)
        identity, consumed, failures = await self._union.find(presented)
        if failures:
            _report(failures, exchange, known=identity is not None)
        if identity is None and not failures and self._anonymous is not None:
            identity = self._anonymous.identity(path)
        if identity is None:
            return UNAUTHORIZED
        if identity.credential.ambient and (page := self._refused_page(exchange)) is not None:
            _log.info("page of another origin refused", request_id=exchange.request_id)
            return _no_page(page)
        sieve = self._sieves[consumed]
        headers, impersonates = sieve.sift(exchange.headers)
        if impersonates and not self._impersonation:
            return _NO_IMPERSONATION
        exchange.headers = headers
        exchange.impersonates = impersonates
        if exchange.subprotocols and sieve.takes_tokens:
            exchange.subprotocols = without_token(exchange.subprotocols)
        exchange.identity = identity
        return None

    def _refused_page(self, exchange: Exchange) -> str | None:
        """The page that must not make this request as its reader; None where it was no page or may be one."""
        scope = exchange.scope
        if scope["type"] != "websocket":
            if scope.get("method", "") in _SAFE:
                return None
        elif says_its_server(exchange.headers, scope.get("scheme", "ws")):
            return None
        return self._origins.refuses(exchange.headers)


def _no_page(page: str) -> Answer:
    return status_answer(
        403,
        "Forbidden",
        "forbidden: the caller is known by a cookie or a client certificate, which browsers send by themselves, and the"
        f" request comes from {page}, which is not listed in authentication.origins (in Python: origins=[…])",
    )


def _report(failures: Sequence[Failure], exchange: Exchange, *, known: bool) -> None:
    """Broken authenticators always; bad credentials only where they decided. What was presented is never logged."""
    for name, error, broken in failures:
        if broken:
            _log.error(
                "authenticator broken", authenticator=name, error=type(error).__name__, request_id=exchange.request_id
            )
        elif not known:
            _log.info("credentials refused", authenticator=name, reason=str(error), request_id=exchange.request_id)


class AuthenticationMiddleware:
    """Finds out who is asking and leaves an `Identity` in `scope["aggmw.identity"]`, and Starlette's `user` and `auth`.

    Who presents nothing, or something bad, gets a 401 `Status`. Headers that tell a backend who is asking
    (`X-Remote-*`, `X-Aggmw-*`, `Client-Cert`, …) are removed from every request in every spelling; `Impersonate-*` is
    403.

    No header but `Authorization` is believed, and that only alone: where a server mixes trailers into the headers, a
    trailer could add a token that its sender knows anyway, never replace the one in front of it (several are 401).

    Args:
        app: what is inside.
        authenticators: asked in this order until one knows the caller.
        anonymous: where callers who present nothing are let in; nowhere when left out.
        strip_credentials: also take credentials out of requests that no authenticator knew them of, as `FrontProxy`
            does. By default an application behind keeps an `Authorization` that was not consumed here.
        exempt: paths whose callers the application identifies itself, such as a route with bearer tokens of its own,
            or a front proxy that is mounted in it: exactly these, and all that is below one with a slash at its end.
            There no authenticator is asked, no credential touched and no identity left, so stages and decorators
            that need one refuse; identity headers are removed there as everywhere.
        impersonation: leave `Impersonate-*` headers to a stage behind this one.
        origins: whose pages may open WebSockets and make requests that change something, as a caller who is known by a
            cookie, a client certificate or anything else that browsers send by themselves; such as
            "https://console.example.com". Nobody's when left out, and no other page's, however it came by: those get a
            403. Callers that are no browsers, and requests with a bearer token, need no origin.
        path: where the path for `anonymous` and `exempt` comes from; replaces what the request_info stage leaves.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticators: Sequence[Authenticator],
        anonymous: Anonymous | None = None,
        strip_credentials: bool = False,
        exempt: Iterable[str] = (),
        impersonation: bool = False,
        origins: Iterable[str] = (),
        path: Callable[[Exchange], str] = path_of,
    ) -> None:
        self.aggmw_stages = stand("authentication", app)
        self._app = app
        self._stage = Authentication(
            authenticators,
            anonymous=anonymous,
            strip_credentials=strip_credentials,
            exempt=exempt,
            impersonation=impersonation,
            origins=origins,
            path=path,
        )
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"AuthenticationMiddleware({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)
