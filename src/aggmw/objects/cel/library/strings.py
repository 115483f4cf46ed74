"""Strings: CEL's own functions, cel-go's `ext.Strings`, and Kubernetes' `find` and `findAll`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.library.conversions import show_double
from aggmw.objects.cel.library.times import show_duration, show_moment
from aggmw.objects.cel.values import TypeValue, Value, kind_of
from aggmw.objects.re2 import BadPattern, Pattern, compile_pattern

__all__ = ["library"]

library = Library()

_HALF = re.compile("[\ud800-\udfff]")


def _tenth(text: Value, *rest: Value) -> int:
    return len(text) // 10


library.add("size(string) -> int", len)
library.add("string.size() -> int", len)
library.add("size(bytes) -> int", len)
library.add("bytes.size() -> int", len)


@library.overload("string.contains(string) -> bool", cost=_tenth)
def _contains(text: str, part: str) -> bool:
    return part in text


@library.overload("string.startsWith(string) -> bool", cost=lambda text, part: len(part) // 10)
def _starts(text: str, part: str) -> bool:
    return text.startswith(part)


@library.overload("string.endsWith(string) -> bool", cost=lambda text, part: len(part) // 10)
def _ends(text: str, part: str) -> bool:
    return text.endswith(part)


def _matching(text: str, pattern: str, *rest: Value) -> int:
    # Kubernetes' estimate: the text times the pattern, each in its own unit.
    return (len(text) // 10 + 1) * (len(pattern) // 4 + 1)


def _whole(text: str) -> str:
    """Half a pair of surrogates, which JSON can say and UTF-8 cannot, is what Go makes of it."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def _pattern(text: str) -> Pattern:
    try:
        return compile_pattern(_whole(text))
    except BadPattern as error:
        raise CelEvaluationError(str(error)) from None


@library.overload("string.matches(string) -> bool", "matches(string, string) -> bool", cost=_matching)
def _matches(text: str, pattern: str) -> bool:
    return _pattern(pattern).search(_whole(text)) is not None


@library.overload("string.find(string) -> string", cost=_matching)
def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(_whole(text))
    return "" if found is None else found.group(0)


@library.overload(
    "string.findAll(string) -> list(string)", "string.findAll(string, int) -> list(string)", cost=_matching
)
def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    compiled = _pattern(pattern)
    for each in compiled.finditer(_whole(text)):
        if 0 <= limit <= len(found):
            break
        found.append(each.group(0))
    return found


def _at(text: str, place: int) -> int:
    if 0 <= place <= len(text):
        return place
    raise CelEvaluationError("index out of range")


@library.overload("string.charAt(int) -> string")
def _char_at(text: str, place: int) -> str:
    return text[_at(text, place) : place + 1]


@library.overload("string.indexOf(string) -> int", "string.indexOf(string, int) -> int", cost=_tenth)
def _index_of(text: str, part: str, start: int = 0) -> int:
    return text.find(part, _at(text, start))


@library.overload("string.lastIndexOf(string) -> int", "string.lastIndexOf(string, int) -> int", cost=_tenth)
def _last_index_of(text: str, part: str, last: int | None = None) -> int:
    return text.rfind(part) if last is None else text.rfind(part, 0, _at(text, last) + len(part))


# Only ASCII letters change, whatever the language.
_LOWER = {code: code + 32 for code in range(65, 91)}
_UPPER = {code: code - 32 for code in range(97, 123)}
library.add("string.lowerAscii() -> string", lambda text: text.translate(_LOWER), _tenth)
library.add("string.upperAscii() -> string", lambda text: text.translate(_UPPER), _tenth)
library.add("string.trim() -> string", str.strip, _tenth)
library.add("string.reverse() -> string", lambda text: text[::-1], _tenth)


def _replacing(text: str, old: str, new: str, limit: int = -1) -> int:
    return (len(text) + text.count(old) * len(new)) // 10


@library.overload(
    "string.replace(string, string) -> string", "string.replace(string, string, int) -> string", cost=_replacing
)
def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit)


