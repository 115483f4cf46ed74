"""Sets of requests: boxes, each a product of sets of texts, and what can be done with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["ALL", "Box", "Budget", "TooMuch", "Values", "common", "merged", "minus"]


class Values(NamedTuple):
    """Some texts, or all texts but some."""

    texts: frozenset[str]
    but: bool = False

    def __bool__(self) -> bool:
        return self.but or bool(self.texts)

    def __and__(self, other: Values) -> Values:
        if self.but:
            return Values(self.texts | other.texts, True) if other.but else Values(other.texts - self.texts)
        return Values(self.texts - other.texts) if other.but else Values(self.texts & other.texts)

    def __or__(self, other: Values) -> Values:
        return (self.others() & other.others()).others()

    def others(self) -> Values:
        """All texts that are not in it."""
        return Values(self.texts, not self.but)


ALL = Values(frozenset(), True)

Box: TypeAlias = tuple[Values, ...]
"""Requests, each value of which is in the set at its place. None of the sets is empty."""


class TooMuch(Exception):
    """A question whose answer would take too long."""


class Budget:
    """How many boxes a question may make.

    Args:
        boxes: so many, for everything that is asked.
    """

    def __init__(self, boxes: int) -> None:
        self._boxes = boxes
        self._left = boxes

    def spend(self, boxes: int) -> None:
        """Count some.

        Raises:
            TooMuch: there were more.
        """
        self._left -= boxes
        if self._left < 0:
            raise TooMuch(f"the policies are too entangled: more than {self._boxes} pieces had to be compared")


def common(one: Box, other: Box) -> Box | None:
    """What is in both; None where that is nothing."""
    both = []
    for mine, theirs in zip(one, other, strict=True):
        values = mine & theirs
        if not values:
            return None
        both.append(values)
    return tuple(both)


def minus(boxes: Iterable[Box], others: Sequence[Box], budget: Budget) -> list[Box]:
    """What is in one of the boxes and in none of the others, as boxes that may overlap as the first ones did."""
    left = list(dict.fromkeys(boxes))
    for other in others:
        if not left:
            break
        left = [piece for box in left for piece in _without(box, other)]
        budget.spend(1 + len(left))
    return left


def _without(box: Box, other: Box) -> list[Box]:
    both = common(box, other) if len(box) == len(other) else None
    if both is None:
        return [box]
    pieces = []
    begin: tuple[Values, ...] = ()
    for place, (mine, shared) in enumerate(zip(box, both, strict=True)):
        rest = mine & shared.others()
        if rest:
            pieces.append((*begin, rest, *box[place + 1 :]))
        begin = (*begin, shared)
    return pieces


def merged(boxes: Iterable[Box], budget: Budget) -> list[Box]:
    """The same requests in fewer boxes: those that differ at one place are one, and those inside others go."""
    left = list(dict.fromkeys(boxes))
    changed = True
    while changed:
        changed = False
        kept: list[Box] = []
        for box in left:
            budget.spend(1 + len(kept) // 8)
            for place, other in enumerate(kept):
                both = _one(box, other)
                if both is not None:
                    kept[place] = both
                    changed = True
                    break
            else:
                kept.append(box)
        left = list(dict.fromkeys(kept))
    return left


def _one(one: Box, other: Box) -> Box | None:
    """Two boxes as one, where that is one."""
    if len(one) != len(other):
        return None
    different = [place for place, (mine, theirs) in enumerate(zip(one, other, strict=True)) if mine != theirs]
    if len(different) <= 1:
        return tuple(mine | theirs for mine, theirs in zip(one, other, strict=True))
    both = common(one, other)
    return one if both == other else other if both == one else None
