"""The compiled build: what pyproject.toml lists can be compiled, and is what runs where this is that build."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from typer.testing import CliRunner

import aggmw
from aggmw.cli import app
from aggmw.middleware.proxy import ProxyMiddleware

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
MODULES: dict[str, list[str]] = HOOK["compiled"]


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / "src" / module).read_text())


def coroutines(module: str) -> Iterator[ast.AsyncFunctionDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.AsyncFunctionDef):
            yield node


def fields(node: ast.ClassDef) -> set[str]:
    """The names in `__slots__`."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
            return set(ast.literal_eval(statement.value))
    return set()


def assigned(node: ast.ClassDef, method: str) -> set[str]:
    """The fields that a method sets, or a method that it calls."""
    found: set[str] = set()
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == method:
            for part in ast.walk(function):
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                    if isinstance(part.ctx, ast.Store):
                        found.add(part.attr)
                    elif part.attr != method:
                        found |= assigned(node, part.attr)
    return found


def test_only_where_asked() -> None:
    """Nobody gets a compiled wheel who did not ask for it, and nobody else needs Cython or a compiler."""
    assert HOOK["enable-by-default"] is False
    assert [each for each in PROJECT["build-system"]["requires"] if "hatchling" not in each] == []


@pytest.mark.parametrize("module", MODULES)
def test_what_is_listed_exists(module: str) -> None:
    """A module that was moved or a class that was renamed has to be followed in pyproject.toml."""
    classes = {node.name: node for node in tree(module).body if isinstance(node, ast.ClassDef)}
    assert set(MODULES[module]) <= classes.keys()
    for name in MODULES[module]:
        node = classes[name]
        assert fields(node), f"{name} has no __slots__: they are the fields of its C struct"
        assert not node.bases, f"{name}: a C struct has no base in Python"
        called = [each for each in node.body if isinstance(each, ast.AsyncFunctionDef) and each.name == "__call__"]
        assert not called, f"{name}: servers would not see that a C struct is a coroutine function"
        assert fields(node) == assigned(node, "__init__"), f"{name}: unset fields of a C struct are None"


@pytest.mark.parametrize("module", MODULES)
def test_no_function_inside_of_a_coroutine_that_keeps_it(module: str) -> None:
    """The variables of a compiled coroutine are one object; a function that it keeps holds that: a cycle per call."""
    for coroutine in coroutines(module):
        for node in ast.walk(coroutine):
            assert node is coroutine or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef), coroutine.name
            if isinstance(node, ast.Assign | ast.AnnAssign):
                assert not isinstance(node.value, ast.Lambda), coroutine.name


@pytest.mark.parametrize("module", MODULES)
def test_no_recursion(module: str) -> None:
    """Nothing counts the depth of compiled calls: a function that calls itself could overrun the stack."""
    top = tree(module).body
    functions = {node.name: node for node in top if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for one in [node for node in top if isinstance(node, ast.ClassDef)]:
        methods = [node for node in one.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        functions |= {f"self.{node.name}": node for node in methods}
    for name, node in functions.items():
        assert name not in [ast.unparse(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)]


@pytest.mark.parametrize("module", MODULES)
def test_what_runs(module: str) -> None:
    """Either all of them are compiled, or none."""
    loaded = import_module(module.removesuffix(".py").replace("/", "."))
    assert str(loaded.__file__).endswith(".py") is not aggmw.__compiled__


def test_command() -> None:
    """`aggmw version` says which build it is."""
    printed = CliRunner().invoke(app, ["version"]).stdout
    assert printed.rstrip().endswith("(compiled)") is aggmw.__compiled__


def test_applications_are_recognised() -> None:
    """Servers look whether an application is a coroutine function."""
    assert iscoroutinefunction(ProxyMiddleware(lambda *_: None, anonymous=True).__call__)  # type: ignore[arg-type, return-value]
