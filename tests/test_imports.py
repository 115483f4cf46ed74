"""Importing is cheap, and the script without its extra says how to get it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "httpx",
    "casbin",
    "cryptography",
    "starlette",
    "yaml",
    "httptools",
    "structlog",
    "uvicorn",
    "typer",
    "rich",
    "prometheus_client",
    "aggmw.server",
    "aggmw.cli",
    "aggmw.config",
    "aggmw.front_proxy",
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_import_loads_nothing_heavy() -> None:
    """P11: `import aggmw` imports no library until a name is used."""
    done = python(f"import sys, aggmw; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


CORE_ONLY = """
import importlib, pkgutil, re, sys
from importlib.metadata import packages_distributions, requires

def folded(name): return re.sub(r"[-_.]+", "-", name).lower()
def needed(name, seen):
    for requirement in requires(name) or ():
        if "extra ==" not in requirement:
            found = folded(re.match(r"[\\w.-]+", requirement)[0])
            if found not in seen:
                seen.add(found)
                try: needed(found, seen)
                except importlib.metadata.PackageNotFoundError: pass
    return seen

core = needed("aggmw", {"aggmw"})
owners = {module: {folded(each) for each in names} for module, names in packages_distributions().items()}

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in owners and not owners[top] & core:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Blocked())
import aggmw
failed = {}
for module in pkgutil.walk_packages(aggmw.__path__, "aggmw.", onerror=lambda name: None):
    if module.name.startswith("aggmw._demo"):
        continue
    try: importlib.import_module(module.name)
    except ImportError as error: failed[module.name] = str(error)
for name, text in sorted(failed.items()): print(name, text, sep=": ")
print("httpx" in core, "uvicorn" in core)
"""


MADE_OF_AN_EXTRA = {
    "typer": {"aggmw.cli"},
    "uvicorn": {
        f"aggmw.server.{name}"
        for name in ("cycle", "door", "porter", "run", "serving", "websocket", "workers.supervisor", "workers.worker")
    },
    "rich": {"aggmw.server.demo"},
    "prometheus_client": {"aggmw.middleware.metrics.exposition"},
    "pytest": {"aggmw.testing.plugin"},
}
"""Modules that are nothing without a library that the core does not install. `import aggmw` needs none of them."""


def test_modules_import_with_only_the_core_installed() -> None:
    """Every other module imports where nothing but the core's own requirements is installed."""
    done = python(CORE_ONLY)
    *failed, core = done.stdout.splitlines()
    assert core == "True False", done.stderr
    expected = [f"{name}: No module named {library!r}" for library, names in MADE_OF_AN_EXTRA.items() for name in names]
    assert failed == sorted(expected)


def test_every_public_name_resolves() -> None:
    """What `__all__` lists is there."""
    done = python("import aggmw; [getattr(aggmw, name) for name in aggmw.__all__]")
    assert done.returncode == 0, done.stderr


def test_script_without_its_extra() -> None:
    """Without typer the script prints the one line that installs it, and no traceback."""
    done = python("import sys; sys.modules['typer'] = None; from aggmw.__main__ import main; main()")
    assert done.returncode == 1
    assert done.stderr == "aggmw: the command line is an extra; install it with: pip install 'aggmw[cli]'\n"
