"""Regular expressions of policies: none is loaded that one request could keep busy (C4)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.work import measured

from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin.expressions import LONGEST, expression_fault
from aggmw.middleware.authorization.casbin.functions import key_pattern_fault

MODEL = (
    "[request_definition]\nr = obj\n[policy_definition]\np = obj\n"
    "[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = {function}(r.obj, p.obj)\n"
)
NESTED, ALIKE, EMPTY, BACK, MANY, OTHER = (
    "has a repeat in a repeat",
    "repeats branches that can begin alike",
    "repeats what may be empty",
    "refers back to a group",
    "has more than two repeats",
    "uses what cannot be shown to be quick",
)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("^/api/(a+)+$", NESTED),
        ("(a*b?)*", EMPTY),
        ("((a?b?)c?)+", EMPTY),
        ("(x+x+)+y", NESTED),
        ("(.*a){11}", NESTED),
        ("(.*?,){11}P", NESTED),
        ("(a{1,3}){2,4}", NESTED),
        ("((ab)+)+", NESTED),
        (r"(\w+\s?)*", NESTED),
        (r"([\d_]+\w)+", NESTED),
        (r"([^\W]+[^/])+", NESTED),
        ("(?i)(k+K)+", NESTED),
        ("(?i:\u017f+s)+", NESTED),
        ("(é+ü)+", NESTED),
        ("([!-0]+5|[0-9])+", ALIKE),
        ("(a|aa)+", ALIKE),
        ("(a|b|[^c])*", ALIKE),
        ("(|a)+", EMPTY),
        (r"(a)\1", BACK),
        (r"(a)?(?(1)b|c)", BACK),
        ("(?:(?=a)a)+", OTHER),
        ("a*a*a*", MANY),
        ("a?" * 20 + "a" * 20, MANY),
        ("a{0,90}a{0,90}a{0,90}a", MANY),
        (".*a.*b.*c.*d", MANY),
        ("(.*a|.*b|.*c)(.*d|.*e).*f", MANY),
        ("(?=.*a.*b).*c.*d", MANY),
        ("(" * 9 + "a" + ")*" * 9, "has repeats in each other"),
        ("(" * 60 + "a" + ")?" * 60, "has repeats in each other"),
    ],
)
def test_refused(expression: str, fault: str) -> None:
    """C4: repeats that compete for a character, branches that begin alike in one, references, and too many in a row."""
    re.compile(expression)
    found = expression_fault(expression)
    assert found is not None
    assert found.startswith((fault, "has repeats in each other") if expression.startswith("((((((") else fault)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "/api",
        "/api.*",
        "^/api(/[^/]+)*$",
        "^/api(/[^/]+)*/status$",
        "/apis/[^/]+/[^/]+/namespaces/[^/]+/pods(/.*)?",
        "/apis/.*/namespaces/.*/pods/.*",
        "(get|list|watch)",
        "(a[bc]|b)+",
        "(?!.*secret).*",
        "(?i)/api/[a-z]+",
        r"(\d{1,3}\.){3}\d{1,3}",
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "/v[0-9]+(alpha|beta)?[0-9]*/.*",
        "(?>/[a-z]+)*",
        "/[a-z]++/x",
    ],
)
def test_let_through(expression: str) -> None:
    """What policies are made of: segments, prefixes, names, versions, addresses."""
    assert expression_fault(expression) is None


def test_told_with_place_and_remedy() -> None:
    """The mistake names the line, the pattern, and how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_text("p, ^/api/(a+)+$\n", model=MODEL.format(function="regexMatch"))
    assert str(caught.value) == (
        "policy:1: the pattern '^/api/(a+)+$' could keep the server busy with one request: it has a repeat in a repeat"
        " where the next character does not show which goes on: write (/[^/]+)* in place of (.+)*, and [a-z]+ in place"
        " of ([a-z]+)+"
    )


@pytest.mark.parametrize("function", ["keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5"])
def test_key_patterns_with_many_stars(function: str) -> None:
    """Stars of key patterns are repeats too: two that something follows, and one at the end."""
    assert key_pattern_fault(function, "/a/*/b/*/c/*") is None
    fault = key_pattern_fault(function, "/a/*/b/*/c/*/d")
    assert fault is not None
    assert "it may have two *" in fault
    assert key_pattern_fault("keyMatch4", "/{x}/{y}/{x}/*") is None
    assert key_pattern_fault("keyMatch4", "/{x}{y}{z}{x}") is not None


ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", "/", "[^/]", r"\\w".replace("\\\\", "\\")])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2,4}", "*?", "{3}"])).map(
            lambda both: f"({both[0]}){both[1]}"
        ),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS, st.text("ab/", min_size=1, max_size=4), st.sampled_from(["", "!", "a!", "/"]))
def test_what_is_let_through_is_quick(expression: str, piece: str, end: str) -> None:
    """C4: whatever the value, an accepted expression is done with it in a moment."""
    if expression_fault(expression) is not None:
        return
    value = (piece * LONGEST)[: LONGEST - len(end)] + end
    with measured() as work:
        re.compile(expression).fullmatch(value)
    assert work.seconds < 0.2
