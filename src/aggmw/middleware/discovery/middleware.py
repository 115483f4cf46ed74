"""The discovery stage: which APIs exist, health and version, answered from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.headers import first, values
from aggmw.asgi.lifespan import serve_lifespan
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from aggmw.contracts.backends import RouteSource, UpstreamTransport
from aggmw.contracts.background import Background
from aggmw.contracts.catalog import APIGroup, Check, Controller
from aggmw.contracts.documents import Publisher
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.options import check_lookup, check_routes, check_seam, check_type
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput, NotOpened
from aggmw.middleware.discovery.controller import DiscoveryController, Synced, Timing
from aggmw.middleware.discovery.health import Health, Ping, Shutdown
from aggmw.middleware.discovery.limits import Offload
from aggmw.middleware.discovery.pages import Asked, Forward, HealthPage, Page, Plain, Published
from aggmw.middleware.discovery.snapshot import SnapshotBuilder
from aggmw.middleware.discovery.version import VersionInfo
from aggmw.objects.discovery import METHOD_NOT_ALLOWED
from aggmw.objects.etags import make_document

__all__ = ["Discovery", "DiscoveryMiddleware"]


class Discovery:
    """Answers `/api`, `/apis`, `/apis/G`, `/apis/G/V` of remote groups, `/openapi/v3`, `/version` and health.

    No request asks a backend: its controller does, in the background, and keeps the last good answer of a backend that
    cannot be asked, marked stale. A local group version is listed, and its `/apis/G/V` is the wrapped application's;
    since only that application knows the resources, the aggregated form is not offered beside one. An OpenAPI document
    that a backend has is forwarded as the caller; for a backend that has none a minimal one is made.

    Args:
        source: the current routes.
        transport: how backends are reached.
        version: what `/version` says.
        checks: further lines of `/readyz`.
        drain: once it has begun, `/readyz` fails.
        timing: how often and how long backends are asked.
        server_address: host and port that `/api` tells clients; "" for none.
        publishers: documents at paths of their own, such as the keys of service accounts.
        own: groups that the front proxy serves itself; a registered group version goes before one of the same name.
        request_info: replaces what the request_info stage leaves.
    """

    def __init__(
        self,
        source: RouteSource,
        transport: UpstreamTransport,
        *,
        version: VersionInfo | None = None,
        checks: Sequence[Check] = (),
        drain: Drain | None = None,
        timing: Timing | None = None,
        server_address: str = "",
        publishers: Sequence[Publisher] = (),
        own: Sequence[APIGroup] = (),
        request_info: Callable[[Exchange], RequestInfo] | None = None,
    ) -> None:
        check_routes("source", source)
        check_seam("transport", transport, "send")
        check_lookup("request_info", request_info)
        self._source = source
        self._request_info = request_info
        self._publishers = tuple(publishers)
        self._controller = DiscoveryController(source, transport, self._prepare_and_publish, timing or Timing())
        self._background = Background((self._controller,))
        ready: list[Check] = [Ping(), Synced(self._controller), *checks]
        if drain is not None:
            ready.append(Shutdown(drain))
        # A process that drains is alive: only readiness knows of the rest.
        self._readyz = Health("readyz", ready)
        fixed = _health(Health("healthz", [Ping()]), Health("livez", [Ping()]), self._readyz)
        fixed |= _version(version or VersionInfo())
        self._builder = SnapshotBuilder(server_address, fixed, own)
        self._publish()

    def __repr__(self) -> str:
        return f"Discovery({self._source!r})"

    @property
    def needs_request_info(self) -> bool:
        """Whether the request_info stage must have run."""
        return self._request_info is None

    @property
    def controller(self) -> Controller:
        """The background work; without it no backend is ever asked."""
        return self._controller

    @property
    def has_work(self) -> bool:
        """Whether any service of the current routes is remote."""
        return any(service.backend is not None for service in self._source.routes.services)

    @property
    def ready(self) -> bool:
        """Whether `/readyz` would say so."""
        return self._readyz.passing

    def knows(self, group: str, version: str, resource: str = "", subresource: str = "") -> bool:
        """Whether these names are served here; without a resource, whether the group version is. Asks nobody.

        Of a local group version only group and version are known.
        """
        names = self._snapshot.names.get((group, version))
        return names is not None and (not resource or (resource, subresource) in names)

    def refresh(self) -> None:
        """The routes were swapped: begin to ask the new backends now instead of within a second."""
        self._controller.refresh()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The background work, for as long as the context is open; contexts may nest."""
        async with self._background:
            yield

    async def decide(self, exchange: Exchange) -> Answer | None:
        """The document, or None for a path that discovery does not know.

        Raises:
            MissingInput: nobody parsed the request.
            NotOpened: there are backends, and nobody has ever asked them.
        """
        info = exchange.request_info
        if info is None:
            if self._request_info is None:
                raise MissingInput("discovery", "the request info", "request_info")
            info = self._request_info(exchange)
        if info.is_resource:
            return None
        if self._source.routes is not self._snapshot.routes:
            self._publish()
        page = self._snapshot.pages.get(info.path) or self._published(info.path)
        if page is None:
            return None
        if not self._controller.started and self.has_work:
            raise NotOpened("discovery", "async with discovery.running(): …")
        return _answer(page, info, exchange)

    def _published(self, path: str) -> Page | None:
        for publisher in self._publishers:
            if (found := publisher.documents.get(path)) is not None:
                caching: Headers = ((b"cache-control", b"public, max-age=%d" % found.seconds),)
                return Published(make_document(found.body, found.content_type, caching))
        return None

    async def _prepare_and_publish(self, offload: Offload) -> None:
        routes, learned = self._source.routes, dict(self._controller.learned)
        await self._builder.prepare(routes, learned, offload)
        if routes is self._source.routes:
            self._snapshot = self._builder.build(routes, learned)

    def _publish(self) -> None:
        self._snapshot = self._builder.build(self._source.routes, self._controller.learned)


