"""Rules of the tree that import-linter does not know: which module may import which library, and who speaks ASGI."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "aggmw"
LIBRARIES = {
    "aiohappyeyeballs": {"net/dial.py"},
    "casbin": {"middleware/authorization/casbin/enforcer.py"},
    "prometheus_client": {"middleware/metrics/exposition.py"},
    "httptools": {"middleware/proxy/transports/connection.py", "server/door.py"},
    "cryptography": {"pki/make.py", "pki/paths.py", "pki/read.py", "pki/verify.py"},
    "yaml": {"objects/yaml_files.py", "config/load.py", "server/kubeconfig.py", "server/demo/files.py"},
    "uvicorn": {
        "server/door.py",
        "server/cycle.py",
        "server/porter.py",
        "server/serving.py",
        "server/websocket.py",
        "__main__.py",
    },
    "websockets": {"net/websocket.py"},
    "typer": {"cli/answers.py", "cli/main.py", "cli/options.py", "cli/policy.py", "cli/why.py", "__main__.py"},
    "rich": {"server/demo/__init__.py"},
    "re2": {"objects/re2.py"},
    "pytest": {"testing/plugin.py"},
    "starlette": set(),
    "httpx": {"middleware/proxy/transports/httpx.py", "net/fetch.py"},
    "joserfc": {"middleware/authentication/jose.py"},
}
FORWARDING = {"proxy/forward.py", "proxy/relay.py"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def imported(path: Path) -> frozenset[str]:
    """The names of all modules that a file imports, also inside functions and for types only."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_is_imported_where_it_belongs(library: str) -> None:
    """Each library stands behind few modules, so that it can be replaced, and left out where it is an extra."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert found == LIBRARIES[library]


def test_only_middleware_speaks_asgi() -> None:
    """Rule 2: mechanisms take and return values; messages are moved in middleware.py and in the proxy's forwarding."""
    speaking = {
        path.relative_to(SOURCE / "middleware").as_posix()
        for path in (SOURCE / "middleware").rglob("*.py")
        if path.name not in ("middleware.py", "__init__.py")
        and {"aggmw.asgi.exchanges", "aggmw.asgi.responses", "aggmw.asgi.lifespan"} & imported(path)
    }
    assert speaking <= FORWARDING


def test_backend_needs_no_stage() -> None:
    """What stands behind a front proxy carries nothing of one: no stage, no server, no pool."""
    allowed = ("aggmw.backend.", "aggmw.asgi.", "aggmw.contracts.", "aggmw.errors", "aggmw.objects.", "aggmw.pki.")
    found = {name for path in (SOURCE / "backend").glob("*.py") for name in imported(path) if name.startswith("aggmw")}
    assert {name for name in found if not name.startswith(allowed)} == set()


def test_modules_are_small() -> None:
    """A module can be read in one sitting; 600 lines are the end of patience."""
    assert {path.name: lines for path in modules() if (lines := len(path.read_text().splitlines())) > 600} == {}
