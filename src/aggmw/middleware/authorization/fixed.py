"""Authorizers that need no policy."""

from __future__ import annotations

from collections.abc import Iterable

from aggmw.contracts.authorization import (
    Attributes,
    Explanation,
    NonResourceRule,
    Outcome,
    ResourceRule,
    Rules,
    Verdict,
)
from aggmw.contracts.grants import Granted
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity

__all__ = ["AllowAll", "AlwaysAllowPaths", "DenyAll", "PrivilegedGroups"]

_NO_OPINION = Verdict(Outcome.NO_OPINION)
_ALL = ("*",)
_EVERYTHING = Rules((ResourceRule(_ALL, _ALL, _ALL),), (NonResourceRule(_ALL, _ALL),))
_NOTHING = Rules()


class AllowAll:
    """Allows everything. For tests, and for what another layer protects."""

    _verdict = Verdict(Outcome.ALLOW, "everything is allowed")

    def __repr__(self) -> str:
        return "AllowAll()"

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same answer, for callers that cannot wait."""
        return self._verdict

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self._verdict

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        return _EVERYTHING


class DenyAll:
    """Denies everything: what stands where no authorizer is configured."""

    _verdict = Verdict(Outcome.DENY, "everything is forbidden")
    _note = "an authorizer that denies everything decided: let one before it allow it, or put that one last"

    def __repr__(self) -> str:
        return "DenyAll()"

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same answer, for callers that cannot wait."""
        return self._verdict

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self._verdict

    async def explain(self, attributes: Attributes) -> Explanation:
        """The same, and what would help."""
        return Explanation(self._verdict, note=self._note)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        return _NOTHING


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

    @property
    def groups(self) -> frozenset[str]:
        """The names."""
        return self._groups

    def granted(self) -> Granted:
        """What every policy says of them."""
        return Granted((), privileged=self._groups)

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same answer, for callers that cannot wait."""
        if self._groups.isdisjoint(attributes.identity.groups):
            return _NO_OPINION
        held = next(group for group in attributes.identity.groups if group in self._groups)
        return Verdict(Outcome.ALLOW, f"allowed to members of the group {held}")

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self.verdict(attributes)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        return _NOTHING if self._groups.isdisjoint(identity.groups) else _EVERYTHING


class AlwaysAllowPaths:
    """Allows some paths to everybody who got this far; has no opinion on others, and none on any resource.

    Every verb is allowed there, as by kube-apiserver's `--authorization-always-allow-paths`. Requests without
    credentials get this far only where the authentication stage lets them.

    Args:
        paths: each from its first slash; with "*" at its end all that begins so.

    Raises:
        ValueError: one without a slash in front, or with a "*" elsewhere.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str):
            raise TypeError("paths is a collection of paths, not one path")
        self._paths = tuple(dict.fromkeys(paths))
        for path in self._paths:
            if not path.startswith("/"):
                raise ValueError(f"{path!r} must begin with a slash")
            if "*" in path[:-1]:
                raise ValueError(f"{path!r} has a * in the middle: it may only be the end of a path")
        self._exact = frozenset(path for path in self._paths if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in self._paths if path.endswith("*"))

    def __repr__(self) -> str:
        return f"AlwaysAllowPaths({list(self._paths)})"

    def verdict(self, attributes: Attributes) -> Verdict:
        """The same answer, for callers that cannot wait."""
        path = attributes.path
        if attributes.is_resource or not (path in self._exact or path.startswith(self._prefixes)):
            return _NO_OPINION
        return Verdict(Outcome.ALLOW, "the path is allowed to everybody")

    async def authorize(self, attributes: Attributes) -> Verdict:
        return self.verdict(attributes)

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        return Rules(non_resource=(NonResourceRule(_ALL, self._paths),)) if self._paths else _NOTHING
