"""The macros that go over lists and maps, and those that bind a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from aggmw.objects.cel.errors import CelBudgetExceeded, CelEvaluationError
from aggmw.objects.cel.values import MISSING, NONE, Evaluate, Frame, Optional, Value, kind_of

__all__ = ["LOOPS", "Fail", "decided"]

Fail = Callable[[str], NoReturn]
Make = Callable[[Evaluate, Sequence[int], Evaluate | None, Evaluate, int, Fail], Evaluate]


def _rounds(
    frame: Frame, over: Evaluate, slots: Sequence[int], steps: int, fail: Fail
) -> Iterable[tuple[Value, Value]]:
    """Bind the names for each element, one after the other, and charge for it.

    Yields:
        the key or index, and the element; for a map and one name, the key twice.
    """
    values = over(frame)
    bound = frame.slots
    first = slots[0]
    if type(values) is dict:
        pairs: Iterable[tuple[Value, Value]] = values.items() if len(slots) == 2 else ((key, key) for key in values)
    elif type(values) is list:
        pairs = enumerate(values)
    else:
        fail(f"no such overload: {kind_of(values)} where a list or a map is expected")
    for key, value in pairs:
        frame.left -= steps
        if frame.left < 0:
            raise CelBudgetExceeded(frame.budget)
        if len(slots) == 2:
            bound[first] = key
            bound[slots[1]] = value
        else:
            bound[first] = value
        yield key, value


def decided(frame: Frame, parts: Iterable[Evaluate], decides: bool, fail: Fail) -> Value:
    """Whether any of the parts says `decides`, also where another one fails; what else they say is an error."""
    error: CelEvaluationError | None = None
    other: Value = MISSING
    for part in parts:
        try:
            value = part(frame)
        except CelEvaluationError as failed:
            error = error or failed
            continue
        if value is decides:
            return decides
        if value is not True and value is not False:
            other = value
    if error is not None:
        raise error
    if other is not MISSING:
        fail(f"no such overload: {kind_of(other)} where a bool is expected")
    return not decides


def _quantifier(decides: bool) -> Make:
    """`all` is decided by the first false, `exists` by the first true; an error counts only where nothing decides."""

    def make(
        over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
    ) -> Evaluate:
        def quantify(frame: Frame) -> Value:
            return decided(frame, (body for _ in _rounds(frame, over, slots, steps, fail)), decides, fail)

        return quantify

    return make


def _is_true(value: Value, fail: Fail) -> bool:
    if value is True or value is False:
        return bool(value)
    fail(f"no such overload: {kind_of(value)} where a bool is expected")


def _exists_one(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    def exists_one(frame: Frame) -> Value:
        return sum(_is_true(body(frame), fail) for _ in _rounds(frame, over, slots, steps, fail)) == 1

    return exists_one


def _filter(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    def kept(frame: Frame) -> Value:
        return [value for _, value in _rounds(frame, over, slots, steps, fail) if _is_true(body(frame), fail)]

    return kept


def _map(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    def mapped(frame: Frame) -> Value:
        return [
            body(frame)
            for _ in _rounds(frame, over, slots, steps, fail)
            if condition is None or _is_true(condition(frame), fail)
        ]

    return mapped


def _transform_map(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    def transformed(frame: Frame) -> Value:
        return {
            key: body(frame)
            for key, _ in _rounds(frame, over, slots, steps, fail)
            if condition is None or _is_true(condition(frame), fail)
        }

    return transformed


def _transform_entries(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    def transformed(frame: Frame) -> Value:
        made: dict[Value, Value] = {}
        for _ in _rounds(frame, over, slots, steps, fail):
            if condition is not None and not _is_true(condition(frame), fail):
                continue
            entry = body(frame)
            if type(entry) is not dict:
                fail(f"no such overload: {kind_of(entry)} where a map of one entry is expected")
            frame.charge(len(entry))
            for key, value in entry.items():
                if key in made:
                    fail("Failed with repeated key")
                made[key] = value
        return made

    return transformed


def _bind(
    over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
) -> Evaluate:
    (slot,) = slots

    def bind(frame: Frame) -> Value:
        frame.slots[slot] = over(frame)
        return body(frame)

    return bind


def _optional(flat: bool) -> Make:
    def make(
        over: Evaluate, slots: Sequence[int], condition: Evaluate | None, body: Evaluate, steps: int, fail: Fail
    ) -> Evaluate:
        (slot,) = slots

        def mapped(frame: Frame) -> Value:
            value = over(frame)
            if type(value) is not Optional:
                fail(f"no such overload: {kind_of(value)} where an optional is expected")
            if not value.present:
                return NONE
            frame.slots[slot] = value.value
            result = body(frame)
            if not flat:
                return Optional(result)
            if type(result) is not Optional:
                fail(f"no such overload: {kind_of(result)} where an optional is expected")
            return result

        return mapped

    return make


LOOPS: dict[str, Make] = {
    "all": _quantifier(False),
    "exists": _quantifier(True),
    "exists_one": _exists_one,
    "existsOne": _exists_one,
    "filter": _filter,
    "map": _map,
    "transformList": _map,
    "transformMap": _transform_map,
    "transformMapEntry": _transform_entries,
    "bind": _bind,
    "optMap": _optional(flat=False),
    "optFlatMap": _optional(flat=True),
}
