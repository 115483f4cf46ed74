"""Discovery documents, as wire contract §3.1 to §3.3 shows them."""

from __future__ import annotations

import json

import pytest

from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.objects.discovery import (
    ONLY_JSON,
    aggregated_document,
    api_group,
    api_group_list,
    api_resource_list,
    api_versions,
    choose,
    group_discovery,
    group_discovery_list,
    group_document,
    legacy_document,
    version_discovery,
)
from aggmw.objects.etags import Document
from aggmw.objects.negotiation import AGGREGATED_TYPE

WIDGET = GroupVersionKind("example.com", "v1", "Widget")
STATUS = APISubresource("status", WIDGET, ("get", "patch", "update"))
SCALE = APISubresource("scale", GroupVersionKind("autoscaling", "v1", "Scale"), ("get",))
WIDGETS = APIResource("widgets", WIDGET, True, "widget", ("get", "list"), ("wd",), ("all",), (STATUS,))
LIST = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "example.com/v1",
    "resources": [
        {
            "name": "widgets",
            "singularName": "widget",
            "namespaced": True,
            "kind": "Widget",
            "verbs": ["get", "list"],
            "shortNames": ["wd"],
            "categories": ["all"],
        },
        {
            "name": "widgets/status",
            "singularName": "",
            "namespaced": True,
            "kind": "Widget",
            "verbs": ["get", "patch", "update"],
        },
        {
            "name": "widgets/scale",
            "singularName": "",
            "namespaced": True,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": ["get"],
        },
    ],
}
GOLDEN = (
    '{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":['
    '{"metadata":{"name":"example.com"},"versions":[{"version":"v1","freshness":"Current","resources":['
    '{"resource":"widgets","responseKind":{"group":"example.com","version":"v1","kind":"Widget"},"scope":"Namespaced",'
    '"singularResource":"widget","verbs":["get","list"],"shortNames":["wd"],"categories":["all"],'
    '"subresources":[{"subresource":"status","responseKind":{"group":"example.com","version":"v1","kind":"Widget"},'
    '"verbs":["get","patch","update"]}]}]}]}]}'
)


def aggregated(*groups: tuple[str, list[APIVersion]]) -> bytes:
    return group_discovery_list(
        [group_discovery(name, [version_discovery(each) for each in versions]) for name, versions in groups]
    )


def test_api_versions() -> None:
    """`/api` has no apiVersion; addresses are always a list, because clients require one."""
    assert api_versions(["v1"], "host:6443") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "host:6443"}],
    }
    assert api_versions([], "")["serverAddressByClientCIDRs"] == []


def test_groups() -> None:
    """`/apis/G` and `/apis`: the first version is the preferred one."""
    group = api_group("example.com", ["v1", "v1beta1"])
    assert group == {
        "name": "example.com",
        "versions": [
            {"groupVersion": "example.com/v1", "version": "v1"},
            {"groupVersion": "example.com/v1beta1", "version": "v1beta1"},
        ],
        "preferredVersion": {"groupVersion": "example.com/v1", "version": "v1"},
    }
    encoded = json.dumps(group).encode()
    assert json.loads(api_group_list([encoded, encoded])) == {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [group, group],
    }
    alone = json.loads(group_document("example.com", ["v1", "v1beta1"]).full.body)
    assert alone == {"kind": "APIGroup", "apiVersion": "v1", **group}


def test_resource_list() -> None:
    """`/apis/G/V`: group and version of a kind only where they differ from the list's."""
    widgets = APIResource("widgets", WIDGET, True, "widget", ("get", "list"), ("wd",), ("all",), (STATUS, SCALE))
    assert api_resource_list("example.com", "v1", [widgets]) == LIST


def test_core_resource_list() -> None:
    """`/api/v1` has no apiVersion either."""
    document = api_resource_list("", "v1", [])
    assert document == {"kind": "APIResourceList", "groupVersion": "v1", "resources": []}


def test_golden() -> None:
    """§3.2's example, byte for byte."""
    assert aggregated(("example.com", [APIVersion("v1", (WIDGETS,))])).decode() == GOLDEN


def test_core_group_has_no_name() -> None:
    """§3.2: `/api` holds one item with an empty name."""
    assert json.loads(aggregated(("", [APIVersion("v1")])))["items"][0]["metadata"] == {}


def test_stale() -> None:
    """A version whose server cannot be asked says so."""
    [item] = json.loads(aggregated(("example.com", [APIVersion("v1", (), True)])))["items"]
    assert item["versions"] == [{"version": "v1", "freshness": "Stale", "resources": []}]


def test_response_kind_is_never_null() -> None:
    """§3.2: old clients crash on a null kind."""
    [item] = json.loads(aggregated(("example.com", [APIVersion("v1", (APIResource("a"),))])))["items"]
    assert item["versions"][0]["resources"][0]["responseKind"] == {"group": "", "version": "", "kind": ""}


LEGACY, AGGREGATED = legacy_document(b"{}"), aggregated_document([])


def test_choice() -> None:
    """§3.1: the form that is asked for, where the path has it; 406 names what there is."""
    assert choose(None, None, LEGACY, AGGREGATED) is LEGACY.full
    assert choose(AGGREGATED_TYPE + b",application/json", None, LEGACY, AGGREGATED) is AGGREGATED.full
    assert choose(AGGREGATED_TYPE + b",application/json", None, LEGACY) is LEGACY.full
    assert choose(AGGREGATED_TYPE, None, LEGACY) is ONLY_JSON
    neither = choose(b"text/html", None, LEGACY, AGGREGATED)
    assert (neither.status, AGGREGATED_TYPE in neither.body) == (406, True)
    assert (ONLY_JSON.status, AGGREGATED_TYPE in ONLY_JSON.body) == (406, False)


@pytest.mark.parametrize(("accept", "chosen"), [(None, LEGACY), (AGGREGATED_TYPE, AGGREGATED)])
def test_unchanged(accept: bytes | None, chosen: Document) -> None:
    """§3.1: the tag of the form that is chosen makes it a 304."""
    tag = b'"%b"' % chosen.hash.encode()
    assert choose(accept, tag, LEGACY, AGGREGATED) is chosen.unchanged
    assert choose(accept, b'"other"', LEGACY, AGGREGATED) is chosen.full


def test_headers() -> None:
    """Caches keep the two forms apart; the aggregated one is public, as in Kubernetes."""
    assert dict(LEGACY.full.headers) == {
        b"content-type": b"application/json",
        b"etag": b'"%b"' % LEGACY.hash.encode(),
        b"vary": b"Accept",
        b"cache-control": b"no-cache, private",
    }
    assert dict(AGGREGATED.full.headers)[b"content-type"] == AGGREGATED_TYPE
    assert dict(AGGREGATED.full.headers)[b"cache-control"] == b"public"
