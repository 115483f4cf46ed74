"""`docs/reference/security-cases.md` answers each case of identity with tests that exist, or with a reason."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import DOCS
from tests.docs.test_behaviours_page import NAMED, functions

PAGE = (DOCS / "reference" / "security-cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!case|---)(.+?) \| (.+) \|$", PAGE, re.MULTILINE)
CASES = 55
"""How many there are, so that none is lost."""


def test_no_case_is_lost() -> None:
    """Each is there once."""
    names = [name for name, _ in ROWS]
    assert len(names) == CASES
    assert len(set(names)) == len(names)


def test_every_answer_is_a_test_or_a_reason() -> None:
    """What is not tested says why, in words."""
    for name, answer in ROWS:
        assert NAMED.search(answer) or len(answer.split()) > 2, name


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_named_tests_exist(named: tuple[str, str]) -> None:
    """A test that was renamed is renamed on the page too."""
    path, function = named
    assert function in functions(path), f"there is no {function} in {path}"
