"""Optional values: cel-go's `OptionalTypes`. `a.?b`, `a[?b]` and `optMap` are the planner's."""

from __future__ import annotations

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.values import NONE, Optional, Value

__all__ = ["library"]

library = Library()


@library.overload("@optional.of(A) -> optional(A)")
def _of(value: Value) -> Optional:
    return Optional(value)


@library.overload("@optional.none() -> optional(A)")
def _none() -> Optional:
    return NONE


@library.overload("@optional.ofNonZeroValue(A) -> optional(A)")
def _of_non_zero(value: Value) -> Optional:
    # What is false in Python is what is zero in CEL: null, false, 0, "", [], {}, and no time at all.
    return Optional(value) if value else NONE


@library.overload("optional(A).hasValue() -> bool")
def _has_value(value: Optional) -> bool:
    return value.present


@library.overload("optional(A).value() -> A")
def _value(value: Optional) -> Value:
    if not value.present:
        raise CelEvaluationError("optional.none() dereference")
    return value.value


@library.overload("optional(A).or(optional(A)) -> optional(A)")
def _or(value: Optional, other: Optional) -> Optional:
    return value if value.present else other


@library.overload("optional(A).orValue(A) -> A")
def _or_value(value: Optional, other: Value) -> Value:
    return value.value if value.present else other
