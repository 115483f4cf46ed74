"""The numbered examples: one a stage, in the order of the way; each prints what its docstring says."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """What an example says of the log is for that example."""
    yield
    structlog.reset_defaults()


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text()), clean=True) or ""


def said(path: Path) -> str:
    """What it prints, by its docstring."""
    _, command, text = docstring(path).partition(f"    $ python examples/{path.name}\n")
    assert command, f"{path.name} does not say how to run it"
    return inspect.cleandoc(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_prints_what_it_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An example that is run shows what its docstring promises."""
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.rstrip() == said(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_can_be_read_and_served(path: Path) -> None:
    """At most 60 lines, and an application for the command that its docstring gives."""
    assert len(path.read_text().splitlines()) <= 60
    assert re.search(rf"uvicorn --app-dir examples (--http \S+ )?{path.stem}:app$", docstring(path), re.MULTILINE)
    assert callable(runpy.run_path(str(path))["app"])


def test_as_a_program() -> None:
    """The command of the docstring works as it stands, from the root of the repository."""
    path = EXAMPLES[0]
    done = subprocess.run([sys.executable, path], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip() == said(path)
    assert "LookupError" in done.stderr
