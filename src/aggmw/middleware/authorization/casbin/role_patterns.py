"""Roles whose rows hold patterns: `g, /book/:id, books` makes every book one of the books."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from aggmw.middleware.authorization.casbin.roles import RoleGraph, reach, way_back

__all__ = ["Match", "PatternRoles"]

Match: TypeAlias = Callable[[str, str], bool]
"""Whether a value fits a pattern."""

_Edges: TypeAlias = Mapping[str, set[str]]
_DOMAINS = 256


class PatternRoles(RoleGraph):
    """Memberships, of which members or domains are patterns (casbin's matching functions of a role manager).

    A name has the roles of every pattern that it fits. In a domain hold the rows of that domain and of every pattern
    that it fits. Asking costs a match for each pattern; what is kept of it is bounded.

    Args:
        links: as for `RoleGraph`.
        names, domains: how names and domains are matched, where they are patterns.
        is_pattern: whether a member is one, to the function that matches names.
    """

    def __init__(
        self,
        links: Iterable[Sequence[str]],
        *,
        names: Match | None = None,
        domains: Match | None = None,
        is_pattern: Callable[[str], bool] = lambda text: True,
    ) -> None:
        super().__init__(links)
        self._names = names
        self._domains = domains
        self._is_pattern = is_pattern
        self._within = lru_cache(maxsize=_DOMAINS)(self._graph)

    def roles_of(self, name: str, domain: str = "") -> frozenset[str]:
        return frozenset(reach(name, self._from(name, domain)))

    def roles_anywhere(self, name: str) -> frozenset[str]:
        return frozenset(reach(name, self._from(name, None)))

    def way(self, names: object, role: str, domain: str = "") -> tuple[str, ...]:
        for name in (names,) if isinstance(names, str) else names if isinstance(names, Iterable) else ():
            found = way_back(name, role, self._from(name, domain)) if isinstance(name, str) else None
            if found is not None:
                return tuple(found)
        return ()

    def _from(self, name: str, domain: str | None) -> _Edges:
        """The memberships of a domain, with those that the name has because it fits patterns."""
        edges, patterns = self._within(domain)
        names = self._names
        if names is None or name in edges:
            return edges
        return {**edges, name: set().union(*(edges[one] for one in patterns if names(name, one)))}

    def _graph(self, domain: str | None) -> tuple[_Edges, Sequence[str]]:
        """The memberships of a domain, or of all, between names that rows mention; the members that are patterns."""
        edges: dict[str, set[str]] = {}
        for other, links in self._edges.items():
            if domain in (None, other) or (self._domains is not None and self._domains(str(domain), other)):
                for name, roles in links.items():
                    edges.setdefault(name, set()).update(roles)
        names = self._names
        if names is None:
            return edges, ()
        patterns = [name for name in edges if self._is_pattern(name)]
        whole = {name: set(some) for name, some in edges.items()}
        for name in edges.keys() | {role for some in edges.values() for role in some}:
            for pattern in patterns:
                if pattern != name and names(name, pattern):
                    whole.setdefault(name, set()).update(edges[pattern])
        return whole, patterns
