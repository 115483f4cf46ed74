"""Discovery documents, made of the catalogue: the legacy ones and the aggregated one (wire contract §3.1 to §3.3).

Shapes: `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList` of `k8s.io/apimachinery/pkg/apis/meta/v1`, and
`APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aggmw.asgi.types import Headers
from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.contracts.exchange import Answer
from aggmw.objects.encoding import encode
from aggmw.objects.etags import Document, make_document
from aggmw.objects.negotiation import AGGREGATED_TYPE, Form, negotiate
from aggmw.objects.status import status_answer

__all__ = [
    "METHOD_NOT_ALLOWED",
    "ONLY_JSON",
    "aggregated_document",
    "api_group",
    "api_group_list",
    "api_resource_list",
    "api_versions",
    "choose",
    "group_discovery",
    "group_discovery_list",
    "group_document",
    "group_version",
    "legacy_document",
    "version_discovery",
]

_JSON = "application/json"
_PRIVATE: Headers = ((b"vary", b"Accept"), (b"cache-control", b"no-cache, private"))
_PUBLIC: Headers = ((b"vary", b"Accept"), (b"cache-control", b"public"))
_HEAD = b'{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":['


def _not_acceptable(types: str) -> Answer:
    return status_answer(406, "NotAcceptable", f"only the following media types are accepted: {types}")


ONLY_JSON = _not_acceptable(_JSON)
_BOTH = _not_acceptable(f"{_JSON}, {AGGREGATED_TYPE.decode()}")

METHOD_NOT_ALLOWED = status_answer(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
    headers=((b"allow", b"GET, HEAD"),),
)


def choose(
    accept: bytes | None, if_none_match: bytes | None, legacy: Document, aggregated: Document | None = None
) -> Answer:
    """The document in the form that the client asks for, or 406.

    Args:
        accept: the Accept fields, joined with commas; None without one.
        if_none_match: as sent; None without one.
        legacy, aggregated: what this path has.
    """
    form = negotiate(accept, aggregated is not None)
    if form is None:
        return ONLY_JSON if aggregated is None else _BOTH
    return (aggregated if aggregated and form is Form.AGGREGATED else legacy).answer(if_none_match)


def legacy_document(body: bytes) -> Document:
    """A legacy document, ready to be sent."""
    return make_document(body, _JSON.encode(), _PRIVATE)


def aggregated_document(groups: Iterable[bytes]) -> Document:
    """The aggregated document of encoded groups, ready to be sent."""
    return make_document(group_discovery_list(groups), AGGREGATED_TYPE, _PUBLIC)


def group_version(group: str, version: str) -> str:
    """`G/V`, or only `V` in the core group (`schema.GroupVersion`)."""
    return f"{group}/{version}" if group else version


# Legacy


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


def group_document(name: str, versions: Sequence[str]) -> Document:
    """The document of `/apis/G`, ready to be sent."""
    return legacy_document(encode({"kind": "APIGroup", "apiVersion": "v1", **api_group(name, versions)}))


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


# Aggregated


def group_discovery_list(groups: Iterable[bytes]) -> bytes:
    """The whole document from encoded groups: a join, so that one change does not encode all others again."""
    return _HEAD + b",".join(groups) + b"]}"


def group_discovery(name: str, versions: Iterable[bytes]) -> bytes:
    """One group from encoded versions. The core group is an item without a name."""
    metadata = {"name": name} if name else {}
    return b'{"metadata":%b,"versions":[%b]}' % (encode(metadata), b",".join(versions))


def version_discovery(version: APIVersion) -> bytes:
    """One encoded version."""
    freshness = "Stale" if version.stale else "Current"
    document: dict[str, Any] = {"version": version.version, "freshness": freshness}
    document["resources"] = [_resource(each) for each in version.resources]
    return encode(document)


def _resource(resource: APIResource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "resource": resource.name,
        "responseKind": _kind(resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        document["shortNames"] = list(resource.short_names)
    if resource.categories:
        document["categories"] = list(resource.categories)
    if resource.subresources:
        document["subresources"] = [_subresource(each) for each in resource.subresources]
    return document


def _subresource(subresource: APISubresource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "subresource": subresource.name,
        "responseKind": _kind(subresource.kind),
        "verbs": list(subresource.verbs),
    }
    if subresource.accepted_types:
        document["acceptedTypes"] = [_kind(each) for each in subresource.accepted_types]
    return document


def _kind(kind: GroupVersionKind) -> dict[str, str]:
    """Never null: old clients crash on that."""
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
