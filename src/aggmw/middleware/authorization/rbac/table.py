"""Which of several roles, in order, is the first to allow a request: found in a fixed number of look-ups.

Rules are taken apart into all combinations of their groups, resources, names and verbs, each with the place of the
first role that has it. A rule with very many combinations is kept whole, and tried, and so is each further one once all
of them together have very many.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, TypeAlias

from aggmw.middleware.authorization.rbac.objects import PolicyRule

__all__ = ["NOWHERE", "Asked", "Table", "asked"]

Asked: TypeAlias = "tuple[str, str] | tuple[str, str, str]"

NOWHERE = 1 << 62
"""The place of what is not there: behind everything."""

_COMBINATIONS = 4096
_TOGETHER = 500_000  # some 40 MB
_NO_NAMES: dict[str, dict[str, int]] = {}


class _Whole(NamedTuple):
    """A rule that is not taken apart."""

    place: int
    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]


class _WholePaths(NamedTuple):
    """The same of a rule about paths: those that it names, and the beginnings of others."""

    place: int
    verbs: frozenset[str]
    paths: frozenset[str]
    prefixes: tuple[str, ...]


class _Cell(NamedTuple):
    """What is said of one resource in one group: the place of each verb, for all objects and for those of a name."""

    verbs: dict[str, int]
    names: dict[str, dict[str, int]]


Alike: TypeAlias = "dict[tuple[tuple[str, int], ...], dict[str, int]]"
"""Places of verbs, by what is in them: most resources of a role have the same, so tables share them."""


class Table:
    """Finds the first of several lists of rules that allows something. Never changed.

    Args:
        lists: of rules, one for each role.
        alike: shared by tables; may grow.
    """

    __slots__ = ("_cells", "_lengths", "_paths", "_prefixes", "_whole", "_whole_paths")

    def __init__(self, lists: Sequence[Sequence[PolicyRule]], alike: Alike) -> None:
        self._cells: dict[str, dict[str, _Cell]] = {}
        self._whole: list[_Whole] = []
        self._whole_paths: list[_WholePaths] = []
        self._paths: dict[str, dict[str, int]] = {}
        self._prefixes: dict[str, dict[str, int]] = {}
        left = _TOGETHER
        for place, rules in enumerate(lists):
            for rule in rules:
                left -= self._add_paths(place, rule, left) if rule.paths else self._add_resources(place, rule, left)
        self._lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}))
        for resources in self._cells.values():
            for resource, (verbs, names) in resources.items():
                shared = {name: _shared(each, alike) for name, each in names.items()} if names else _NO_NAMES
                resources[resource] = _Cell(_shared(verbs, alike), shared)

    def _add_resources(self, place: int, rule: PolicyRule, most: int) -> int:
        """Add a rule, taken apart where that makes no more combinations than so many; gives how many it made."""
        parts = (rule.verbs, rule.api_groups, rule.resources)
        combinations = prod(map(len, parts)) * max(1, len(rule.names))
        if combinations > min(_COMBINATIONS, most):
            self._whole.append(_Whole(place, *map(frozenset, (*parts, rule.names))))
            return 0
        for group in rule.api_groups:
            resources = self._cells.setdefault(group, {})
            for resource in rule.resources:
                cell = resources.get(resource)
                if cell is None:
                    cell = resources[resource] = _Cell({}, {})
                for verbs in [cell.names.setdefault(name, {}) for name in rule.names] or [cell.verbs]:
                    for verb in rule.verbs:
                        verbs.setdefault(verb, place)
        return combinations

    def _add_paths(self, place: int, rule: PolicyRule, most: int) -> int:
        """The same of a rule about paths."""
        combinations = len(rule.verbs) * len(rule.paths)
        if combinations > min(_COMBINATIONS, most):
            prefixes = tuple(path.rstrip("*") for path in rule.paths if path.endswith("*"))
            self._whole_paths.append(_WholePaths(place, frozenset(rule.verbs), frozenset(rule.paths), prefixes))
            return 0
        for path in rule.paths:
            known, text = (self._prefixes, path.rstrip("*")) if path.endswith("*") else (self._paths, path)
            verbs = known.setdefault(text, {})
            for verb in rule.verbs:
                verbs.setdefault(verb, place)
        return combinations

    def resource(self, verbs: tuple[str, str], groups: tuple[str, str], resources: Asked, name: str) -> int:
        """The place of the first list that allows this; `NOWHERE` where none does.

        Args:
            verbs, groups: what is asked for, and "*".
            resources: as `asked` makes it.
        """
        found = NOWHERE
        cells = self._cells
        for group in groups:
            known = cells.get(group)
            if known is None:
                continue
            for resource in resources:
                cell = known.get(resource)
                if cell is not None:
                    found = _least(found, cell.verbs, verbs)
                    if cell.names and (named := cell.names.get(name)) is not None:
                        found = _least(found, named, verbs)
        for whole in self._whole:
            if whole.place < found and _allows(whole, verbs, groups, resources, name):
                found = whole.place
        return found

    def path(self, verbs: tuple[str, str], path: str) -> int:
        """The same for a path that is no resource."""
        found = NOWHERE
        known = self._paths.get(path)
        if known is not None:
            found = _least(found, known, verbs)
        for length in self._lengths:
            if length > len(path):
                break
            known = self._prefixes.get(path[:length])
            if known is not None:
                found = _least(found, known, verbs)
        for whole in self._whole_paths:
            if whole.place < found and not whole.verbs.isdisjoint(verbs) and _names(whole, path):
                found = whole.place
        return found


def _shared(places: dict[str, int], alike: Alike) -> dict[str, int]:
    return alike.setdefault(tuple(places.items()), places)


def asked(resource: str, subresource: str) -> Asked:
    """What rules may call a resource, or its subresource where that is not empty."""
    if subresource:
        return (f"{resource}/{subresource}", "*", f"*/{subresource}")
    return (resource, "*")


def _least(found: int, places: dict[str, int], verbs: tuple[str, str]) -> int:
    for verb in verbs:
        place = places.get(verb, NOWHERE)
        if place < found:
            found = place
    return found


def _names(rule: _WholePaths, path: str) -> bool:
    return path in rule.paths or path.startswith(rule.prefixes)


def _allows(rule: _Whole, verbs: tuple[str, str], groups: tuple[str, str], resources: Asked, name: str) -> bool:
    return (
        not rule.verbs.isdisjoint(verbs)
        and not rule.groups.isdisjoint(groups)
        and not rule.resources.isdisjoint(resources)
        and (not rule.names or name in rule.names)
    )
