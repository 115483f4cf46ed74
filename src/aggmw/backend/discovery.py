"""ServeDiscovery: what this server has, in the words that `kubectl` and a front proxy ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aggmw.asgi.exchanges import Stages, path_of
from aggmw.asgi.headers import first, values
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.backend.resources import Groups, declared
from aggmw.contracts.catalog import APIGroup
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.objects.discovery import (
    METHOD_NOT_ALLOWED,
    aggregated_document,
    api_group,
    api_group_list,
    api_resource_list,
    choose,
    group_discovery,
    group_document,
    legacy_document,
    version_discovery,
)
from aggmw.objects.encoding import encode
from aggmw.objects.etags import Document

__all__ = ["ServeDiscovery"]


class ServeDiscovery:
    """Answers `/apis`, `/apis/G` and `/apis/G/V` from what is declared here; all else is the application's.

    Both forms of `/apis` are there: the legacy one, and the aggregated one for whom asks for it. `/api`, OpenAPI,
    `/version` and health are not: a front proxy makes an OpenAPI document from discovery, and has the others itself.

    Args:
        app: what is inside.
        groups: group → version, the preferred one first → its resources. A kind (also a subresource's) whose group and
            version are both left out is in the group and version that it is listed in.

    Raises:
        ConfigurationError: every name that nobody could use, and what is listed twice.
        TypeError: another shape.
    """

    def __init__(self, app: ASGIApp, *, groups: Groups) -> None:
        self.aggmw_stages = stand("serve_discovery", app)
        self._app = app
        self._pages = _Pages(declared(groups))
        self._stages = Stages(app, self._pages)

    def __repr__(self) -> str:
        return f"ServeDiscovery({self._pages!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stages(scope, receive, send)


class _Page(NamedTuple):
    legacy: Document
    aggregated: Document | None = None


class _Pages:
    """The documents by path."""

    def __init__(self, groups: Sequence[APIGroup]) -> None:
        names = {group.name: [version.version for version in group.versions] for group in groups}
        legacy = legacy_document(api_group_list([encode(api_group(*each)) for each in names.items()]))
        aggregated = aggregated_document(
            group_discovery(group.name, map(version_discovery, group.versions)) for group in groups
        )
        # With a slash at the end it is the legacy document only, as a front proxy has it.
        self._pages = {"/apis": _Page(legacy, aggregated), "/apis/": _Page(legacy)}
        for group in groups:
            self._add(f"/apis/{group.name}", group_document(group.name, names[group.name]))
            for version in group.versions:
                listing = api_resource_list(group.name, version.version, version.resources)
                self._add(f"/apis/{group.name}/{version.version}", legacy_document(encode(listing)))

    def __repr__(self) -> str:
        return ", ".join(path for path in self._pages if not path.endswith("/"))

    def _add(self, path: str, document: Document) -> None:
        self._pages[path] = self._pages[f"{path}/"] = _Page(document)

    async def decide(self, exchange: Exchange) -> Answer | None:
        if exchange.scope["type"] != "http" or (page := self._pages.get(path_of(exchange))) is None:
            return None
        if exchange.scope["method"] not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        accept = b",".join(values(exchange.headers, b"accept")) or None
        return choose(accept, first(exchange.headers, b"if-none-match"), page.legacy, page.aggregated)
