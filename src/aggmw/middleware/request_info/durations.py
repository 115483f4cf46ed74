"""Durations as Go's `time.ParseDuration` reads them: "32s", "1m30s", "300ms"."""

from __future__ import annotations

import json
import re

__all__ = ["seconds_of"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TERM = re.compile(r"([0-9]*(?:\.[0-9]*)?)([^0-9.]*)")
_LONGEST = (1 << 63) / 1e9


def seconds_of(text: str) -> float:
    """The seconds that a Go duration stands for.

    Raises:
        ValueError: `text` is none; the message is Go's.
    """
    invalid = f"time: invalid duration {_quoted(text)}"
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(invalid)
    total, position = 0.0, 0
    while position < len(rest):
        number, unit = _TERM.match(rest, position).groups()  # type: ignore[union-attr]  # matches the empty string too
        if number in ("", "."):
            raise ValueError(invalid)
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quoted(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
        total += float(number) * _UNITS[unit]
        position += len(number) + len(unit)
    if total >= _LONGEST:
        raise ValueError(invalid)
    return -total if text[0] == "-" else total


def _quoted(text: str) -> str:
    """In double quotes, on one line and not longer than an error message should be."""
    return json.dumps(text if len(text) <= 64 else text[:64] + "…")
