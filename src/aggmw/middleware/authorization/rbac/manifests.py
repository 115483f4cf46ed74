"""Roles and bindings from manifests: files, directories, objects; every mistake in them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import cast

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, Role
from aggmw.middleware.authorization.rbac.reading import API_VERSION, KINDS, Found, read
from aggmw.objects.yaml_files import Value, parse_documents, read_documents

__all__ = ["default_objects", "read_files", "read_objects"]

_SUFFIXES = (".yaml", ".yml", ".json")
_LISTS: dict[str, str] = {f"{kind}List": kind for kind in KINDS}


def read_files(paths: Sequence[Path]) -> list[Role | Binding]:
    """What files and directories hold, in this order.

    Args:
        paths: YAML or JSON files, of several documents if need be; of a directory, all files in it that end in .yaml,
            .yml or .json and do not begin with a dot, by their names.

    Raises:
        ConfigurationError: all the mistakes of all files.
    """
    problems: list[Problem] = []
    return _read(_of_files(paths, problems), problems)


def read_objects(objects: Iterable[Mapping[str, object]]) -> list[Role | Binding]:
    """What objects are, as a YAML or JSON file would hold them; they are called "object 1" and so on in messages.

    Raises:
        ConfigurationError: all their mistakes.
    """
    problems: list[Problem] = []
    found = (
        each
        for number, value in enumerate(objects, 1)
        for each in _taken_apart(Found(f"object {number}", cast("Value", value)), problems)
    )
    return _read(found, problems)


def default_objects() -> list[Role | Binding]:
    """The roles and bindings that ship."""
    content = resources.files(__package__).joinpath("defaults.yaml").read_bytes()
    problems: list[Problem] = []
    found = [
        each
        for document in parse_documents(content)
        for each in _taken_apart(Found(f"defaults.yaml: document {document.number}", document.value), problems)
    ]
    return _read(found, problems)


def _of_files(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Found]:
    for path in paths:
        try:
            for file in _files(path):
                try:
                    yield from _documents(file, problems)
                except ConfigurationError as error:
                    problems.extend(error.problems)
        except OSError as error:
            problems.append(Problem(str(path), f"cannot be read: {error.strerror or error}"))


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )


def _documents(path: Path, problems: list[Problem]) -> Iterator[Found]:
    for document in read_documents(path):
        yield from _taken_apart(Found(f"{path}: document {document.number}", document.value), problems)


def _taken_apart(found: Found, problems: list[Problem]) -> Iterator[Found]:
    """The object, or the objects of a list; those of a list of one kind need not say it."""
    value = found.value
    if not isinstance(value, dict):
        yield found
        return
    version, kind = value.get("apiVersion"), value.get("kind")
    if not ((version, kind) == ("v1", "List") or _is_list_of_kind(version, kind)):
        yield found
        return
    items = value.get("items")
    if items is not None and not isinstance(items, list):
        problems.append(Problem(f"{found.place}: items", "must be a list"))
        return
    for number, item in enumerate(items or (), 1):
        if isinstance(item, dict) and isinstance(kind, str) and kind in _LISTS:
            item = {"apiVersion": API_VERSION, "kind": _LISTS[kind], **item}
        yield Found(f"{found.place}, item {number}", item)


def _is_list_of_kind(version: object, kind: object) -> bool:
    return isinstance(version, str) and version.startswith(f"{GROUP}/") and isinstance(kind, str) and kind in _LISTS


def _read(found: Iterable[Found], problems: list[Problem]) -> list[Role | Binding]:
    objects: list[Role | Binding] = []
    first: dict[tuple[str, str, str], str] = {}
    for each in found:
        value = read(each, lambda place, message: problems.append(Problem(place, message)))
        if value is None:
            continue
        before = first.get(value.key)
        if before is None:
            first[value.key] = value.where
            objects.append(value)
        elif before != value.where:  # a file that is named twice is read once
            problems.append(Problem(value.where, f"declared before, in {before}"))
    if problems:
        raise ConfigurationError(problems)
    return objects
