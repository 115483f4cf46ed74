"""Legacy documents, read from backends by the rules of §3.4."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.catalog import APIResource, APISubresource, GroupVersionKind
from aggmw.middleware.discovery.documents import parse_resource_list
from aggmw.middleware.discovery.names import BadDocument
from aggmw.objects.discovery import api_resource_list

WIDGET = GroupVersionKind("example.com", "v1", "Widget")
WIDGETS = APIResource(
    "widgets",
    WIDGET,
    True,
    "widget",
    ("get", "list"),
    ("wd",),
    ("all",),
    (
        APISubresource("status", WIDGET, ("get", "patch", "update")),
        APISubresource("scale", GroupVersionKind("autoscaling", "v1", "Scale"), ("get",)),
    ),
)
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


def listing(*entries: dict[str, Any]) -> dict[str, Any]:
    """A backend's list with these entries."""
    return {"kind": "APIResourceList", "groupVersion": "example.com/v1", "resources": list(entries)}


def parsed(*entries: dict[str, Any]) -> tuple[APIResource, ...]:
    return parse_resource_list(listing(*entries), "example.com", "v1")


def test_resource_list_is_read() -> None:
    """Status and Scale with their kinds."""
    assert parse_resource_list(LIST, "example.com", "v1") == (WIDGETS,)


def test_orphan_subresource() -> None:
    """A subresource alone makes a parent without kind and verbs, which is not listed again."""
    [parent] = parsed({"name": "widgets/log", "namespaced": True, "verbs": ["get"], "kind": "Log"})
    assert parent == APIResource(
        "widgets",
        GroupVersionKind(),
        True,
        subresources=(APISubresource("log", GroupVersionKind("example.com", "v1", "Log"), ("get",)),),
    )
    names = [entry["name"] for entry in api_resource_list("example.com", "v1", [parent])["resources"]]
    assert names == ["widgets/log"]


def test_later_slashes_stay_in_the_name() -> None:
    """`a/b/c` is the subresource `b/c` of `a`."""
    [parent] = parsed({"name": "a", "namespaced": False, "kind": "A"}, {"name": "a/b/c", "namespaced": False})
    assert [each.name for each in parent.subresources] == ["b/c"]


def test_subresource_without_kind() -> None:
    """A kind that is not said is the empty one, never null."""
    [parent] = parsed({"name": "a/b", "namespaced": False})
    assert parent.subresources[0].kind == GroupVersionKind()


def test_scope_mismatch() -> None:
    """CVE-2019-11247's relative: a subresource of another scope than its parent's is refused."""
    with pytest.raises(BadDocument, match="scope"):
        parsed({"name": "a", "namespaced": True, "kind": "A"}, {"name": "a/b", "namespaced": False})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"kind": "Status"},
        {"kind": "APIResourceList", "groupVersion": "other.io/v1", "resources": []},
        {"kind": "APIResourceList", "groupVersion": "example.com/v1"},
        {"kind": "APIResourceList", "groupVersion": "example.com/v1", "resources": {}},
    ],
)
def test_not_the_list_asked_for(document: object) -> None:
    """Anything but the list of this group version is refused."""
    with pytest.raises(BadDocument):
        parse_resource_list(document, "example.com", "v1")


def test_entries_that_are_none() -> None:
    """Entries of the wrong type or with names no path can hold are left out; the others stay."""
    found = parsed(
        {"name": "a\r\nX-Remote-User: admin", "kind": "A"},
        {"name": "../b", "kind": "B"},
        {"name": "", "kind": "B"},
        {"name": 5},
        {"name": "c", "kind": "C\u2028", "verbs": "get", "shortNames": [1, "\x00", "ok"], "singularName": ["x"]},
        *[None, "x", []],  # type: ignore[list-item]  # a backend sends what it likes
    )
    assert found == (APIResource("c", GroupVersionKind(), False, "", (), ("ok",)),)


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
words = st.lists(st.sampled_from(["get", "list", "watch", "create", "delete"]), unique=True, max_size=4).map(tuple)
kinds = st.builds(
    GroupVersionKind,
    st.sampled_from(["example.com", "autoscaling"]),
    st.sampled_from(["v1", "v2"]),
    st.from_regex(r"[A-Z][a-z]{0,6}", fullmatch=True),
)
subresources = st.lists(
    st.builds(APISubresource, names, kinds | st.just(GroupVersionKind()), words), unique_by=lambda each: each.name
)
resources = st.lists(
    st.builds(
        APIResource, names, kinds, st.booleans(), names | st.just(""), words, words, words, subresources.map(tuple)
    ),
    unique_by=lambda each: each.name,
    max_size=4,
).map(tuple)


@settings(deadline=None, max_examples=60)
@given(resources)
def test_written_and_read_back(given_resources: tuple[APIResource, ...]) -> None:
    """Whatever is listed is understood again."""
    document = json.loads(json.dumps(api_resource_list("example.com", "v1", given_resources)))
    assert parse_resource_list(document, "example.com", "v1") == given_resources
