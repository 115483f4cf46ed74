"""Roles and bindings as grants: what can be compared with others, whatever they are written in."""

from __future__ import annotations

from collections.abc import Iterator

from aggmw.contracts import grants
from aggmw.contracts.grants import Granted
from aggmw.middleware.authorization.rbac.coverage import described
from aggmw.middleware.authorization.rbac.objects import Binding, PolicyRule, Role, Subject
from aggmw.middleware.authorization.rbac.snapshot import Snapshot

__all__ = ["granted"]


def granted(snapshot: Snapshot) -> Granted:
    """What all bindings give. Each is a role of its own, of which its subjects are members."""
    found: list[grants.Grant] = []
    roles: dict[str, list[str]] = {}
    for binding in snapshot.bindings:
        role = snapshot.roles.get(binding.role_key)
        if role is None:
            continue
        found += _grants(binding, role)
        for subject in binding.subjects:
            roles.setdefault(_name(subject), []).append(f"role:{binding}")
    return Granted(found, roles)


def _name(subject: Subject) -> str:
    return f"user:{subject.user}" if subject.user else f"group:{subject.name}"


def _grants(binding: Binding, role: Role) -> Iterator[grants.Grant]:
    for rule in role.rules:
        if not rule.paths:
            yield _resources(binding, rule)
        elif not binding.namespace:  # a path is in no namespace
            paths = tuple(f"{path.rstrip('*')}*" if path.endswith("*") else path for path in rule.paths)
            yield grants.Grant(
                f"role:{binding}", _shown(binding, rule), False, False, _texts(rule.verbs), paths=_texts(paths)
            )


def _resources(binding: Binding, rule: PolicyRule) -> grants.Grant:
    return grants.Grant(
        f"role:{binding}",
        _shown(binding, rule),
        False,
        True,
        _texts(rule.verbs),
        _texts(rule.api_groups),
        _texts(rule.resources),
        frozenset((binding.namespace,)) if binding.namespace else None,
        frozenset(rule.names) if rule.names else None,
    )


def _shown(binding: Binding, rule: PolicyRule) -> str:
    return f"{binding}: {described(rule)} ({binding.where})"


def _texts(some: tuple[str, ...]) -> grants.Set:
    return None if "*" in some else frozenset(some)
