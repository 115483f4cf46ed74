"""The Python reference has every public name, and every option of a public class has words on the site."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.docs.pages import DOCS, ROOT

import aggmw.contracts
import aggmw.middleware

STAGES = [f"aggmw.middleware.{found.name}" for found in pkgutil.iter_modules(aggmw.middleware.__path__)]
PUBLIC = ["aggmw", "aggmw.backend", "aggmw.errors", "aggmw.testing", *STAGES]
# Parsing, checks and threads, for our own use.
INTERNAL = {"aggmw.contracts.addresses", "aggmw.contracts.options", "aggmw.contracts.threads"}
CONTRACTS = {f"aggmw.contracts.{found.name}" for found in pkgutil.iter_modules(aggmw.contracts.__path__)}

PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference" / "python").glob("*.md")))
DIRECTIVES = dict(re.findall(r"^::: ([\w.]+)\n((?:    .*\n)*)", PAGES + "\n", re.MULTILINE))


def test_every_public_package_has_its_names_shown() -> None:
    """A page shows the package whole: what `__all__` gains is shown without further ado."""
    for package in PUBLIC:
        assert package in DIRECTIVES, f"{package} is on no page of docs/reference/python"
        assert "members" not in DIRECTIVES[package]


def test_every_contract_is_shown() -> None:
    """Each module of contracts, but for what is ours alone."""
    assert set(DIRECTIVES) & CONTRACTS == CONTRACTS - INTERNAL


def test_everything_that_is_shown_exists() -> None:
    """Each directive names a module, or a name in one; members that are chosen exist."""
    for name, options in DIRECTIVES.items():
        value = resolved(name)
        members = (yaml.safe_load(options) or {}).get("options", {}).get("members") if options else None
        for member in members or []:
            known = hasattr(value, member) or member in inspect.getsource(value)
            assert known, f"{name} has no {member}"


def resolved(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), attribute)


def classes() -> Iterator[tuple[str, type]]:
    for package in PUBLIC:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            is_protocol = getattr(value, "_is_protocol", False)
            if inspect.isclass(value) and not issubclass(value, BaseException) and not is_protocol:
                yield f"{package}.{name}", value


def described(cls: type) -> set[str]:
    """The options that a class describes itself, or says that another one does."""
    text = inspect.cleandoc(cls.__doc__ or "")
    lists = re.findall(r"^(?:Args|Attributes):\n((?:(?:    .*)?\n)*)", text + "\n", re.MULTILINE)
    names = re.findall(r"^    ([\w, *]+): ", "\n".join(lists), re.MULTILINE)
    found = {name.strip(" *") for each in names for name in each.split(",")}
    if other := re.search(r"The options are those of `(\w+)`", text):
        found |= described(getattr(importlib.import_module(cls.__module__), other[1]))
    return found


MADE_BY_OTHERS = {  # made by a function or another class, whose own words say what goes in
    "aggmw.middleware.authorization.CasbinAuthorizer",
    "aggmw.testing.BackendConnection",
    "aggmw.testing.StreamedResponse",
    "aggmw.testing.WebSocket",
}
ONE_VALUE = 1  # what a class with a single argument does with it, its first sentence says


@pytest.mark.parametrize(("name", "cls"), [pytest.param(name, cls, id=name) for name, cls in classes()])
def test_every_option_is_described(name: str, cls: type) -> None:
    """An option without words is a gap: in the docstring, which the site shows, or on a page."""
    if name in MADE_BY_OTHERS:
        return
    options = [option for option in inspect.signature(cls).parameters if not option.startswith("_")]
    missing = [option for option in options if option not in described(cls)]
    assert missing == [] or (len(options) == ONE_VALUE and cls.__doc__)


def test_the_site_names_its_pages_of_python() -> None:
    """Every page of the Python reference is reached from the navigation."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (DOCS / "reference" / "python").glob("*.md"):
        assert f"reference/python/{path.name}" in navigation
