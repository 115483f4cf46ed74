"""Pages with commands, followed as a reader would: each in an empty directory, with the real kubectl and curl."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import follow
from tests.docs.pages import DOCS, blocks

WITH_COMMANDS = [
    path.relative_to(DOCS)
    for path in sorted(DOCS.rglob("*.md"))
    if any(block.language == "console" for block in blocks(path))
]
FOLLOWED_ELSEWHERE = Path("reference/clients.md")


def test_every_tutorial_has_commands() -> None:
    """So that none of them goes unfollowed."""
    tutorials = {path.relative_to(DOCS) for path in (DOCS / "tutorial").glob("*.md") if path.name != "index.md"}
    assert len(tutorials) == 3
    assert tutorials <= set(WITH_COMMANDS)


@pytest.mark.parametrize("page", [str(path) for path in WITH_COMMANDS if path != FOLLOWED_ELSEWHERE])
def test_page(page: str, tmp_path: Path, kubectl_program: Path) -> None:
    """Every file and every command of the page, and what each command prints."""
    follow(blocks(DOCS / page), tmp_path)
