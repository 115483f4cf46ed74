"""Whether some rules allow all that others allow (`k8s.io/component-helpers/auth/rbac/validation`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.objects.refusal import quoted

__all__ = ["broken_down", "compacted", "covers", "described", "listed", "uncovered"]


def covers(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> bool:
    """Whether everything that is wanted is owned; each part of it by one rule."""
    return not uncovered(owned, wanted)


def uncovered(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> tuple[PolicyRule, ...]:
    """What is wanted and not owned: the smallest parts of wanted rules that no single owned rule covers."""
    held = tuple(owned)
    return tuple(part for rule in wanted for part in broken_down(rule) if not any(_covers(one, part) for one in held))


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


def _covers(owned: PolicyRule, part: PolicyRule) -> bool:
    """Whether one rule allows all that a smallest part of another allows."""
    if "*" not in owned.verbs and part.verbs[0] not in owned.verbs:
        return False
    if part.paths:
        return not owned.names and any(_covers_path(one, part.paths[0]) for one in owned.paths)
    return (
        ("*" in owned.api_groups or part.api_groups[0] in owned.api_groups)
        and _covers_resource(owned.resources, part.resources[0])
        and (not owned.names or (bool(part.names) and part.names[0] in owned.names))
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
