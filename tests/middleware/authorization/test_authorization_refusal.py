"""The 403's text (wire contract §7.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.objects.refusal import forbidden, quoted

BOB = Identity("bob")


def status(attributes: Attributes, reason: str = "") -> dict[str, Any]:
    body: dict[str, Any] = json.loads(forbidden(attributes, reason).body)
    return body


WIDGET = Attributes(BOB, "get", True, "example.com", "v1", "widgets", "", "dev", "w1")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            WIDGET,
            'widgets.example.com "w1" is forbidden: User "bob" cannot get resource "widgets"'
            ' in API group "example.com" in the namespace "dev"',
        ),
        (
            WIDGET._replace(name="", verb="list"),
            'widgets.example.com is forbidden: User "bob" cannot list resource "widgets"'
            ' in API group "example.com" in the namespace "dev"',
        ),
        (
            WIDGET._replace(namespace="", name="", verb="list"),
            'widgets.example.com is forbidden: User "bob" cannot list resource "widgets"'
            ' in API group "example.com" at the cluster scope',
        ),
        (
            WIDGET._replace(api_group="", resource="pods", subresource="log"),
            'pods "w1" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in the namespace "dev"',
        ),
        (Attributes(BOB, "get", False, path="/metrics"), 'forbidden: User "bob" cannot get path "/metrics"'),
        (
            Attributes(Identity("a<b>&\"c'"), "get", False, path="/x&y"),
            'forbidden: User "a&lt;b&gt;&amp;\\"c\'" cannot get path "/x&amp;y"',
        ),
    ],
)
def test_text_is_kubernetes_own(attributes: Attributes, message: str) -> None:
    """§7.4: resource, subresource, namespace or cluster scope, or the path; only &, < and > are escaped for HTML."""
    assert status(attributes)["message"] == message


def test_reason_is_appended() -> None:
    """§7.4: what the authorizer says follows after a colon."""
    assert status(WIDGET, "denied by policy")["message"].endswith('in the namespace "dev": denied by policy')


def test_status_and_details() -> None:
    """§7.4: reason Forbidden, details with name, group and the resource as kind; nosniff."""
    answer = forbidden(WIDGET)
    assert answer.status == 403
    assert (b"x-content-type-options", b"nosniff") in answer.headers
    body = status(WIDGET)
    assert (body["kind"], body["status"], body["reason"], body["code"]) == ("Status", "Failure", "Forbidden", 403)
    assert body["details"] == {"name": "w1", "group": "example.com", "kind": "widgets"}
    assert status(WIDGET._replace(api_group="", name=""))["details"] == {"kind": "widgets"}
    assert status(Attributes(BOB, "get", False, path="/x")).get("details", {}) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("tab\tnew\nline", '"tab\\tnew\\nline"'),
        ("\x00\x7f", '"\\x00\\x7f"'),
        ("é\u200b", '"é\\u200b"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_quoted_as_go_does(text: str, expected: str) -> None:
    """`%q`: quotes and backslashes escaped, printable letters kept, the rest in escapes."""
    assert quoted(text) == expected


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text())
def test_no_name_breaks_out_of_its_quotes(name: str, path: str) -> None:
    """The message stays one printable line without markup, whatever was asked for."""
    for attributes in (WIDGET._replace(name=name, resource="r"), Attributes(BOB, "get", False, path=path)):
        message = status(attributes)["message"]
        assert message.isprintable()
    assert "<" not in status(Attributes(BOB, "get", False, path=path))["message"]
