"""Aggregated cluster roles: each has the rules of all cluster roles that its selectors select.

The `clusterrole-aggregation` controller of Kubernetes writes these rules whenever a role changes, until nothing changes
any more. Here they are computed: from none, until no role gets another rule, so that a circle of roles gives nobody
what no role in it has by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from aggmw.errors import Problem
from aggmw.middleware.authorization.rbac.objects import PolicyRule, Role

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
    for _ in range(len(sources) + 1):  # as many steps as the longest way from role to role has, at most
        before = dict(rules)
        for name, taken in sources.items():
            rules[name] = tuple(dict.fromkeys(rule for source in taken for rule in rules[source]))
        if rules == before:
            break
    return {name: replace(role, rules=rules[name]) for name, role in known.items()}, sources


def _sources(roles: Mapping[str, Role]) -> dict[str, tuple[str, ...]]:
    """Of each aggregated role, those that its selectors select."""
    everybody = [(name, dict(roles[name].labels)) for name in sorted(roles)]
    labelled = [(name, labels) for name, labels in everybody if labels]
    sources = {}
    for role in roles.values():
        if role.selectors is not None:
            sources[role.name] = tuple(
                dict.fromkeys(
                    name
                    for selector in role.selectors
                    for name, labels in (labelled if selector.requires_label else everybody)
                    if name != role.name and selector.matches(labels)
                )
            )
    return sources


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
