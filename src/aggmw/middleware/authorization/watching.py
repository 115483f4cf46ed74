"""Policies that are read again when they were changed: controllers, for the lifespan of whoever asks the policy."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from inspect import isawaitable
from pathlib import Path
from typing import TypeAlias

import structlog

from aggmw.contracts.reloading import PolicyWatcher, Reload, read_again
from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, fault

__all__ = ["FileWatcher", "FirstLoad", "Follower"]

_log = structlog.get_logger("aggmw.authorization")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds
_State: TypeAlias = "tuple[object, ...] | None"


class FileWatcher:
    """Has files read again when they were changed.

    It looks at them four times a second, which costs some 40 µs each time, works on every file system, and sees a file
    that is replaced, a symbolic link that leads elsewhere (as in a mounted ConfigMap), and what is written in place.
    Something that was changed is read when two looks in a row see the same, so that it is not read half written. A file
    that is gone is waited for; if it stays away, what is missing is a mistake like any other. What could not be read
    for a reason that may pass by itself is read again after a second, then more rarely, at last every half a minute.

    Args:
        paths: files, and directories whose files count. What they are when the watcher is made counts as read.
        reload: reads them again.
        what: what they are, in a word, for the log.
        every: seconds between two looks.
        patience: how many looks a file may be gone.
    """

    def __init__(
        self, paths: Iterable[Path | str], reload: Reload, *, what: str, every: float = 0.25, patience: int = 20
    ) -> None:
        self.name = f"watching the {what}"
        self._paths = tuple(paths)
        self._reload = reload
        self._what = what
        self._every = every
        self._patience = patience
        self._gone = 0
        self._passing = False  # whether the last reading failed so that another may not
        self._pause = 0.0  # seconds before that
        self._left = 0  # looks until its end, that one included
        self._read = self._seen = self._states()

    def __repr__(self) -> str:
        return f"FileWatcher({', '.join(map(str, self._paths))})"

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Look once, and have the files read if they were changed and are at rest."""
        now = await in_thread(self._states)  # a file system that hangs must not hold up the loop
        before, self._seen = self._seen, now
        changed = now != self._read
        if not changed:
            self._gone = 0
        if now == before and (self._is_over() or (changed and not self._waits(now))):
            await read_again(self._what, self._reloaded, _log)
            self._read = now  # not if that raised something else than mistakes: then it is tried again
            self._take_a_pause()

    async def _reloaded(self) -> object:
        self._passing = False
        try:
            result = self._reload()
            return await result if isawaitable(result) else result
        except ConfigurationError as error:
            self._passing = any(problem.passing for problem in error.problems)
            raise

    def _take_a_pause(self) -> None:
        """Before another reading, if this one failed so that it is worth one."""
        if not self._passing:
            self._pause, self._left = 0.0, 0
            return
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        self._left = max(1, round(self._pause / self._every))
        _log.warning("will be read again", what=self._what, seconds=self._pause)

    def _is_over(self) -> bool:
        """Whether there was a pause that is at its end: it stays so until the next reading has come to something."""
        if self._left > 1:
            self._left -= 1
            return False
        return self._left == 1

    def _waits(self, states: tuple[_State, ...]) -> bool:
        """Whether a file is gone that may come back."""
        self._gone = self._gone + 1 if None in states else 0
        return 0 < self._gone < self._patience

    def _states(self) -> tuple[_State, ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path | str) -> _State:
    """What changes when the file does, or one in the directory; None for what is not there."""
    try:
        found = os.stat(path)
        if not stat.S_ISDIR(found.st_mode):
            return _identity(found)
        with os.scandir(path) as entries:
            return tuple(sorted((entry.name, *_found(entry.path)) for entry in entries))
    except FileNotFoundError:
        return None
    except OSError as error:
        return (error.errno,)


def _found(path: str) -> tuple[object, ...]:
    """One file of a directory; a link that leads nowhere, such as an editor's lock, is one, too."""
    try:
        return _identity(os.stat(path))
    except OSError as error:
        return (error.errno,)


def _identity(found: os.stat_result) -> tuple[object, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Follower:
    """Has a policy read again when somebody else says that it was changed; tries again where it cannot be loaded.

    Args:
        watcher: who says so.
        reload: reads it again.
        what: what it is, in a word, for the log.
    """

    def __init__(self, watcher: PolicyWatcher, reload: Reload, *, what: str) -> None:
        self.name = f"following the {what}"
        self._watcher = watcher
        self._reload = reload
        self._what = what

    def __repr__(self) -> str:
        return f"Follower({self._watcher!r})"

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            Exception: what the watcher raised; to be begun again.
        """
        again: asyncio.Task[None] | None = None
        try:
            async for _ in self._watcher.changes():
                if again is not None:
                    again.cancel()
                    again = None
                if not await read_again(self._what, self._reload, _log):
                    again = asyncio.create_task(self._again())  # nobody says it a second time
        finally:
            if again is not None:
                again.cancel()

    async def _again(self) -> None:
        await asyncio.sleep(_FIRST_PAUSE)
        await _until_read(self._what, self._reload)


class FirstLoad:
    """Loads a policy that has to be awaited; tries again where it cannot be loaded, ever later, up to half a minute.

    Args:
        loaded: whether there is one already.
        reload: loads it.
        what: what it is, in a word, for the log.
    """

    def __init__(self, loaded: Callable[[], bool], reload: Reload, *, what: str) -> None:
        self.name = f"loading the {what}"
        self._loaded = loaded
        self._reload = reload
        self._what = what

    def __repr__(self) -> str:
        return f"FirstLoad({self._what!r})"

    async def run(self) -> None:
        """Try until there is one."""
        await _until_read(self._what, self._reload, self._loaded)


async def _until_read(what: str, reload: Reload, enough: Callable[[], bool] = bool) -> None:
    """Read something, ever more rarely, until it could be, or that is not needed any more."""
    pause = _FIRST_PAUSE
    while not enough() and not await _read(what, reload):
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _read(what: str, reload: Reload) -> bool:
    try:
        return await read_again(what, reload, _log)
    except Exception as error:  # noqa: BLE001  it is tried again
        _log.error("not reloaded", what=what, **fault(error))
        return False