@library.overload(
    "string.split(string) -> list(string)",
    "string.split(string, int) -> list(string)",
    cost=lambda text, *rest: len(text) // 5,
)
def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not separator:
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


@library.overload("string.substring(int) -> string", "string.substring(int, int) -> string", cost=_tenth)
def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else _at(text, end)
    if _at(text, start) > last:
        raise CelEvaluationError("invalid substring range")
    return text[start:last]


def _joining(parts: list[Value], separator: str = "") -> int:
    return sum(len(each) + len(separator) for each in parts if isinstance(each, str)) // 10 + len(parts) // 10


@library.overload("list(string).join() -> string", "list(string).join(string) -> string", cost=_joining)
def _join(parts: list[Value], separator: str = "") -> str:
    if not all(isinstance(each, str) for each in parts):
        raise CelEvaluationError("no such overload: join of a list that holds more than strings")
    return separator.join(parts)


_QUOTED = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_QUOTED |= {"\\": r"\\", '"': r"\""}


@library.overload("@strings.quote(string) -> string", cost=_tenth)
def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(each, each) for each in text) + '"'


# format: cel-go's ext/formatting.go.

_CLAUSE = re.compile(r"%(?:(%)|(?:\.([0-9]{1,3}))?([a-zA-Z])|)")


def _formatting(weights: Sequence[int], text: str, values: list[Value]) -> int:
    # A weight is 1 for up to 100 characters.
    return 10 * sum(weights)


@library.overload("string.format(list(dyn)) -> string", cost=_formatting, weighs=True)
def _format(text: str, values: list[Value]) -> str:
    taken = iter(values)

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return "%"
        verb = match[3]
        if verb not in _VERBS:
            raise CelEvaluationError("could not parse formatting clause")
        try:
            value = next(taken)
        except StopIteration:
            raise CelEvaluationError("format: there are fewer arguments than clauses") from None
        return _VERBS[verb](value, 6 if match[2] is None else int(match[2]))

    return _CLAUSE.sub(one, text)


def _shown(value: Value, precision: int = 6) -> str:
    """`%s`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return _special(value) or show_double(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, datetime):
        return show_moment(value)
    if isinstance(value, timedelta):
        return show_duration(value)
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{_shown(key)}: {_shown(each)}" for key, each in value.items())) + "}"
    raise _unfit("s", value)


def _special(value: float) -> str:
    return (
        "NaN" if math.isnan(value) else "Infinity" if value == math.inf else "-Infinity" if value == -math.inf else ""
    )


def _unfit(verb: str, value: Value) -> CelEvaluationError:
    return CelEvaluationError(f"error during formatting: %{verb} does not take a {kind_of(value)}")


def _number(verb: str, show: Callable[[int], str]) -> Callable[[Value, int], str]:
    def shown(value: Value, precision: int) -> str:
        if isinstance(value, bool) and verb == "b":
            return "1" if value else "0"
        if isinstance(value, float) and verb == "d" and _special(value):
            return _special(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _unfit(verb, value)
        return show(int(value))

    return shown


def _hexadecimal(verb: str) -> Callable[[Value, int], str]:
    def shown(value: Value, precision: int) -> str:
        if isinstance(value, str | bytes):
            digits = (value.encode("utf-8", "replace") if isinstance(value, str) else value).hex()
            return digits.upper() if verb == "X" else digits
        return _number(verb, lambda number: format(number, verb))(value, precision)

    return shown


def _fraction(verb: str) -> Callable[[Value, int], str]:
    def shown(value: Value, precision: int) -> str:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _unfit(verb, value)
        return _special(float(value)) or format(float(value), f".{precision}{verb}")

    return shown


_VERBS: dict[str, Callable[[Value, int], str]] = {
    "s": _shown,
    "d": _number("d", str),
    "b": _number("b", lambda number: format(number, "b")),
    "o": _number("o", lambda number: format(number, "o")),
    "x": _hexadecimal("x"),
    "X": _hexadecimal("X"),
    "f": _fraction("f"),
    "e": _fraction("e"),
}
