"""What an access review asks: its mistakes, and the attributes that it stands for.

Follows `pkg/apis/authorization/validation` and `pkg/registry/authorization/util` of Kubernetes. A review has the
attributes of the request that it is about, so both are decided alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import Object
from aggmw.objects.field_errors import FieldError, forbidden_field, invalid_field, required_field, too_long, too_many
from aggmw.objects.selectors import (
    Requirement,
    field_demands,
    field_selector,
    is_label_key,
    is_label_value,
    label_demands,
    label_selector,
)

__all__ = ["NAMELESS", "Asked", "asked", "caller_of", "spec_errors"]

NAMELESS = "system:nameless"
"""The name of the caller in a review that tells groups alone: nobody has it, and no rule is about it."""

_RESOURCE, _PATH = "resourceAttributes", "nonResourceAttributes"
_RAW = "rawSelector"
_SELECTING = frozenset({"list", "watch", "deletecollection"})
_WITH_VALUES, _WITHOUT_VALUES = ("In", "NotIn"), ("Exists", "DoesNotExist")
_MUST = "must be specified"
_MOST = 1_000  # requirements of a selector
_LONGEST = 64 * 1024  # characters of a raw selector, and of everything else: a request has no room for more


class _Selector(NamedTuple):
    """How a selector is read: from a text, and from requirements; and what a text that demands nothing consists of."""

    parse: Callable[[str], str]
    spell: Callable[[Iterable[Requirement]], tuple[str, int]]
    blanks: str


_SELECTORS = {
    "fieldSelector": _Selector(field_selector, field_demands, ",="),
    "labelSelector": _Selector(label_selector, label_demands, " \t\r\n"),
}


class Asked(NamedTuple):
    """What a review asks.

    Attributes:
        attributes: of the request that it is about.
        notes: what of it is not looked at, for `status.evaluationError`.
    """

    attributes: Attributes
    notes: tuple[str, ...] = ()


def spec_errors(spec: Object) -> Iterator[FieldError]:
    """The mistakes in what is asked for; who asks is not looked at."""
    resource, path = spec.get(_RESOURCE), spec.get(_PATH)
    if _is_long(spec):
        yield too_long("spec", _LONGEST)
        return
    if (resource is None) == (path is None):
        yield invalid_field("spec", path, f"exactly one of {_PATH} or {_RESOURCE} must be specified")
    for name in _SELECTORS:
        if (selector := (resource or {}).get(name)) is not None:
            yield from _selector_errors(selector, f"spec.{_RESOURCE}.{name}", labels=name == "labelSelector")


def _is_long(spec: Object) -> bool:
    """Whether the values and their characters, raw selectors aside, are more than a request has room for."""
    room = _LONGEST
    waiting: list[object] = [spec]
    while waiting and room >= 0:
        value = waiting.pop()
        if isinstance(value, str):
            room -= len(value)
        elif isinstance(value, dict):
            room -= sum(map(len, value)) + len(value)
            waiting += [each for name, each in value.items() if name != _RAW or not isinstance(each, str)]
        elif isinstance(value, list):
            room -= len(value)
            waiting += value
    return room < 0


def _selector_errors(selector: Object, path: str, *, labels: bool) -> Iterator[FieldError]:
    raw, requirements = selector.get(_RAW) or "", selector.get("requirements") or ()
    if raw and requirements:
        yield invalid_field(f"{path}.{_RAW}", raw, "may not specified at the same time as requirements")
    if not raw and not requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        yield required_field(f"{path}.requirements", detail)
    if len(requirements) > _MOST:
        yield too_many(f"{path}.requirements", len(requirements), _MOST)
        return
    for number, requirement in enumerate(map(_requirement, requirements)):
        yield from _requirement_errors(requirement, f"{path}.requirements[{number}]", labels=labels)


def _requirement_errors(requirement: Requirement, path: str, *, labels: bool) -> Iterator[FieldError]:
    """Operators that are not known are no mistake: a newer client may know them."""
    key, operator, values = requirement
    if operator in _WITH_VALUES and not values:
        yield required_field(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    if operator in _WITHOUT_VALUES and values:
        yield forbidden_field(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    if not labels:
        if not key:
            yield required_field(f"{path}.key", _MUST)
        return
    if not is_label_key(key):
        yield invalid_field(f"{path}.key", key, "is no label: write NAME or DOMAIN/NAME, as example.com/team")
    for number, value in enumerate(values):
        if not is_label_value(value):
            detail = "is no value of a label: up to 63 letters, digits, '-', '_' and '.', letters or digits at the ends"
            yield invalid_field(f"{path}.values[{number}]", value, detail)


def _requirement(value: Object) -> Requirement:
    return Requirement(value.get("key") or "", value.get("operator") or "", tuple(value.get("values") or ()))


def caller_of(spec: Object) -> Identity:
    """Whom the review is about. Groups are taken as they are; keys of `extra` are in lower case here.

    Raises:
        InvalidIdentity: nobody can be called so here.
    """
    extra: dict[str, list[str]] = {}
    for key, values in (spec.get("extra") or {}).items():
        extra.setdefault(key.lower(), []).extend(values or ())
    return Identity(spec.get("user") or NAMELESS, spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)


def asked(spec: Object, identity: Identity) -> Asked:
    """What a spec without mistakes asks about somebody."""
    resource = spec.get(_RESOURCE)
    if resource is None:
        path = spec[_PATH]
        return Asked(Attributes(identity, path.get("verb") or "", False, path=path.get("path") or ""))

    def text(name: str) -> str:
        return resource.get(name) or ""

    verb = text("verb")
    notes: list[str] = []
    selectors = [_demands(resource, name, verb, notes) for name in _SELECTORS]
    return Asked(
        Attributes(
            identity,
            verb,
            True,
            text("group"),
            text("version") or "*",
            text("resource"),
            text("subresource"),
            text("namespace"),
            text("name"),
            "",
            *selectors,
        ),
        tuple(notes),
    )


def _demands(resource: Object, name: str, verb: str, notes: list[str]) -> str:
    """A selector, as the attributes of a request have it. What is not understood limits nothing, and is noted."""
    selector = resource.get(name)
    if selector is None:
        return ""
    path = f"spec.{_RESOURCE}.{name}"
    if verb not in _SELECTING:
        notes.append(f"{path} ignored: only list, watch and deletecollection have selectors")
        return ""
    parse, spell, blanks = _SELECTORS[name]
    if raw := selector.get(_RAW) or "":
        spelled = parse(raw) if len(raw) <= _LONGEST else ""
        if not spelled and raw.strip(blanks):
            notes.append(f"{path} ignored due to parse error")
        return spelled
    requirements = [_requirement(each) for each in selector.get("requirements") or ()]
    known = [each for each in requirements if each.operator in (*_WITH_VALUES, *_WITHOUT_VALUES)]
    spelled, lost = spell(known)
    if lost or len(known) < len(requirements):
        notes.append(f"{path} {'partially ' if spelled else ''}ignored due to parse error")
    return spelled
