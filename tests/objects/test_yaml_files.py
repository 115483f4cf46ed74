"""YAML from operators: strict, and never a bomb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aggmw.errors import ConfigurationError
from aggmw.objects import yaml_files
from aggmw.objects.yaml_files import Value, read_documents


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file; its path is relative, so that messages can be compared whole."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes, name: str = "services.yaml") -> Path:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return Path(name)

    return write


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x [1]\nb: *x\n", "f:2: uses a YAML alias; write the value out"),
        ("a: 1\nb: 2\na: 3\n", 'f:3: repeats the key "a"'),
        ("x: {a: 1, a: 1}\n", 'f:1: repeats the key "a"'),
        ("<<: {a: 1}\n", "f:1: uses a YAML merge key; write the values out"),
        ("1: a\n", "f:1: has a key that is not a text; quote it"),
        ("? [a]\n: b\n", "f:1: has a key that is not a text; quote it"),
        ("a: !!python/object:os.system {}\n", "f:1: uses a YAML tag; only plain values are read"),
        ("a: !secret b\n", "f:1: uses a YAML tag; only plain values are read"),
        ("a: !!binary YQ==\n", "f:1: uses a YAML tag; only plain values are read"),
        ("a: 017\n", 'f:1: "017" is not a number that JSON knows; quote it if it is a text'),
        ("a: 1:30\n", 'f:1: "1:30" is not a number that JSON knows; quote it if it is a text'),
        (f"a: 0x{'f' * 5000}\n", f'f:1: "0x{"f" * 74}… is not a number that JSON knows; quote it if it is a text'),
        ("a: .inf\n", 'f:1: ".inf" is not a number that JSON knows; quote it if it is a text'),
        ("a: b: c\n", "f:1: is not YAML: mapping values are not allowed in this context"),
        ("a: \x07\n", "f: is not YAML: it holds characters that YAML does not allow"),
        (b"\xff\xfe\xfa", "f: is not UTF-8"),
        ("\n\n" + "[" * 51 + "]" * 51, "f:3: is nested deeper than 50 levels"),
    ],
)
def test_refused(write: Callable[..., Path], text: str | bytes, line: str) -> None:
    """Each kind of refusal names the line."""
    with pytest.raises(ConfigurationError) as caught:
        read_documents(write(text, "f"))
    assert str(caught.value) == line


def test_alias_bomb_is_not_expanded(write: Callable[..., Path]) -> None:
    """CVE-2019-11253: nine levels of nine aliases end at the first one."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(ConfigurationError, match="f:2: uses a YAML alias"):
        read_documents(write("\n".join(levels), "f"))


def test_names_that_are_none(tmp_path: Path) -> None:
    """A file can be named by another one, which may write anything."""
    with pytest.raises(ConfigurationError, match="cannot be read: embedded null byte"):
        read_documents(tmp_path / "a\0b")


def test_size_is_limited(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 4 MiB is not read, more than 200,000 values are not built."""
    with pytest.raises(ConfigurationError, match="f: is larger than 4 MiB"):
        read_documents(write(b"#" * (4 * 1024 * 1024 + 1), "f"))
    monkeypatch.setattr(yaml_files, "MAX_NODES", 5)
    with pytest.raises(ConfigurationError, match="f:1: holds more than 5 values"):
        read_documents(write("[1, 2, 3, 4, 5]", "f"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: b", {"a": "b"}),
        ("a: 15", {"a": 15}),
        ("a: -3", {"a": -3}),
        ("a: 0x1F", {"a": 31}),
        ("a: 1.5", {"a": 1.5}),
        ("a: yes", {"a": True}),
        ("a: False", {"a": False}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ('a: "1"', {"a": "1"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("\ufeffa: [1, {b: c}]", {"a": [1, {"b": "c"}]}),
        ('{"json": ["is", "yaml"]}', {"json": ["is", "yaml"]}),
    ],
)
def test_values(write: Callable[..., Path], text: str, value: Value) -> None:
    """Plain values as JSON knows them; times stay texts."""
    assert [document.value for document in read_documents(write(text, "f"))] == [value]


def test_documents_are_counted(write: Callable[..., Path]) -> None:
    """Empty documents count, so that numbers match what an editor shows."""
    documents = read_documents(write("---\n---\na: 1\n---\n\nb: 2\n", "f"))
    assert [(each.number, each.line) for each in documents] == [(2, 3), (3, 6)]
