"""Who has which role, in place of casbin's role manager, which keeps every name it was ever asked about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

__all__ = ["MAX_DEPTH", "Edges", "RoleGraph", "circling", "reach", "too_deep", "way_back"]

MAX_DEPTH = 9
"""How many memberships in a row casbin follows."""

_NONE: frozenset[str] = frozenset()


class Edges(Protocol):
    """Gives what a name is a member of, as a mapping does."""

    def get(self, name: str, default: Iterable[str], /) -> Iterable[str]: ...


class RoleGraph:
    """Memberships, closed over inheritance when it is made: asking never stores anything.

    Stands where casbin expects a role manager.

    Args:
        links: name, role, and the domain they hold in, if the model has domains.
    """

    def __init__(self, links: Iterable[Sequence[str]] = ()) -> None:
        edges: dict[str, dict[str, set[str]]] = {}
        for name, role, *domain in links:
            edges.setdefault(domain[0] if domain else "", {}).setdefault(name, set()).add(role)
        self._edges: Mapping[str, Mapping[str, Iterable[str]]] = edges
        self._roles = {
            domain: {name: frozenset(reach(name, graph)) for name in graph} for domain, graph in edges.items()
        }

    def roles_of(self, name: str, domain: str = "") -> frozenset[str]:
        """Every role that the name has, directly or through other roles."""
        return self._roles.get(domain, _EMPTY).get(name, _NONE)

    def roles_anywhere(self, name: str) -> frozenset[str]:
        """Every role that the name has in some domain."""
        return _NONE.union(*(roles.get(name, _NONE) for roles in self._roles.values()))

    def members(self) -> frozenset[str]:
        """Every name that has a role."""
        return _NONE.union(*self._roles.values())

    def way(self, names: object, role: str, domain: str = "") -> tuple[str, ...]:
        """How a name, or one of several, comes by a role: both and the roles between; nothing where it does not."""
        for name in (names,) if isinstance(names, str) else names if isinstance(names, Iterable) else ():
            found = way_back(name, role, self._edges.get(domain, _NOBODY)) if isinstance(name, str) else None
            if found is not None:
                return tuple(found)
        return ()

    def has_link(self, names: object, role: str, domain: str = "") -> bool:
        """Whether a name, or one of several (`r.groups`), is or has the role: casbin's `g`."""
        if isinstance(names, str):
            return names == role or role in self.roles_of(names, domain)
        if isinstance(names, Iterable):
            return any(self.has_link(name, role, domain) for name in names)
        return False


_EMPTY: Mapping[str, frozenset[str]] = MappingProxyType({})
_NOBODY: Mapping[str, Iterable[str]] = MappingProxyType({})


def reach(name: str, graph: Edges, most: int | None = None) -> dict[str, int]:
    """All that a name reaches, with so many memberships at most, each with the number of these on the shortest way."""
    reached: dict[str, int] = {}
    level, depth = [name], 0
    while level and depth != most:
        depth += 1
        following: list[str] = []
        for node in level:
            for role in graph.get(node, ()):
                if role not in reached:
                    reached[role] = depth
                    following.append(role)
        level = following
    return reached


def too_deep(graph: Mapping[str, Iterable[str]]) -> Iterable[tuple[str, str, int]]:
    """Names with a role that casbin would not find: name, role, memberships on the way; the nearest such role each."""
    for name in graph:
        reached = reach(name, graph, MAX_DEPTH + 1)
        beyond = [(depth, role) for role, depth in reached.items() if depth > MAX_DEPTH]
        if beyond:
            depth, role = min(beyond)
            yield name, role, depth


def circling(graph: Mapping[str, Iterable[str]]) -> set[str]:
    """The names from which memberships lead into a circle."""
    members: dict[str, list[str]] = {}
    left: dict[str, int] = {}
    for name, roles in graph.items():
        for role in roles:
            members.setdefault(role, []).append(name)
            left[name] = left.get(name, 0) + 1
    ends = [role for role in members if role not in left]
    for role in ends:
        for member in members.get(role, ()):
            left[member] -= 1
            if not left[member]:
                ends.append(member)
    return {name for name, number in left.items() if number}


def way_back(start: str, goal: str, graph: Edges, most: int | None = None) -> list[str] | None:
    """A way from `start` to `goal` along so many memberships at most, both included; None when there is none."""
    before: dict[str, str | None] = {start: None}
    level, depth = [start], 0
    while goal not in before and level and depth != most:
        depth += 1
        following: list[str] = []
        for node in level:
            for role in graph.get(node, ()):
                if role not in before:
                    before[role] = node
                    following.append(role)
        level = following
    if goal not in before:
        return None
    way = [goal]
    while (previous := before[way[-1]]) is not None:
        way.append(previous)
    return way[::-1]
