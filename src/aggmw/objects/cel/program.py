"""`compile` and `Program`: all that others need of CEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from aggmw.objects.cel.checker import check
from aggmw.objects.cel.errors import CelCompileError, CelEvaluationError, Mistake
from aggmw.objects.cel.functions import Functions
from aggmw.objects.cel.library import LIBRARIES
from aggmw.objects.cel.parser import parse
from aggmw.objects.cel.planner import plan
from aggmw.objects.cel.types import DYN, Type, parse_type
from aggmw.objects.cel.values import Evaluate, Frame, Value, from_python

__all__ = ["BUDGET", "Program", "compile", "standard_functions"]

BUDGET = 100_000
"""The steps that one evaluation may take unless it is said otherwise: some 15 ms of one core."""


@cache
def standard_functions() -> Functions:
    """The functions of Kubernetes' environment."""
    return Functions(LIBRARIES)


def compile(  # noqa: A001  as in every engine of CEL
    expression: str,
    variables: Mapping[str, str | Type],
    *,
    result: Sequence[str | Type] = ("dyn",),
    budget: int = BUDGET,
    checked: bool = True,
) -> Program:
    """Parse an expression, check its types and make it ready.

    Args:
        expression: the text.
        variables: their types by name: `{"claims": "map(string, dyn)"}`, or an `object_of` fields that are known.
        result: the types it may have; "dyn" takes anything, also what is not known before it is evaluated.
        budget: the steps that one evaluation may take.
        checked: check types. Unchecked, mistakes show only when they are evaluated.

    Raises:
        CelCompileError: with every mistake and its place.
        ValueError: a type that cannot be read.
    """
    typed = {name: parse_type(each) if isinstance(each, str) else each for name, each in variables.items()}
    wanted = [parse_type(each) if isinstance(each, str) else each for each in result]
    functions = standard_functions()
    node = parse(expression)
    kind = check(expression, node, typed, functions) if checked else DYN
    if checked and DYN not in wanted and kind not in wanted:
        shown = " or ".join(map(str, wanted))
        hint = "; its type is not known before it is evaluated, so compare it, or convert it" if kind == DYN else ""
        raise CelCompileError([Mistake(1, 1, f"must evaluate to {shown}, not to {kind}{hint}")])
    evaluate, slots = plan(expression, node, tuple(typed), functions)
    return Program(expression, kind, tuple(typed), evaluate, slots, budget)


class Program:
    """A compiled expression. Holds nothing of an evaluation, so threads may share it.

    Attributes:
        expression: the text.
        type: what it evaluates to, as far as that is known.
    """

    __slots__ = ("_budget", "_evaluate", "_slots", "_variables", "expression", "type")

    def __init__(
        self, expression: str, kind: Type, variables: tuple[str, ...], evaluate: Evaluate, slots: int, budget: int
    ) -> None:
        self.expression = expression
        self.type = kind
        self._variables = variables
        self._evaluate = evaluate
        self._slots = slots - len(variables)
        self._budget = budget

    def __repr__(self) -> str:
        return f"Program({self.expression!r}, {self.type})"

    def evaluate(self, /, **values: Value) -> Value:
        """The value of the expression.

        Args:
            values: one for each variable, as Python reads it from JSON.

        Returns:
            a value of CEL as `aggmw.objects.cel.values` lists them; a bool is `True` or `False`, nothing else.

        Raises:
            CelEvaluationError: there is no value: a missing key, types that do not fit, an overflow.
            CelBudgetExceeded: it takes too long.
            TypeError: a variable is missing, or one is no value of CEL.
        """
        try:
            slots = [from_python(values[name]) for name in self._variables]
        except KeyError as missing:
            raise TypeError(f"the expression needs a value for {missing.args[0]}") from None
        slots.extend([None] * self._slots)
        try:
            return self._evaluate(Frame(slots, self._budget))
        except RecursionError:
            raise CelEvaluationError("a value is nested too deeply") from None
