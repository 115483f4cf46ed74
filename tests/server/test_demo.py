"""`aggmw demo` without what it needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aggmw.errors import ConfigurationError
from aggmw.server.demo import run_demo
from aggmw.server.demo.children import program, started


def test_without_fastapi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to get it, and makes nothing."""
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ConfigurationError, match=r"needs FastAPI; install it with: pip install 'aggmw\[demo\]'"):
        run_demo(tmp_path / "demo", 0)
    assert not (tmp_path / "demo").exists()


def test_a_child_that_does_not_start(tmp_path: Path) -> None:
    """One line that names it; nothing is left running."""
    file = tmp_path / "child.py"
    file.write_text("print('hello')")
    with (
        pytest.raises(ConfigurationError, match="demo web service: did not start"),
        started("demo web service", [file]),
    ):
        pass


def test_the_web_service_ends_with_its_standard_input() -> None:
    """However the front proxy ends, its children end too."""
    with started("demo web service", [program("demo") / "billing.py"]) as child:
        assert child.url.startswith("http://127.0.0.1:")
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(10) == 0
