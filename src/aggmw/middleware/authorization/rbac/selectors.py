"""Label selectors (`metav1.LabelSelector`): read from an object, and tried on labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aggmw.objects.fields import Fields

__all__ = ["Requirement", "Selector", "labels_of", "read_selector"]

_KEY = "must be a label's key: NAME or prefix.example.com/NAME, NAME of up to 63 letters, digits, '-', '_' and '.'"
_VALUE = "must be a label's value: up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Requirement(NamedTuple):
    """One condition on a label. Where the label is absent, `NotIn` holds, as `DoesNotExist` does."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        return (value is not None) is (self.operator == "Exists")


class Selector(NamedTuple):
    """All requirements hold; without any, everything is selected."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


def read_selector(fields: Fields) -> Selector:
    """The selector that an object is; its mistakes are reported."""
    fields.only(("matchLabels", "matchExpressions"))
    equal = [Requirement(key, "In", (value,)) for key, value in labels_of(fields, "matchLabels")]
    return Selector((*equal, *(_requirement(each) for each in fields.each("matchExpressions"))))


def _requirement(fields: Fields) -> Requirement:
    fields.only(("key", "operator", "values"))
    key, operator, values = fields.text("key"), fields.text("operator"), tuple(fields.texts("values"))
    if not _is_key(key):
        fields.invalid("key", _KEY)
    if operator not in _OPERATORS:
        fields.invalid("operator", f"must be one of {', '.join(_OPERATORS)}")
    elif operator in _OPERATORS[:2] and not values:
        fields.problem("values", f"must hold at least one value for {operator}")
    elif operator in _OPERATORS[2:] and values:
        fields.problem("values", f"may not be given for {operator}")
    for number, value in enumerate(values):
        if not _is_value(value):
            fields.problem(f"values[{number}]", _VALUE)
    return Requirement(key, operator, values)


def labels_of(fields: Fields, name: str) -> Iterator[tuple[str, str]]:
    """The labels in a field, in the order of their keys; mistakes in them are reported."""
    labels = fields.inner(name)
    if labels is not None:
        for key in sorted(labels.names):
            value = labels.text(key)
            if not _is_key(key):
                labels.problem(key, _KEY)
            if not _is_value(value):
                labels.problem(key, _VALUE)
            yield key, value


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _NAME.fullmatch(name) is not None and (not slash or _PREFIX.fullmatch(prefix) is not None)


def _is_value(value: str) -> bool:
    return not value or _NAME.fullmatch(value) is not None
