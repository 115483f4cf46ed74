"""AuditLog: events as JSON lines in a file that is rotated by size, age and number, and can be reopened."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aggmw.contracts.audit import AuditEvent
from aggmw.contracts.metrics import Sample
from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.audit.batches import Batches, NotWritten, WhenFull
from aggmw.middleware.audit.encoding import encoded

__all__ = ["AuditLog"]

_DAY = 86_400.0
_LOCK_SECONDS = 2.0
_LOCK_PAUSE = 0.002
_STAMP = "%Y-%m-%dT%H-%M-%S.%f"


class AuditLog:
    """An `AuditSink`: one JSON object a line, appended to a file of mode 0600, in batches and off the event loop.

    What cannot be written, because the disk is full for instance, is kept and tried again; half a line never stays.
    Several processes may write to the same file, and each of them may put it aside. A file that somebody else has moved
    away is noticed with the next batch, which goes into a new one.

    Args:
        path: the file; its directory exists.
        max_size: megabytes of a file before it is put aside and a new one begun; 0: any size.
        max_age: days that a file that was put aside is kept; 0: for ever.
        max_backups: how many of those are kept; 0: all.
        limit: events that may wait to be written.
        when_full: "wait": requests wait until there is room; "drop": events are dropped and counted.
        clock: seconds since the epoch.

    Raises:
        ValueError: a queue that holds nothing, or another word for `when_full`.
    """

    name = "log"

    def __init__(
        self,
        path: Path,
        *,
        max_size: int = 0,
        max_age: int = 0,
        max_backups: int = 0,
        limit: int = 10_000,
        when_full: WhenFull = "wait",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = _File(path, max_size * 1_000_000, max_age * _DAY, max_backups, clock)
        self._batches = Batches(self.name, self._write, limit=limit, when_full=when_full)

    def __repr__(self) -> str:
        return f"AuditLog({str(self._file.path)!r})"

    def check(self) -> None:
        """Whether the file can be written, before anything depends on it. If there is none, there is none afterwards.

        Raises:
            ConfigurationError: it cannot be opened for appending.
        """
        try:
            self._file.check()
        except OSError as error:
            what = error.strerror or type(error).__name__
            problem = Problem(str(self._file.path), f"cannot be opened for appending: {what}")
            raise ConfigurationError([problem]) from error

    @property
    def full(self) -> bool:
        """Whether a request should wait in `room`."""
        return self._batches.full

    async def room(self) -> None:
        """Wait until there is room."""
        await self._batches.room()

    def put(self, event: AuditEvent) -> None:
        """Take an event."""
        self._batches.put(event)

    async def written(self) -> bool:
        """Wait until what was taken so far is written."""
        return await self._batches.written()

    async def run(self) -> None:
        """Write until cancelled, then write the rest and close the file."""
        try:
            await self._batches.run()
        finally:
            self._file.close()

    def reopen(self) -> None:
        """Open the file anew with the next batch. For SIGHUP."""
        self._file.stale = True

    def samples(self) -> Iterable[Sample]:
        """What became of the events."""
        return self._batches.samples()

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        await in_thread(partial(self._write_in_thread, events))

    def _write_in_thread(self, events: Sequence[AuditEvent]) -> None:
        lines = [encoded(event) + b"\n" for event in events]
        try:
            self._file.write(lines)
        except OSError as error:
            raise NotWritten(f"{self._file.path}: {error.strerror or type(error).__name__}") from error


class _File:
    """The file and those put aside; used by one thread at a time, of several processes: who writes holds its lock."""

    def __init__(
        self, path: Path, max_bytes: int, max_seconds: float, max_backups: int, clock: Callable[[], float]
    ) -> None:
        self.path = path
        self.stale = False
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._max_backups = max_backups
        self._clock = clock
        self._descriptor: int | None = None

    def check(self) -> None:
        """Whether it can be opened and locked; nothing stays open, and no file is left that was not there."""
        was_there = self.path.exists()
        try:
            _, size = self._take()
            if not was_there and not size:
                os.unlink(os.path.realpath(self.path))  # who waits for its lock finds that, and makes another
        finally:
            self.close()

    def write(self, lines: Sequence[bytes]) -> None:
        """Append all of them, or none.

        Raises:
            OSError: none of them is in the file.
        """
        if self.stale:
            self.stale = False
            self.close()
        data = b"".join(lines)
        descriptor, size = self._take()
        try:
            if self._max_bytes and size and size + len(data) > self._max_bytes:
                self._put_aside()
                descriptor, size = self._take()
            _append(descriptor, data, size)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close it, which ends the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _take(self) -> tuple[int, int]:
        """The file that has the name now, locked, and its size."""
        while True:
            descriptor = self._open()
            try:
                _lock(descriptor)
                found = os.fstat(descriptor)
                if os.path.samestat(found, os.stat(self.path)):
                    return descriptor, found.st_size
            except FileNotFoundError:
                pass
            except OSError:
                self.close()
                raise
            self.close()  # another process has put it aside, or somebody has moved it away

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def _put_aside(self) -> None:
        """Rename the file by the time, and remove what is too old or too much. The name sorts by time.

        It stays locked until it has its new name, so that it is put aside once and not by every process.
        """
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime(_STAMP)
        os.rename(self.path, self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        self.close()
        aside = sorted(self._aside(), key=lambda each: each.name, reverse=True)
        for number, each in enumerate(aside):
            too_many = bool(self._max_backups) and number >= self._max_backups
            with suppress(OSError):
                if too_many or (self._max_seconds and self._clock() - each.stat().st_mtime > self._max_seconds):
                    each.unlink()

    def _aside(self) -> Iterable[Path]:
        """Only files that this one has put aside: others of the directory are left alone."""
        prefix, suffix = f"{self.path.stem}-", self.path.suffix
        for each in self.path.parent.iterdir():
            if each.name.startswith(prefix) and each.name.endswith(suffix):
                with suppress(ValueError):
                    datetime.strptime(each.name[len(prefix) : len(each.name) - len(suffix)], _STAMP)
                    yield each


def _lock(descriptor: int) -> None:
    """Lock a file. Others hold it for a moment only; who does so for longer must not keep this process from its end.

    Raises:
        OSError: somebody does.
    """
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise OSError(errno.EAGAIN, "another process keeps it locked") from error
            time.sleep(_LOCK_PAUSE)
        else:
            return


def _append(descriptor: int, data: bytes, size: int) -> None:
    """Append everything to a file of that size, or nothing."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
