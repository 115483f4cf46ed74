"""What a casbin adapter loads, collected: every row, in the order of all of them, also what no model defines.

casbin's own helper for adapters leaves out rows of a type that the model does not have, so that a rule that denies
would be missing without a word. Here they are collected, and refused with the others that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from aggmw.middleware.authorization.casbin.enforcer import assertion_with, model_of

__all__ = ["Collector"]


class _Numbered(list[Any]):
    """The columns of a row, and its number."""

    number = 0


class _Policy(list[Any]):
    """Where an adapter puts the rows of one type."""

    def __init__(self, numbers: Iterator[int]) -> None:
        super().__init__()
        self._numbers = numbers

    def append(self, row: Sequence[object]) -> None:
        numbered = _Numbered(row)
        numbered.number = next(self._numbers)
        super().append(numbered)

    def extend(self, rows: Iterable[Sequence[object]]) -> None:
        for row in rows:
            self.append(row)


class _Defining(dict[str, Any]):
    """Has whatever is asked for: sections of the model, types of rows in them."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: str) -> Any:
        made = self[key] = self._make()
        return made

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def get(self, key: str, default: object = None) -> Any:
        return self[key]

    def keys(self) -> Any:
        return self


class Collector:
    """Stands in for the model that an adapter fills."""

    def __init__(self) -> None:
        numbers = count(1)
        self._sections: dict[str, dict[str, Any]] = _Defining(
            lambda: _Defining(lambda: assertion_with(_Policy(numbers)))
        )
        self.model = model_of(self._sections)

    def rows(self) -> list[tuple[str, Sequence[object], int]]:
        """Type, columns and number of each, in the order in which they came."""
        found = [
            (ptype, row, getattr(row, "number", place))
            for types in self._sections.values()
            for ptype, assertion in types.items()
            for place, row in enumerate(assertion.policy, 1)
        ]
        found.sort(key=lambda one: one[2])
        return found
