"""Reading an object field by field: each value with its type, each mistake with its path, all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.yaml_files import Value, read_documents, shown

__all__ = ["Fields", "read_object"]

_T = TypeVar("_T", str, bool, int)
_WORDS = {str: "a text", bool: "true or false", int: "a whole number", dict: "an object", list: "a list"}


class Fields:
    """One object of the input.

    Args:
        value: the object.
        report: called with path and message of each mistake.
        path: where the object is, such as "spec"; "" for the whole.
    """

    __slots__ = ("_path", "_report", "_value")

    def __init__(self, value: dict[str, Value], report: Callable[[str, str], None], path: str = "") -> None:
        self._value = value
        self._report = report
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields that are there."""
        return tuple(self._value)

    def where(self, name: str) -> str:
        """The path of a field."""
        if not name.isprintable():
            name = shown(name)
        return f"{self._path}.{name}" if self._path else name

    def problem(self, name: str, message: str) -> None:
        """Report a mistake in a field."""
        self._report(self.where(name), message)

    def nothing(self, name: str) -> Fields:
        """An object in a field that is absent: its own fields are then missed one by one."""
        return Fields({}, self._report, self.where(name))

    def required(self, name: str) -> None:
        self.problem(name, "Required value")

    def invalid(self, name: str, message: str) -> None:
        """Report a value that has the right type and is wrong all the same, in Kubernetes' form."""
        self.problem(name, f"Invalid value: {shown(self._value.get(name))}: {message}")

    def only(self, known: Iterable[str]) -> None:
        """Report every field that is not known: a misspelt one would be ignored silently."""
        for name in sorted(set(self._value) - set(known)):
            self.problem(name, "unknown field")

    def text(self, name: str) -> str:
        """A text; "" when it is absent or no text."""
        return self._typed(name, str, "")

    def flag(self, name: str) -> bool:
        """True or false; False when it is absent or neither."""
        return self._typed(name, bool, False)

    def number(self, name: str, least: int, most: int, *, default: int | None = None) -> int:
        """A whole number within limits, required unless there is a default."""
        if name not in self and default is None:
            self.required(name)
            return least
        value = self._typed(name, int, least if default is None else default)
        if not least <= value <= most:
            self.invalid(name, f"must be between {least} and {most}")
        return value

    def inner(self, name: str) -> Fields | None:
        """The object in a field; None when it is absent or no object."""
        value = self._value.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._mistyped(name, dict)
            return None
        return Fields(value, self._report, self.where(name))

    def each(self, name: str) -> Iterator[Fields]:
        """The objects of a list, in order, each with its place in the path."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, list):
            self._mistyped(name, list)
        elif value is not None:
            for number, one in enumerate(value):
                if isinstance(one, dict):
                    yield Fields(one, self._report, self.where(f"{name}[{number}]"))
                else:
                    self.problem(f"{name}[{number}]", "must be an object")

    def texts(self, name: str) -> list[str]:
        """The texts of a list; none when it is absent or no list."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, list):
            self._mistyped(name, list)
            return []
        texts = []
        for number, one in enumerate(value or ()):
            if isinstance(one, str):
                texts.append(one)
            else:
                self.problem(f"{name}[{number}]", "must be a text")
        return texts

    def _typed(self, name: str, kind: type[_T], default: _T) -> _T:
        value = self._value.get(name)
        if value is None:
            return default
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        self._mistyped(name, kind)
        return default

    def _mistyped(self, name: str, kind: type) -> None:
        found = type(self._value[name])
        self.problem(name, f"must be {_WORDS[kind]}, not {_WORDS.get(found, 'a number')}")


def read_object(file: Path, kind: str, versions: Sequence[str], problems: list[Problem]) -> Fields:
    """The object of a file that holds one of this kind, and nothing else.

    Args:
        file: in YAML or JSON.
        kind: such as "AuthenticationConfiguration".
        versions: those that it may have in `apiVersion`.
        problems: where mistakes in it are collected, those that the caller finds too.

    Raises:
        ConfigurationError: there is no such file, or no object in it.
    """
    documents = read_documents(file)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise ConfigurationError([Problem(str(file), f"must hold one {kind}")])

    def report(where: str, message: str) -> None:
        problems.append(Problem(f"{file}: {where}" if where else str(file), message))

    top = Fields(documents[0].value, report)
    if top.text("kind") != kind:
        top.problem("kind", f"must be {kind}")
    if top.text("apiVersion") not in versions:
        top.problem("apiVersion", f"must be {' or '.join(versions)}")
    return top
