"""Verdicts that were found before: bounded, and the allowed ones apart, so that refused ones cannot push them out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["VerdictCache"]

_Value = TypeVar("_Value")


class VerdictCache(Generic[_Value]):
    """The most recently used verdicts of one policy snapshot; it lives and dies with that.

    Args:
        size: how many of each kind.
    """

    __slots__ = ("_allowed", "_refused", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._allowed: OrderedDict[Hashable, _Value] = OrderedDict()
        self._refused: OrderedDict[Hashable, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._allowed) + len(self._refused)

    def get(self, key: Hashable) -> _Value | None:
        """What was found for the key, which then counts as used just now."""
        found = self._allowed
        value = found.get(key)
        if value is None:
            found = self._refused
            value = found.get(key)
            if value is None:
                return None
        try:  # noqa: SIM105  suppress() costs more than the look-up
            found.move_to_end(key)
        except KeyError:
            pass  # pushed out by another thread since
        return value

    def put(self, key: Hashable, value: _Value, *, allowed: bool) -> None:
        """Remember a verdict in place of the one that was not used for longest."""
        found = self._allowed if allowed else self._refused
        found[key] = value
        if len(found) > self._size:
            found.popitem(last=False)
