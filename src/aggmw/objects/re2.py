"""Regular expressions as Go's: RE2's syntax, and time that is linear in the text, whatever the pattern."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import re2

__all__ = ["BadPattern", "Match", "Pattern", "compile_pattern"]

MAX_LENGTH = 4096
_MAX_MEMORY = 1 << 20


class Match(Protocol):
    """One place where a pattern fits."""

    def group(self, number: int = 0) -> str: ...

    def start(self) -> int: ...

    def end(self) -> int: ...


class Pattern(Protocol):
    """A compiled pattern. It searches anywhere, as Go's `MatchString`."""

    def search(self, text: str) -> Match | None: ...

    def finditer(self, text: str) -> Iterator[Match]: ...


class BadPattern(ValueError):
    """Not a regular expression of RE2, or too large a one."""


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    return options


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Pattern:
    """A pattern, made once.

    Raises:
        BadPattern: with what is wrong.
    """
    if len(pattern) > MAX_LENGTH:
        raise BadPattern(f"a regular expression has more than {MAX_LENGTH} characters")
    try:
        compiled: Pattern = re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        # Behind the colon it repeats the pattern, which may be somebody's value.
        raise BadPattern(f"not a regular expression: {text.partition(': ')[0]}") from None
    return compiled
