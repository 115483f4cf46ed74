"""The rules that nearly allowed a request, and in what each of them differs from it: the nearest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nsmallest
from typing import NamedTuple, TypeAlias

from aggmw.contracts.authorization import Attributes, Miss
from aggmw.middleware.authorization.rbac.coverage import described
from aggmw.middleware.authorization.rbac.objects import Binding, PolicyRule, Role
from aggmw.middleware.authorization.rbac.rules import differences, is_everything
from aggmw.middleware.authorization.rbac.snapshot import Snapshot

__all__ = ["Near", "near", "told"]

Difference: TypeAlias = tuple[str, str, str]

_MOST = 5
_FAR = 2.5
_BEHIND = 1.0  # how much farther than the nearest another one may be
_COSTS = {
    **{"name": 0.75, "verb": 1.0, "namespace": 1.0, "path": 1.5, "apiGroup": 1.5, "resource": 1.5},
    **{"user": 2.0, "group": 2.0},
}


class Near(NamedTuple):
    """A rule that a binding gives to somebody, and all in which the request differs from that.

    Attributes:
        cost: how far it is: another verb is nearer than another resource.
        order: of the binding among all.
        binding, rule, differs: these.
    """

    cost: float
    order: int
    binding: Binding
    rule: PolicyRule
    differs: tuple[Difference, ...]


def near(snapshot: Snapshot, attributes: Attributes) -> list[Near]:
    """The rules nearest to a request that none of them allows."""
    nearest = nsmallest(_MOST, _all(snapshot, attributes), key=lambda one: one[:2])
    return [one for one in nearest if one.cost <= nearest[0].cost + _BEHIND]


def told(some: Iterable[Near]) -> tuple[Miss, ...]:
    """The same for whoever asked why."""
    return tuple(Miss(f"{one.binding}: {described(one.rule)} ({one.binding.where})", one.differs) for one in some)


def _all(snapshot: Snapshot, attributes: Attributes) -> Iterator[Near]:
    rules: dict[tuple[str, str, str], list[tuple[PolicyRule, tuple[Difference, ...]]]] = {}
    for order, binding in enumerate(snapshot.bindings):
        role = snapshot.roles.get(binding.role_key)
        if role is None:
            continue
        if role.key not in rules:
            rules[role.key] = list(_near_rules(role, attributes))
        if not rules[role.key]:
            continue
        outer = tuple(_outer(binding, attributes))
        for rule, differs in rules[role.key]:
            cost = sum(_COSTS[what] for what, *_ in (*outer, *differs))
            # That the administrator may do everything helps nobody else.
            if cost <= _FAR and not (outer and is_everything(rule)):
                yield Near(cost, order, binding, rule, (*outer, *differs))


def _near_rules(role: Role, attributes: Attributes) -> Iterator[tuple[PolicyRule, tuple[Difference, ...]]]:
    for rule in role.rules:
        if bool(rule.paths) is not attributes.is_resource:
            differs = tuple(differences(rule, attributes))
            if sum(_COSTS[what] for what, *_ in differs) <= _FAR:
                yield rule, differs


def _outer(binding: Binding, attributes: Attributes) -> Iterator[Difference]:
    """What keeps a binding from concerning the request: where it holds, and for whom."""
    if binding.namespace and binding.namespace != attributes.namespace:
        yield "namespace", binding.namespace, attributes.namespace
    user, held = attributes.identity.user, attributes.identity.groups
    groups = [subject.name for subject in binding.subjects if subject.kind == "Group"]
    users = [subject.user for subject in binding.subjects if subject.kind != "Group"]
    if user not in users and not any(group in held for group in groups):
        yield ("group", _some(groups), user) if groups else ("user", _some(users), user)


def _some(names: list[str]) -> str:
    shown = "|".join(names[:5]) or "nobody"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
