"""What a policy's text can be found by: the values it matches, or the beginnings of values that it may match.

A key never leaves out a value that the function matches; whether it may be trusted to match is said in `CERTAIN`.
"""

from __future__ import annotations

import ipaddress
import re
import re._constants as op  # type: ignore[import-not-found]  # typeshed knows only the deprecated name, sre_constants
import re._parser as parser  # type: ignore[import-not-found]  # the same
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from aggmw.middleware.authorization.casbin.functions import address

__all__ = ["ANYTHING", "CERTAIN", "KEYS", "TEXTS", "Keys"]


class Keys(NamedTuple):
    """Where a rule is put in an index.

    Attributes:
        exact: values.
        prefixes: beginnings of values.
        anything: every value has to look at it.
    """

    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    anything: bool = False


ANYTHING = Keys(anything=True)
_SPECIAL = {
    "keyMatch2": re.compile(r":[^/]|/\*"),
    "keyMatch3": re.compile(r"\{|/\*"),
    "keyMatch4": re.compile(r"\{|/\*"),
    "keyMatch5": re.compile(r"\{|/\*"),
}
_SLASHES = re.compile("/+")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_.-]*)*")


def _prefix(text: str) -> Keys:
    return Keys(prefixes=(text,)) if text else ANYTHING


def _listed(pattern: str) -> Keys:
    return ANYTHING if pattern == "*" else Keys(tuple(dict.fromkeys(pattern.split("|"))))


def _paths(pattern: str) -> Keys:
    alternatives = pattern.split("|")
    prefixes = tuple(dict.fromkeys(text[:-1] for text in alternatives if text.endswith("*")))
    if "" in prefixes:
        return ANYTHING
    return Keys(tuple(dict.fromkeys(text for text in alternatives if not text.endswith("*"))), prefixes)


def _key_match(pattern: str) -> Keys:
    return _prefix(pattern[:-1]) if pattern.endswith("*") else Keys((pattern,))


def _key_matches(function: str) -> Callable[[str], Keys]:
    def keys(pattern: str) -> Keys:
        if pattern == "*":
            return ANYTHING
        special = _SPECIAL[function].search(pattern)
        return Keys((pattern,)) if special is None else _prefix(pattern[: special.start()])

    return keys


def _regex(pattern: str) -> Keys:
    """The letters that an expression begins with."""
    try:
        tree = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return ANYTHING
    if tree.state.flags & re.IGNORECASE:
        return ANYTHING
    text = ""
    for operator, value in tree:
        if operator is op.LITERAL:
            text += chr(value)
        elif not (operator is op.AT and value in (op.AT_BEGINNING, op.AT_BEGINNING_STRING)):
            break
    return _prefix(text)


def _glob(pattern: str) -> Keys:
    """The plain segments at the beginning; several slashes are one in a glob."""
    plain = _PLAIN.match(_SLASHES.sub("/", pattern))
    return _prefix(plain.group().rstrip("/") if plain else "")


def _network(pattern: str) -> Keys:
    try:
        network = ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return Keys()
    size = len(network.network_address.packed) * 8
    return _prefix(f"{network.version}:{int(network.network_address):0{size}b}"[: 2 + network.prefixlen])


def _address(text: str) -> str:
    """An address as a text that begins as those of all networks it is in."""
    parsed = address(text)
    return f"{parsed.version}:{int(parsed):0{len(parsed.packed) * 8}b}"


KEYS: Mapping[str, Callable[[str], Keys]] = MappingProxyType(
    {
        "oneOf": _listed,
        "apiGroupMatch": _listed,
        "resourceMatch": _listed,
        "inGroups": lambda pattern: Keys(tuple(dict.fromkeys(pattern.split("|")))),
        "pathMatch": _paths,
        "keyMatch": _key_match,
        **{function: _key_matches(function) for function in _SPECIAL},
        "regexMatch": _regex,
        "globMatch": _glob,
        "ipMatch": _network,
    }
)
"""The keys of a pattern, by the function that matches it."""

TEXTS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "keyMatch5": lambda value: value.partition("?")[0],
        "globMatch": lambda value: _SLASHES.sub("/", value),
        "ipMatch": _address,
    }
)
"""How a value is spelled to be looked up, where not as it is."""

CERTAIN = frozenset({"oneOf", "apiGroupMatch", "resourceMatch", "inGroups", "pathMatch", "keyMatch", "ipMatch"})
"""Functions that match what their keys find: they need not be asked again."""
