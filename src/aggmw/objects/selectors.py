"""Field and label selectors as authorization has to know them: whether they parse, and what they demand.

Follows `k8s.io/apimachinery/pkg/fields` and `…/labels`. Whatever is in doubt counts as unparsable, and what does not
parse demands nothing: then the caller needs the permission for the whole collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "Requirement",
    "exact_name",
    "field_demands",
    "field_requirements",
    "field_selector",
    "is_label_key",
    "is_label_selector",
    "is_label_value",
    "label_demands",
    "label_requirements",
    "label_selector",
]

_OPERATOR = re.compile(r"!=|==|=")
_VALUE = re.compile(r"(?:[^\\,=]|\\[\\,=])*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = re.compile(r"[\\,=]")

_REQUIREMENT = re.compile(
    r"""[ \t\r\n]*+(?:
        ![ \t\r\n]*+(?P<absent>[-\w./]+)
      | (?P<key>[-\w./]+)(?:
            [ \t\r\n]*+(?P<equal>==?|!=)[ \t\r\n]*+(?P<value>[-\w.]*)
          | [ \t\r\n]*+(?P<order>[<>])[ \t\r\n]*+(?P<number>[0-9]{1,18})
          | [ \t\r\n]+(?P<in>in|notin)[ \t\r\n]*+\((?P<set>[-\w.,\ \t\r\n]*)\)
        )?
    )[ \t\r\n]*+(?P<end>,|\Z)""",
    re.VERBOSE | re.ASCII,
)
_NUMBER = re.compile(r"[0-9]{1,18}")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


class Requirement(NamedTuple):
    """One demand of a selector (`metav1.FieldSelectorRequirement`, `metav1.LabelSelectorRequirement`).

    Attributes:
        key: the field or label.
        operator: In, NotIn, Exists, DoesNotExist; of labels also GreaterThan and LessThan.
        values: what it is compared with.
    """

    key: str
    operator: str
    values: Sequence[str] = ()


def field_selector(selector: str) -> str:
    """A field selector in the one spelling of its demands: sorted, none twice; "" when it does not parse."""
    return field_demands(_parsed_fields(selector) or ())[0]


def label_selector(selector: str) -> str:
    """A label selector in the one spelling of its demands: sorted, none twice; "" when it does not parse."""
    return label_demands(_parsed_labels(selector) or ())[0]


def field_requirements(selector: str) -> Sequence[Requirement]:
    """What a field selector demands; nothing when it does not parse."""
    return _parsed_fields(selector) or ()


def label_requirements(selector: str) -> Sequence[Requirement]:
    """What a label selector demands; nothing when it does not parse."""
    return _parsed_labels(selector) or ()


def field_demands(requirements: Iterable[Requirement]) -> tuple[str, int]:
    """The field selector of some requirements, as `field_selector` spells it, and how many it cannot say.

    What a field selector can say is that a field is, or is not, one value.
    """
    terms: set[str] = set()
    lost = 0
    for key, operator, values in requirements:
        if operator in ("In", "NotIn") and len(values) == 1 and key and not _OPERATOR.search(key) and "," not in key:
            terms.add(f"{key}{'=' if operator == 'In' else '!='}{_SPECIAL.sub(_escape, values[0])}")
        else:
            lost += 1
    return ",".join(sorted(terms)), lost


def label_demands(requirements: Iterable[Requirement]) -> tuple[str, int]:
    """The label selector of some requirements, as `label_selector` spells it, and how many it cannot say."""
    terms: set[str] = set()
    lost = 0
    for requirement in requirements:
        term = _label_term(requirement)
        if term:
            terms.add(term)
        else:
            lost += 1
    return ",".join(sorted(terms)), lost


def _label_term(requirement: Requirement) -> str:
    """One demand as labels write it; "" when it is none."""
    key, operator, values = requirement
    if not is_label_key(key) or not all(map(is_label_value, values)):
        return ""
    match operator, tuple(sorted(set(values))):
        case "Exists", ():
            return key
        case "DoesNotExist", ():
            return f"!{key}"
        case "In", (value,):
            return f"{key}={value}"
        case "NotIn", (value,):
            return f"{key}!={value}"
        case "In" | "NotIn", (_, *_) as several:
            return f"{key} {operator.lower()} ({','.join(several)})"
        case "GreaterThan" | "LessThan", (value,) if _NUMBER.fullmatch(value):
            return f"{key}{'>' if operator == 'GreaterThan' else '<'}{int(value)}"
    return ""


def exact_name(selector: str) -> str:
    """The X of a field selector that demands exactly `metadata.name=X`.

    Returns:
        "" when it demands none or several, does not parse, or X cannot be one path segment (`RequiresExactMatch`,
        `path.IsValidPathSegmentName`).
    """
    names = {
        value
        for key, operator, (value, *_) in _parsed_fields(selector) or ()
        if key == "metadata.name" and operator == "In"
    }
    if len(names) != 1:
        return ""
    name = names.pop()
    return "" if name in (".", "..") or "/" in name or "%" in name else name


def _parsed_fields(selector: str) -> list[Requirement] | None:
    """What a field selector demands; None when it does not parse."""
    found: list[Requirement] = []
    for term in _terms(selector):
        if not term:
            continue
        operator = _OPERATOR.search(term)
        if operator is None:
            return None
        value = term[operator.end() :]
        if not _VALUE.fullmatch(value):
            return None
        said = "NotIn" if operator.group() == "!=" else "In"
        found.append(Requirement(term[: operator.start()], said, (_ESCAPED.sub(r"\1", value),)))
    return found


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


def _escape(found: re.Match[str]) -> str:
    return f"\\{found.group()}"


def is_label_selector(selector: str) -> bool:
    """Whether `selector` parses as a label selector; empty ones do."""
    return _parsed_labels(selector) is not None


def _parsed_labels(selector: str) -> list[Requirement] | None:
    """What a label selector demands; None when it does not parse."""
    found: list[Requirement] = []
    if not selector.strip(" \t\r\n"):
        return found
    position, more = 0, True
    while more:
        match = _REQUIREMENT.match(selector, position)
        if match is None:
            return None
        requirement = _requirement(match)
        if not is_label_key(requirement.key) or not all(map(is_label_value, requirement.values)):
            return None
        found.append(requirement)
        position, more = match.end(), match["end"] == ","
    return found


def _requirement(match: re.Match[str]) -> Requirement:
    key = match["key"]
    if key is None:
        return Requirement(match["absent"], "DoesNotExist")
    if match["equal"]:
        return Requirement(key, "NotIn" if match["equal"] == "!=" else "In", (match["value"],))
    if match["order"]:
        return Requirement(key, "GreaterThan" if match["order"] == ">" else "LessThan", (match["number"],))
    if match["in"]:
        values = tuple(value.strip(" \t\r\n") for value in match["set"].split(","))
        return Requirement(key, "In" if match["in"] == "in" else "NotIn", values)
    return Requirement(key, "Exists")


def is_label_key(key: str) -> bool:
    """Whether it can be the key of a label: a name, perhaps with a domain and a slash before it."""
    domain, slash, name = key.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or bool(_DOMAIN.fullmatch(domain)))


def is_label_value(value: str) -> bool:
    """Whether it can be the value of a label; "" can."""
    return not value or bool(_LABEL_NAME.fullmatch(value))
