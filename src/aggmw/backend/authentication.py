"""RequestHeaderAuthentication: a server behind a front proxy believes it, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import structlog

from aggmw.asgi.exchanges import Stages, path_of
from aggmw.asgi.remote_headers import without_identity
from aggmw.asgi.request_headers import RequestHeaders
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.anonymous import Anonymous
from aggmw.contracts.connection import UNKNOWN
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity, authenticated
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity, Problem
from aggmw.objects.status import UNAUTHORIZED

__all__ = ["RequestHeaderAuthentication"]

_NOTHING = "nothing counts here: no client certificate (uvicorn asks for one with --ssl-cert-reqs 1), or no user named"
_NO_OTHERS = "in_process_only=True believes no headers: leave it out, or ca, allowed_names and accept_any_peer"

_log = structlog.get_logger("aggmw.backend")


class RequestHeaderAuthentication:
    """Believes the front proxy's word on who is asking; everybody else gets a 401 `Status`.

    The application finds the caller in `scope["aggmw.identity"]`, and in Starlette's `user` and `auth`, so that
    `request.user`, `request.auth` and `@requires` work. No header that could tell who is asking is left, in any
    spelling.

    The rules are those of kube-apiserver (wire contract §6.1, §6.3, §12.9):

    - `X-Remote-User`, `X-Remote-Uid`, `X-Remote-Group` and `X-Remote-Extra-*` count on a connection whose client
      certificate is signed by `ca`, is for clients, valid now, and has an allowed name.
    - Without a certificate (or with one of a resumed session, which nobody has verified), or without a user, the
      request is nobody's: `system:anonymous` on `anonymous_paths`, 401 elsewhere. Whatever identity headers it has
      count for nothing.
    - A bad certificate, or a caller that cannot be, is 401 on every path, never anonymous.
    - The caller is in `system:authenticated` too, unless it is anonymous or says otherwise.

    Stricter than kube-apiserver: a second `X-Remote-User` or `X-Remote-Uid`, text that is not UTF-8, and white space or
    control characters where receivers would trim them are 401.

    A front proxy in the same process hands over an `Identity` in `scope["aggmw.identity"]`: no client can, so it is
    believed by its type, without a certificate.

    Otherwise the server must say whose certificate a connection has, in `scope["state"]["aggmw.connection"]`: run it
    with `uvicorn --http aggmw.server.door:Door`. Under one that does not, every request is 401 and an error is logged,
    once.

    Args:
        app: what is inside.
        ca: the front-proxy CA, a PEM bundle (kube-apiserver's `--requestheader-client-ca-file`).
        allowed_names: common names that the front proxy's certificate may have; empty: any that this CA has signed.
        in_process_only: believe nobody but a front proxy in the same process, so that no CA is needed.
        accept_any_peer: ask for no certificate: whoever reaches the server is then whoever they say they are. For a
            server that only the front proxy can reach, such as one on a Unix socket. Where the server mixes trailers
            into the headers (only `aggmw.server.door:Door` says that it does not), a request with `Transfer-Encoding`
            and identity headers is 401.
        anonymous_paths: decoded paths below the mount that need no identity, such as "/healthz"; exactly these.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: no CA, one that cannot be read, or one beside an option that does without.
        TypeError, ValueError: options of another shape.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ca: bytes | None = None,
        allowed_names: Iterable[str] = (),
        in_process_only: bool = False,
        accept_any_peer: bool = False,
        anonymous_paths: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        headers: RequestHeaders | None = None
        if not in_process_only:
            headers = RequestHeaders(ca, allowed_names=allowed_names, accept_any_peer=accept_any_peer, clock=clock)
        elif ca is not None or allowed_names or accept_any_peer:
            raise ConfigurationError([Problem("front-proxy CA", _NO_OTHERS)])
        self.aggmw_stages = stand("request_header_authentication", app)
        self._app = app
        self._stage = _RequestHeaderStage(headers, Anonymous(anonymous_paths))
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"RequestHeaderAuthentication({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)


class _RequestHeaderStage:
    """Leaves `exchange.identity`, and headers without any."""

    def __init__(self, headers: RequestHeaders | None, anonymous: Anonymous) -> None:
        self._headers = headers
        self._anonymous = anonymous
        self._said = False

    def __repr__(self) -> str:
        return f"{self._headers or 'in_process_only=True'!s}, {self._anonymous!r}"

    async def decide(self, exchange: Exchange) -> Answer | None:
        given = exchange.scope.get("aggmw.identity")
        identity = authenticated(given) if isinstance(given, Identity) else self._find(exchange)
        if identity is None:
            return UNAUTHORIZED
        exchange.headers = without_identity(exchange.headers)
        exchange.identity = identity
        return None

    def _find(self, exchange: Exchange) -> Identity | None:
        headers, connection = self._headers, exchange.connection
        if headers is not None and headers.needs_connection and connection is UNKNOWN:
            self._say_once()
            return None
        try:
            identity = None if headers is None else headers.find(exchange.headers, connection)
        except (InvalidCredentials, InvalidIdentity) as error:
            reason = str(error)
        else:
            if identity := identity or self._anonymous.identity(path_of(exchange)):
                return identity
            reason = _NOTHING
        _log.info("credentials refused", reason=reason, request_id=exchange.request_id)
        return None

    def _say_once(self) -> None:
        if not self._said:
            self._said = True
            _log.error(
                "every request is refused: the server does not say whose certificate a connection has",
                remedy="run it with: uvicorn --http aggmw.server.door:Door",
            )
