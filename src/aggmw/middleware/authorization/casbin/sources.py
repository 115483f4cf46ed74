"""Where a policy comes from: a file, a text, rows that Python code has, or a casbin adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from inspect import isawaitable, iscoroutinefunction
from pathlib import Path
from typing import Any, Protocol

from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.aside import giving_way
from aggmw.middleware.authorization.casbin.collecting import Collector
from aggmw.middleware.authorization.casbin.policy import Row, read_rows
from aggmw.middleware.authorization.casbin.text import BadText, has_control, read

__all__ = ["AdapterSource", "AwaitedSource", "FileSource", "PolicySource", "RowsSource", "TextSource", "of_adapter"]

_LONGEST_REASON = 200  # characters of another library's error text


class PolicySource(Protocol):
    """Where the rows of a policy come from.

    Attributes:
        name: what messages call it.
        foreign: whether the rows came through code that is not ours. Each rule has to say that it allows then: what is
            kept elsewhere may have lost a "deny" on its way.
    """

    @property
    def name(self) -> str: ...

    @property
    def foreign(self) -> bool: ...

    def read(self) -> tuple[list[Row], list[Problem]]:
        """The rows of this moment, and what cannot be read as one. May block."""
        ...


class TextSource:
    """A policy or a model that is a text.

    Args:
        name: what messages call it.
    """

    foreign = False

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text

    def text(self) -> str:
        """All of it.

        Raises:
            BadText: it cannot be read.
        """
        return self._text

    def read(self) -> tuple[list[Row], list[Problem]]:
        try:
            return read_rows(self.text(), self.name)
        except BadText as error:
            return [], [error.problem]


class FileSource(TextSource):
    """A policy or a model that is a file, read each time. Of a pipe there is one time."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(str(path), "")
        self._pipe = True

    def text(self) -> str:
        text = read(Path(self.name), pipe=self._pipe)
        self._pipe = False  # nobody would write a second time
        return text

    def fetch(self) -> TextSource:
        """The file as it is at this moment, to be read without waiting for a disk."""
        try:
            return TextSource(self.name, self.text())
        except BadText as error:
            return _Unreadable(self.name, error)


class _Unreadable(TextSource):
    def __init__(self, name: str, error: BadText) -> None:
        super().__init__(name, "")
        self._error = error

    def text(self) -> str:
        raise self._error


class RowsSource:
    """Rows that Python code has; never changed.

    Args:
        rows: each with its type in front: `("p", "user:alice", "get", …)`.

    Raises:
        TypeError: a row that is none.
    """

    foreign = False

    def __init__(self, rows: Iterable[Sequence[str]], name: str = "rows") -> None:
        self.name = name
        self._rows = tuple(map(_checked, rows))

    def read(self) -> tuple[list[Row], list[Problem]]:
        found = ((row[0], row[1:], number) for number, row in enumerate(self._rows, 1))
        return _placed(self.name, found)

    def changed(self, add: Iterable[Sequence[str]], remove: Iterable[Sequence[str]]) -> RowsSource:
        """The rows without some of them, then others.

        Raises:
            ValueError: a row that is to be removed is not there.
        """
        unwanted = set(map(_checked, remove))
        missing = unwanted.difference(self._rows)
        if missing:
            raise ValueError(f"remove: there is no row {', '.join(min(missing))}")
        left = [row for row in self._rows if row not in unwanted]
        return RowsSource([*left, *map(_checked, add)], self.name)


def _checked(row: Sequence[str]) -> tuple[str, ...]:
    columns = () if isinstance(row, str) else tuple(row)
    if not columns or not all(isinstance(column, str) for column in columns):
        raise TypeError('a row is several texts, its type first: ("p", "user:alice", "get", …)')
    return columns


def _placed(name: str, found: Iterable[tuple[str, Sequence[object], int]]) -> tuple[list[Row], list[Problem]]:
    """Rows that stand in no file: each is called by its number."""
    rows: list[Row] = []
    problems: list[Problem] = []
    known: dict[str, str] = {}
    once = known.setdefault
    for ptype, columns, number in found:
        where = f"{name} row {number}"
        texts = [once(column, column) for column in columns if isinstance(column, str)]
        if len(texts) < len(columns):
            problems.append(Problem(where, "has a column that is no text"))
        elif any(has_control(text) or "\n" in text for text in (ptype, *texts)):
            problems.append(Problem(where, "holds a control character"))
        else:
            rows.append(Row(tuple(texts), once(ptype, ptype), where))
    return rows, problems


class AdapterSource:
    """A casbin adapter that blocks: it is called in a thread.

    Args:
        adapter: has `load_policy(model)`.
        name: what messages call it.
    """

    def __init__(self, adapter: Any, name: str) -> None:
        self.name = name
        self._adapter = adapter

    def fetch(self) -> PolicySource:
        """What there is at this moment, to be read.

        Raises:
            ConfigurationError: there is no coming by it.
        """
        collector = Collector()
        try:
            unexpected = self._adapter.load_policy(collector.model)
        except Exception as error:
            raise _broken(self.name, error) from error
        if isawaitable(unexpected):
            getattr(unexpected, "close", bool)()
            raise ConfigurationError(
                [Problem(self.name, "load_policy() has to be awaited, and is no coroutine function: make it one")]
            )
        return _Fetched(self.name, collector)


class AwaitedSource:
    """A casbin adapter whose `load_policy` is a coroutine function.

    Args:
        adapter: the adapter.
        name: what messages call it.
        timeout: seconds after which it counts as broken.
        in_thread: whether it is awaited on an event loop of its own in a thread, or on the one where we are called.
    """

    def __init__(self, adapter: Any, name: str, timeout: float, *, in_thread: bool) -> None:
        self.name = name
        self._adapter = adapter
        self._timeout = timeout
        self._in_thread = in_thread

    async def fetch(self) -> PolicySource:
        """What there is at this moment, to be read.

        Raises:
            ConfigurationError: there is no coming by it.
        """
        return await in_thread(self._run) if self._in_thread else await self._load()

    def _run(self) -> PolicySource:
        with giving_way():
            return asyncio.run(self._load())

    async def _load(self) -> PolicySource:
        collector = Collector()
        try:
            async with asyncio.timeout(self._timeout):
                await self._adapter.load_policy(collector.model)
        except TimeoutError as error:
            raise ConfigurationError(
                [Problem(self.name, f"cannot be loaded: no answer within {self._timeout:g} seconds")]
            ) from error
        except Exception as error:
            raise _broken(self.name, error) from error
        return _Fetched(self.name, collector)


class _Fetched:
    foreign = True

    def __init__(self, name: str, collector: Collector) -> None:
        self.name = name
        self._collector = collector

    def read(self) -> tuple[list[Row], list[Problem]]:
        return _placed(self.name, self._collector.rows())


def of_adapter(adapter: object, name: str, timeout: float, in_thread: bool) -> AdapterSource | AwaitedSource:
    """The source for an adapter.

    Raises:
        TypeError: it has no `load_policy`, or is a class.
    """
    load = getattr(adapter, "load_policy", None)
    if isinstance(adapter, type) or not callable(load):
        raise TypeError("adapter: a casbin adapter is an object with a method load_policy(model)")
    if iscoroutinefunction(load):
        return AwaitedSource(adapter, name, timeout, in_thread=in_thread)
    return AdapterSource(adapter, name)


def _broken(name: str, error: Exception) -> ConfigurationError:
    """What an adapter said, in one line."""
    reason = (str(error).splitlines() or [""])[0][:_LONGEST_REASON]
    words = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return ConfigurationError([Problem(name, f"cannot be loaded: {words}")])
