"""The functions that matchers call: exact where casbin's own are not.

casbin's `keyMatch2` … `keyMatch5` put rule text into a regular expression unescaped (`.` matches every character), `$`
lets a line break follow, `keyMatch` ignores what stands after its first `*`, and `regexMatch` is satisfied with a
beginning. The ones here take the same patterns and match whole values literally.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from aggmw.middleware.authorization.casbin.expressions import LONGEST, expression_fault
from aggmw.middleware.authorization.casbin.inputs import Names

__all__ = [
    "FUNCTIONS",
    "KEY_PATTERNS",
    "LONGEST_VALUE",
    "PREPARED",
    "PURE",
    "Unmatchable",
    "address",
    "bounded",
    "key_pattern_fault",
]

LONGEST_VALUE = 1024
_PLACES = {
    "keyMatch2": re.compile(r":[^/]+"),
    "keyMatch3": re.compile(r"\{[^/{}]+\}"),
    "keyMatch4": re.compile(r"\{[^/{}]+\}"),
    "keyMatch5": re.compile(r"\{[^/{}]+\}"),
}


class Unmatchable(Exception):
    """A value that a pattern is not tried on; the request is denied."""


def _anything(*values: str) -> bool:
    return True


def one_of(pattern: str) -> Callable[[str], bool]:
    """`*`, or one of the alternatives between `|`. An empty value is `*` only: no list of names covers "no name"."""
    return _anything if pattern == "*" else frozenset(filter(None, pattern.split("|"))).__contains__


def api_group_match(pattern: str) -> Callable[[str], bool]:
    """`*`, or one of the alternatives; `core` stands for the core group, and for nothing else."""
    if pattern == "*":
        return _anything
    groups = frozenset(pattern.split("|"))
    return lambda group: group != "core" and (group or "core") in groups


def resource_match(pattern: str) -> Callable[[str, str], bool]:
    """`*` (with all subresources), or one of `resource`, `resource/subresource`, `*/subresource`."""
    if pattern == "*":
        return _anything
    listed = frozenset(pattern.split("|"))

    def matches(resource: str, subresource: str) -> bool:
        if subresource:
            return f"{resource}/{subresource}" in listed or f"*/{subresource}" in listed
        return resource in listed

    return matches


def path_match(pattern: str) -> Callable[[str], bool]:
    """`*`, or one of the alternatives: a path, or the beginning of one before a `*` at the end."""
    alternatives = pattern.split("|")
    paths = frozenset(alternatives)
    beginnings = tuple(text[:-1] for text in alternatives if text.endswith("*"))
    return lambda path: path in paths or path.startswith(beginnings)


def in_groups(pattern: str) -> Callable[[Names], bool]:
    """Whether one of the groups is among the alternatives between `|`."""
    names = pattern.split("|")
    return lambda groups: any(name in groups for name in names)


def key_match(pattern: str) -> Callable[[str], bool]:
    """The pattern, or what begins like it before a `*` at its end."""
    if not pattern.endswith("*"):
        return lambda value: value == pattern
    beginning = pattern[:-1]
    return lambda value: value.startswith(beginning)


def ip_match(pattern: str) -> Callable[[str], bool]:
    """Whether an address is the one of the pattern, or in its network."""
    try:
        network = ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return lambda value: False
    return lambda value: address(value) in network


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A request's address.

    Raises:
        Unmatchable: it is none.
    """
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise Unmatchable("what is no address is in no network") from error


def _key_matcher(function: str) -> Callable[[str], Callable[[str], bool]]:
    def prepare(pattern: str) -> Callable[[str], bool]:
        whole = _compiled_key(function, pattern).fullmatch
        if function == "keyMatch5":
            return bounded(lambda value: whole(value.partition("?")[0]) is not None)
        return bounded(lambda value: whole(value) is not None)

    return prepare


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


def bounded(test: Callable[..., bool], longest: int = LONGEST_VALUE) -> Callable[..., bool]:
    """The test for values of a length that a pattern which `lint` lets through is done with in time.

    The test may take more than the value, which comes first.
    """

    def matches(value: str, *more: str) -> bool:
        if len(value) > longest:
            raise Unmatchable(f"a value longer than {longest} characters is not tried on a pattern")
        return test(value, *more)

    return matches


def regex_match(pattern: str) -> Callable[[str], bool]:
    """Whether the whole value matches the regular expression."""
    whole = re.compile(pattern).fullmatch
    return bounded(lambda value: whole(value) is not None, LONGEST)


KEY_PATTERNS = frozenset({"keyMatch", *_PLACES})

PREPARED: Mapping[str, Callable[[str], Callable[..., bool]]] = MappingProxyType(
    {
        "oneOf": one_of,
        "apiGroupMatch": api_group_match,
        "resourceMatch": resource_match,
        "pathMatch": path_match,
        "inGroups": in_groups,
        "keyMatch": key_match,
        **{function: _key_matcher(function) for function in _PLACES},
        "regexMatch": regex_match,
        "ipMatch": ip_match,
    }
)
"""The functions, each as what it makes of a pattern: a test of values."""


@lru_cache(maxsize=4096)
def _prepared(function: str, pattern: str) -> Callable[..., bool]:
    return PREPARED[function](pattern)


def _plain(function: str) -> Callable[..., bool]:
    def matches(*arguments: str) -> bool:
        *values, pattern = arguments
        return _prepared(function, pattern)(*values)

    return matches


FUNCTIONS: Mapping[str, Callable[..., bool]] = MappingProxyType({function: _plain(function) for function in PREPARED})
"""The same as matchers call them, with the pattern last: in place of casbin's own, or besides."""

PURE = frozenset({*FUNCTIONS, "globMatch"})
"""Functions whose answer depends on their arguments alone, so that a verdict can be remembered."""
