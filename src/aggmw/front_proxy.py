"""FrontProxy: the stages in their order around an application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

import structlog

from aggmw.asgi.applications import Applications
from aggmw.asgi.folding import bound, fold
from aggmw.asgi.lifespan import serve_lifespan
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, DeclaredMiddleware, Middleware, Receive, Scope, Send
from aggmw.contracts.authorization import Authorizer
from aggmw.contracts.backends import APIService, PathService, RouteSource, UpstreamTransport
from aggmw.contracts.background import Background
from aggmw.contracts.catalog import Check, Controller
from aggmw.contracts.documents import Publisher
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Stage
from aggmw.contracts.identity import Authenticator, with_members
from aggmw.contracts.kinds import VirtualKind
from aggmw.contracts.metrics import Sample, Source
from aggmw.contracts.options import check_routes, check_seam, check_type, checked_seams
from aggmw.errors import MisplacedStage, fault
from aggmw.middleware.audit import Audit, AuditMiddleware
from aggmw.middleware.authentication import Anonymous, Authentication
from aggmw.middleware.authorization import Authorization, DenyAll
from aggmw.middleware.discovery import Discovery, VersionInfo
from aggmw.middleware.forward_auth import AskedAt, ForwardAuth, ForwardAuthMiddleware, allowed
from aggmw.middleware.impersonation import Impersonation
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.proxy import AsgiTransport, Http1Transport, ProxyMiddleware, Transports
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.registry import Registry, StaticRoutes, make_routes
from aggmw.middleware.request_info import RequestInfoResolver
from aggmw.middleware.resources import ResourcesMiddleware, VirtualKinds
from aggmw.objects.status import status_answer

__all__ = ["FrontProxy", "not_found"]

_log = structlog.get_logger("aggmw.front_proxy")

_UNOPENED = status_answer(
    500,
    "InternalError",
    "Internal error occurred: the front proxy was not opened, so its background work does not run. Either let the"
    " server run its lifespan (mounted: lifespan=front_proxy.lifespan(…) on the application outside), or enter it:"
    " async with front_proxy: …",
)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a front proxy that wraps none: every path is unknown."""
    if scope["type"] in ("http", "websocket"):
        answer = status_answer(404, "NotFound", "the server could not find the requested resource", {})
        await respond(scope, send, answer)


