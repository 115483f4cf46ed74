"""What can go wrong with an expression: when it is compiled, and when it is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aggmw.errors import AggmwError

__all__ = ["CelBudgetExceeded", "CelCompileError", "CelError", "CelEvaluationError", "Mistake", "place"]


class CelError(AggmwError, ValueError):
    """The root of what is wrong with an expression or its values. The text never shows a value."""


class Mistake(NamedTuple):
    """One mistake in an expression, its place counted from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class CelCompileError(CelError):
    """The expression is none, or its types do not fit. `str()` gives one line a mistake, `line:column: ` first.

    Attributes:
        mistakes: all of them, in the order of their places.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class CelEvaluationError(CelError):
    """The expression has no value for these variables: no such key, no such overload, division by zero, overflow.

    Attributes:
        message: what is wrong.
        line, column: where, counted from 1; 0 while that is not known.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.line = 0
        self.column = 0

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}" if self.line else self.message


class CelBudgetExceeded(CelError):
    """Evaluation took more steps than it was given. `&&`, `||` and the macros do not absorb it."""

    def __init__(self, budget: int) -> None:
        super().__init__(f"the expression was stopped: it takes more than its budget of {budget} steps")


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a place in an expression, both counted from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
