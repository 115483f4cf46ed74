"""Authorizers that need no policy."""

from __future__ import annotations

from collections.abc import Iterable

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import SYSTEM_MASTERS

__all__ = ["AllowAll", "DenyAll", "PrivilegedGroups"]

_NO_OPINION = Verdict(Outcome.NO_OPINION)


class AllowAll:
    """Allows everything. For tests, and for what another layer protects."""

    _verdict = Verdict(Outcome.ALLOW, "everything is allowed")

    def __repr__(self) -> str:
        return "AllowAll()"

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self._verdict


class DenyAll:
    """Denies everything: what stands where no authorizer is configured."""

    _verdict = Verdict(Outcome.DENY, "everything is forbidden")

    def __repr__(self) -> str:
        return "DenyAll()"

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self._verdict


class PrivilegedGroups:
    """Allows members of some groups everything, without asking any policy; has no opinion on others.

    Whoever can put a caller in one of these groups has given them everything, and no deny rule stops them.

    Args:
        groups: the names; by default Kubernetes' `system:masters`.
    """

    def __init__(self, groups: Iterable[str] = (SYSTEM_MASTERS,)) -> None:
        if isinstance(groups, str):
            raise TypeError("groups is a collection of names, not one name")
        self._groups = frozenset(groups)

    def __repr__(self) -> str:
        return f"PrivilegedGroups({sorted(self._groups)})"

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same answer, for callers that cannot wait."""
        if self._groups.isdisjoint(attributes.identity.groups):
            return _NO_OPINION
        held = next(group for group in attributes.identity.groups if group in self._groups)
        return Verdict(Outcome.ALLOW, f"allowed to members of the group {held}")

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self.verdict(attributes)
