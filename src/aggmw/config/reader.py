"""Reading a mapping of unknown content key by key, and collecting what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from aggmw.errors import Problem

__all__ = ["Section"]

_T = TypeVar("_T")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNFIT = re.compile("[\0\ud800-\udfff]")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Section:
    """One mapping of a file. Each getter takes a key's value or notes a problem and gives the default.

    Args:
        values: the mapping as it was read.
        file: the file's name, for problems.
        path: where in the file this section is; "" at the top.
        base: what relative paths are relative to.
        problems: where mistakes are collected.
    """

    def __init__(self, values: Any, *, file: str, path: str, base: Path, problems: list[Problem]) -> None:
        self._file = file
        self._path = path
        self._base = base
        self._problems = problems
        self._asked: set[str] = set()
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            self._note("", f"must be a mapping of keys to values, not {_kind(values)}")
            values = {}
        self._values: Mapping[Any, Any] = values

    def section(self, key: str) -> Section:
        """A mapping below this one; empty when it is missing."""
        return Section(
            self._take(key), file=self._file, path=self._below(key), base=self._base, problems=self._problems
        )

    def sections(self, key: str) -> Iterator[Section]:
        """The mappings of a list below this one, each to be read before the next is asked for."""
        values = self._take(key)
        if values is not None and not isinstance(values, list):
            self._note(key, f"must be a list of mappings, not {_kind(values)}")
            values = None
        for number, value in enumerate(values or ()):
            name = f"{key}[{number}]"
            if isinstance(value, Mapping):
                path = self._below(name)
                yield Section(value, file=self._file, path=path, base=self._base, problems=self._problems)
            else:
                self._note(name, f"must be a mapping of keys to values, not {_kind(value)}")

    @property
    def where(self) -> str:
        """The file and the path in it, as problems name this section."""
        return f"{self._file}: {self._path}"

    def optional(self, key: str, read: Callable[[Section], _T]) -> _T | None:
        """What is read of a mapping below this one; None when it is missing."""
        return read(self.section(key)) if key in self else None

    def __contains__(self, key: str) -> bool:
        """Whether a key is given. One that is looked for is known."""
        return self._take(key) is not None

    def wrong(self, key: str, message: str) -> None:
        """Note that a value is no good beside the others."""
        self._note(key, message)

    def required(self, key: str, *, empty: bool = False) -> str:
        """A string that must be there; `empty` says whether it may be."""
        self.demand(key)
        return "" if empty and self._take(key) == "" else self.text(key, "")

    def demand(self, *keys: str) -> None:
        """Note a problem for each of `keys` that is not given."""
        for key in keys:
            if key not in self:
                self._note(key, "is missing")

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._note(key, f"must be true or false, not {_kind(value)}")
            return default
        return value

    def exactly_one(self, *keys: str) -> None:
        """Note a problem unless one of `keys` is given, and only one."""
        given = [key for key in keys if self._values.get(key) is not None]
        if len(given) != 1:
            self._note("", f"needs exactly one of {', '.join(keys)}")

    def text(self, key: str, default: _T) -> str | _T:
        """A non-empty string."""
        value = self._take(key)
        if value is None:
            return default
        if not _is_text(value):
            self._note(key, f"must be a text, not {_kind(value)}")
            return default
        return value

    def checked_text(self, key: str, check: Callable[[str], object]) -> str | None:
        """A non-empty string that `check` does not refuse with ValueError, whose words say what is wrong."""
        value = self.text(key, None)
        if value is not None and not self._passes(key, value, check):
            return None
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in choices:
            self._note(key, f"must be one of {', '.join(choices)}, not {value!r}")
            return default
        return value

    def integer(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._note(key, f"must be a whole number from {least} to {most}, not {_kind(value)}")
            return default
        return value

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        """A number within bounds."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self._note(key, f"must be a number from {least:g} to {most:g}, not {_kind(value)}")
            return default
        return float(value)

    def seconds(self, key: str, default: _T, *, least: float = 0.0) -> float | _T:
        """A duration: a number of seconds, or a number with ms, s, m or h."""
        value = self._take(key)
        if value is None:
            return default
        match = None if isinstance(value, bool) else _SECONDS.fullmatch(str(value))
        if match is None:
            self._note(key, f"must be a duration such as 10s or 1m, not {_kind(value)}")
            return default
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
        if seconds < least:
            self._note(key, f"must be at least {least:g}s, not {_kind(value)}")
            return default
        return seconds

    def file(self, key: str) -> Path | None:
        """A path, relative to the file that names it."""
        value = self.text(key, None)
        return None if value is None else self._base / value

    def required_file(self, key: str) -> Path:
        """A path that must be there."""
        return self._base / self.required(key)

    def files(self, key: str) -> tuple[Path, ...]:
        """A list of paths."""
        return tuple(self._base / value for value in self.texts(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of non-empty strings."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._note(key, f"must be a list of texts, not {_kind(value)}")
            return ()
        for number, item in enumerate(value):
            if not _is_text(item):
                self._note(key, f"must be a list of texts, and [{number}] is {_kind(item)}")
                return ()
        return tuple(value)

    def text_or_texts(self, key: str) -> str | tuple[str, ...] | None:
        """A non-empty string, or a list of them that is not empty."""
        value = self._take(key)
        if value is None or _is_text(value):
            return value
        if isinstance(value, list) and value and all(map(_is_text, value)):
            return tuple(value)
        self._note(key, f"must be a text or a list of texts, not {_kind(value)}")
        return None

    def checked_texts(self, key: str, check: Callable[[str], object], default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of non-empty strings that `check` does not refuse with ValueError, each for itself."""
        values = enumerate(self.texts(key) if key in self else default)
        self._asked.add(key)
        return tuple([value for number, value in values if self._passes(f"{key}[{number}]", value, check)])

    def mapping(self, key: str) -> dict[str, str]:
        """A mapping of strings to strings."""
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._note(key, f"must be a mapping of texts to texts, not {_kind(value)}")
            return {}
        for name, item in value.items():
            if not isinstance(name, str) or not isinstance(item, str) or _UNFIT.search(item):
                self._note(f"{key}.{name}", f"must be a text, not {_kind(item)}")
                return {}
        return dict(value)

    def files_by_name(self, key: str) -> dict[str, Path]:
        """A mapping of strings to paths."""
        return {name: self._base / value for name, value in self.mapping(key).items()}

    def together(self, *keys: str) -> None:
        """Note a problem when some but not all of `keys` are given."""
        given = [key for key in keys if self._values.get(key) is not None]
        if given and len(given) < len(keys):
            missing = [key for key in keys if key not in given]
            self._note(given[0], f"needs {', '.join(missing)} beside it")

    def needs(self, key: str, *others: str) -> None:
        """Note a problem when `key` is given and none of the others is."""
        if self._values.get(key) is not None and all(self._values.get(other) is None for other in others):
            self._note(key, f"needs {' or '.join(others)} beside it")

    def missing(self, key: str, message: str) -> None:
        """Note a problem about a key that says too little."""
        self._asked.add(key)
        self._note(key, message)

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                self._note(str(key), f"is not a known key; known here: {', '.join(sorted(self._asked))}")

    def _passes(self, key: str, value: str, check: Callable[[str], object]) -> bool:
        try:
            check(value)
        except ValueError as error:
            self._note(key, str(error))
            return False
        return True

    def _take(self, key: str) -> Any:
        self._asked.add(key)
        return self._values.get(key)

    def _below(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path and key else self._path or key

    def _note(self, key: str, message: str) -> None:
        where = self._below(key)
        self._problems.append(Problem(f"{self._file}: {where}" if where else self._file, message))


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether this is a text, not empty, that could also be a path: without zero bytes and halves of characters."""
    return isinstance(value, str) and value != "" and _UNFIT.search(value) is None


def _kind(value: Any) -> str:
    """A value as an error message may show it: small ones themselves, others by their kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else "a long text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"
