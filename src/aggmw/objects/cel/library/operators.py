"""Operators: arithmetic with its ranges, comparison across types of numbers; langdef.md, "Standard definitions".

`&&`, `||`, `?:`, `==`, `in` and `[]` are the planner's; here are their types only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.library.times import duration_of, moment_of
from aggmw.objects.cel.values import INT_MAX, INT_MIN, UINT_MAX, UInt, Value

__all__ = ["library"]

library = Library()

library.add("_==_(A, A) -> bool")
library.add("_!=_(A, A) -> bool")
library.add("@in(A, list(A)) -> bool")
library.add("@in(A, map(A, B)) -> bool")
library.add("_[_](list(A), int) -> A")
library.add("_[_](map(A, B), A) -> B")
library.add("_[_](optional(list(A)), int) -> optional(A)")
library.add("_[_](optional(map(A, B)), A) -> optional(B)")
library.add("_[?_](list(A), int) -> optional(A)")
library.add("_[?_](map(A, B), A) -> optional(B)")
library.add("_[?_](optional(list(A)), int) -> optional(A)")
library.add("_[?_](optional(map(A, B)), A) -> optional(B)")


def signed(value: int) -> int:
    """An int of 64 bits.

    Raises:
        CelEvaluationError: it is too large.
    """
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CelEvaluationError("return error for overflow: the number does not fit into an int")


def unsigned(value: int) -> UInt:
    """A uint of 64 bits.

    Raises:
        CelEvaluationError: it is negative or too large.
    """
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise CelEvaluationError("return error for overflow: the number does not fit into a uint")


@library.overload("_+_(int, int) -> int")
def _add(one: int, other: int) -> int:
    return signed(one + other)


@library.overload("_-_(int, int) -> int")
def _subtract(one: int, other: int) -> int:
    return signed(one - other)


@library.overload("_*_(int, int) -> int")
def _multiply(one: int, other: int) -> int:
    return signed(one * other)


@library.overload("_/_(int, int) -> int")
def _divide(one: int, other: int) -> int:
    if other == 0:
        raise CelEvaluationError("divide by zero")
    quotient = abs(one) // abs(other)
    return signed(quotient if (one < 0) == (other < 0) else -quotient)


@library.overload("_%_(int, int) -> int")
def _modulo(one: int, other: int) -> int:
    if other == 0:
        raise CelEvaluationError("modulus by zero")
    rest = abs(one) % abs(other)
    return -rest if one < 0 else rest


@library.overload("_+_(uint, uint) -> uint")
def _add_unsigned(one: UInt, other: UInt) -> UInt:
    return unsigned(int(one) + int(other))


@library.overload("_-_(uint, uint) -> uint")
def _subtract_unsigned(one: UInt, other: UInt) -> UInt:
    return unsigned(int(one) - int(other))


@library.overload("_*_(uint, uint) -> uint")
def _multiply_unsigned(one: UInt, other: UInt) -> UInt:
    return unsigned(int(one) * int(other))


@library.overload("_/_(uint, uint) -> uint")
def _divide_unsigned(one: UInt, other: UInt) -> UInt:
    if other == 0:
        raise CelEvaluationError("divide by zero")
    return UInt(int(one) // int(other))


@library.overload("_%_(uint, uint) -> uint")
def _modulo_unsigned(one: UInt, other: UInt) -> UInt:
    if other == 0:
        raise CelEvaluationError("modulus by zero")
    return UInt(int(one) % int(other))


library.add("_+_(double, double) -> double", operator.add)
library.add("_-_(double, double) -> double", operator.sub)
library.add("_*_(double, double) -> double", operator.mul)


@library.overload("_/_(double, double) -> double")
def _divide_double(one: float, other: float) -> float:
    if other != 0.0:
        return one / other
    if one == 0.0 or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1.0, other)


def _sum_of_sizes(one: Value, other: Value) -> int:
    return (len(one) + len(other)) // 10


library.add("_+_(string, string) -> string", operator.add, _sum_of_sizes)
library.add("_+_(bytes, bytes) -> bytes", operator.add, _sum_of_sizes)
library.add("_+_(list(A), list(A)) -> list(A)", operator.add, _sum_of_sizes)


@library.overload("_+_(timestamp, duration) -> timestamp")
def _later(one: datetime, other: timedelta) -> datetime:
    return moment_of(one, other)


@library.overload("_+_(duration, timestamp) -> timestamp")
def _later_still(one: timedelta, other: datetime) -> datetime:
    return moment_of(other, one)


@library.overload("_-_(timestamp, duration) -> timestamp")
def _earlier(one: datetime, other: timedelta) -> datetime:
    return moment_of(one, -other)


@library.overload("_+_(duration, duration) -> duration")
def _longer(one: timedelta, other: timedelta) -> timedelta:
    return duration_of(one + other)


@library.overload("_-_(duration, duration) -> duration")
def _shorter(one: timedelta, other: timedelta) -> timedelta:
    return duration_of(one - other)


@library.overload("_-_(timestamp, timestamp) -> duration")
def _between(one: datetime, other: datetime) -> timedelta:
    return duration_of(one - other)


@library.overload("-_(int) -> int")
def _negate(value: int) -> int:
    return signed(-value)


library.add("-_(double) -> double", operator.neg)


@library.overload("!_(bool) -> bool")
def _not(value: bool) -> bool:
    return not value


def _shorter_size(one: Value, other: Value) -> int:
    return min(len(one), len(other)) // 100


def _compared(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    return lambda one, other: bool(compare(one, other))


for _sign, _compare in {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}.items():
    for _kind in ("bool", "int", "uint", "double", "timestamp", "duration"):
        library.add(f"_{_sign}_({_kind}, {_kind}) -> bool", _compared(_compare))
    for _kind in ("string", "bytes"):
        library.add(f"_{_sign}_({_kind}, {_kind}) -> bool", _compared(_compare), _shorter_size)
    for _one in ("int", "uint", "double"):
        for _other in {"int", "uint", "double"} - {_one}:
            library.add(f"_{_sign}_({_one}, {_other}) -> bool", _compared(_compare))
