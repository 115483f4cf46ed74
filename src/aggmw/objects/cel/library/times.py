"""Timestamps and durations, in microseconds: reading, writing and their parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library

__all__ = ["duration_of", "library", "moment_of", "parse_duration", "parse_moment", "show_duration", "show_moment"]

library = Library()

_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}
_LONGEST = timedelta(seconds=315_576_000_000)
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)


def parse_moment(text: str) -> datetime:
    """A timestamp of RFC 3339.

    Raises:
        CelEvaluationError: it is none.
    """
    match = _MOMENT.fullmatch(text) if len(text) < 64 else None
    if match is None:
        raise CelEvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    micro = int((match[7] or "0").ljust(6, "0")[:6])
    offset = timedelta() if match[8] else timedelta(hours=int(match[10]), minutes=int(match[11]))
    try:
        local = datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)
        return local + offset if match[9] == "-" else local - offset
    except (ValueError, OverflowError):
        raise CelEvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'") from None


def parse_duration(text: str) -> timedelta:
    """A duration as Go writes it: `1h30m`, `-1.5s`, `0`.

    Raises:
        CelEvaluationError: it is none, or too long a one.
    """
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits == "0":
        return timedelta()
    parts = list(_PART.finditer(digits)) if len(text) < 64 else []
    if not parts or "".join(each.group() for each in parts) != digits:
        raise CelEvaluationError("type conversion error from 'string' to 'google.protobuf.Duration'")
    micro = sum(float(each[1]) * _UNITS[each[2]] for each in parts)
    try:
        value = duration_of(timedelta(microseconds=micro))
    except OverflowError:
        raise CelEvaluationError("range error: the duration is too long") from None
    return -value if text[0] == "-" else value


def duration_of(value: timedelta) -> timedelta:
    """A duration that is not too long.

    Raises:
        CelEvaluationError: it is.
    """
    if abs(value) > _LONGEST:
        raise CelEvaluationError("range error: the duration is too long")
    return value


def moment_of(moment: datetime, later: timedelta) -> datetime:
    """A timestamp that much later.

    Raises:
        CelEvaluationError: after the year 9999, or before the year 1.
    """
    try:
        return moment + later
    except OverflowError:
        raise CelEvaluationError("range error: the timestamp is out of range") from None


def show_moment(value: datetime) -> str:
    """RFC 3339 in UTC."""
    text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""
    return f"{text}{fraction}Z"


def show_duration(value: timedelta) -> str:
    """Seconds, as in `90.5s`."""
    micro = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(micro), 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if micro < 0 else ''}{seconds}{fraction}s"


def _zone(name: str) -> tzinfo:
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(days=1):
            return timezone(-offset if match[1] == "-" else offset)
    try:
        # Never a path: what is looked up is a key of the time zone database.
        if not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+){0,2}", name, re.ASCII):
            raise ValueError
        return ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise CelEvaluationError("unknown time zone") from None


_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDate": lambda at: at.day,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}


def _declare(name: str, part: Callable[[datetime], int]) -> None:
    library.add(f"timestamp.{name}() -> int", lambda at: part(at.astimezone(UTC)))
    library.add(f"timestamp.{name}(string) -> int", lambda at, zone: part(at.astimezone(_zone(zone))))


for _name, _part in _PARTS.items():
    _declare(_name, _part)


def _whole(value: timedelta, unit: timedelta) -> int:
    return -(-value // unit) if value < timedelta() else value // unit


library.add("duration.getHours() -> int", lambda value: _whole(value, timedelta(hours=1)))
library.add("duration.getMinutes() -> int", lambda value: _whole(value, timedelta(minutes=1)))
library.add("duration.getSeconds() -> int", lambda value: _whole(value, timedelta(seconds=1)))
library.add("duration.getMilliseconds() -> int", lambda value: _whole(value, timedelta(milliseconds=1)))
