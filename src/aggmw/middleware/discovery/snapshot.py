"""All discovery documents of one moment, encoded; a request only looks one up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from aggmw.contracts.backends import APIService, Routes
from aggmw.contracts.catalog import APIGroup, APIVersion
from aggmw.contracts.exchange import Answer
from aggmw.middleware.discovery import openapi_v3
from aggmw.middleware.discovery.controller import UNKNOWN, Key, Learned, key_of
from aggmw.middleware.discovery.limits import SMALL_BYTES, Offload
from aggmw.middleware.discovery.openapi_document import generate
from aggmw.middleware.discovery.pages import Fixed, ForwardedOpenApi, GeneratedOpenApi, Negotiated, Page, Plain
from aggmw.objects.discovery import (
    aggregated_document,
    api_group,
    api_group_list,
    api_resource_list,
    api_versions,
    group_discovery,
    group_document,
    legacy_document,
    version_discovery,
)
from aggmw.objects.encoding import encode
from aggmw.objects.etags import Document, digest
from aggmw.objects.status import status_answer

__all__ = ["Names", "Snapshot", "SnapshotBuilder"]

_RESOURCE_BYTES, _SUBRESOURCE_BYTES = 10_000, 5_000

Names: TypeAlias = frozenset[tuple[str, str]]
"""Resources and their subresources, "" for the resource itself."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pages by path, and the routes they were made from.

    Attributes:
        names: what each group version serves, as far as its server was heard.
    """

    routes: Routes = field(default_factory=Routes)
    pages: Mapping[str, Page] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[tuple[str, str], Names] = field(default_factory=lambda: MappingProxyType({}))


class _Encoded:
    """What is made of one answer of a server, each document when it is first needed, and once."""

    def __init__(self, group: str, version: APIVersion) -> None:
        self.version = version
        self._group = group

    @cached_property
    def listing(self) -> Document:
        """Behind `/apis/G/V`."""
        return legacy_document(encode(api_resource_list(self._group, self.version.version, self.version.resources)))

    @cached_property
    def names(self) -> Names:
        """Of everything in it."""
        resources = self.version.resources
        subresources = {(one.name, below.name) for one in resources for below in one.subresources}
        return frozenset({(one.name, "") for one in resources} | subresources)

    @cached_property
    def openapi(self) -> Document | None:
        """The OpenAPI document made of it; None when there is nothing to describe, or too much."""
        body = generate(self._group, self.version) if self.version.resources else None
        return None if body is None else legacy_document(body)


class _Entry(NamedTuple):
    """One group version, encoded when it was learned.

    Attributes:
        encoded: what was made of its server's answer; None when there is none.
        aggregated: its part of the aggregated document; None when only the wrapped application knows its resources.
        tag: tells that part from every other.
        listing: behind `/apis/G/V`; None when the wrapped application answers.
        openapi, hash: behind `/openapi/v3/apis/G/V`; None when nobody has a document.
        names: of its resources; empty when only the wrapped application knows them.
    """

    encoded: _Encoded | None = None
    aggregated: bytes | None = None
    tag: str = ""
    listing: Page | None = None
    openapi: Page | None = None
    hash: str = ""
    names: Names = frozenset()


class _Part(NamedTuple):
    """One group of an aggregated document, its versions encoded, and the tags that tell them from all others."""

    name: str
    tags: tuple[str, ...]
    versions: tuple[bytes, ...]


_Parts: TypeAlias = tuple[_Part, ...]
_PartsKey: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


class SnapshotBuilder:
    """Makes snapshots; what has not changed since the last one is not encoded again.

    Args:
        server_address: host and port for the document of `/api`; "" for none.
        fixed: pages that never change.
        own: groups that the front proxy serves itself.
    """

    def __init__(self, server_address: str, fixed: Mapping[str, Page], own: Sequence[APIGroup] = ()) -> None:
        self._server_address = server_address
        self._fixed = fixed
        self._own = {
            APIService.local(group.name, version.version): Learned(version, asked=True)
            for group in own
            for version in group.versions
        }
        self._entries: dict[Key, tuple[Learned, _Entry]] = {}
        self._groups: dict[tuple[str, ...], tuple[bytes, Page]] = {}
        self._joined: dict[_PartsKey, Document] = {}

    async def prepare(self, routes: Routes, learned: Mapping[Key, Learned], offload: Offload) -> None:
        """Encode what is new in `learned`, a lot of it in a thread, so that `build` finds it done.

        Args:
            learned: does not change meanwhile.
        """
        services, learned = self._with_own(routes, learned)
        for service in services:
            key, known = key_of(service), learned.get(key_of(service), UNKNOWN)
            if (entry := self._current(key, known)) is None:
                before = self._entries[key][1] if key in self._entries else _Entry()
                entry = await offload(_weight(known), _entry, service, known, before)
                self._entries[key] = known, entry
                await asyncio.sleep(0)
        entries = self._update(services, learned)
        joined: dict[_PartsKey, Document] = {}
        for groups in _by_group(services):
            if (parts := _parts(groups, entries)) is not None:
                document = self._joined.get(_key(parts))
                if document is None:
                    size = sum(len(version) for part in parts for version in part.versions)
                    document = await offload(size, _joined, parts)
                joined[_key(parts)] = document
        self._joined = joined

    def build(self, routes: Routes, learned: Mapping[Key, Learned]) -> Snapshot:
        """The snapshot of `routes` and of what was learned about them.

        A large answer that was not prepared is left for the next snapshot: until then what was known before is shown.
        """
        services, learned = self._with_own(routes, learned)
        entries = self._update(services, learned)
        core, groups = _by_group(services)
        pages: dict[str, Page] = dict(self._fixed)
        versions = [service.version for each in core.values() for service in each]
        legacy = legacy_document(encode(api_versions(versions, self._server_address)))
        pages |= _root("/api", legacy, self._aggregated(core, entries))
        legacy = legacy_document(api_group_list(self._group_pages(groups, pages)))
        pages |= _root("/apis", legacy, self._aggregated(groups, entries))
        hashes: list[tuple[str, str, str]] = []
        for service in services:
            entry = entries[key_of(service)]
            if entry.listing is not None:
                path = f"/apis/{service.group}/{service.version}" if service.group else f"/api/{service.version}"
                pages[path] = pages[f"{path}/"] = entry.listing
            if entry.openapi is not None:
                pages[openapi_v3.document_path(service.group, service.version)] = entry.openapi
                hashes.append((service.group, service.version, entry.hash))
        pages["/openapi/v3"] = pages["/openapi/v3/"] = Plain(legacy_document(openapi_v3.index(hashes)))
        names = {(service.group, service.version): entries[key_of(service)].names for service in services}
        return Snapshot(routes, MappingProxyType(pages), MappingProxyType(names))

    def _with_own(
        self, routes: Routes, learned: Mapping[Key, Learned]
    ) -> tuple[Sequence[APIService], Mapping[Key, Learned]]:
        """The services of the routes, then the groups of our own that none of them has, and what is known of each."""
        own = {
            service: known
            for service, known in self._own.items()
            if (service.group, service.version) not in routes.by_group_version
        }
        if not own:
            return routes.services, learned
        return (*routes.services, *own), {**learned, **{key_of(service): known for service, known in own.items()}}

    def _update(self, services: Sequence[APIService], learned: Mapping[Key, Learned]) -> dict[Key, _Entry]:
        kept: dict[Key, tuple[Learned, _Entry]] = {}
        for service in services:
            key = key_of(service)
            known = learned.get(key, UNKNOWN)
            before = self._entries.get(key)
            if (entry := self._current(key, known)) is not None:
                kept[key] = known, entry
            elif _weight(known) <= SMALL_BYTES:
                kept[key] = known, _entry(service, known, before[1] if before else _Entry())
            else:
                kept[key] = before or (UNKNOWN, _entry(service, UNKNOWN, _Entry()))
        self._entries = kept
        return {key: entry for key, (_, entry) in kept.items()}

    def _aggregated(self, groups: Mapping[str, Sequence[APIService]], entries: Mapping[Key, _Entry]) -> Document | None:
        parts = _parts(groups, entries)
        return None if parts is None else self._joined.get(_key(parts)) or _joined(parts)

    def _current(self, key: Key, known: Learned) -> _Entry | None:
        """What is encoded of `known` already."""
        before = self._entries.get(key)
        return before[1] if before is not None and before[0] == known else None

    def _group_pages(self, groups: Mapping[str, Sequence[APIService]], pages: dict[str, Page]) -> list[bytes]:
        """Put the pages of `/apis/G` in place; the elements of the group list, encoded."""
        kept: dict[tuple[str, ...], tuple[bytes, Page]] = {}
        for name, services in groups.items():
            key = (name, *(service.version for service in services))
            kept[key] = self._groups.get(key) or _group(name, key[1:])
            pages[f"/apis/{name}"] = pages[f"/apis/{name}/"] = kept[key][1]
        self._groups = kept
        return [element for element, _ in kept.values()]


def _root(path: str, legacy: Document, aggregated: Document | None) -> dict[str, Page]:
    """With a slash at the end it is the legacy document only, for the clients that ask so."""
    page = Plain(legacy) if aggregated is None else Negotiated(legacy, aggregated)
    return {path: page, f"{path}/": Plain(legacy)}


def _by_group(services: Sequence[APIService]) -> tuple[Mapping[str, list[APIService]], Mapping[str, list[APIService]]]:
    """The core group, if it is there, and all others."""
    groups: dict[str, list[APIService]] = {}
    for service in services:
        groups.setdefault(service.group, []).append(service)
    core = {"": groups.pop("")} if "" in groups else {}
    return core, groups


def _parts(groups: Mapping[str, Sequence[APIService]], entries: Mapping[Key, _Entry]) -> _Parts | None:
    """What an aggregated document is made of; None when it would hide what only the wrapped application knows.

    Clients then take the legacy one and ask for each list, which reaches that application.
    """
    parts: list[_Part] = []
    for name, services in groups.items():
        shown = [entries[key_of(service)] for service in services]
        versions = tuple(entry.aggregated for entry in shown if entry.aggregated is not None)
        if len(versions) < len(shown):
            return None
        parts.append(_Part(name, tuple(entry.tag for entry in shown), versions))
    return tuple(parts)


def _key(parts: _Parts) -> _PartsKey:
    return tuple((part.name, part.tags) for part in parts)


def _joined(parts: _Parts) -> Document:
    return aggregated_document(group_discovery(part.name, part.versions) for part in parts)


def _group(name: str, versions: Sequence[str]) -> tuple[bytes, Page]:
    return encode(api_group(name, versions)), Plain(group_document(name, versions))


def _weight(learned: Learned) -> int:
    """About how many bytes are made of an answer."""
    resources = learned.version.resources if learned.version is not None else ()
    return sum(_RESOURCE_BYTES + _SUBRESOURCE_BYTES * len(resource.subresources) for resource in resources)


def _entry(service: APIService, learned: Learned, before: _Entry) -> _Entry:
    """What is known of one group version. What was encoded `before` is used where the server's answer is the same."""
    if service.backend is None and learned.version is None:
        return _Entry()
    group, version = service.group, learned.version
    stale = bool(learned.cause) or not learned.asked
    encoded: _Encoded | None = None
    if version is None:
        listing: Page = Fixed(_unavailable(service, learned))
        version = APIVersion(service.version)
    else:
        same = before.encoded is not None and before.encoded.version == version
        encoded = before.encoded if same and before.encoded else _Encoded(group, version)
        warning = f"{service.name}: its server cannot be asked; this is what it last said" if stale else ""
        listing = Plain(encoded.listing, warning)
    openapi, hash_ = _openapi(openapi_v3.document_path(group, service.version), encoded, learned.openapi)
    aggregated = version_discovery(replace(version, stale=stale))
    names = frozenset() if encoded is None else encoded.names
    return _Entry(encoded, aggregated, digest(aggregated), listing, openapi, hash_, names)


def _openapi(path: str, encoded: _Encoded | None, own: str | None) -> tuple[Page | None, str]:
    """The backend's own document where it has one, else one made from what is known of its resources."""
    if own is not None:
        return ForwardedOpenApi(path, own), own
    document = encoded.openapi if encoded is not None else None
    return (None, "") if document is None else (GeneratedOpenApi(path, document), document.hash)


def _unavailable(service: APIService, learned: Learned) -> Answer:
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
