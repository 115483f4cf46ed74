"""The functions that matchers call: exact where casbin's own are not.

casbin's `keyMatch2` … `keyMatch5` put rule text into a regular expression unescaped (`.` matches every character), `$`
lets a line break follow, `keyMatch` ignores what stands after its first `*`, and `regexMatch` is satisfied with a
beginning. The ones here take the same patterns and match whole values literally.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from aggmw.middleware.authorization.casbin.expressions import LONGEST, expression_fault
from aggmw.middleware.authorization.casbin.inputs import Names

__all__ = ["FUNCTIONS", "KEY_PATTERNS", "PURE", "Unmatchable", "bounded", "key_pattern_fault"]

_LONGEST = 1024
_PLACES = {
    "keyMatch2": re.compile(r":[^/]+"),
    "keyMatch3": re.compile(r"\{[^/{}]+\}"),
    "keyMatch4": re.compile(r"\{[^/{}]+\}"),
    "keyMatch5": re.compile(r"\{[^/{}]+\}"),
}


class Unmatchable(Exception):
    """A value that a pattern is not tried on; the request is denied."""


def one_of(value: str, pattern: str) -> bool:
    """`*`, or one of the alternatives between `|`. An empty value is `*` only: no list of names covers "no name"."""
    return pattern == "*" or (value != "" and value in pattern.split("|"))


def api_group_match(group: str, pattern: str) -> bool:
    """`*`, or one of the alternatives; `core` stands for the core group, and for nothing else."""
    if pattern == "*":
        return True
    return group != "core" and (group or "core") in pattern.split("|")


def resource_match(resource: str, subresource: str, pattern: str) -> bool:
    """`*` (with all subresources), or one of `resource`, `resource/subresource`, `*/subresource`."""
    if pattern == "*":
        return True
    alternatives = pattern.split("|")
    if subresource:
        return f"{resource}/{subresource}" in alternatives or f"*/{subresource}" in alternatives
    return resource in alternatives


def path_match(path: str, pattern: str) -> bool:
    """`*`, or one of the alternatives: a path, or the beginning of one before a `*` at the end."""
    for alternative in pattern.split("|"):
        if path == alternative or (alternative.endswith("*") and path.startswith(alternative[:-1])):
            return True
    return False


def in_groups(groups: Names, pattern: str) -> bool:
    """Whether one of the groups is among the alternatives between `|`."""
    return any(name in groups for name in pattern.split("|"))


def key_match(value: str, pattern: str) -> bool:
    """The pattern, or what begins like it before a `*` at its end."""
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _key_matcher(function: str) -> Callable[[str, str], bool]:
    def matches(value: str, pattern: str) -> bool:
        if function == "keyMatch5":
            value = value.partition("?")[0]
        return _compiled_key(function, pattern).fullmatch(value) is not None

    return matches


@lru_cache(maxsize=4096)
def _compiled_key(function: str, pattern: str) -> re.Pattern[str]:
    if pattern == "*":
        return re.compile(".*", re.DOTALL)
    numbers: dict[str, int] = {}
    expression, at = "", 0
    for place in _PLACES[function].finditer(pattern):
        expression += _literal(pattern[at : place.start()])
        at = place.end()
        name = place.group()
        if function == "keyMatch4" and name in numbers:
            expression += f"(?P=n{numbers[name]})"
        else:
            numbers.setdefault(name, len(numbers))
            expression += f"(?P<n{numbers[name]}>[^/]+)" if function == "keyMatch4" else "[^/]+"
    return re.compile(expression + _literal(pattern[at:]), re.DOTALL)


def _literal(text: str) -> str:
    """The text escaped; `/*` stands for a slash and anything after it."""
    return "/.*".join(map(re.escape, text.split("/*")))


def key_pattern_fault(function: str, pattern: str) -> str | None:
    """Why a pattern means something else than it looks like, or None."""
    if function == "keyMatch":
        if "*" in pattern[:-1]:
            return f"the pattern '{pattern}' has a * before its end, and keyMatch ignores what follows it"
    elif pattern != "*" and "*" in pattern.replace("/*", ""):
        return f"the pattern '{pattern}' has a * that does not follow a /, where {function} knows none"
    # A placeholder that is to match like an earlier one matches no more than one that is not.
    elif expression_fault(_compiled_key(function.replace("4", "3"), pattern).pattern):
        return (
            f"the pattern '{pattern}' could keep the server busy with one request: it may have two *"
            " or {placeholders} that can take the same text, and a * at its end"
        )
    return None


def bounded(function: Callable[[str, str], bool], longest: int = _LONGEST) -> Callable[[str, str], bool]:
    """The function for values of a length that a pattern which `lint` lets through is done with in time."""

    def matches(value: str, pattern: str) -> bool:
        if len(value) > longest:
            raise Unmatchable(f"a value longer than {longest} characters is not tried on a pattern")
        return function(value, pattern)

    return matches


def regex_match(value: str, pattern: str) -> bool:
    """Whether the whole value matches the regular expression."""
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


KEY_PATTERNS = frozenset({"keyMatch", *_PLACES})

FUNCTIONS: Mapping[str, Callable[..., bool]] = MappingProxyType(
    {
        "oneOf": one_of,
        "apiGroupMatch": api_group_match,
        "resourceMatch": resource_match,
        "pathMatch": path_match,
        "inGroups": in_groups,
        "keyMatch": key_match,
        **{function: bounded(_key_matcher(function)) for function in _PLACES},
        "regexMatch": bounded(regex_match, LONGEST),
    }
)
"""What is given to casbin, in place of its own or besides."""

PURE = frozenset({*FUNCTIONS, "globMatch", "ipMatch"})
"""Functions whose answer depends on their arguments alone, so that a verdict can be remembered."""
