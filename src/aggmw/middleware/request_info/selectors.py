"""What the parser has to know of selectors: whether they parse, and the one name that a field selector demands.

Follows `k8s.io/apimachinery/pkg/fields` and `…/labels`. Whatever is in doubt counts as unparsable: then no name is set
and the caller needs the permission for the whole collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["exact_name", "is_label_selector"]

_OPERATOR = re.compile(r"!=|==|=")
_VALUE = re.compile(r"(?:[^\\,=]|\\[\\,=])*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_REQUIREMENT = re.compile(
    r"""[ \t\r\n]*+(?:
        ![ \t\r\n]*+(?P<absent>[-\w./]+)
      | (?P<key>[-\w./]+)(?:
            [ \t\r\n]*+(?:==?|!=)[ \t\r\n]*+(?P<value>[-\w.]*)
          | [ \t\r\n]*+[<>][ \t\r\n]*+[0-9]{1,18}
          | [ \t\r\n]+(?:in|notin)[ \t\r\n]*+\((?P<set>[-\w.,\ \t\r\n]*)\)
        )?
    )[ \t\r\n]*+(?P<end>,|\Z)""",
    re.VERBOSE | re.ASCII,
)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def exact_name(selector: str) -> str:
    """The X of a field selector that demands exactly `metadata.name=X`.

    Returns:
        "" when it demands none or several, does not parse, or X cannot be one path segment (`RequiresExactMatch`,
        `path.IsValidPathSegmentName`).
    """
    names = set()
    for term in _terms(selector):
        if not term:
            continue
        operator = _OPERATOR.search(term)
        if operator is None:
            return ""
        value = term[operator.end() :]
        if not _VALUE.fullmatch(value):
            return ""
        if term[: operator.start()] == "metadata.name" and operator.group() != "!=":
            names.add(_ESCAPED.sub(r"\1", value))
    if len(names) != 1:
        return ""
    name = names.pop()
    return "" if name in (".", "..") or "/" in name or "%" in name else name


def _terms(selector: str) -> Iterator[str]:
    """The terms between commas that no backslash precedes."""
    if "\\" not in selector:
        yield from selector.split(",")
        return
    start, escaped = 0, False
    for index, character in enumerate(selector):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            yield selector[start:index]
            start = index + 1
    yield selector[start:]


def is_label_selector(selector: str) -> bool:
    """Whether `selector` parses as a label selector; empty ones do."""
    if not selector.strip(" \t\r\n"):
        return True
    position, more = 0, True
    while more:
        found = _REQUIREMENT.match(selector, position)
        if found is None or not _is_key(found["absent"] or found["key"]) or not _are_values(found):
            return False
        position, more = found.end(), found["end"] == ","
    return True


def _is_key(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or bool(_DOMAIN.fullmatch(domain)))


def _are_values(found: re.Match[str]) -> bool:
    values = (found["set"] or found["value"] or "").split(",")
    return all(not (value := each.strip(" \t\r\n")) or _LABEL_NAME.fullmatch(value) for each in values)
