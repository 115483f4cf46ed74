"""The text of a model or policy file, with its lines numbered."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

from aggmw.errors import Problem

__all__ = ["BadText", "has_control", "numbered", "read"]

MAX_BYTES = 64 * 1024 * 1024  # half a million rules have 40 MB

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


class BadText(Exception):
    """A file that cannot be read as text."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(path: Path, *, pipe: bool = True) -> str:
    """The file's text, without a byte order mark.

    Args:
        pipe: whether it may be a pipe, on which is waited for somebody who writes.

    Raises:
        BadText: it cannot be opened, is larger than 64 MiB, or is not UTF-8.
    """
    try:
        if not pipe and path.is_fifo():
            raise BadText(Problem(str(path), "is a pipe, which cannot be read again: put a file there"))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadText(Problem.unreadable(path, error)) from error
    if len(data) > MAX_BYTES:
        raise BadText(Problem(str(path), f"is larger than {MAX_BYTES // 1024 // 1024} MiB, the most that is read"))
    data = data.removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadText(Problem(f"{path}:{line}", "is not UTF-8 text")) from error


def has_control(text: str) -> bool:
    """Whether a text holds what no editor would show as it is."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def numbered(text: str, source: str) -> Iterator[tuple[str, str, Problem | None]]:
    """The lines that say something: without white space at the ends, empty lines and comments.

    Yields:
        Where (`source:number`), the line, and a Problem in place of a line that no editor would show as it is.
    """
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = line.removesuffix("\r").strip(" \t")
        if not stripped or stripped.startswith("#"):
            continue
        where = f"{source}:{number}"
        problem = Problem(where, "holds a control character") if has_control(stripped) else None
        yield where, stripped, problem
