"""The aggregated document (§3.2), read from backends that may say anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.middleware.discovery.aggregated import parse_group_discovery_list
from aggmw.middleware.discovery.encoding import decode
from aggmw.middleware.discovery.names import BadDocument
from aggmw.objects.discovery import group_discovery, group_discovery_list, version_discovery

WIDGET = GroupVersionKind("example.com", "v1", "Widget")
WIDGETS = APIResource(
    "widgets",
    WIDGET,
    True,
    "widget",
    ("get", "list"),
    ("wd",),
    ("all",),
    (APISubresource("status", WIDGET, ("get", "patch", "update")),),
)
OWNED = {("example.com", "v1")}


def document(*groups: tuple[str, list[APIVersion]]) -> bytes:
    return group_discovery_list(
        [group_discovery(name, [version_discovery(each) for each in versions]) for name, versions in groups]
    )


def with_resources(*resources: Any) -> dict[str, Any]:
    """A backend's document with these entries in example.com/v1."""
    versions = [{"version": "v1", "freshness": "Current", "resources": list(resources)}]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [{"metadata": {"name": "example.com"}, "versions": versions}],
    }


def test_only_what_is_registered() -> None:
    """A backend speaks for its own group versions, never for those of others."""
    sent = document(
        ("example.com", [APIVersion("v1", (WIDGETS,)), APIVersion("v2")]),
        ("rbac.authorization.k8s.io", [APIVersion("v1")]),
    )
    assert parse_group_discovery_list(decode(sent), OWNED) == {("example.com", "v1"): APIVersion("v1", (WIDGETS,))}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2beta1"}',
        b'{"kind":"APIGroupList","apiVersion":"v1"}',
    ],
)
def test_not_the_document_asked_for(sent: bytes) -> None:
    """Anything else is refused, however deep it is nested."""
    with pytest.raises(BadDocument):
        parse_group_discovery_list(decode(sent), OWNED)


def test_entries_that_are_none() -> None:
    """Wrong types and illegal names are left out; the rest of the document stays."""
    sent = with_resources(
        None,
        {"resource": "no-scope"},
        {"resource": "a", "scope": ["Namespaced"]},
        {"resource": "line\nbreak", "scope": "Cluster"},
        {"resource": "a/b", "scope": "Cluster"},
        {"resource": "ok", "scope": "Cluster", "responseKind": None, "verbs": {"get": 1}, "subresources": "x"},
        {"resource": "ok", "scope": "Namespaced", "verbs": ["second one of a name"]},
        {
            "resource": "fine",
            "scope": "Namespaced",
            "responseKind": {"group": "\ud800", "version": "v1", "kind": "Fine"},
            "verbs": ["get", 3, "\x1b[31m", "x" * 100],
            "subresources": [{"subresource": "../x"}, {"subresource": "log", "responseKind": {"kind": "Log"}}, 7],
        },
    )
    found = parse_group_discovery_list(sent, OWNED)[("example.com", "v1")]
    assert found.resources == (
        APIResource("ok", namespaced=False),
        APIResource("fine", verbs=("get",), subresources=(APISubresource("log"),)),
    )
    assert json.loads(version_discovery(found))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.sampled_from(["", "v1", "example.com", "a", "Namespaced", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "name", "versions", "version", "resources", "resource", "scope", "subresources"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=80)
@given(json_values)
def test_any_items_are_survived(items: Any) -> None:
    """Whatever stands below a right head is read or left out, and what was read can be written."""
    sent = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}
    for version in parse_group_discovery_list(sent, OWNED | {("", "v1"), ("a", "v1")}).values():
        assert version_discovery(version)


names = st.from_regex(r"[a-z][-a-z0-9]{0,8}[a-z0-9]", fullmatch=True)
words = st.lists(st.sampled_from(["get", "list", "watch", "create", "delete"]), max_size=4).map(tuple)
kinds = st.builds(
    GroupVersionKind,
    st.sampled_from(["", "example.com"]),
    st.sampled_from(["v1", "v2alpha1"]),
    st.from_regex(r"[A-Z][A-Za-z]{0,6}", fullmatch=True),
)
subresources = st.lists(
    st.builds(
        APISubresource, names, kinds | st.just(GroupVersionKind()), words, st.lists(kinds, max_size=2).map(tuple)
    ),
    unique_by=lambda each: each.name,
    max_size=3,
).map(tuple)
resources = st.lists(
    st.builds(APIResource, names, kinds, st.booleans(), names | st.just(""), words, words, words, subresources),
    unique_by=lambda each: each.name,
    max_size=3,
).map(tuple)


@settings(deadline=None, max_examples=60)
@given(st.builds(APIVersion, st.just("v1"), resources, st.booleans()))
def test_written_and_read_back(version: APIVersion) -> None:
    """parse(build(x)) == x."""
    sent = decode(document(("example.com", [version])))
    assert parse_group_discovery_list(sent, OWNED) == {("example.com", "v1"): version}
