"""RequestInfoMiddleware: what is asked for, or 400 for what two readers could understand differently."""

from __future__ import annotations

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.headers import unfit
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.middleware.request_info.mounts import below
from aggmw.middleware.request_info.parse import REQUEST_TIMEOUT, parse
from aggmw.middleware.request_info.refusals import bad_request

__all__ = ["RequestInfoMiddleware", "RequestInfoResolver"]


class RequestInfoResolver:
    """The stage: leaves `exchange.request_info`. The options are those of `RequestInfoMiddleware`."""

    def __init__(self, *, allow_proxy_prefix: bool = False, request_timeout: float = REQUEST_TIMEOUT) -> None:
        if not request_timeout > 0:
            raise ValueError("request_timeout must be more than 0 seconds")
        self._allow_proxy_prefix = allow_proxy_prefix
        self._request_timeout = request_timeout

    def __repr__(self) -> str:
        return f"RequestInfoResolver(request_timeout={self._request_timeout:g})"

    async def decide(self, exchange: Exchange) -> Answer | None:
        """Parse the request; nothing is remembered by path, because callers choose paths.

        Raises:
            StatusError: 400, 404 or 405, as `parse` says; 400 also for a header name that is no token, a header value
                with a control byte, a path outside the mount, and a `raw_path` whose decoding is not `path`.
        """
        if complaint := unfit(exchange.headers):
            raise bad_request(complaint)
        scope = exchange.scope
        path, raw_path = below(scope)
        info = parse(
            scope.get("method", "GET"),
            raw_path,
            scope.get("query_string", b""),
            allow_proxy_prefix=self._allow_proxy_prefix,
            request_timeout=self._request_timeout,
        )
        if info.path != path:
            raise bad_request("the request path and its decoded form do not agree")
        before, exchange.request_info = exchange.request_info, info
        if before is not None and before != info:
            # Below another mount something else is asked for: what was decided outside was not decided on this.
            exchange.verdict = exchange.backend = exchange.path_service = None
            exchange.routed = False
        return None


class RequestInfoMiddleware:
    """Parses each request once and leaves a `RequestInfo` in `scope["aggmw.request_info"]`.

    Ambiguous requests end here with 400, before anybody is authenticated. Under a server that decodes paths in another
    way, or that sets `root_path` without putting it into `path`, every request does: never a wrong guess.

    Args:
        app: what is inside.
        allow_proxy_prefix: take the deprecated `/api/V/proxy/…` paths, as verb "proxy"; otherwise they are 404.
        request_timeout: the most seconds that a request may take unless it is long-running; `?timeout=` can only ask
            for less.
    """

    def __init__(
        self, app: ASGIApp, *, allow_proxy_prefix: bool = False, request_timeout: float = REQUEST_TIMEOUT
    ) -> None:
        self.aggmw_stages = stand("request_info", app)
        self._app = app
        self._stage = RequestInfoResolver(allow_proxy_prefix=allow_proxy_prefix, request_timeout=request_timeout)
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"RequestInfoMiddleware({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)
