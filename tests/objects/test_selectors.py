"""Selectors in one spelling: what is authorised does not depend on how a caller writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.identity import Identity
from aggmw.middleware.request_info.parse import parse
from aggmw.objects.attributes import attributes_of
from aggmw.objects.selectors import (
    Requirement,
    field_demands,
    field_requirements,
    field_selector,
    label_demands,
    label_requirements,
    label_selector,
)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("", ""),
        ("spec.nodeName=n1", "spec.nodeName=n1"),
        ("spec.nodeName==n1,", "spec.nodeName=n1"),
        ("b!=2,a=1,a=1", "a=1,b!=2"),
        (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
        ("a=", "a="),
        ("a", ""),
        ("a=b=c", ""),
        ("a=1,broken", ""),
        ("=1", ""),
    ],
)
def test_field_selectors(written: str, spelled: str) -> None:
    """Sorted, one sign for equality, none twice; nothing of one that does not parse."""
    assert field_selector(written) == spelled


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("", ""),
        ("  ", ""),
        ("b , !c, a == 1", "!c,a=1,b"),
        ("a in (x)", "a=x"),
        ("a notin ( x )", "a!=x"),
        ("a in (y, x,y)", "a in (x,y)"),
        ("a notin (y,x,)", "a notin (,x,y)"),
        ("a in ()", "a="),
        ("a>007", "a>7"),
        ("example.com/a<5", "example.com/a<5"),
        ("a=b,", ""),
        ("a in x", ""),
        ("a=b;c", ""),
    ],
)
def test_label_selectors(written: str, spelled: str) -> None:
    """Sorted, one way to say that a label has one value; nothing of one that does not parse."""
    assert label_selector(written) == spelled


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="ab.=!,\\() in<>5notin", max_size=24))
def test_spelled_once(selector: str) -> None:
    """The spelling of a spelling is itself; any text has one."""
    for spell in (field_selector, label_selector):
        assert spell(spell(selector)) == spell(selector)


@pytest.mark.parametrize(
    ("requirements", "spelled"),
    [
        ([Requirement("a", "In", ["1"]), Requirement("b", "NotIn", ["x,y"])], (r"a=1,b!=x\,y", 0)),
        ([Requirement("a", "In", ["1", "2"]), Requirement("b", "In", ["3"])], ("b=3", 1)),
        ([Requirement("a", "Exists"), Requirement("a", "Newer", ["1"])], ("", 2)),
        ([Requirement("a=b", "In", ["c"]), Requirement("a,b", "In", ["c"])], ("", 2)),
    ],
)
def test_demands_on_fields(requirements: list[Requirement], spelled: tuple[str, int]) -> None:
    """What a field selector cannot say is left out and counted: less is demanded, so more has to be allowed."""
    assert field_demands(requirements) == spelled


@pytest.mark.parametrize(
    ("requirements", "spelled"),
    [
        ([Requirement("a", "In", ["y", "x"]), Requirement("b", "Exists")], ("a in (x,y),b", 0)),
        ([Requirement("a", "NotIn", ["x"]), Requirement("b", "DoesNotExist")], ("!b,a!=x", 0)),
        ([Requirement("a", "In", []), Requirement("a", "Newer", ["x"]), Requirement("a", "Exists", ["x"])], ("", 3)),
        ([Requirement("-a", "Exists"), Requirement("a", "In", ["x,y"]), Requirement("a", "In", ["x)"])], ("", 3)),
        ([Requirement("a", "GreaterThan", ["x"]), Requirement("a", "LessThan", ["1", "2"])], ("", 2)),
    ],
)
def test_demands_on_labels(requirements: list[Requirement], spelled: tuple[str, int]) -> None:
    """The same; nothing of a key or value that is none gets into the spelling."""
    assert label_demands(requirements) == spelled


def test_what_is_demanded() -> None:
    """Each requirement with its operator and values, for who asks others; what does not parse demands nothing."""
    assert field_requirements(r"a=1,b!=x\,y") == [Requirement("a", "In", ("1",)), Requirement("b", "NotIn", ("x,y",))]
    assert label_requirements("a in (x,y),!b,c") == [
        Requirement("a", "In", ("x", "y")),
        Requirement("b", "DoesNotExist"),
        Requirement("c", "Exists"),
    ]
    assert not field_requirements("x")
    assert not label_requirements("(")
    assert not label_requirements("")


def test_attributes_of_a_request() -> None:
    """What is decided on has the spelling; what does not parse limits nothing."""
    query = b"fieldSelector=b%3D%3D2%2Ca%3D1&labelSelector=x+in+(1)"
    attributes = attributes_of(Identity("ann"), parse("GET", b"/api/v1/pods", query))
    assert (attributes.field_selector, attributes.label_selector) == ("a=1,b=2", "x=1")
    attributes = attributes_of(Identity("ann"), parse("GET", b"/api/v1/pods", b"fieldSelector=x&labelSelector=("))
    assert (attributes.field_selector, attributes.label_selector) == ("", "")
