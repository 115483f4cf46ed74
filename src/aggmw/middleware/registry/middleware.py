"""The registry stage: the group version of a remote service → `exchange.backend`."""

from __future__ import annotations

from collections.abc import Callable

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import RESERVED, APIService, PathService, Routes, RouteSource
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.options import check_lookup, check_routes
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MisplacedStage, MissingInput

__all__ = ["Registry", "RegistryMiddleware"]


class Registry:
    """Leaves the backend of a remote group version; what is local or unknown passes.

    Routed are `/apis/G/V`, everything below it, and `/openapi/v3/apis/G/V`; for the core group `/api`, everything below
    it, and `/openapi/v3/api/V` (wire contract §2.1). Of all other paths the longest path service takes those at and
    below its own. Only the parsed request decides: never a header.

    Args:
        source: the current routes, read once per request.
        request_info: replaces what the request_info stage leaves.
    """

    def __init__(self, source: RouteSource, *, request_info: Callable[[Exchange], RequestInfo] | None = None) -> None:
        check_routes("source", source)
        check_lookup("request_info", request_info)
        self._source = source
        self._request_info = request_info

    def __repr__(self) -> str:
        return f"Registry({self._source!r})"

    async def decide(self, exchange: Exchange) -> Answer | None:
        """Never answers.

        Raises:
            MissingInput: nobody parsed the request.
            MisplacedStage: another registry has decided already.
        """
        if exchange.routed:
            raise MisplacedStage("registry stands twice: give one of them the services of both")
        exchange.routed = True
        info = exchange.request_info
        if info is None:
            if self._request_info is None:
                raise MissingInput("registry", "the request info", "request_info")
            info = self._request_info(exchange)
        routes = self._source.routes
        if info.is_resource:
            service = routes.by_group_version.get((info.api_group, info.api_version))
            if service is not None and service.backend is not None:
                exchange.backend, exchange.telling = service.backend, service.impersonation
        elif (document := _of_document(routes, info.path)) is not None and document.backend is not None:
            exchange.backend, exchange.telling = document.backend, document.impersonation
        elif routes.by_path and (found := _of_path(routes, info.path)) is not None:
            exchange.path_service = found
            exchange.backend = found.backend
        return None


def _of_path(routes: Routes, path: str) -> PathService | None:
    """The longest path service that a path is at or below."""
    if path.split("/", 2)[1] in RESERVED:
        return None
    prefix = path if path.endswith("/") else f"{path}/"
    while (found := routes.by_path.get(prefix)) is None and prefix != "/":
        prefix = prefix[: prefix.rindex("/", 0, -1) + 1]
    return found


def _of_document(routes: Routes, path: str) -> APIService | None:
    """The service of a path that names a group version but no resource."""
    match path.split("/"):
        case ["", "apis", group, version, *rest] if rest in ([], [""]):
            key = (group, version)
        case ["", "openapi", "v3", "apis", group, version]:
            key = (group, version)
        case ["", "api", version] | ["", "api", version, ""] | ["", "openapi", "v3", "api", version]:
            key = ("", version or "v1")
        case ["", "api"]:
            key = ("", "v1")
        case _:
            return None
    return routes.by_group_version.get(key)


class RegistryMiddleware:
    """The registry stage alone, in any ASGI application: `scope["aggmw.backend"]` for what is inside.

    Args:
        app: what is inside.
        source: the current routes.
        request_info: replaces what the request_info stage leaves.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        source: RouteSource,
        request_info: Callable[[Exchange], RequestInfo] | None = None,
    ) -> None:
        self.aggmw_stages = stand("registry", app, needs=() if request_info else ("request_info",))
        self._app = app
        self._stage = Registry(source, request_info=request_info)
        self._stages = Stages(app, self._stage)

    def __repr__(self) -> str:
        return f"RegistryMiddleware({self._stage!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)
