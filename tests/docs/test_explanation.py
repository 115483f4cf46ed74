"""The pages of explanation: the tests that they name exist, and the order is the one that is."""

from __future__ import annotations

import ast
import re

import pytest
from tests.docs.pages import DOCS, ROOT

from aggmw import FrontProxy

EXPLANATION = DOCS / "explanation"
SECURITY = (EXPLANATION / "security.md").read_text(encoding="utf-8")


def functions(path: str) -> set[str]:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_rules_have_tests() -> None:
    """Each row of the security page names a test, and the test exists."""
    rows = re.findall(r"^\| [^|]*[a-z][^|]* \|[^|]*\| ([^|]*) \|$", SECURITY, re.MULTILINE)
    named = [re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row) for row in rows if row != "test"]
    assert len(named) > 30
    assert None not in named
    missing = [match[0] for match in named if match and match[2] not in functions(match[1])]
    assert missing == []


def test_every_report_that_a_test_names_is_on_the_page() -> None:
    """A CVE that a test of ours is about is named with its rule."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"CVE-\d{4}-\d{4,}", sources))
    assert sorted(named - set(re.findall(r"CVE-\d{4}-\d{4,}", SECURITY))) == []


@pytest.mark.parametrize("page", ["design.md", "architecture.md"])
def test_order(page: str) -> None:
    """The table of the stages is in the order in which `FrontProxy` runs them."""
    text = (EXPLANATION / page).read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| \d+ \| `?(\w+)`? \|", text, re.MULTILINE)) == FrontProxy().order
