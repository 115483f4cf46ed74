"""Roles and bindings from manifests: files, directories, objects; every mistake in them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, cast

from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, Role
from aggmw.middleware.authorization.rbac.reading import API_VERSION, KINDS, Found, read
from aggmw.objects.yaml_files import Value, documents_of, fetch, parse_documents

__all__ = ["Manifests", "default_objects", "read_objects"]

MAX_TOGETHER = 64 * 1024 * 1024  # bytes

_SUFFIXES = (".yaml", ".yml", ".json")
_LISTS: dict[str, str] = {f"{kind}List": kind for kind in KINDS}


class _Content(NamedTuple):
    path: Path
    content: bytes


class Manifests:
    """Roles and bindings in files and directories.

    Args:
        paths: YAML or JSON files, of several documents if need be; of a directory, all files in it that end in .yaml,
            .yml or .json and do not begin with a dot, by their names.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._pipes = True

    def fetch(self) -> Callable[[], list[Role | Binding]]:
        """Take what the files hold at this moment, as long as the disk may need for it.

        Returns:
            what makes objects of it, in the order of the files, and waits for nothing. It raises ConfigurationError
            with all the mistakes of all files. Call it once.
        """
        found: list[_Content | Problem] = []
        left = MAX_TOGETHER
        for path in self._files(found):
            try:
                content = self._content(path)
            except ConfigurationError as error:
                found.extend(error.problems)
                continue
            left -= len(content)
            if left < 0:
                megabytes = MAX_TOGETHER // 1024 // 1024
                found.append(Problem(str(path), f"comes to more than {megabytes} MiB with the files before it"))
                break
            found.append(_Content(path, content))
        self._pipes = False  # nobody would write a second time
        return lambda: _made(found)

    def _files(self, found: list[_Content | Problem]) -> Iterator[Path]:
        for path in self._paths:
            try:
                files = _files_of(path)
            except OSError as error:
                found.append(Problem.unreadable(path, error))
            else:
                yield from files

    def _content(self, path: Path) -> bytes:
        if not self._pipes and path.is_fifo():
            raise ConfigurationError([Problem(str(path), "is a pipe, which cannot be read again: put a file there")])
        return fetch(path)


def _made(found: list[_Content | Problem]) -> list[Role | Binding]:
    problems: list[Problem] = []
    return _read(_objects(found, problems), problems)


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


def _files_of(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )


def _objects(found: list[_Content | Problem], problems: list[Problem]) -> Iterator[Found]:
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
            continue
        path, content = each
        try:
            for document in documents_of(path, content):
                yield from _taken_apart(Found(f"{path}: document {document.number}", document.value), problems)
        except ConfigurationError as error:
            problems.extend(error.problems)


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
