"""YAML files of the operator's, read strictly: no aliases, no repeated keys, limits on size and depth.

Registrations and the files that stages share with Kubernetes are read by it.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import NamedTuple, TypeAlias

import yaml

from aggmw.errors import ConfigurationError, Problem

__all__ = [
    "Document",
    "NotYaml",
    "Value",
    "documents_of",
    "fetch",
    "parse_documents",
    "read_documents",
    "shown",
    "write_document",
]

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 200_000

_Loader: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: type[yaml.SafeDumper] | type[yaml.CSafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"true", "yes", "on"})
_LONG = 100  # characters of a number; one of thousands of digits cannot be written down again
_DECIMAL = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class Document(NamedTuple):
    """One document of a file: its number and first line, both from 1, and what it holds."""

    number: int
    line: int
    value: Value


class NotYaml(ValueError):
    """What cannot be read. `line` is where, from 1; 0 where that is not known."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Refused(Exception):
    def __init__(self, where: yaml.Event | yaml.Node, message: str) -> None:
        self.line = where.start_mark.line + 1 if where.start_mark is not None else 0
        super().__init__(message)


def shown(value: Value) -> str:
    """A value of the input as it stands in a message: JSON, one line, not long."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def read_documents(path: Path) -> list[Document]:
    """Every document of a YAML file that is not empty.

    Raises:
        ConfigurationError: one problem, with the line: the file cannot be read, is not UTF-8 or not YAML, is larger
            than 4 MiB, is nested deeper than 50 levels, uses an alias or a tag, or repeats a key.
    """
    return documents_of(path, fetch(path))


def fetch(path: Path) -> bytes:
    """What a file holds, not looked at yet.

    Raises:
        ConfigurationError: one problem: the file cannot be read, or is larger than 4 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError([Problem.unreadable(path, error)]) from None
    except ValueError as error:
        raise _problem(path, 0, f"cannot be read: {error}") from None  # a name with a zero byte
    if len(content) > MAX_BYTES:
        raise _problem(path, 0, f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return content


def documents_of(path: Path, content: bytes) -> list[Document]:
    """Every document of what a file holds.

    Raises:
        ConfigurationError: as `read_documents`.
    """
    try:
        return parse_documents(content)
    except NotYaml as error:
        raise _problem(path, error.line, str(error)) from None


def parse_documents(content: bytes, *, most: int | None = None) -> list[Document]:
    """Every document of a text that is not empty.

    Args:
        most: values that it may hold, keys included; 200,000 where it is not said.

    Raises:
        NotYaml: not UTF-8, not YAML, nested too deeply, too many values, an alias, a tag, a repeated key.
    """
    try:
        text = content.decode("utf-8-sig")
        _inspect(text, MAX_NODES if most is None else most)
        return [
            Document(number, node.start_mark.line + 1, value)
            for number, node in enumerate(yaml.compose_all(text, Loader=_Loader), 1)
            if node is not None and (value := _value(node)) is not None
        ]
    except UnicodeDecodeError:
        raise NotYaml(0, "is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(mark.line + 1 if mark else 0, f"is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise NotYaml(0, "is not YAML: it holds characters that YAML does not allow") from None
    except _Refused as refused:
        raise NotYaml(refused.line, str(refused)) from None


def write_document(value: object) -> bytes:
    """An object as YAML, its keys in the order of the alphabet."""
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, width=1_000_000)
    return text.encode()


def _problem(path: Path, line: int, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(f"{path}:{line}" if line else str(path), message)])


def _inspect(text: str, most: int) -> None:
    """Look through the events before anything is built, so that no bomb (CVE-2019-11253) is ever expanded."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(event, "uses a YAML alias; write the value out")
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _Refused(event, f"is nested deeper than {MAX_DEPTH} levels")
        if nodes > most:
            raise _Refused(event, f"holds more than {most} values")


def _value(node: yaml.Node) -> Value:
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(each) for each in node.value]
    if isinstance(node, yaml.ScalarNode):
        text: str = node.value
        match kind:
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in _TRUE
            case "int" | "float":
                return _number(node, text)
    raise _Refused(node, "uses a YAML tag; only plain values are read")


def _number(node: yaml.Node, text: str) -> int | float:
    """What JSON also knows: YAML 1.1 would read 017 as octal and 1:30 as 90."""
    try:
        if _DECIMAL.fullmatch(text):
            return int(text)
        if text.lower().startswith("0x") and len(text) < _LONG:
            return int(text, 16)
        if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    raise _Refused(node, f"{shown(text)} is not a number that JSON knows; quote it if it is a text")


def _mapping(node: yaml.MappingNode) -> dict[str, Value]:
    mapping: dict[str, Value] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}timestamp"):
            if isinstance(key, yaml.ScalarNode) and key.tag == f"{_TAG}merge":
                raise _Refused(key, "uses a YAML merge key; write the values out")
            raise _Refused(key, "has a key that is not a text; quote it")
        if key.value in mapping:
            raise _Refused(key, f"repeats the key {shown(key.value)}")
        mapping[key.value] = _value(value)
    return mapping
