"""Roles whose rows hold patterns: `g, /book/:id, books` makes every book one of the books."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from aggmw.middleware.authorization.casbin.functions import Unmatchable
from aggmw.middleware.authorization.casbin.keys import ANYTHING, Keys
from aggmw.middleware.authorization.casbin.roles import RoleGraph, reach, way_back

__all__ = ["PatternRoles", "Patterns"]

_Edges: TypeAlias = Mapping[str, Iterable[str]]
_DOMAINS = 256
_GRAPHS = 64


class Patterns(NamedTuple):
    """How patterns are matched.

    Attributes:
        match: whether a value fits a pattern.
        keys: by what a pattern is found.
        spell: how a value is spelled to be looked up.
    """

    match: Callable[[str, str], object]
    keys: Callable[[str], Keys] = lambda pattern: ANYTHING
    spell: Callable[[str], str] = lambda value: value


class PatternRoles(RoleGraph):
    """Memberships, of which members or domains are patterns (casbin's matching functions of a role manager).

    A name has the roles of every pattern that it fits. In a domain hold the rows of that domain and of every pattern
    that it fits. What is kept of names and domains that were asked about is bounded.

    Args:
        links: as for `RoleGraph`.
        names, domains: how names and domains are matched, where they are patterns.
    """

    def __init__(
        self, links: Iterable[Sequence[str]], *, names: Patterns | None = None, domains: Patterns | None = None
    ) -> None:
        super().__init__(links)
        members = {name: None for links in self._edges.values() for name in links}
        self._names = _Found(members, names)
        self._domains = _Found(self._edges, domains)
        known = {*members, *(role for links in self._edges.values() for some in links.values() for role in some)}
        self._fits = {name: some for name in known if (some := self._fitting(name)) != ()}
        # Whoever asks chooses the domain; how many of them hold other rows than others is up to the policy.
        self._holding = lru_cache(maxsize=_DOMAINS)(self._all_holding)
        self._together = lru_cache(maxsize=_GRAPHS)(self._graph)

        self._from("", "")  # here, because loading is not waited for: what holds everywhere

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
        edges, members = self._together(self._holding(domain))
        if self._fits.get(name, ()) is None:
            raise Unmatchable(f"a name of {len(name)} characters")
        if name in edges:
            return edges
        fitting = [one for one in self._names.of(name) if one in members]
        return ChainMap({name: set().union(*(edges[one] for one in fitting))}, edges) if fitting else edges  # type: ignore[arg-type]  # which is not written to

    def _fitting(self, name: str) -> tuple[str, ...] | None:
        """The patterns that a name of a row fits; None where they are not tried on it."""
        try:
            return self._names.of(name)
        except Unmatchable:
            return None

    def _all_holding(self, domain: str | None) -> tuple[str, ...]:
        """The domains, as rows have them, whose rows hold in a domain; all of them for None."""
        if domain is None:
            return tuple(self._edges)
        own = (domain,) if domain in self._edges else ()
        return (*own, *self._domains.of(str(domain)))

    def _graph(self, domains: Sequence[str]) -> tuple[_Edges, Mapping[str, object]]:
        """The memberships of domains, between names that rows mention; and the members in their rows."""
        edges: dict[str, Iterable[str]] = {}
        for domain in domains:
            for name, roles in self._edges[domain].items():
                edges[name] = {*edges[name], *roles} if name in edges else roles
        whole = dict(edges)
        for name in {*edges, *(role for some in edges.values() for role in some)}:
            more = [edges[pattern] for pattern in self._fits.get(name) or () if pattern in edges]
            if more:
                whole[name] = {*whole.get(name, ())}.union(*more)
        return whole, edges


class _Found:
    """Finds the patterns that a value fits; of those that begin otherwise none is tried."""

    def __init__(self, patterns: Iterable[str], how: Patterns | None) -> None:
        self._how = how
        self._exact: dict[str, list[str]] = {}
        self._prefixes: dict[str, list[str]] = {}
        if how is not None:
            for pattern in patterns:
                exact, prefixes, anything = how.keys(pattern)
                for text in exact:
                    self._exact.setdefault(text, []).append(pattern)
                for text in ("",) if anything else prefixes:
                    self._prefixes.setdefault(text, []).append(pattern)
        self._lengths = sorted({len(text) for text in self._prefixes})

    def of(self, value: str) -> tuple[str, ...]:
        """Those that it fits, but for itself."""
        how = self._how
        if how is None:
            return ()
        text = how.spell(value)
        near = list(self._exact.get(text, ()))
        for length in self._lengths:
            if length > len(text):
                break
            near += self._prefixes.get(text[:length], ())
        return tuple(pattern for pattern in dict.fromkeys(near) if pattern != value and how.match(value, pattern))
