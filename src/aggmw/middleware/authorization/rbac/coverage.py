"""Whether some rules allow all that others allow (`k8s.io/component-helpers/auth/rbac/validation`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.objects.refusal import quoted

__all__ = ["broken_down", "compacted", "covers", "described", "listed", "uncovered"]

_MOST = 100_000
"""Parts of a rule that are looked at one by one."""


def covers(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> bool:
    """Whether everything that is wanted is owned; each part of it by one rule."""
    return not uncovered(owned, wanted)


def uncovered(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> tuple[PolicyRule, ...]:
    """What is wanted and not owned: the smallest parts of wanted rules that no single owned rule covers.

    A rule of very many parts is not taken apart: one owned rule covers it, or it is missing as a whole.
    """
    held = tuple(owned)
    missing: list[PolicyRule] = []
    for rule in wanted:
        if any(_covers(one, rule) for one in held):
            continue
        if _number(rule) > _MOST:
            missing.append(rule)
        else:
            missing += (part for part in broken_down(rule) if not any(_covers(one, part) for one in held))
    return tuple(missing)


def broken_down(rule: PolicyRule) -> Iterator[PolicyRule]:
    """The same as rules of one verb, one group, one resource and at most one name, or one path, each."""
    for group in rule.api_groups:
        for resource in rule.resources:
            for verb in rule.verbs:
                part = PolicyRule((verb,), (group,), (resource,))
                if not rule.names:
                    yield part
                for name in rule.names:
                    yield part._replace(names=(name,))
    for path in rule.paths:
        for verb in rule.verbs:
            yield PolicyRule((verb,), paths=(path,))


def _number(rule: PolicyRule) -> int:
    """How many parts that gives."""
    of_resources = len(rule.api_groups) * len(rule.resources) * max(1, len(rule.names))
    return len(rule.verbs) * (of_resources + len(rule.paths))


def _covers(owned: PolicyRule, rule: PolicyRule) -> bool:
    """Whether one rule allows all that another one allows."""
    return (
        ("*" in owned.verbs or all(verb in owned.verbs for verb in rule.verbs))
        and ("*" in owned.api_groups or all(group in owned.api_groups for group in rule.api_groups))
        and all(_covers_resource(owned.resources, resource) for resource in rule.resources)
        and (not owned.names or (bool(rule.names) and all(name in owned.names for name in rule.names)))
        and all(any(_covers_path(one, path) for one in owned.paths) for path in rule.paths)
    )


def _covers_resource(owned: Sequence[str], resource: str) -> bool:
    if "*" in owned or resource in owned:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in owned


def _covers_path(owned: str, path: str) -> bool:
    return owned == path or (owned.endswith("*") and path.startswith(owned.rstrip("*")))


def compacted(rules: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Smallest parts that differ in their verb alone, as one rule each."""
    verbs: dict[PolicyRule, list[str]] = {}
    for rule in rules:
        verbs.setdefault(rule._replace(verbs=rule.verbs if rule.paths else ()), []).extend(rule.verbs)
    return [rule if rule.paths else rule._replace(verbs=tuple(verbs[rule])) for rule in verbs]


def described(rule: PolicyRule) -> str:
    """A rule as Kubernetes writes it into messages, such as `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    parts = (
        ("APIGroups", rule.api_groups),
        ("Resources", rule.resources),
        ("NonResourceURLs", rule.paths),
        ("ResourceNames", rule.names),
        ("Verbs", rule.verbs),
    )
    return "{" + ", ".join(f"{name}:{listed(values)}" for name, values in parts if values) + "}"


def listed(values: Iterable[str]) -> str:
    """Texts as Go's `%q` writes a slice of them."""
    return f"[{' '.join(map(quoted, values))}]"
