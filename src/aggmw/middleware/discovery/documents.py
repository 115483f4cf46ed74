"""Legacy discovery documents, read from a backend (wire contract §3.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.middleware.discovery.limits import Budget
from aggmw.middleware.discovery.names import (
    BadDocument,
    group_version_kind,
    words,
)
from aggmw.objects.discovery import group_version
from aggmw.objects.names import is_resource, is_subresource

__all__ = ["parse_resource_list"]


def parse_resource_list(document: object, group: str, version: str) -> tuple[APIResource, ...]:
    """The resources in a backend's `/apis/G/V`, by the rules of `k8s.io/apiserver/pkg/endpoints/discovery/aggregated`.

    `a/b` is a subresource of `a`, which need not be listed. What has no legal name is left out.

    Raises:
        BadDocument: not an APIResourceList of this group version, or a subresource whose scope is not its parent's.
        TooMuch: it lists more than is read.
    """
    if not isinstance(document, dict) or document.get("kind") != "APIResourceList":
        raise BadDocument("not an APIResourceList")
    if document.get("groupVersion") != group_version(group, version):
        raise BadDocument("an APIResourceList of another group version")
    entries = document.get("resources")
    if not isinstance(entries, list):
        raise BadDocument("an APIResourceList without resources")
    budget = Budget()
    budget.entries(len(entries))
    parents: dict[str, APIResource] = {}
    subresources: dict[str, dict[str, APISubresource]] = {}
    scopes: dict[str, bool] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        name, slash, subname = entry["name"].partition("/")
        if not is_resource(name) or (slash and not is_subresource(subname)):
            continue
        namespaced = entry.get("namespaced") is True
        if name not in scopes:
            budget.resources(1)
        if scopes.setdefault(name, namespaced) is not namespaced:
            raise BadDocument("a list with a subresource whose scope is not its parent's")
        if slash:
            known = subresources.setdefault(name, {})
            known.setdefault(subname, _subresource(subname, entry, group, version))
        else:
            parents.setdefault(name, _resource(name, entry, group, version))
    return tuple(
        replace(
            parents.get(name) or APIResource(name, namespaced=namespaced),
            subresources=tuple(subresources.get(name, {}).values()),
        )
        for name, namespaced in scopes.items()
    )


def _kind(entry: dict[str, Any], group: str, version: str) -> GroupVersionKind:
    """`group` and `version` of an entry default to its list's, each for itself."""
    return group_version_kind(entry.get("group") or group, entry.get("version") or version, entry.get("kind"))


def _resource(name: str, entry: dict[str, Any], group: str, version: str) -> APIResource:
    singular = entry.get("singularName")
    return APIResource(
        name,
        _kind(entry, group, version),
        entry.get("namespaced") is True,
        singular if is_resource(singular) else "",
        words(entry.get("verbs")),
        words(entry.get("shortNames")),
        words(entry.get("categories")),
    )


def _subresource(name: str, entry: dict[str, Any], group: str, version: str) -> APISubresource:
    return APISubresource(name, _kind(entry, group, version), words(entry.get("verbs")))
