"""`docs/reference/command-line.md` says what the commands say of themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from tests.docs.pages import DOCS

from aggmw.cli import app

PAGE = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = {}
for _name, _command in vars(typer.main.get_command(app))["commands"].items():
    _inner = vars(_command).get("commands")
    COMMANDS |= {_name: _command} if _inner is None else {f"{_name} {each}": _inner[each] for each in _inner}


def section(name: str) -> str:
    found = re.search(rf"^## `aggmw {name}`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def test_commands_are_those_that_exist() -> None:
    """Every command has a section, and every section is a command."""
    assert sorted(re.findall(r"^## `aggmw ([\w -]+)`", PAGE, re.MULTILINE)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_that_exist(name: str) -> None:
    """Arguments, flags, variables, defaults and descriptions are those of `--help`, and there are no others."""
    row = r"^\| `(--[^`]+|[A-Z]+)` \| (?:`([^`]*)`)? ?\| (?:`([^`]*)`|none) \| (.*?) \|$"
    rows = re.findall(row, section(name), re.MULTILINE)
    expected = []
    for option in COMMANDS[name].params:
        default = option.show_default if isinstance(option.show_default, str) else option.default
        if option.param_type_name == "argument":
            flag = option.metavar
        else:
            flag = option.opts[0] if option.is_flag else f"{option.opts[0]} {option.metavar}"
        shown = "" if default is None or default is False else str(default)
        expected.append((flag, str(option.envvar or ""), shown, option.help))
    assert rows == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_on_the_page(name: str) -> None:
    """A section begins as the command's own help does."""
    text = re.sub(r"\s+", " ", section(name).replace("`", ""))
    help_ = re.sub(r"\s+", " ", COMMANDS[name].help or "")
    assert text.strip().startswith(help_.partition(". ")[0])
