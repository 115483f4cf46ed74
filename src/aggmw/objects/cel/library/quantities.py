"""Quantities (`500m`, `1Gi`) and semantic versions, as Kubernetes' `quantity` and `semver`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.library.operators import signed
from aggmw.objects.cel.values import Quantity, SemVer

__all__ = ["library"]

library = Library()

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?", re.ASCII
)
_SUFFIXES = {
    **{name: Decimal(1000) ** power for power, name in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)},
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", 1)},
}
_LONGEST = 64
_NUMBER = r"(0|[1-9][0-9]{0,17})"
_WORDS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_WORDS}))?(?:\+({_WORDS}))?", re.ASCII)
_LOOSE = re.compile(r"v?([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:\.([0-9]{1,18}))?(.*)", re.ASCII | re.DOTALL)


def _quantity(text: str) -> Quantity | None:
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    scale = Decimal(10) ** int(match[3]) if match[3] else _SUFFIXES[match[2] or ""]
    return Quantity(Decimal(match[1]) * scale)


@library.overload("isQuantity(string) -> bool")
def _is_quantity(text: str) -> bool:
    return _quantity(text) is not None


@library.overload("quantity(string) -> quantity")
def _read(text: str) -> Quantity:
    found = _quantity(text)
    if found is None:
        raise CelEvaluationError("quantity parse error during conversion from string")
    return found


def _whole(value: Quantity) -> bool:
    return value.amount == value.amount.to_integral_value() and abs(value.amount) < 2**63


library.add("quantity.isInteger() -> bool", _whole)


@library.overload("quantity.asInteger() -> int")
def _as_integer(value: Quantity) -> int:
    if not _whole(value):
        raise CelEvaluationError("cannot convert value to integer")
    return signed(int(value.amount))


def _compared(one: Quantity, other: Quantity) -> int:
    return (one.amount > other.amount) - (one.amount < other.amount)


library.add("quantity.asApproximateFloat() -> double", lambda value: float(value.amount))
library.add("quantity.sign() -> int", lambda value: _compared(value, Quantity(Decimal(0))))
library.add("quantity.add(quantity) -> quantity", lambda one, other: Quantity(one.amount + other.amount))
library.add("quantity.add(int) -> quantity", lambda one, other: Quantity(one.amount + other))
library.add("quantity.sub(quantity) -> quantity", lambda one, other: Quantity(one.amount - other.amount))
library.add("quantity.sub(int) -> quantity", lambda one, other: Quantity(one.amount - other))
library.add("quantity.isGreaterThan(quantity) -> bool", lambda one, other: one.amount > other.amount)
library.add("quantity.isLessThan(quantity) -> bool", lambda one, other: one.amount < other.amount)
library.add("quantity.compareTo(quantity) -> int", _compared)


class _Part(NamedTuple):
    """A part of a pre-release: numbers come before words (semver.org §11)."""

    is_word: bool
    number: int
    word: str


def _semver(text: str, normalize: bool = False) -> SemVer | None:
    if len(text) > 256:
        return None
    if normalize and (loose := _LOOSE.fullmatch(text)):
        text = ".".join(str(int(each or "0")) for each in loose.groups()[:3]) + loose[4]
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    parts = match[4].split(".") if match[4] else []
    if any(each.isdigit() and len(each) > 1 and each[0] == "0" for each in parts):
        return None
    before = tuple(_Part(not each.isdigit(), int(each) if each.isdigit() else 0, each) for each in parts)
    return SemVer(int(match[1]), int(match[2]), int(match[3]), before, not before)


@library.overload("isSemver(string) -> bool", "isSemver(string, bool) -> bool")
def _is_semver(text: str, normalize: bool = False) -> bool:
    return _semver(text, normalize) is not None


@library.overload("semver(string) -> semver", "semver(string, bool) -> semver")
def _read_semver(text: str, normalize: bool = False) -> SemVer:
    found = _semver(text, normalize)
    if found is None:
        raise CelEvaluationError("semver parse error during conversion from string")
    return found


library.add("semver.major() -> int", lambda version: version.major)
library.add("semver.minor() -> int", lambda version: version.minor)
library.add("semver.patch() -> int", lambda version: version.patch)
library.add("semver.isGreaterThan(semver) -> bool", lambda one, other: one.order > other.order)
library.add("semver.isLessThan(semver) -> bool", lambda one, other: one.order < other.order)
library.add("semver.compareTo(semver) -> int", lambda one, other: (one.order > other.order) - (one.order < other.order))
