"""Files that hold secrets: made whole or not at all, private from their first byte, one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from aggmw.errors import ConfigurationError, Problem

__all__ = ["make_directory", "mistake", "read_file", "read_private", "shown", "working_in", "write_file"]

_LOCK = ".lock"
_SUFFIX = ".aggmw-tmp"


def shown(path: Path) -> str:
    """The path for a message of one line: escaped when it holds what cannot be printed."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def mistake(path: Path, message: str, error: Exception | None = None) -> ConfigurationError:
    """One mistake about a file, with the operating system's word for it."""
    if error is not None:
        message = f"{message}: {getattr(error, 'strerror', None) or error}"
    return ConfigurationError([Problem(shown(path), message)])


def make_directory(path: Path) -> bool:
    """Make a directory (0700) and its parents; whether others may list one that existed.

    Raises:
        ConfigurationError: it cannot be made, is something else, or others may write to it: they could put keys and
            authorities of their own in place.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except FileExistsError as error:
        raise mistake(path, "is not a directory") from error
    except (OSError, ValueError) as error:
        raise mistake(path, "cannot be created", error) from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in (0, os.geteuid()):
        raise mistake(
            path, "belongs to another user, who could put keys and authorities in place; choose another directory"
        )
    if mode & 0o022:
        what = f"others may write to it (mode {mode:04o}); choose a directory of your own or chmod go-w it"
        raise mistake(path, what)
    return bool(mode & 0o055)


@contextlib.contextmanager
def working_in(path: Path) -> Iterator[None]:
    """Hold the directory's lock, waiting for another process that does; remove what a crash left half written.

    Raises:
        ConfigurationError: the directory cannot be written.
    """
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (OSError, ValueError) as error:
        raise mistake(path, "cannot be written", error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in path.glob(f".*{_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        yield
    except OSError as error:
        where = Path(error.filename) if isinstance(error.filename, str) else path
        raise mistake(where, "cannot be written", error) from error
    finally:
        os.close(lock)


def write_file(path: Path, data: bytes, *, private: bool) -> None:
    """Write a file whole: another process sees the old one or the new one, also after a crash.

    Args:
        path: replaced if it exists.
        data: all of it.
        private: mode 0600, else 0644; set before the first byte is written, whatever the umask.

    Raises:
        OSError: with `path` as its filename.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
    try:
        _write_new(temporary, data, 0o600 if private else 0o644)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes | None:
    """The file's bytes; None when there is no file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise mistake(path, "cannot be read", error) from error


def read_private(path: Path) -> bytes | None:
    """As `read_file`, for a file that holds a private key.

    Raises:
        ConfigurationError: it cannot be read, or others can read it: that is not mended silently, because the
            operator has to know.
    """
    data = read_file(path)
    if data is not None:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            what = (
                f"holds a private key and others may read it (mode {mode:04o}); chmod 600 it, or remove it if they have"
            )
            raise mistake(path, what)
    return data
