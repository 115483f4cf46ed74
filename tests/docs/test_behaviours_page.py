"""`docs/reference/behaviours.md` answers each name of the list, and the tests that it names exist."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "reference" / "behaviours.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!there|---)(.+?) \| (.+) \|$", PAGE, re.MULTILINE)
LIST = ROOT / "tests" / "docs" / "behaviours.txt"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions(path: str) -> frozenset[str]:
    """The tests of a file."""
    file = ROOT / path
    if not file.exists():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_name_is_answered_once() -> None:
    """The names of the list, each in one row, in the same order."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    names = [re.sub(r"(?<=\.t) \d+$", "", line) for line in lines if line and not line.startswith("#")]
    assert len(names) == 119
    assert [name for name, _ in ROWS] == names


def test_every_answer_is_a_test_or_a_reason() -> None:
    """What is not tested says why, in words."""
    for name, answer in ROWS:
        reason = NAMED.sub("", answer).strip(", ")
        assert NAMED.search(answer) or len(reason.split()) > 2, name


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_named_tests_exist(named: tuple[str, str]) -> None:
    """A test that was renamed is renamed on the page too."""
    path, function = named
    assert function.startswith("test_")
    assert function in functions(path), f"there is no {function} in {path}"
