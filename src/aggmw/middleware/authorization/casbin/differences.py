"""In what a rule and a request differ, and how far that is."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Difference", "distance"]

_ALIKE = 0.75
_LONGER = 2


class Difference(NamedTuple):
    """One thing in which a rule and a request differ.

    Attributes:
        what: its name, as in `Miss.differs`.
        rule, request: what each has.
        cost: how far that is: a wrong verb is nearer than another resource.
        column: the rule's column that would have to say something else; -1 for none.
        value: what it would have to say; "" where that is not known.
        membership: the row, with its type in front, that would make the difference go.
    """

    what: str
    rule: str
    request: str
    cost: float = 1.0
    column: int = -1
    value: str = ""
    membership: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def distance(pattern: str, value: str) -> float:
    """How far a pattern's nearest alternative is from a value: another subresource, or a slip of the pen, is near."""
    for one in pattern.split("|"):
        if one.partition("/")[0] == value.partition("/")[0] != "" or one.rstrip("*/") == value.rstrip("/"):
            return 1.0
        if abs(len(one) - len(value)) <= _LONGER and SequenceMatcher(None, one, value).ratio() >= _ALIKE:
            return 1.0
    return 2.0
