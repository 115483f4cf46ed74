"""Who holds which grants: callers by what is known of them, and the ways by which they come by roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aggmw.contracts.grants import Grant, Granted
from aggmw.contracts.identity import SYSTEM_ANONYMOUS, SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED

__all__ = ["Holders", "implied", "is_known"]

_ACCOUNT = "user:system:serviceaccount:"
_ACCOUNTS = "group:system:serviceaccounts"
_KNOWN = f"group:{SYSTEM_AUTHENTICATED}"
_UNKNOWN = f"group:{SYSTEM_UNAUTHENTICATED}"
_NOBODY = f"user:{SYSTEM_ANONYMOUS}"


def implied(subject: str) -> tuple[str, ...]:
    """The groups that whoever is called so, or is in that group, is in besides."""
    if subject in (_KNOWN, _UNKNOWN):
        return ()
    if subject == _NOBODY:
        return (_UNKNOWN,)
    if subject.startswith(_ACCOUNT) and subject.count(":") == 4:
        return (_KNOWN, _ACCOUNTS, f"{_ACCOUNTS}:{subject.split(':')[3]}")
    return (_KNOWN, _ACCOUNTS) if subject.startswith(f"{_ACCOUNTS}:") else (_KNOWN,)


def is_known(subject: str) -> bool:
    """Whether they are callers who were identified: nobody is both that and not."""
    return _UNKNOWN not in (subject, *implied(subject))


class Holders:
    """A policy by who holds what.

    Args:
        granted: the policy.
    """

    def __init__(self, granted: Granted) -> None:
        self._roles: Mapping[str, Sequence[str]] = granted.roles
        self._members: dict[str, list[str]] = {}
        for member, roles in granted.roles.items():
            for role in roles:
                self._members.setdefault(role, []).append(member)
        self._by_subject: dict[str, list[Grant]] = {}
        for grant in granted.grants:
            self._by_subject.setdefault(grant.subject, []).append(grant)
        named = (*self._by_subject, *granted.roles)
        self.callers = frozenset(one for one in named if not one.startswith("role:"))
        given = (role for some in granted.roles.values() for role in some)
        self.roles = frozenset(one for one in (*named, *given) if one.startswith("role:"))

    def ways(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The names and every role that they have, each with the shortest way to it, from a name to the role."""
        ways: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        queue = list(ways)
        for one in queue:
            for role in self._roles.get(one, ()):
                if role not in ways:
                    ways[role] = (*ways[one], role)
                    queue.append(role)
        return ways

    def grants(self, subject: str) -> list[Grant]:
        """What is granted to this very subject."""
        return self._by_subject.get(subject, [])

    def held(self, caller: str) -> list[Grant]:
        """All that is granted to whoever is called so, by their groups and roles too."""
        return [grant for subject in self.ways((caller, *implied(caller))) for grant in self.grants(subject)]

    def members(self, role: str) -> tuple[str, ...]:
        """Users and groups that have a role, through others too; in order."""
        found = dict.fromkeys(self._members.get(role, ()))
        queue = list(found)
        for one in queue:
            for member in self._members.get(one, ()):
                if member not in found:
                    found[member] = None
                    queue.append(member)
        return tuple(sorted(one for one in found if one in self.callers))
