"""Aggregated cluster roles: each has the rules of all cluster roles that its selectors select.

The `clusterrole-aggregation` controller of Kubernetes writes these rules whenever a role changes, until nothing changes
any more. Here they are computed: from none, until no role gets another rule, so that a circle of roles gives nobody
what no role in it has by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aggmw.errors import Problem
from aggmw.middleware.authorization.rbac.objects import PolicyRule, Role
from aggmw.middleware.authorization.rbac.selectors import Selector

__all__ = ["aggregated", "lost_rules"]


def aggregated(roles: Iterable[Role]) -> tuple[dict[str, Role], dict[str, tuple[str, ...]]]:
    """Cluster roles by name, the aggregated ones with the rules that they come to; and of these, whose rules they have.

    The rules are in Kubernetes' order: by selector, then by the name of the role, each rule once.
    """
    known = {role.name: role for role in roles}
    sources = _sources(known)
    rules: dict[str, tuple[PolicyRule, ...]] = {
        name: () if name in sources else role.rules for name, role in known.items()
    }
    order = _sources_first(sources)
    grown = True
    while grown:  # once, and once more; more often where roles go in circles
        grown = False
        for name in order:
            before = rules[name]
            rules[name] = tuple(dict.fromkeys(rule for source in sources[name] for rule in rules[source]))
            grown = grown or len(rules[name]) > len(before)
    return {name: replace(role, rules=rules[name]) for name, role in known.items()}, sources


def _sources(roles: Mapping[str, Role]) -> dict[str, tuple[str, ...]]:
    """Of each aggregated role, those that its selectors select."""
    labels = {name: dict(roles[name].labels) for name in sorted(roles)}
    by_label: dict[tuple[str, str], list[str]] = {}
    for name, own in labels.items():
        for label in own.items():
            by_label.setdefault(label, []).append(name)
    sources = {}
    for role in roles.values():
        if role.selectors is not None:
            sources[role.name] = tuple(
                dict.fromkeys(
                    name
                    for selector in role.selectors
                    for name in _candidates(selector, by_label, labels)
                    if name != role.name and selector.matches(labels[name])
                )
            )
    return sources


def _candidates(
    selector: Selector, by_label: Mapping[tuple[str, str], Sequence[str]], everybody: Iterable[str]
) -> Iterable[str]:
    """The names, in order, of all that a selector can select."""
    for key, operator, values in selector.requirements:
        if operator == "In":
            return sorted({name for value in values for name in by_label.get((key, value), ())})
    return everybody


def _sources_first(sources: Mapping[str, Sequence[str]]) -> list[str]:
    """The aggregated roles, each behind those whose rules it has, as far as they do not go in circles."""
    order: dict[str, None] = {}
    begun: set[str] = set()
    for first in sources:
        way = [first]
        while way:
            name = way[-1]
            if name in begun:
                order.setdefault(way.pop())
            else:
                begun.add(name)
                way += [source for source in sources[name] if source in sources and source not in begun]
    return list(order)


def lost_rules(written: Iterable[Role], roles: Mapping[str, Role]) -> list[Problem]:
    """Aggregated roles with rules that they do not get: these count for nothing."""
    return [
        Problem(role.where, "has an aggregationRule, and rules besides that no role gives it: these do not count")
        for role in written
        if role.selectors is not None and not _sets(role.rules) <= _sets(roles[role.name].rules)
    ]


def _sets(rules: Iterable[PolicyRule]) -> set[tuple[frozenset[str], ...]]:
    """Rules without the order of what they list."""
    return {tuple(map(frozenset, rule)) for rule in rules}
