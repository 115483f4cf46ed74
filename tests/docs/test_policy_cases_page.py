"""`docs/reference/policy-cases.md` answers each case of policies with tests that exist."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import DOCS
from tests.docs.test_behaviours_page import NAMED, functions

PAGE = (DOCS / "reference" / "policy-cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!case|---)(.+?) \| (.+) \|$", PAGE, re.MULTILINE)
CASES = "tests/security/test_policy_cases.py"


def test_every_case_has_a_test_of_its_own() -> None:
    """Each row is there once, and begins with a test that is made for it; no such test is on no row."""
    assert len({name for name, _ in ROWS}) == len(ROWS) == 16
    first = [NAMED.findall(answer)[0] for _, answer in ROWS]
    assert {path for path, _ in first} == {CASES}
    named = [function for _, function in first]
    assert sorted(named) == sorted(each for each in functions(CASES) if each.startswith("test_"))


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_named_tests_exist(named: tuple[str, str]) -> None:
    """A test that was renamed is renamed on the page too."""
    path, function = named
    assert function in functions(path), f"there is no {function} in {path}"
