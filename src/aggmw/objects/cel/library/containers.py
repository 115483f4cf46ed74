"""Lists, maps and sets: CEL's own functions, cel-go's `ext.Lists` and `ext.Sets`, and Kubernetes' list functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.library.operators import signed, unsigned
from aggmw.objects.cel.values import INT_MAX, Frame, UInt, Value, equal, kind_of

__all__ = ["library"]

library = Library()
List = list[Any]  # CEL's lists hold anything

library.add("size(list(A)) -> int", len)
library.add("list(A).size() -> int", len)
library.add("size(map(A, B)) -> int", len)
library.add("map(A, B).size() -> int", len)


def _length(values: List, *rest: Value) -> int:
    return len(values)


def _same(one: Value, other: Value) -> bool:
    """Equality that was paid for before."""
    return equal(Frame([], INT_MAX), one, other)


def _once(weights: Sequence[int], *values: Value) -> int:
    return weights[0]


def _each(weights: Sequence[int], values: List, wanted: Value) -> int:
    return weights[0] + len(values) * weights[1]


def _pairs(weights: Sequence[int], one: List, other: List) -> int:
    return 2 * (len(other) * weights[0] + len(one) * weights[1])


def _ordered(one: Value, other: Value) -> int:
    numbers = (int, UInt, float)
    if type(one) is not type(other) and not (type(one) in numbers and type(other) in numbers):
        raise CelEvaluationError(f"no such overload: {kind_of(one)} is not compared with {kind_of(other)}")
    if kind_of(one) in ("list", "map", "null", "optional", "type"):
        raise CelEvaluationError(f"no such overload: {kind_of(one)} has no order")
    return -1 if one < other else 1 if other < one else 0


@library.overload("list(A).isSorted() -> bool", cost=_once, weighs=True)
def _is_sorted(values: List) -> bool:
    return all(_ordered(one, other) <= 0 for one, other in pairwise(values))


@library.overload(
    "list(A).sort() -> list(A)", cost=lambda weights, values: weights[0] * len(values).bit_length(), weighs=True
)
def _sort(values: List) -> List:
    return sorted(values, key=cmp_to_key(_ordered))


@library.overload("list(A).min() -> A", cost=_once, weighs=True)
def _min(values: List) -> Value:
    if not values:
        raise CelEvaluationError("min called on empty list")
    return min(values, key=cmp_to_key(_ordered))


@library.overload("list(A).max() -> A", cost=_once, weighs=True)
def _max(values: List) -> Value:
    if not values:
        raise CelEvaluationError("max called on empty list")
    return max(values, key=cmp_to_key(_ordered))


@library.overload("list(A).sum() -> A", cost=_length)
def _sum(values: List) -> Value:
    kinds = {kind_of(each) for each in values}
    if len(kinds) > 1 or not kinds <= {"int", "uint", "double", "duration"}:
        raise CelEvaluationError("no such overload: sum takes numbers or durations, all of one type")
    if not values:
        return 0
    total = sum(values[1:], values[0])
    return {"int": signed, "uint": unsigned}.get(kinds.pop(), lambda each: each)(total)


@library.overload("list(A).indexOf(A) -> int", cost=_each, weighs=True)
def _index_of(values: List, wanted: Value) -> int:
    return next((place for place, each in enumerate(values) if _same(each, wanted)), -1)


@library.overload("list(A).lastIndexOf(A) -> int", cost=_each, weighs=True)
def _last_index_of(values: List, wanted: Value) -> int:
    return next((place for place in range(len(values) - 1, -1, -1) if _same(values[place], wanted)), -1)


@library.overload("list(A).slice(int, int) -> list(A)", cost=_length)
def _slice(values: List, start: int, end: int) -> List:
    if not 0 <= start <= end <= len(values):
        raise CelEvaluationError("cannot slice: the indexes are out of range")
    return values[start:end]


library.add("list(A).reverse() -> list(A)", lambda values: values[::-1], _length)


@library.overload("list(A).distinct() -> list(A)", cost=lambda weights, values: len(values) * weights[0], weighs=True)
def _distinct(values: List) -> List:
    found: List = []
    for each in values:
        if not any(_same(each, other) for other in found):
            found.append(each)
    return found


@library.overload("list(dyn).flatten() -> list(dyn)", "list(dyn).flatten(int) -> list(dyn)", cost=_once, weighs=True)
def _flatten(values: List, depth: int = 1) -> List:
    if depth < 0:
        raise CelEvaluationError("level must be non-negative")
    flat: List = []
    for each in values:
        if isinstance(each, list) and depth > 0:
            flat.extend(_flatten(each, depth - 1))
        else:
            flat.append(each)
    return flat


@library.overload("@lists.range(int) -> list(int)", cost=lambda size: max(0, size))
def _range(size: int) -> List:
    return list(range(size))


def _holds_all(one: List, other: List) -> bool:
    return all(any(_same(a, b) for b in one) for a in other)


@library.overload("@sets.contains(list(A), list(A)) -> bool", cost=_pairs, weighs=True)
def _contains(one: List, other: List) -> bool:
    return _holds_all(one, other)


@library.overload("@sets.intersects(list(A), list(A)) -> bool", cost=_pairs, weighs=True)
def _intersects(one: List, other: List) -> bool:
    return any(any(_same(a, b) for b in other) for a in one)


@library.overload("@sets.equivalent(list(A), list(A)) -> bool", cost=_pairs, weighs=True)
def _equivalent(one: List, other: List) -> bool:
    return _holds_all(one, other) and _holds_all(other, one)
