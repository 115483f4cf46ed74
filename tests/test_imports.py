"""Importing is cheap, and the script without its extra says how to get it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("httpx", "casbin", "cryptography", "starlette", "yaml", "httptools", "uvicorn", "typer", "rich")


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_import_loads_nothing_heavy() -> None:
    """P11: `import aggmw` imports no library until a name is used."""
    done = python(f"import sys, aggmw; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_resolves() -> None:
    """What `__all__` lists is there."""
    done = python("import aggmw; [getattr(aggmw, name) for name in aggmw.__all__]")
    assert done.returncode == 0, done.stderr


def test_script_without_its_extra() -> None:
    """Without typer the script prints the one line that installs it, and no traceback."""
    done = python("import sys; sys.modules['typer'] = None; from aggmw.__main__ import main; main()")
    assert done.returncode == 1
    assert done.stderr == "aggmw: the command line is an extra; install it with: pip install 'aggmw[cli]'\n"
