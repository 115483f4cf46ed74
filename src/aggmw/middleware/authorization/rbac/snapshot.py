"""Roles and bindings as they were loaded: indexed by whom they concern, never changed, replaced as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.errors import Problem
from aggmw.middleware.authorization.rbac.aggregation import aggregated, lost_rules
from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, PolicyRule, Role, Subject
from aggmw.middleware.authorization.rbac.table import NOWHERE, Alike, Table, asked
from aggmw.objects.refusal import quoted

__all__ = ["Grant", "Scope", "Snapshot"]

_NO_OPINION = Verdict(Outcome.NO_OPINION)


class Grant(NamedTuple):
    """That a binding gives its role to a subject.

    Attributes:
        order: the place of the binding among all.
        number: the place of the subject in the binding.
        binding, subject: these.
        role: what is given; None: there is no such role.
    """

    order: int
    number: int
    binding: Binding
    subject: Subject
    role: Role | None

    def __str__(self) -> str:
        return f"{self.binding} to {self.subject}"


class _Held(NamedTuple):
    """What one user or group has in one namespace, or everywhere.

    Attributes:
        grants: all of it, in order.
        firsts: the first grant of each role that there is; the places of the table.
        table: finds the first of these that allows something.
        broken: whether a role is missing.
    """

    grants: tuple[Grant, ...]
    firsts: tuple[Grant, ...]
    table: Table
    broken: bool


class Scope:
    """What everybody has in one namespace, or everywhere."""

    __slots__ = ("groups", "users")

    def __init__(self) -> None:
        self.users: dict[str, _Held] = {}
        self.groups: dict[str, _Held] = {}

    def of(self, identity: Identity) -> list[_Held]:
        groups = self.groups
        held = [groups[group] for group in identity.groups if group in groups] if groups else []
        own = self.users.get(identity.user)
        if own is not None:
            held.append(own)
        return held


class Snapshot:
    """Decides by roles and bindings.

    Args:
        objects: all of them; no two with one `key`.
    """

    def __init__(self, objects: Sequence[Role | Binding]) -> None:
        written = [each for each in objects if isinstance(each, Role)]
        bindings = [each for each in objects if isinstance(each, Binding)]
        cluster_roles, self.sources = aggregated(role for role in written if not role.namespace)
        self.roles: Mapping[tuple[str, str, str], Role] = {
            role.key: role for role in (*cluster_roles.values(), *(role for role in written if role.namespace))
        }
        # Those that hold everywhere are asked first.
        self.bindings = sorted(bindings, key=lambda binding: binding.namespace != "")
        self.revision = _digest(objects)
        self.warnings = (*lost_rules(written, cluster_roles), *self._missing_roles())
        self._everywhere = Scope()
        self._namespaces: dict[str, Scope] = {}
        self._index()

    def __repr__(self) -> str:
        return f"Snapshot({len(self.roles)} roles, {len(self.bindings)} bindings)"

    def _missing_roles(self) -> Iterator[Problem]:
        for binding in self.bindings:
            if binding.role_key not in self.roles:
                yield Problem(
                    binding.where, f"gives nobody anything: there is no {binding.role_kind} {quoted(binding.role)}"
                )

    def _index(self) -> None:
        found: dict[tuple[str, bool, str], list[Grant]] = {}
        for order, binding in enumerate(self.bindings):
            role = self.roles.get(binding.role_key)
            for number, subject in enumerate(binding.subjects):
                key = (binding.namespace, subject.kind == "Group", subject.user or subject.name)
                found.setdefault(key, []).append(Grant(order, number, binding, subject, role))
        tables = _Tables(self.roles.values())
        for (namespace, is_group, name), grants in found.items():
            scope = self._namespaces.setdefault(namespace, Scope()) if namespace else self._everywhere
            held = scope.groups if is_group else scope.users
            held[name] = _held(tuple(grants), tables)

    def verdict(self, attributes: Attributes) -> Verdict:
        """What the bindings say: allowed, or no opinion."""
        return self.decided(attributes)[0]

    def decided(self, attributes: Attributes) -> tuple[Verdict, Grant | None]:
        """The same, with what allows it: the first binding that does, with the first of its subjects that fits."""
        held = self._everywhere.of(attributes.identity)
        grant = _first(held, attributes)
        if grant is None and attributes.namespace and (scope := self._namespaces.get(attributes.namespace)) is not None:
            there = scope.of(attributes.identity)
            grant = _first(there, attributes)
            held += there
        if grant is not None:
            return Verdict(Outcome.ALLOW, f"RBAC: allowed by {grant.binding} to {grant.subject}"), grant
        if any(each.broken for each in held):
            return Verdict(Outcome.NO_OPINION, f"RBAC: {_faults(held)}"), None
        return _NO_OPINION, None

    def grants(self, identity: Identity, namespace: str) -> list[Grant]:
        """Every binding that concerns a caller, everywhere and in a namespace, with the first subject that they are."""
        found: dict[int, Grant] = {}
        for held in self._held(identity, namespace):
            for grant in held.grants:
                known = found.get(grant.order)
                if known is None or grant.number < known.number:
                    found[grant.order] = grant
        return [found[order] for order in sorted(found)]

    def faults(self, identity: Identity, namespace: str) -> str:
        """What could not be found out for a caller; "" where there is nothing like that."""
        return _faults(self._held(identity, namespace))

    def _held(self, identity: Identity, namespace: str) -> list[_Held]:
        held = self._everywhere.of(identity)
        if namespace and (scope := self._namespaces.get(namespace)) is not None:
            held += scope.of(identity)
        return held


class _Tables:
    """Tables of roles. Those with the same rules, as copies of a role in many namespaces are, share one."""

    def __init__(self, roles: Iterable[Role]) -> None:
        numbers: dict[tuple[PolicyRule, ...], int] = {}
        self._numbers = {role.key: numbers.setdefault(role.rules, len(numbers)) for role in roles}
        self._tables: dict[tuple[int, ...], Table] = {}
        self._alike: Alike = {}

    def of(self, grants: Iterable[Grant]) -> Table:
        key = tuple(self._numbers[grant.binding.role_key] for grant in grants)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = Table(
                [grant.role.rules for grant in grants if grant.role is not None], self._alike
            )
        return table


def _held(grants: tuple[Grant, ...], tables: _Tables) -> _Held:
    firsts = grants
    if len(grants) > 1 or grants[0].role is None:
        chosen: dict[tuple[str, str, str], Grant] = {}
        for grant in grants:
            if grant.role is not None:
                chosen.setdefault(grant.binding.role_key, grant)
        firsts = tuple(chosen.values())
    return _Held(grants, firsts, tables.of(firsts), any(grant.role is None for grant in grants))


def _first(held: Iterable[_Held], attributes: Attributes) -> Grant | None:
    """The first grant in what the caller has that allows a request."""
    best: Grant | None = None
    verbs = (attributes.verb, "*")
    groups = (attributes.api_group, "*")
    resources = asked(attributes.resource, attributes.subresource)
    for _, firsts, table, _ in held:
        if attributes.is_resource:
            place = table.resource(verbs, groups, resources, attributes.name)
        else:
            place = table.path(verbs, attributes.path)
        # Grants are compared by their first two fields: no two have the same places.
        if place != NOWHERE and (best is None or firsts[place][:2] < best[:2]):
            best = firsts[place]
    return best


def _faults(held: Iterable[_Held]) -> str:
    """As Kubernetes puts several errors into one: each once, in the order of the bindings."""
    missing = {grant.order: grant for each in held if each.broken for grant in each.grants if grant.role is None}
    texts = list(dict.fromkeys(_not_found(missing[order].binding) for order in sorted(missing)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def _not_found(binding: Binding) -> str:
    """That there is no such role, in Kubernetes' words."""
    return f"{binding.role_kind.lower()}.{GROUP} {quoted(binding.role)} not found"


def _digest(objects: Iterable[Role | Binding]) -> str:
    """The same for the same objects in the same order, in every process, wherever they are written."""
    digest = hashlib.sha256()
    for each in objects:
        if isinstance(each, Role):
            said: tuple[object, ...] = (each.key, each.rules, each.labels, each.selectors)
        else:
            said = (each.key, each.role_key, each.subjects)
        digest.update(repr(said).encode())
    return digest.hexdigest()[:12]