class FrontProxy:
    """Any ASGI application as the core of a Kubernetes front proxy.

    A request is identified, authorised, and then answered from memory (discovery, health), forwarded to the server
    that registered its API group, or handed to the wrapped application. What is not configured is denied.

    Args:
        app: gets what no stage took; without one, unknown paths are a 404 `Status`.
        authentication: the authenticators to ask, in order. None: everybody is refused.
        anonymous: who may come without credentials; nobody by default.
        origins: whose pages may open WebSockets and make requests that change something, as a caller who is known by
            what browsers send by themselves: a cookie or a client certificate. Nobody's by default.
        audit: records requests as its policy says; its sinks are run with the front proxy. Nothing by default.
        impersonation: let callers act as others whom `authorization` lets them impersonate, by `Impersonate-*`. By
            default such requests are refused.
        authorization: decides. None: everything is denied.
        forward_auth: paths at which other proxies ask whether they may forward a request, and how each of them asks:
            `{"/auth/nginx": ForwardAuth("nginx", peers=["10.0.0.7"])}`. What decides is what decides on our own
            requests, foreign middlewares up to authorization included. Nobody may ask by default.
        services: the API groups and paths and where they are served, as values or as a source that swaps snapshots.
            Applications in this process (`APIService.local(…, app=…)`) are started and stopped with the front proxy.
        kinds: what the front proxy serves itself, such as `[TokenReviews(authenticators), SelfSubjectReviews(),
            *access_reviews(authorizer)]`, the last with the authorizer of `authorization`. A server that is registered
            for their group version goes before them.
        transport: how servers are reached; by default HTTP/1.1 over our own pool, without a client certificate.
        version: what `/version` says.
        checks: further lines of `/readyz`.
        metrics: counts every request and answers `/metrics`, for who is allowed to get that path; `Metrics()` will do.
            It learns the names of resources from discovery, and shows the connections of `transport`.
        max_stream_seconds: so old a watch or another long-running stream that is forwarded becomes at most; see
            `ProxyMiddleware`. None: as old as its server and its caller's credential let it.
        drain: begins when the server is told to stop (`aggmw.server` does that): streams end, readiness fails.
        after: foreign middlewares by the name of the stage they sit just inside of, such as
            `{"authentication": [Middleware(AccessLog)]}`; names as in `aggmw.middleware`.

    Raises:
        TypeError: an option that is not what it should be.
        ValueError: an origin that cannot be read, or an age that is not more than 0.
        ConfigurationError: services that contradict each other.
        MisplacedStage: `app` is a front proxy, or stands in a stage of ours.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        authentication: Sequence[Authenticator] = (),
        anonymous: Anonymous | None = None,
        origins: Iterable[str] = (),
        audit: Audit | None = None,
        impersonation: bool = False,
        authorization: Authorizer | None = None,
        forward_auth: Mapping[str, ForwardAuth] | None = None,
        services: Iterable[APIService | PathService] | RouteSource = (),
        kinds: Iterable[VirtualKind] = (),
        transport: UpstreamTransport | None = None,
        version: VersionInfo | None = None,
        checks: Sequence[Check] = (),
        metrics: Metrics | None = None,
        max_stream_seconds: float | None = None,
        drain: Drain | None = None,
        after: Mapping[str, Sequence[Middleware | DeclaredMiddleware]] | None = None,
    ) -> None:
        if isinstance(app, FrontProxy):
            raise MisplacedStage(
                "a front proxy stands around another one: join their services in one, or give the inner one to the"
                " outer as an application of its own: APIService.local(…, app=…) or PathService(…, app=…)"
            )
        authentication = checked_seams("authentication", authentication, "authenticate")
        if authorization is not None:
            check_seam("authorization", authorization, "authorize")
        if transport is not None:
            check_seam("transport", transport, "send")
        if metrics is not None:
            check_type("metrics", metrics, Metrics)
        if audit is not None:
            check_type("audit", audit, Audit)
        check_type("impersonation", impersonation, bool)
        if forward_auth is not None:
            check_type("forward_auth", forward_auth, Mapping)
        if not isinstance(services, Iterable):
            check_routes("services", services)
        self.drain: Drain = drain or Drain()
        self._core = not_found if app is None else app
        self._applications = AsgiTransport()
        servers = transport or Http1Transport()
        asked = list(with_members(authentication))
        publishers = [each for each in asked if isinstance(each, Publisher)]
        self._transport = Transports(servers, self._applications)
        given = StaticRoutes(make_routes(services)) if isinstance(services, Iterable) else None
        source: RouteSource = given or cast(RouteSource, services)
        self._source = source
        own = VirtualKinds(kinds)
        judge = authorization or DenyAll()
        deciding = list(with_members([judge]))
        discovery = Discovery(
            source,
            self._transport,
            version=version,
            checks=(*checks, *(check for each in deciding for check in getattr(each, "checks", ()))),
            publishers=publishers,
            drain=self.drain,
            own=own.groups,
        )
        self._discovery = discovery
        acting = Impersonation(judge) if impersonation else None
        if metrics is not None:
            sources = [each for each in (self._transport.balanced, audit, acting, *asked) if isinstance(each, Source)]
            metrics.include(known=discovery.knows, sources=[*sources, _Figures(judge)])
        # THE ORDER, from the outside in; None is a stage that is left out.
        parts: dict[str, Stage | Middleware | None] = {
            # Outermost: whatever fails inside becomes a Status, everything carries one request id, and is counted.
            "recovery": partial(RecoveryMiddleware, observers=[each for each in (metrics, audit) if each is not None]),
            # One parse for everybody; what is ambiguous goes no further.
            "request_info": RequestInfoResolver(),
            # Before anything that answers: credentials and forged identity are gone on every route, also on health.
            "authentication": Authentication(
                authentication, anonymous=anonymous, origins=origins, impersonation=impersonation
            ),
            # Behind it, because the record says who asks; in front of all that refuses, because it says that, too.
            "audit": None if audit is None else partial(AuditMiddleware, audit=audit),
            # Behind audit: a refused attempt leaves a trace, and both identities are recorded.
            "impersonation": acting,
            # Before routing: an unknown path and a forbidden one look the same to somebody without rights.
            "authorization": Authorization(judge),
            # After it: the page is for who may read it, and in flight is what was let in.
            "metrics": metrics,
            # Before registry: discovery of a remote group is answered from memory, never by its server.
            "discovery": discovery,
            "registry": Registry(source),
            # Forwards where the registry left a backend.
            "proxy": partial(
                ProxyMiddleware, transport=self._transport, drain=self.drain, max_stream_seconds=max_stream_seconds
            ),
            # Behind registry and proxy: a server that is registered for a group version goes before kinds of ours.
            # What none of them took is the wrapped application's.
            "resources": partial(ResourcesMiddleware, kinds=own) if own.groups else None,
        }
        self._order = tuple(parts)
        if after is not None:
            check_type("after", after, Mapping)
            for name, foreign in after.items():
                check_type(f"after[{name!r}]", foreign, Iterable)
        between = {name: tuple(foreign) for name, foreign in (after or {}).items()}
        self._way = tuple(_way(parts, between))
        for name in self._way:
            stand(name, self._core)
        self.aggmw_stages: tuple[str, ...] = self._way
        # Routes that never change and lead nowhere need no background work, so no lifespan either.
        controllers: list[Controller] = []
        if discovery.has_work or given is None:
            controllers.append(discovery.controller)
        if given is None:
            controllers.append(_LocalApplications(source, self._applications.applications))
        for each in (*asked, *deciding):
            controllers += getattr(each, "controllers", ())
        self._background = Background(map(_Restarted, controllers))
        self._audit = audit
        self._needs_lifespan = bool(controllers or source.routes.local or audit)
        self._entered: list[AsyncExitStack] = []
        self._stack = fold(self._core, list(_with_foreign(parts, between)))
        if forward_auth:
            judges = {path: _judging(parts, between, asking) for path, asking in forward_auth.items()}
            self._stack = AskedAt(self._stack, judges)

    def __repr__(self) -> str:
        return f"FrontProxy({' → '.join(self._way)} → {shown(self._core)})"

    @property
    def order(self) -> tuple[str, ...]:
        """The stages by name, from the outside in, also those that are left out."""
        return self._order

    @property
    def ready(self) -> bool:
        """Whether `/readyz` would say ok: every backend was asked once, and no drain has begun."""
        return self._discovery.ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self._core, self._running, scope, receive, send)
        elif self._needs_lifespan and not self._background.is_open and scope["type"] in ("http", "websocket"):
            await respond(scope, send, _UNOPENED)
        else:
            await self._stack(scope, receive, send)

    async def __aenter__(self) -> FrontProxy:
        entered = AsyncExitStack()
        await entered.enter_async_context(self._running())
        self._entered.append(entered)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._entered.pop().aclose()

    def lifespan(
        self, inner: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None
    ) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """A lifespan for the application this front proxy is mounted in, around that application's own.

        Args:
            inner: the application's own lifespan in Starlette's form (application → async context manager).
        """

        @asynccontextmanager
        async def lifespan(application: Any) -> AsyncIterator[Any]:
            async with self._running():
                if inner is None:
                    yield None
                else:
                    async with inner(application) as state:
                        yield state

        return lifespan

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """Run applications and background work, and close every connection at the end."""
        async with AsyncExitStack() as stack:
            if self._audit is not None:
                await stack.enter_async_context(self._audit.running())  # to the last: what ends is recorded, too
            await stack.enter_async_context(self._applications.applications.running(self._source.routes.local))
            await stack.enter_async_context(self._working())
            yield

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """The last who closes it closes the connections, too."""
        try:
            async with self._background:
                yield
        finally:
            if not self._background.is_open:
                await self._transport.aclose()


class _LocalApplications:
    """Starts and stops applications in this process as they come into the routes and leave them."""

    name = "local-applications"

    def __init__(self, source: RouteSource, applications: Applications) -> None:
        self._source = source
        self._applications = applications

    async def run(self) -> None:
        followed = None
        while True:
            if (routes := self._source.routes) is not followed:
                followed = routes
                await self._applications.follow(routes.local)
            await asyncio.sleep(1)


class _Figures:
    """Those of the authorizer, and of whom it asks at the moment."""

    def __init__(self, judge: Authorizer) -> None:
        self._judge = judge

    def samples(self) -> Iterable[Sample]:
        for each in with_members([self._judge]):
            if isinstance(each, Source):
                yield from each.samples()


class _Restarted:
    """A controller that is started again a second after it failed; the log says so each time."""

    def __init__(self, controller: Controller) -> None:
        self.name = controller.name
        self._controller = controller

    async def run(self) -> None:
        while True:
            try:
                await self._controller.run()
            except Exception as error:  # noqa: BLE001  a fault in background work must not end it
                _log.error("controller failed, starting it again", controller=self.name, **fault(error))
            else:
                return
            await asyncio.sleep(1)


def _judging(
    parts: Mapping[str, Stage | Middleware | None],
    after: Mapping[str, Sequence[Middleware | DeclaredMiddleware]],
    forward_auth: ForwardAuth,
) -> ASGIApp:
    """The stages up to authorization once more, which tell another proxy what they decide."""
    recovery, *others = list(parts)[: list(parts).index("authorization") + 1]
    # In front of all that looks at a request, so that there is one parse of one: that which is asked about.
    asking = partial(ForwardAuthMiddleware, forward_auth=forward_auth)
    asked = {recovery: parts[recovery], "forward_auth": asking, **{name: parts[name] for name in others}}
    foreign = {"forward_auth": after.get(recovery, ()), **{name: after.get(name, ()) for name in others}}
    return fold(allowed, list(_with_foreign(asked, foreign)))


def _way(parts: Mapping[str, object], after: Mapping[str, Sequence[object]]) -> Iterable[str]:
    """The stages and foreign middlewares by name, for `repr`: their options are their own affair."""
    for name, part in parts.items():
        if part is not None:
            yield name
        for foreign in after.get(name, ()):
            yield shown(getattr(foreign, "cls", None) or getattr(foreign, "func", foreign))


def _with_foreign(
    parts: Mapping[str, Stage | Middleware | None], after: Mapping[str, Sequence[Middleware | DeclaredMiddleware]]
) -> Iterable[Stage | Middleware]:
    if unknown := sorted(set(after) - set(parts)):
        raise ValueError(f"after: there is no stage {', '.join(unknown)}; the stages are {', '.join(parts)}")
    for name, part in parts.items():
        if part is not None:
            yield part
        yield from (bound(f"after[{name!r}]", foreign) for foreign in after.get(name, ()))
