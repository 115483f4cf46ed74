"""`docs/reference/oidc-cases.md` answers each case of Kubernetes' OpenID Connect authenticator; its tests exist."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import DOCS, ROOT
from tests.docs.test_behaviours_page import NAMED, functions

PAGE = (DOCS / "reference" / "oidc-cases.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!case|---)(.+?) \| (.+) \|$", PAGE, re.MULTILINE)
LIST = ROOT / "tests" / "docs" / "oidc_cases.txt"


def test_every_case_is_answered_once() -> None:
    """The names of the list, each in one row, in the same order."""
    names = LIST.read_text(encoding="utf-8").splitlines()
    assert len(names) == 99
    assert [name for name, _ in ROWS] == names


def test_every_answer_is_a_test_or_a_reason() -> None:
    """What is different says why, in words."""
    for name, answer in ROWS:
        assert NAMED.search(answer) or len(NAMED.sub("", answer).split()) > 2, name


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_named_tests_exist(named: tuple[str, str]) -> None:
    """A test that was renamed is renamed on the page too."""
    path, function = named
    assert function in functions(path), f"there is no {function} in {path}"
