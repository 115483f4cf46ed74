"""Who a caller is to the rules: `user:NAME`, `group:NAME`, and every role of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.casbin.inputs import Names
from aggmw.middleware.authorization.casbin.roles import RoleGraph

__all__ = ["Subjects"]

_Known = Mapping[str, tuple[str, ...]]


class Subjects:
    """The subjects that a policy names, each with its roles, so that of a caller's groups only those are looked at.

    Args:
        roles: who has which role.
        named: all texts of rules that may be subjects.
    """

    def __init__(self, roles: RoleGraph, named: Iterable[str]) -> None:
        self._users: dict[str, tuple[str, ...]] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        for subject in {*roles.members(), *named}:
            kind, _, name = subject.partition(":")
            if kind == "user":
                self._users[name] = (subject, *roles.roles_of(subject))
            elif kind == "group":
                self._groups[name] = (subject, *roles.roles_of(subject))

    def of(self, attributes: Attributes) -> Names:
        """Those of a request's caller."""
        return _Caller(attributes.identity, self._users, self._groups)


class _Caller(Names):
    """The subjects of one caller, looked up when they are first asked for."""

    __slots__ = ("_groups", "_identity", "_looked_up", "_users")

    def __init__(self, identity: Identity, users: _Known, groups: _Known) -> None:
        self._identity = identity
        self._users = users
        self._groups = groups
        self._looked_up: frozenset[str] | None = None

    def known(self) -> frozenset[str]:
        """The subjects that the policy names."""
        known = self._looked_up
        if known is None:
            groups = self._groups
            some: set[str] = set(self._users.get(self._identity.user, ()))
            for group in self._identity.groups:
                if group in groups:
                    some.update(groups[group])
            known = self._looked_up = frozenset(some)
        return known

    def __contains__(self, name: object) -> bool:
        return name in self.known() or name in tuple(self.own())

    def __iter__(self) -> Iterator[str]:
        return iter(self.known().union(self.own()))

    def own(self) -> Iterator[str]:
        """The caller's own names, whether the policy names them or not."""
        yield f"user:{self._identity.user}"
        for group in self._identity.groups:
            yield f"group:{group}"
