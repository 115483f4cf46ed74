"""What pages show is true: code runs or at least resolves, configurations load, commands exist, nothing is left out."""

from __future__ import annotations

import ast
import base64
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.docs.pages import DOCS, ROOT, Block, blocks, pages

from aggmw.cli import app
from aggmw.config import load
from aggmw.config.compose import Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, issue_server, make_ca

ALL = [block for page in pages() for block in blocks(page)]
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]


def of(language: str) -> list[Block]:
    return [block for block in ALL if block.language == language]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the files that pages speak of; modules that are imported from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    ca = make_ca("an authority")
    for name in ("ca.crt", "clients-ca.crt", "front-proxy-ca.crt"):
        (tmp_path / name).write_bytes(ca.certificate)
    for name, pair in {
        "tls": issue_server(ca, "server", names=["localhost"]),
        "client": issue_client(ca, "front-proxy-client"),
        "sa": issue_client(ca, "service-accounts"),
    }.items():
        (tmp_path / f"{name}.crt").write_bytes(pair.certificate)
        (tmp_path / f"{name}.key").write_bytes(pair.key)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p2, user:alice, get, /apis\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write_files(page: str, directory: Path) -> None:
    """The files of a page, the last of each name; where a command puts a CA, the CA."""
    ca = base64.b64encode((directory / "ca.crt").read_bytes()).decode()
    for block in ALL:
        if block.page == page and block.title:
            file = directory / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text.replace("caBundle: CA", f"caBundle: {ca}"), encoding="utf-8")


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_resolves(block: Block) -> None:
    """It compiles, and every name of ours that it imports exists where it says."""
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "aggmw":
                for name in names:
                    assert hasattr(importlib.import_module(module), name.name), f"{block}: {module}.{name.name}"
            case ast.Import(names=names):
                for name in names:
                    if name.name.split(".")[0] == "aggmw":
                        importlib.import_module(name.name)


RUN = [block for block in of("python") if block.page.startswith(("docs/how-to/", "docs/index", "README"))]


@pytest.mark.parametrize("block", RUN, ids=str)
def test_python_of_how_tos_runs(block: Block, directory: Path) -> None:
    """Each example is whole: it runs by itself, in a directory with the files of its page."""
    write_files(block.page, directory)
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_parses(block: Block) -> None:
    """Every YAML is one."""
    assert list(yaml.safe_load_all(block.text))


CONFIGURATIONS = [block for block in of("yaml") if block.title == "config.yaml"]


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_configurations_are_good(block: Block, directory: Path) -> None:
    """A `config.yaml` has keys that exist, and with the files of its page it comes to a front proxy."""
    write_files(block.page, directory)
    (directory / "config.yaml").write_text(block.text, encoding="utf-8")
    pair = ClientCertificatePair(directory / "client.crt", directory / "client.key")
    composed = compose(load(directory / "config.yaml"), Credentials(directory / "ca.crt", pair), Drain())
    assert composed.front_proxy.order


def lines() -> Iterator[tuple[str, str]]:
    """Every line of `aggmw` in transcripts, shell blocks, and code within text."""
    for block in ALL:
        if block.language in ("console", "sh", ""):
            for number, line in enumerate(block.text.splitlines(), block.line + 1):
                yield f"{block.page}:{number}", line.removeprefix("$ ").strip()
    for page in pages():
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for code in re.findall(r"`([^`]+)`", line) if not line.startswith("```") else []:
                yield f"{page.relative_to(ROOT)}:{number}", code
            if line.startswith("    "):
                yield f"{page.relative_to(ROOT)}:{number}", line.strip()


def test_commands_exist() -> None:
    """Every `aggmw …` that is mentioned is a command, with options that it has."""
    found = 0
    for where, line in lines():
        if not re.match(r"aggmw( -| [a-z]|$)", line):
            continue
        words = shlex.split(line.split("#")[0].rstrip("& ").split(">")[0].split("2>")[0])[1:]
        if not words or words[0].startswith("-"):
            assert set(words) <= {"--help", "--version"}, f"{where}: {line}"
            continue
        assert words[0] in COMMANDS, f"{where}: {line}"
        command = COMMANDS[words[0]]
        for word in words[1:2]:  # such as `auth` of `aggmw check auth`
            command = getattr(command, "commands", {}).get(word, command)
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("-")} <= known, f"{where}: {line}"
        found += 1
    assert found > 10


def nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from nav(list(entry.values()))
    else:
        for each in entry:
            yield from nav(each)


def test_every_page_is_in_the_navigation() -> None:
    """Once, and every entry is a page."""
    listed = list(nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_pages_need_no_network() -> None:
    """The site is whole without one: no fonts, no scripts, no pictures from elsewhere."""
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^  font: false$", configuration, re.MULTILINE)
    assert "http" not in configuration.replace("http://", "https://").split("nav:")[0]
    assert [
        str(path) for path in pages() if re.search(r"!\[[^\]]*\]\(https?:|<(?:script|img|link)\b", path.read_text())
    ] == []


def test_a_wrong_configuration_would_be_found(directory: Path) -> None:
    """The check above is one: a key that does not exist fails it."""
    (directory / "config.yaml").write_text("ports: 1\n")
    with pytest.raises(ConfigurationError):
        load(directory / "config.yaml")
