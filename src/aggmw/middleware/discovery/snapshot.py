"""All discovery documents of one moment, encoded; a request only looks one up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from aggmw.asgi.types import Headers
from aggmw.contracts.backends import ApiService, Routes
from aggmw.contracts.catalog import ApiVersion
from aggmw.contracts.exchange import Answer
from aggmw.middleware.discovery import documents, openapi_v3
from aggmw.middleware.discovery.aggregated import group_discovery, group_discovery_list, version_discovery
from aggmw.middleware.discovery.controller import UNKNOWN, Key, Learned, key_of
from aggmw.middleware.discovery.encoding import encode
from aggmw.middleware.discovery.etags import Document, make_document
from aggmw.middleware.discovery.negotiation import AGGREGATED_TYPE
from aggmw.middleware.discovery.openapi_document import generate
from aggmw.middleware.discovery.pages import Fixed, ForwardedOpenApi, GeneratedOpenApi, Negotiated, Page, Plain
from aggmw.objects.status import status_answer

__all__ = ["Snapshot", "SnapshotBuilder"]

_JSON = b"application/json"
_PRIVATE: Headers = ((b"vary", b"Accept"), (b"cache-control", b"no-cache, private"))
_PUBLIC: Headers = ((b"vary", b"Accept"), (b"cache-control", b"public"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pages by path, and the routes they were made from."""

    routes: Routes = field(default_factory=Routes)
    pages: Mapping[str, Page] = field(default_factory=lambda: MappingProxyType({}))


class _Entry(NamedTuple):
    """One group version, encoded when it was learned.

    Attributes:
        aggregated: its part of the aggregated document; None when only the wrapped application knows its resources.
        listing: behind `/apis/G/V`; None when the wrapped application answers.
        openapi, hash: behind `/openapi/v3/apis/G/V`; None when nobody has a document.
    """

    aggregated: bytes | None = None
    listing: Page | None = None
    openapi: Page | None = None
    hash: str = ""


class SnapshotBuilder:
    """Makes snapshots; what has not changed since the last one is not encoded again.

    Args:
        server_address: host and port for the document of `/api`; "" for none.
        fixed: pages that never change.
    """

    def __init__(self, server_address: str, fixed: Mapping[str, Page]) -> None:
        self._server_address = server_address
        self._fixed = fixed
        self._entries: dict[Key, tuple[Learned, _Entry]] = {}
        self._groups: dict[tuple[str, ...], tuple[bytes, Page]] = {}

    def build(self, routes: Routes, learned: Mapping[Key, Learned]) -> Snapshot:
        """The snapshot of `routes` and of what was learned about them."""
        entries = self._update(routes.services, learned)
        groups: dict[str, list[ApiService]] = {}
        for service in routes.services:
            groups.setdefault(service.group, []).append(service)
        core = {"": groups.pop("", [])}
        pages: dict[str, Page] = dict(self._fixed)
        versions = [service.version for service in core[""]]
        legacy = _document(encode(documents.api_versions(versions, self._server_address)))
        pages |= _root("/api", legacy, _aggregated(core if versions else {}, entries))
        legacy = _document(documents.api_group_list(self._group_pages(groups, pages)))
        pages |= _root("/apis", legacy, _aggregated(groups, entries))
        hashes: list[tuple[str, str, str]] = []
        for service in routes.services:
            entry = entries[key_of(service)]
            if entry.listing is not None:
                path = f"/apis/{service.group}/{service.version}" if service.group else f"/api/{service.version}"
                pages[path] = pages[f"{path}/"] = entry.listing
            if entry.openapi is not None:
                pages[openapi_v3.document_path(service.group, service.version)] = entry.openapi
                hashes.append((service.group, service.version, entry.hash))
        pages["/openapi/v3"] = pages["/openapi/v3/"] = Plain(_document(openapi_v3.index(hashes)))
        return Snapshot(routes, MappingProxyType(pages))

    def _update(self, services: Sequence[ApiService], learned: Mapping[Key, Learned]) -> dict[Key, _Entry]:
        kept: dict[Key, tuple[Learned, _Entry]] = {}
        for service in services:
            key = key_of(service)
            known = learned.get(key, UNKNOWN)
            before = self._entries.get(key)
            kept[key] = before if before is not None and before[0] == known else (known, _entry(service, known))
        self._entries = kept
        return {key: entry for key, (_, entry) in kept.items()}

    def _group_pages(self, groups: Mapping[str, Sequence[ApiService]], pages: dict[str, Page]) -> list[bytes]:
        """Put the pages of `/apis/G` in place; the elements of the group list, encoded."""
        kept: dict[tuple[str, ...], tuple[bytes, Page]] = {}
        for name, services in groups.items():
            key = (name, *(service.version for service in services))
            kept[key] = self._groups.get(key) or _group(name, key[1:])
            pages[f"/apis/{name}"] = pages[f"/apis/{name}/"] = kept[key][1]
        self._groups = kept
        return [element for element, _ in kept.values()]