def _answer(page: Page, info: RequestInfo, exchange: Exchange) -> Answer | None:
    if info.method not in ("GET", "HEAD"):
        return METHOD_NOT_ALLOWED
    headers = exchange.headers
    asked = Asked(
        b",".join(values(headers, b"accept")) or None,
        first(headers, b"if-none-match"),
        info.target.partition(b"?")[2],
        exchange.scope.get("root_path") or "",
    )
    reply = page.reply(asked)
    if page.warning:
        exchange.warnings.append(page.warning)
    if isinstance(reply, Forward):
        exchange.target = reply.target
        return None
    return reply


def _health(*endpoints: Health) -> dict[str, Page]:
    """Each endpoint with and without a slash, and each of its checks."""
    pages: dict[str, Page] = {}
    for health in endpoints:
        path = f"/{health.endpoint}"
        pages[path] = pages[f"{path}/"] = HealthPage(health)
        for name in health.names:
            pages[f"{path}/{name}"] = HealthPage(health, name)
    return pages


def _version(version: VersionInfo) -> dict[str, Page]:
    uncached: Headers = ((b"cache-control", b"no-cache, private"),)
    page = Plain(make_document(version.document(), b"application/json", uncached))
    return {"/version": page, "/version/": page}


class DiscoveryMiddleware:
    """Discovery alone, in any ASGI application. Its background work runs for as long as the application's lifespan.

    Where a framework gives middlewares no lifespan, run `discovery.running()` in that framework's own.

    Args:
        app: what is inside; it gets every path that discovery does not know.
        discovery: the stage.
    """

    def __init__(self, app: ASGIApp, *, discovery: Discovery) -> None:
        check_type("discovery", discovery, Discovery)
        self.aggmw_stages = stand("discovery", app, needs=("request_info",) if discovery.needs_request_info else ())
        self._app = app
        self._discovery = discovery
        self._stages = Stages(app, discovery)

    def __repr__(self) -> str:
        return f"DiscoveryMiddleware({self._discovery!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self._app, self._discovery.running, scope, receive, send)
        else:
            await self._stages(scope, receive, send)
