"""Roles whose rows hold patterns: `g, /book/:id, books` makes every book one of the books."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, TypeAlias

from aggmw.middleware.authorization.casbin.functions import Unmatchable
from aggmw.middleware.authorization.casbin.keys import ANYTHING, Keys
from aggmw.middleware.authorization.casbin.roles import RoleGraph, reach, way_back

__all__ = ["PatternRoles", "Patterns"]

_Edges: TypeAlias = Mapping[str, Iterable[str]]
_DOMAINS = 256


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
    that it fits. Nothing is put together for a domain, which whoever asks chooses: a question looks at the rows of the
    names on its way.

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
        self._fits = {} if names is None else {name: self._fitting(name) for name in known}
        anywhere: dict[str, set[str]] = {}
        for links in self._edges.values():
            for name, some in links.items():
                anywhere.setdefault(name, set()).update(some)
        self._anywhere: tuple[_Edges, ...] = (anywhere,)
        self._holding = lru_cache(maxsize=_DOMAINS)(self._all_holding)

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

    def _from(self, name: str, domain: str | None) -> _Within:
        """The memberships of a domain, or of all for None, with those that the name has because it fits patterns."""
        fitting = self._fits[name] if name in self._fits else self._names.of(name)
        if fitting is None:
            raise Unmatchable(f"a name of {len(name)} characters")
        rows = self._anywhere if domain is None else self._holding(domain)
        return _Within(rows, self._fits, name, fitting)

    def _fitting(self, name: str) -> tuple[str, ...] | None:
        """The patterns that a name of a row fits; None where they are not tried on it."""
        try:
            return self._names.of(name)
        except Unmatchable:
            return None

    def _all_holding(self, domain: str) -> tuple[_Edges, ...]:
        """The memberships of the domains, as rows have them, that hold in a domain."""
        own = (domain,) if domain in self._edges else ()
        return tuple(self._edges[each] for each in (*own, *self._domains.of(domain)))


class _Within:
    """The memberships of some domains, as `reach` asks for them.

    Args:
        rows: of each of these domains.
        fits: the patterns that the names in rows fit.
        name: one that may be in none.
        fitting: the patterns that it fits.
    """

    __slots__ = ("_fits", "_fitting", "_name", "_rows")

    def __init__(
        self, rows: Sequence[_Edges], fits: Mapping[str, tuple[str, ...] | None], name: str, fitting: tuple[str, ...]
    ) -> None:
        self._rows = rows
        self._fits = fits
        self._name = name
        self._fitting = fitting

    def get(self, name: str, default: Iterable[str], /) -> Iterable[str]:
        """What a name is a member of."""
        fitting = self._fitting if name == self._name else self._fits.get(name)
        rows = self._rows
        found = [links[name] for links in rows if name in links]
        if fitting:
            found += [links[one] for links in rows for one in fitting if one in links]
        return chain.from_iterable(found) if found else default


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