def _document(body: bytes) -> Document:
    return make_document(body, _JSON, _PRIVATE)


def _root(path: str, legacy: Document, aggregated: Document | None) -> dict[str, Page]:
    """With a slash at the end it is the legacy document only, for the clients that ask so."""
    page = Plain(legacy) if aggregated is None else Negotiated(legacy, aggregated)
    return {path: page, f"{path}/": Plain(legacy)}


def _aggregated(groups: Mapping[str, Sequence[ApiService]], entries: Mapping[Key, _Entry]) -> Document | None:
    """The aggregated document; None when it would hide resources of which only the wrapped application knows.

    Clients then take the legacy one and ask for each list, which reaches that application.
    """
    items: list[bytes] = []
    for name, services in groups.items():
        versions = [entries[key_of(service)].aggregated for service in services]
        if any(version is None for version in versions):
            return None
        items.append(group_discovery(name, [version for version in versions if version is not None]))
    return make_document(group_discovery_list(items), AGGREGATED_TYPE, _PUBLIC)


def _group(name: str, versions: Sequence[str]) -> tuple[bytes, Page]:
    group = documents.api_group(name, versions)
    return encode(group), Plain(_document(encode({"kind": "APIGroup", "apiVersion": "v1", **group})))


def _entry(service: ApiService, learned: Learned) -> _Entry:
    if service.backend is None:
        return _Entry()
    group, version = service.group, learned.version
    stale = bool(learned.cause) or not learned.asked
    if version is None:
        listing: Page = Fixed(_unavailable(service, learned))
        version = ApiVersion(service.version)
    else:
        resources = documents.api_resource_list(group, version.version, version.resources)
        warning = f"{service.name}: its server cannot be asked; this is what it last said" if stale else ""
        listing = Plain(_document(encode(resources)), warning)
    openapi, hash_ = _openapi(service, version, learned.openapi)
    return _Entry(version_discovery(replace(version, stale=stale)), listing, openapi, hash_)


def _openapi(service: ApiService, version: ApiVersion, own: str | None) -> tuple[Page | None, str]:
    """The backend's own document where it has one, else one made from what is known of its resources."""
    path = openapi_v3.document_path(service.group, service.version)
    if own is not None:
        return ForwardedOpenApi(path, own), own
    if not version.resources:
        return None, ""
    document = _document(generate(service.group, version))
    return GeneratedOpenApi(path, document), document.hash


def _unavailable(service: ApiService, learned: Learned) -> Answer:
    """503 naming the APIService. Only where nobody was asked yet is it worth coming back at once."""
    details: dict[str, object] = {
        "name": service.name,
        "group": "apiregistration.k8s.io",
        "kind": "apiservices",
    }
    if learned.asked:
        cause = learned.cause
    else:
        cause = "its server has not been asked yet which resources it serves"
        details["retryAfterSeconds"] = 1
    message = f'APIService "{service.name}" is not available: {cause}'
    return status_answer(503, "ServiceUnavailable", message, details)
