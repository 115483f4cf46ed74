"""Security (C6): neither an expression nor a value stops the event loop, fills the memory or leaves the evaluator."""

from __future__ import annotations

import threading
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.work import measured

from aggmw.objects.cel import CelBudgetExceeded, CelError, compile  # noqa: A004
from aggmw.objects.cel.program import BUDGET

LONG = list(range(1000))
TEXT = "x" * 10_000
TWENTY = ["[" + ", ".join([name] * 20) + "]" for name in ("'lol'", "a", "b", "c")]
LAUGHS = f"cel.bind(a, {TWENTY[0]}, cel.bind(b, {TWENTY[1]}, cel.bind(c, {TWENTY[2]}, cel.bind(d, {TWENTY[3]}, %s))))"

HOSTILE = [
    "l.all(x, l.all(y, l.all(z, true)))",
    "l.exists(x, l.exists(y, l.exists(z, false))) || true",
    "l.map(x, l.map(y, 'xxxxxxxxxxxxxxxx'))",
    "l.map(x, l)" + ".map(x, x.map(y, y))" * 5,
    "l.filter(x, l.filter(y, x == y).size() == 1)",
    "s.split('').map(a, s + s).map(b, b + b + b + b)",
    "cel.bind(a, s + s + s + s, cel.bind(b, a + a + a + a, cel.bind(c, b + b + b + b, c + c + c + c)))" + ".size() > 0",
    "s.replace('x', s)",
    "s.replace('', s)",
    "lists.range(1000000000)",
    "l.map(x, s).join(s)",
    "l.map(x, s).join().split('x')",
    "sets.contains(lists.range(5000), lists.range(5000))",
    "lists.range(9000).distinct()",
    "l.map(x, s.matches('(x+x+)+y'))",
    "l.all(x, s == s + '')",
    "l.all(x, s <= s)",
    "l.map(x, '%s'.format([s]))",
    LAUGHS % "d == d",
    LAUGHS % "d.distinct()",
    LAUGHS % "'%s'.format(d)",
    LAUGHS % "d.flatten(10)",
    LAUGHS % "d.isSorted()",
]


@pytest.mark.parametrize("expression", HOSTILE, ids=lambda each: each[:40])
def test_hostile_expressions_are_stopped(expression: str) -> None:
    """Soon, and before much memory is taken; `||` and the macros do not go on."""
    program = compile(expression, {"l": "list(int)", "s": "string"})
    tracemalloc.start()
    with measured() as work, pytest.raises(CelBudgetExceeded, match="budget of 100000 steps"):
        program.evaluate(l=LONG, s=TEXT)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert work.seconds < 2.0, "some 20 ms without tracemalloc; slow machines are given a hundred times that"
    assert taken < 64 * 1024 * 1024


def test_budget_is_the_callers() -> None:
    """More steps for those who may."""
    expression = "lists.range(20000).all(x, x >= 0 && x >= 0 && x >= 0)"
    with pytest.raises(CelBudgetExceeded):
        compile(expression, {}).evaluate()
    assert compile(expression, {}, budget=10 * BUDGET).evaluate() is True


def test_patterns_take_linear_time() -> None:
    """The catastrophe of backtracking does not happen, and large patterns are refused."""
    program = compile("s.matches(p)", {"s": "string", "p": "string"})
    with measured() as work:
        assert program.evaluate(s="x" * 20_000, p="(x+x+)+y") is False
    assert work.seconds < 1.0
    for pattern in ("((a{100}){100}){100}", "x" * 5000, "(" * 2000):
        with pytest.raises(CelError):
            program.evaluate(s="x", p=pattern)


def test_deep_values_are_an_error() -> None:
    """A value from JSON may be deeper than Python's stack."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CelError, match="nested too deeply"):
        compile("a == b", {"a": "dyn", "b": "dyn"}).evaluate(a=deep, b=[*deep])
    while deep:
        deep = deep[0]


def test_threads_share_a_program() -> None:
    """Nothing of an evaluation is kept in it."""
    program = compile("l.map(x, x + n).all(y, y >= n) ? n : -1", {"l": "list(int)", "n": "int"})
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(found for _ in range(50) if (found := program.evaluate(l=LONG, n=number)) != number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


_PIECES = st.sampled_from(
    [
        *("a", "b.c", "1", "2u", "1.5", "'x'", "b'x'", "true", "null", "[]", "{}", "[a, 1]", "{'k': a}", "x"),
        *(" + ", " - ", " * ", " / ", " == ", " < ", " in ", " && ", " || ", " ? ", " : ", "!", "-", ".", ".?", ", "),
        *("(", ")", "[", "]", "{", "}", "size(", ".size()", ".map(x, ", ".all(x, ", ".filter(x, ", ".c", "[0]", "[?0]"),
        *("has(a.b)", ".split('')", ".matches('x')", "optional.of(", ".orValue(1)", "int(", "string(", "timestamp("),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.lists(_PIECES, min_size=1, max_size=14).map("".join), _VALUES, _VALUES, st.booleans())
def test_any_text_is_an_expression_or_an_error(text: str, a: Any, b: Any, checked: bool) -> None:
    """No text and no values raise anything but `CelError`."""
    with suppress(CelError):
        compile(text, {"a": "dyn", "b": "dyn"}, checked=checked).evaluate(a=a, b=b)


@given(st.text(max_size=30))
def test_any_characters_are_an_expression_or_an_error(text: str) -> None:
    """Nor do characters of any sort."""
    with suppress(CelError):
        compile(text, {}).evaluate()
