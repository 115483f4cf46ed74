"""What of roles and bindings is worth a second look, and too much to say each time they are loaded."""

from __future__ import annotations

from collections.abc import Iterator

from aggmw.errors import Problem
from aggmw.middleware.authorization.rbac.manifests import default_objects
from aggmw.middleware.authorization.rbac.objects import Binding, Role
from aggmw.middleware.authorization.rbac.rules import is_everything
from aggmw.middleware.authorization.rbac.snapshot import Snapshot
from aggmw.objects.refusal import quoted

__all__ = ["second_look"]

_UNKNOWN = frozenset({"system:anonymous", "system:unauthenticated"})


def second_look(snapshot: Snapshot, name: str) -> Iterator[Problem]:
    """Roles that nobody has, bindings for nobody, and what gives everything; of what does not ship.

    Args:
        name: of the files; said where nothing is in them.
    """
    ships = {(each.key, each.where) for each in default_objects()}
    roles, bindings = snapshot.roles.values(), snapshot.bindings
    if ships.issuperset([(each.key, each.where) for each in roles] + [(each.key, each.where) for each in bindings]):
        yield Problem(name, "has no role and no binding: those that ship are all there is")
    used = {binding.role_key for binding in snapshot.bindings}
    used |= {("ClusterRole", "", source) for sources in snapshot.sources.values() for source in sources}
    for role in snapshot.roles.values():
        if (role.key, role.where) not in ships:
            yield from _of_role(role, bound=role.key in used)
    for binding in snapshot.bindings:
        if (binding.key, binding.where) not in ships:
            yield from _of_binding(binding)


def _of_role(role: Role, *, bound: bool) -> Iterator[Problem]:
    if not bound:
        yield Problem(role.where, "is bound to nobody, and part of no other role")
    for number, rule in enumerate(role.rules):
        if is_everything(rule):
            yield Problem(role.where, f"rules[{number}] allows everything")


def _of_binding(binding: Binding) -> Iterator[Problem]:
    if not binding.subjects:
        yield Problem(binding.where, "has no subjects: it gives nobody anything")
    for subject in binding.subjects:
        if subject.name in _UNKNOWN:
            yield Problem(
                binding.where, f"gives the {binding.role_kind} {quoted(binding.role)} to callers whom nobody knows"
            )
