"""The tutorials, followed as a reader would: each in an empty directory, with the real kubectl and curl."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import follow
from tests.docs.pages import DOCS, blocks

PAGES = sorted(path.name for path in (DOCS / "tutorial").glob("*.md") if path.name != "index.md")


@pytest.mark.parametrize("name", PAGES)
def test_tutorial(name: str, tmp_path: Path, kubectl_program: Path) -> None:
    """Every file and every command of the page, and what each command prints."""
    page = blocks(DOCS / "tutorial" / name)
    assert any(block.language == "console" for block in page)
    follow(page, tmp_path)
