"""Aggregated cluster roles: the union of those that their selectors select."""

from __future__ import annotations

from typing import Any

import pytest
from tests.middleware.authorization.rbac.manifests import role, rule
from tests.work import measured

from aggmw.middleware.authorization.rbac.aggregation import aggregated
from aggmw.middleware.authorization.rbac.manifests import read_objects
from aggmw.middleware.authorization.rbac.objects import Role


def sums(*roles: dict[str, Any]) -> dict[str, list[str]]:
    """The verbs of the rules that each role comes to."""
    known = [one for one in read_objects(roles) if isinstance(one, Role)]
    return {name: [" ".join(rule.verbs) for rule in one.rules] for name, one in aggregated(known)[0].items()}


def of(name: str, *selectors: dict[str, Any], **labels: str) -> dict[str, Any]:
    """An aggregated role."""
    return role(name, labels=labels, aggregationRule={"clusterRoleSelectors": list(selectors)})


def where(key: str, operator: str, *values: str) -> dict[str, Any]:
    expression = {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
    return {"matchExpressions": [expression]}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"matchLabels": {"team": "a"}}, "a both"),
        ({"matchLabels": {"team": "a", "tier": ""}}, "both"),
        ({"matchLabels": {"team": "c"}}, ""),
        (where("team", "In", "a", "b"), "a b both"),
        (where("team", "NotIn", "a"), "b none"),
        (where("team", "Exists"), "a b both"),
        (where("team", "DoesNotExist"), "none"),
        (where("tier", "In", ""), "both"),
        ({"matchLabels": {"team": "a"}, **where("tier", "DoesNotExist")}, "a"),
        ({}, "a b both none"),
    ],
)
def test_selectors(selector: dict[str, Any], expected: str) -> None:
    """Labels are selected as Kubernetes selects them; all requirements hold, and none selects everything."""
    roles = [
        role("a", rule("a"), labels={"team": "a"}),
        role("b", rule("b"), labels={"team": "b"}),
        role("both", rule("both"), labels={"team": "a", "tier": ""}),
        role("none", rule("none")),
    ]
    assert sums(*roles, of("sum", selector))["sum"] == expected.split()


def test_order_and_repetition() -> None:
    """Rules come by selector, then by name, each once; the role's own rules do not count, nor does it select itself."""
    roles = [
        role("z", rule("z"), rule("twice"), labels={"x": "1"}),
        role("y", rule("twice"), rule("y"), labels={"x": "1"}),
        role("first", rule("first"), labels={"x": "0"}),
        role(
            "sum",
            rule("own"),
            labels={"x": "1"},
            aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"x": "0"}}, {"matchLabels": {"x": "1"}}]},
        ),
    ]
    assert sums(*roles)["sum"] == ["first", "twice", "y", "z"]


@pytest.mark.parametrize("backwards", [False, True])
def test_sums_of_sums(backwards: bool) -> None:
    """An aggregated role may select another one, over any number of steps, in any order of the files."""
    chain = [
        of(f"level-{number}", {"matchLabels": {"for": str(number)}}, **{"for": str(number + 1)}) for number in range(9)
    ]
    roles = [role("plain", rule("get"), labels={"for": "0"}), *chain]
    found = sums(*(reversed(roles) if backwards else roles))
    assert all(found[f"level-{number}"] == ["get"] for number in range(9))


@pytest.mark.parametrize("circle", [False, True])
def test_long_ways(circle: bool) -> None:
    """Thousands of roles, each with the rules of the one before, take no more than a moment."""
    number = 3000
    chain = [of(f"l{each}", {"matchLabels": {"for": str(each)}}, **{"for": str(each + 1)}) for each in range(number)]
    if circle:
        chain.append(of("back", {"matchLabels": {"for": str(number)}}, **{"for": "0"}))
    known = [
        one for one in read_objects([*chain, role("plain", rule("get"), labels={"for": "0"})]) if isinstance(one, Role)
    ]
    with measured() as work:
        found, _ = aggregated(known)
    assert work.seconds < 3  # usually 0.04; a look at each role in each step takes 12
    assert all(len(one.rules) == 1 for one in found.values())


def test_circle() -> None:
    """Roles that select each other have what others bring, and nothing by themselves."""
    roles = [
        of("a", {"matchLabels": {"for": "a"}}, **{"for": "b"}),
        of("b", {"matchLabels": {"for": "b"}}, **{"for": "a"}),
    ]
    roles[0]["rules"] = [rule("own")]
    assert sums(*roles) == {"a": [], "b": []}
    both = sums(*roles, role("plain", rule("get"), labels={"for": "a"}))
    assert both == {"a": ["get"], "b": ["get"], "plain": ["get"]}
