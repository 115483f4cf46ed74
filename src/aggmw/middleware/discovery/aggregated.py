"""The aggregated document, `apidiscovery.k8s.io/v2 APIGroupDiscoveryList`, read from a backend (wire contract §3.2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.middleware.discovery.limits import Budget
from aggmw.middleware.discovery.names import (
    BadDocument,
    TooMuch,
    check_words,
    group_version_kind,
    words,
)
from aggmw.objects.names import is_resource, is_subresource

__all__ = ["parse_group_discovery_list"]

_SCOPES = {"Namespaced": True, "Cluster": False}


def parse_group_discovery_list(
    document: object, owned: Collection[tuple[str, str]]
) -> dict[tuple[str, str], APIVersion | str]:
    """The group versions in a backend's aggregated document that are registered for it.

    One that lists too much is not read; instead of it stands why, safe to show. Others are left out, whatever the
    backend says of them, and so is everything without a legal name.

    Args:
        document: decoded JSON.
        owned: group and version of the APIServices that name this backend.

    Raises:
        BadDocument: not an APIGroupDiscoveryList of version 2.
    """
    if (
        not isinstance(document, dict)
        or document.get("kind") != "APIGroupDiscoveryList"
        or document.get("apiVersion") != "apidiscovery.k8s.io/v2"
    ):
        raise BadDocument("not an APIGroupDiscoveryList of apidiscovery.k8s.io/v2")
    found: dict[tuple[str, str], APIVersion | str] = {}
    for item in _objects(document.get("items")):
        metadata = item.get("metadata")
        group = metadata.get("name", "") if isinstance(metadata, dict) else ""
        for entry in _objects(item.get("versions")):
            version = entry.get("version")
            if not (isinstance(group, str) and isinstance(version, str)):
                continue
            if (group, version) in owned and (group, version) not in found:
                try:
                    found[group, version] = _parse_version(version, entry)
                except TooMuch as error:
                    found[group, version] = str(error)
    return found


def _objects(value: object) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _parse_version(version: str, entry: dict[str, Any]) -> APIVersion:
    resources: dict[str, APIResource] = {}
    entries = _objects(entry.get("resources"))
    budget = Budget()
    budget.resources(len(entries))
    budget.entries(len(entries))
    for each in entries:
        name, scope = each.get("resource"), each.get("scope")
        if is_resource(name) and isinstance(scope, str) and scope in _SCOPES:
            resources.setdefault(name, _parse_resource(name, each, budget))
    return APIVersion(version, tuple(resources.values()), entry.get("freshness") == "Stale")


def _parse_resource(name: str, entry: dict[str, Any], budget: Budget) -> APIResource:
    singular = entry.get("singularResource")
    subresources: dict[str, APISubresource] = {}
    entries = _objects(entry.get("subresources"))
    budget.entries(len(entries))
    for each in entries:
        subname = each.get("subresource")
        if is_subresource(subname):
            subresources.setdefault(subname, _parse_subresource(subname, each))
    return APIResource(
        name,
        _parse_kind(entry.get("responseKind")),
        _SCOPES[entry["scope"]],
        singular if is_resource(singular) else "",
        words(entry.get("verbs")),
        words(entry.get("shortNames")),
        words(entry.get("categories")),
        tuple(subresources.values()),
    )


def _parse_subresource(name: str, entry: dict[str, Any]) -> APISubresource:
    types = _objects(entry.get("acceptedTypes"))
    check_words(types)
    accepted = tuple(kind for each in types if (kind := _parse_kind(each)) != GroupVersionKind())
    return APISubresource(name, _parse_kind(entry.get("responseKind")), words(entry.get("verbs")), accepted)


def _parse_kind(value: object) -> GroupVersionKind:
    if not isinstance(value, dict):
        return GroupVersionKind()
    return group_version_kind(value.get("group", ""), value.get("version"), value.get("kind"))
