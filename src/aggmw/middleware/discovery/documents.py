"""Legacy discovery documents: built from the catalogue, and read from a backend (wire contract §3.3, §3.4).

Shapes: `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList` of `k8s.io/apimachinery/pkg/apis/meta/v1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.middleware.discovery.limits import Budget
from aggmw.middleware.discovery.names import (
    BadDocument,
    group_version_kind,
    is_resource,
    is_subresource,
    words,
)

__all__ = ["api_group", "api_group_list", "api_resource_list", "api_versions", "parse_resource_list"]


def group_version(group: str, version: str) -> str:
    """`G/V`, or only `V` in the core group (`schema.GroupVersion`)."""
    return f"{group}/{version}" if group else version


def api_versions(versions: Sequence[str], server_address: str) -> dict[str, Any]:
    """The document of `/api`: it has no apiVersion.

    Args:
        server_address: host and port that clients of any network are told; "" tells none.
    """
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}] if server_address else []
    return {"kind": "APIVersions", "versions": list(versions), "serverAddressByClientCIDRs": addresses}


def api_group(name: str, versions: Sequence[str]) -> dict[str, Any]:
    """One group, its preferred version first; as an element of the list it has neither kind nor apiVersion."""
    named = [{"groupVersion": group_version(name, version), "version": version} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def api_group_list(groups: Sequence[bytes]) -> bytes:
    """The document of `/apis`, from groups that are encoded already."""
    return b'{"kind":"APIGroupList","apiVersion":"v1","groups":[%b]}' % b",".join(groups)


def api_resource_list(group: str, version: str, resources: Sequence[APIResource]) -> dict[str, Any]:
    """The document of `/apis/G/V`, or of `/api/V`, which has no apiVersion."""
    document: dict[str, Any] = {"kind": "APIResourceList"}
    if group:
        document["apiVersion"] = "v1"
    document["groupVersion"] = group_version(group, version)
    document["resources"] = [
        entry for resource in resources for entry in _entries(resource, GroupVersionKind(group, version))
    ]
    return document


def _entries(resource: APIResource, home: GroupVersionKind) -> list[dict[str, Any]]:
    entries = []
    if resource.kind.kind:
        entry = _entry(resource.name, resource.singular, resource.namespaced, resource.kind, home)
        entry["verbs"] = list(resource.verbs)
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
    for subresource in resource.subresources:
        name = f"{resource.name}/{subresource.name}"
        entry = _entry(name, "", resource.namespaced, subresource.kind, home)
        entry["verbs"] = list(subresource.verbs)
        entries.append(entry)
    return entries


def _entry(
    name: str, singular: str, namespaced: bool, what: GroupVersionKind, home: GroupVersionKind
) -> dict[str, Any]:
    """Group and version are said only where they differ from the list's, as for a Scale."""
    entry: dict[str, Any] = {"name": name, "singularName": singular, "namespaced": namespaced}
    if what.kind and (what.group, what.version) != (home.group, home.version):
        entry |= {"group": what.group, "version": what.version}
    entry["kind"] = what.kind
    return entry


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
        singular if isinstance(singular, str) and is_resource(singular) else "",
        words(entry.get("verbs")),
        words(entry.get("shortNames")),
        words(entry.get("categories")),
    )


def _subresource(name: str, entry: dict[str, Any], group: str, version: str) -> APISubresource:
    return APISubresource(name, _kind(entry, group, version), words(entry.get("verbs")))
