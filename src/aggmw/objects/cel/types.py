"""Types of expressions: what the checker infers, and how signatures are written (`"list(string)"`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "INT",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "UINT",
    "UNKNOWN",
    "Type",
    "assignable",
    "common",
    "list_of",
    "map_of",
    "object_of",
    "optional_of",
    "parse_type",
    "replaced",
    "type_of",
]


@dataclass(frozen=True, slots=True)
class Type:
    """A type. `name` is a simple type's, "list", "map", "optional", "type", a parameter's ("A"), or an object's.

    Args:
        name: as above.
        parameters: of a list, a map, an optional, a type.
        fields: of an object; None where it is none.
    """

    name: str
    parameters: tuple[Type, ...] = ()
    fields: Mapping[str, Type] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        name = {"optional": "optional_type", "_": "dyn"}.get(self.name, self.name)
        return f"{name}({', '.join(map(str, self.parameters))})" if self.parameters else name

    @property
    def is_parameter(self) -> bool:
        return len(self.name) == 1


DYN, NULL, BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION = map(
    Type, ("dyn", "null", "bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
)
UNKNOWN = Type("_")
"""What an empty list holds: whatever is needed."""


def list_of(element: Type) -> Type:
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional", (value,))


def type_of(value: Type) -> Type:
    return Type("type", (value,))


def object_of(name: str, fields: Mapping[str, str | Type]) -> Type:
    """An object with these fields and no others. Its values are maps with the fields as keys.

    Args:
        name: for messages, such as "kubernetes.UserInfo".
        fields: their types.
    """
    typed = {key: parse_type(each) if isinstance(each, str) else each for key, each in fields.items()}
    return Type(name, (), typed)


_TOKEN = re.compile(r"\s*([A-Za-z_.]+|[(),])")
_ARITY = {"list": 1, "map": 2, "optional": 1, "type": 1}
_OPAQUE = ("url", "ip", "cidr", "quantity", "semver")
_SIMPLE = {each.name: each for each in (DYN, NULL, BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION)}
_SIMPLE |= {"any": DYN, "null_type": NULL}
_SIMPLE |= {name: Type(name) for name in (*_OPAQUE, *"ABCDEFGHIJKLM")}


@cache
def parse_type(text: str) -> Type:
    """A type as it is written: `map(string, list(dyn))`.

    Raises:
        ValueError: it is none.
    """
    found, end = _parse(text, 0)
    if text[end:].strip():
        raise ValueError(f"not a type of CEL: {text!r}")
    return found


def _parse(text: str, start: int) -> tuple[Type, int]:
    name, end = _token(text, start)
    if name in _SIMPLE:
        return _SIMPLE[name], end
    if name not in _ARITY:
        raise ValueError(f"not a type of CEL: {text!r}")
    parameters: list[Type] = []
    separator, after = _token(text, end)
    if separator != "(":
        return Type(name, (DYN,) * _ARITY[name]), end
    while separator != ")":
        parameter, end = _parse(text, after)
        parameters.append(parameter)
        separator, after = _token(text, end)
        if separator not in (",", ")"):
            raise ValueError(f"not a type of CEL: {text!r}")
    if len(parameters) != _ARITY[name]:
        raise ValueError(f"not a type of CEL: {text!r}")
    return Type(name, tuple(parameters)), after


def _token(text: str, start: int) -> tuple[str, int]:
    match = _TOKEN.match(text, start)
    return (match.group(1), match.end()) if match else ("", len(text))


def assignable(wanted: Type, given: Type, bound: dict[str, Type]) -> bool:
    """Whether an argument of the type `given` may stand where `wanted` is.

    What parameters stand for is added to `bound`.
    """
    if wanted.is_parameter:
        before = bound.get(wanted.name)
        if before is None or before == DYN:
            bound[wanted.name] = given if before is None else before
            return True
        if before == UNKNOWN or given == UNKNOWN:
            bound[wanted.name] = given if before == UNKNOWN else before
            return True
        if given == DYN:
            bound[wanted.name] = DYN
            return True
        if not assignable(before, given, bound) and not assignable(given, before, bound):
            return False
        bound[wanted.name] = common(before, given)
        return True
    if wanted == DYN or given == DYN or given.is_parameter:
        return True
    if given == NULL and (wanted.fields is not None or wanted.name in ("timestamp", "duration", "optional")):
        return True
    if wanted.name == given.name == "type":
        return True
    if wanted.name != given.name or len(wanted.parameters) != len(given.parameters):
        return False
    return all(assignable(a, b, bound) for a, b in zip(wanted.parameters, given.parameters, strict=True))


def replaced(result: Type, bound: Mapping[str, Type]) -> Type:
    """A result's type with its parameters filled in; those of which nothing is known become dyn."""
    if result.is_parameter:
        return bound.get(result.name, DYN)
    if not result.parameters:
        return result
    return Type(result.name, tuple(replaced(each, bound) for each in result.parameters))


def common(one: Type | None, other: Type) -> Type:
    """The type of what may be either: theirs where it is one, else dyn."""
    if one is None or one in (other, UNKNOWN):
        return other
    if other == UNKNOWN:
        return one
    if one.name == other.name and len(one.parameters) == len(other.parameters) and one.parameters:
        return Type(one.name, tuple(common(a, b) for a, b in zip(one.parameters, other.parameters, strict=True)))
    if one == NULL and other.fields is not None:
        return other
    return DYN
