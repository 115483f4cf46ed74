"""The examples of this folder's frameworks, as files; what they do is with the tests of each framework."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_examples_can_be_read(path: Path) -> None:
    """At most 60 lines, and the command that starts it in its docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert path.stem == "front" or f"uvicorn examples.frameworks.{path.stem}:app" in text
