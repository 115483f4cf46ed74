"""Rules that change nothing are found, and nothing else is called so."""

from __future__ import annotations

import pytest
from hypothesis import given
from tests.middleware.authorization.analysis.test_comparison import POLICIES, granted
from tests.middleware.authorization.casbin.policies import MODEST

from aggmw.middleware.authorization.analysis.comparison import diff
from aggmw.middleware.authorization.analysis.regions import TooMuch
from aggmw.middleware.authorization.analysis.shadows import shadowed, unheld


@MODEST
@given(POLICIES)
def test_without_them_nothing_changes(text: list[str]) -> None:
    """All rules that are found can be taken out together, and nobody gains or loses anything."""
    gone = {int(one.rule.partition(": ")[0].partition(":")[2]) for one in shadowed(granted(text))}
    kept = [line for number, line in enumerate(text, 1) if number not in gone]
    assert diff(granted(text), granted(kept)) == []


def said(text: str) -> list[str]:
    return [f"{one.rule.partition(': ')[0]} {one.text}" for one in shadowed(granted(text.splitlines()))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p, user:a, get, core, pods, *, *\np, user:a, get|list, core, pods, *, *", [
            "policy:1 changes nothing: all of it is covered by policy:2: p, user:a, get|list, core, pods, *, *, allow"
        ]),
        ("p, user:a, get|list, core, pods, *, *\np, user:a, list|get, core, pods, *, *", [
            "policy:2 changes nothing: all of it is covered by policy:1: p, user:a, get|list, core, pods, *, *, allow"
        ]),
        ("p, user:a, get, *, pods/log, n, x\np, user:a, get, core, */log, n, *\np, user:a, get, *, */log, *, *", [
            "policy:1 changes nothing: all of it is covered by policy:3: p, user:a, get, *, */log, *, *, allow",
            "policy:2 changes nothing: all of it is covered by policy:3: p, user:a, get, *, */log, *, *, allow",
        ]),
        ("p, user:a, get|list, core, pods, n, *\np, user:a, get, *, *, *, *\np, role:r, list, core, pods, n, *\n"
         "g, user:a, role:r", [
            "policy:1 changes nothing: all of it is covered by policy:2: p, user:a, get, *, *, *, *, allow;"
            " policy:3: p, role:r, list, core, pods, n, *, allow"
        ]),
        ("p, role:r, get, core, pods, n, *\np, user:a, get, core, pods, n, *", []),  # others may get the role
        ("p, role:r, get, core, pods, n, *\np, group:system:authenticated, get, core, pods, n, *", []),
        ("p, user:a, get, core, pods, n, *\np, group:system:authenticated, *, core, pods, *, *, deny", [
            "policy:1 allows nothing: all of it is denied by"
            " policy:2: p, group:system:authenticated, *, core, pods, *, *, deny"
        ]),
        ("p, user:a, get, core, pods, n, *, deny\np, user:a, get, core, *, *, *, deny", [
            "policy:1 changes nothing: all of it is covered by policy:2: p, user:a, get, core, *, *, *, deny"
        ]),
        ("p2, user:a, get, /api/v1\np2, user:a, get, /api/*\np2, user:a, get, /api", [
            "policy:1 changes nothing: all of it is covered by policy:2: p2, user:a, get, /api/*, allow"
        ]),
    ],
)  # fmt: skip
def test_what_is_found(text: str, expected: list[str]) -> None:
    """Covered by one rule or several, or denied altogether; of two alike, the first stays."""
    assert said(text) == expected


def test_roles_that_nobody_has() -> None:
    """Also those that only such roles have."""
    text = "p, role:a, get, core, pods, *, *\ng, role:b, role:a\ng, user:x, role:c\np, role:c, get, *, *, *, *"
    assert unheld(granted(text.splitlines())) == ["role:a", "role:b"]


def test_many_rules() -> None:
    """Rules about different things are not compared with each other."""
    text = [f"p, role:r, get, g{number}.example, things{number}, *, *" for number in range(3000)]
    assert shadowed(granted(text), limit=10_000) == []
    with pytest.raises(TooMuch):
        shadowed(granted([f"p, role:r, get, g, things, n{number}, *" for number in range(500)]), limit=10_000)
