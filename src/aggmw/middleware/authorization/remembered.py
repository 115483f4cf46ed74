"""Verdicts of somebody else's, for as long as they may be remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from aggmw.contracts.authorization import Attributes, Verdict

__all__ = ["Remembered", "key_of", "size_of"]


def key_of(attributes: Attributes) -> Hashable:
    """Everything that is told of a request: equal keys are the same question."""
    identity = attributes.identity
    extra = tuple(sorted(identity.extra.items())) if identity.extra else ()
    return (identity.user, identity.uid, identity.groups, extra, *attributes[1:])


def size_of(attributes: Attributes) -> int:
    """How long that is which a caller chooses in each request."""
    return sum(map(len, (attributes.verb, *attributes[3:])))


class Remembered:
    """The most recently used verdicts, allowed ones apart, so that refused ones cannot push them out.

    Args:
        size: how many of each.
    """

    __slots__ = ("_allowed", "_refused", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._allowed: OrderedDict[Hashable, tuple[Verdict, float]] = OrderedDict()
        self._refused: OrderedDict[Hashable, tuple[Verdict, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._allowed) + len(self._refused)

    def get(self, key: Hashable, now: float) -> Verdict | None:
        """What was said, if it is not over at that time."""
        for found in (self._allowed, self._refused):
            entry = found.get(key)
            if entry is not None:
                if now < entry[1]:
                    found.move_to_end(key)
                    return entry[0]
                del found[key]
        return None

    def put(self, key: Hashable, verdict: Verdict, until: float) -> None:
        """Remember it in place of what was said of the same before, and of what was not used for longest."""
        found, other = (self._allowed, self._refused) if verdict.allowed else (self._refused, self._allowed)
        other.pop(key, None)
        found[key] = (verdict, until)
        found.move_to_end(key)
        if len(found) > self._size:
            found.popitem(last=False)
