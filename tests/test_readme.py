"""The README says what is: its example runs, its links lead somewhere, its commands are targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aggmw import FrontProxy
from aggmw.pki.make import make_ca

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python in the README makes a front proxy."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p2, user:alice, get, /apis\n")
    (tmp_path / "ca.crt").write_bytes(make_ca("an authority").certificate)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # what the README tells readers to run
    assert isinstance(names["app"], FrontProxy)


def test_links_lead_somewhere() -> None:
    """Every relative link of README and docs is a file."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_commands_are_targets() -> None:
    """Every `make` command that is mentioned is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    mentioned = set(re.findall(r"make ([a-z0-9]+)", README))
    assert {"demo", "test"} <= mentioned <= targets


def test_every_configuration_key_is_documented() -> None:
    """A key that the loader asks for stands in the reference, and the reference names no other."""
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    source = (ROOT / "src" / "aggmw" / "config" / "load.py").read_text()
    getters = (
        "texts?|integer|seconds|choice|files?(?:_by_name)?|mapping|flag|number|text_or_texts|required(?:_file)?"
        "|checked_texts?"
    )
    keys = set(re.findall(rf'\.(?:{getters})\(\s*"(\w+)"', source))
    documented = {name.split(".")[-1] for row in re.findall(r"^\| (`[^|]+`) \|", page, flags=re.MULTILINE)
                  for name in re.findall(r"`([\w.\[\]]+)`", row)}  # fmt: skip
    assert keys == documented
