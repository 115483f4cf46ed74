"""The requests that policies can tell apart, and grants as boxes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aggmw.contracts.grants import Grant, Set
from aggmw.middleware.authorization.analysis.regions import ALL, Box, Values

__all__ = ["Space"]

_Covered = Mapping[str, frozenset[str]]

_RESOURCE = ("verbs", "api_groups", "resources", "namespaces", "names")
_PATH = ("verbs", "paths")
_EVERY_PATH = "/*"


class Space:
    """What some grants mention. `*/status` and `/api/*` cover others of it; a box holds all that they cover.

    So a `*/status` in a box stands for that subresource of what is not mentioned with it, and a `/api/*` for the paths
    below it that no longer text covers.

    Args:
        grants: of all policies that are looked at.
    """

    def __init__(self, grants: Iterable[Grant]) -> None:
        some = list(grants)
        self._resources = {text for one in some for text in one.resources or ()}
        self._paths = {text for one in some for text in one.paths or ()} - {_EVERY_PATH}
        self._under = _covered(self._resources, _below)
        self._beyond = _covered(self._paths, _begins)

    def box(self, grant: Grant) -> Box | None:
        """The requests that a grant is about; None for none."""
        if grant.is_resource:
            box: Box = (
                _values(grant.verbs),
                _values(grant.api_groups),
                _spread(grant.resources, self._under),
                _values(grant.namespaces),
                _values(grant.names),
            )
        else:
            every = grant.paths is None or _EVERY_PATH in grant.paths  # all paths begin with a slash
            box = (_values(grant.verbs), _spread(None if every else grant.paths, self._beyond))
        return box if all(box) else None

    def shown(self, box: Box) -> dict[str, str]:
        """The values of a box by name, as a policy has them, or nearly: `*`, `get|list`, `* but not delete`."""
        names = _RESOURCE if len(box) == len(_RESOURCE) else _PATH
        wild = {"resources": self._under, "paths": self._beyond}
        shown = {name: _shown(values, wild.get(name, {})) for name, values in zip(names, box, strict=True)}
        if "api_groups" in shown:
            texts, but = box[1]
            shown["api_groups"] = _shown(Values(frozenset(text or "core" for text in texts), but), {})
        return shown

    def example(self, box: Box) -> dict[str, str]:
        """One request of a box, by the names of `Attributes`."""
        if len(box) == len(_PATH):
            return {"verb": _some(box[0], "other"), "path": self._path(box[1])}
        verb, group, resource, namespace, name = box
        text = _some(resource, "others")
        what, _, below = text.partition("/")
        if what == "*":
            what = "others"
            while f"{what}/{below}" in self._resources:
                what += "s"
        return {
            "verb": _some(verb, "other"),
            "api_group": _some(group, "other.example"),
            "resource": what,
            "subresource": below,
            "namespace": _some(namespace, "other"),
            "name": _some(name, "other"),
        }

    def _path(self, values: Values) -> str:
        text = _EVERY_PATH if values.but else min(values.texts)
        if not text.endswith("*"):
            return text
        begin = text[:-1]
        # A letter after which nothing that is mentioned goes on.
        taken = {one[len(begin)] for one in self._paths if one.startswith(begin) and len(one) > len(begin)}
        letters = (chr(code) for code in (ord("o"), *range(ord("a"), 0x10000)))
        return f"{begin}{next(letter for letter in letters if letter not in taken)}ther"


def _values(texts: Set) -> Values:
    return ALL if texts is None else Values(texts)


def _below(wild: str, text: str) -> bool:
    """Whether `*/status` covers `pods/status`."""
    return wild.startswith("*/") and text.partition("/")[2] == wild[2:]


def _begins(wild: str, text: str) -> bool:
    """Whether `/api*` covers `/api/v1`, or `/api/*`."""
    return wild.endswith("*") and text.removesuffix("*").startswith(wild[:-1])


def _covered(texts: Iterable[str], covers: Callable[[str, str], bool]) -> _Covered:
    """What each text that covers others covers, itself included."""
    every = list(texts)
    wild = [text for text in every if covers(text, text)]
    return {one: frozenset(text for text in every if covers(one, text)) for one in wild}


def _spread(texts: Set, covered: _Covered) -> Values:
    if texts is None:
        return ALL
    return Values(texts.union(*(covered.get(text, ()) for text in texts)))


def _shown(values: Values, covered: _Covered) -> str:
    texts, but = values
    if but:
        return "*" if not texts else f"* but not {_listed(texts, covered, nested=True)}"
    return _listed(texts, covered)


def _listed(texts: frozenset[str], covered: _Covered, *, nested: bool = False) -> str:
    inside = {
        text for one in texts for text in covered.get(one, ()) if text != one and one not in covered.get(text, ())
    }
    missing = inside - texts
    listed = "|".join(sorted(texts - inside))
    if not missing:
        return listed
    without = f"{listed} but not {_listed(frozenset(missing), covered)}"
    return f"({without})" if nested else without


def _some(values: Values, fresh: str) -> str:
    """One of the values; of all but some, one that is not mentioned."""
    if not values.but:
        return min(values.texts)
    while fresh in values.texts:
        fresh += "s"
    return fresh
