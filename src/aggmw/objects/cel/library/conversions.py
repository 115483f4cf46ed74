"""Conversions between types, `dyn` and `type`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library
from aggmw.objects.cel.library.operators import signed, unsigned
from aggmw.objects.cel.library.times import parse_duration, parse_moment, show_duration, show_moment
from aggmw.objects.cel.values import TypeValue, UInt, Value, kind_of

__all__ = ["library", "show_double"]

library = Library()
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_TYPES = {
    "null": "null_type",
    "optional": "optional_type",
    "url": "kubernetes.URL",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "quantity": "kubernetes.Quantity",
    "semver": "kubernetes.Semver",
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
}


@library.overload("dyn(A) -> dyn")
def _dyn(value: Value) -> Value:
    return value


@library.overload("type(A) -> type(A)")
def _type(value: Value) -> TypeValue:
    kind = kind_of(value)
    return TypeValue(_TYPES.get(kind, kind))


@library.overload("int(int) -> int")
def _same(value: Value) -> Value:
    return value


for _kind in ("uint", "double", "string", "bytes", "bool", "timestamp", "duration"):
    library.add(f"{_kind}({_kind}) -> {_kind}", _same)


@library.overload("int(uint) -> int")
def _int(value: UInt) -> int:
    return signed(int(value))


@library.overload("int(double) -> int")
def _truncated(value: float) -> int:
    if not math.isfinite(value) or abs(value) >= 2**63:
        raise CelEvaluationError("range error: the double does not fit into an int")
    return signed(int(value))


@library.overload("int(string) -> int", cost=lambda text: len(text) // 10)
def _parsed(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise CelEvaluationError("type conversion error from 'string' to 'int'")
    return signed(int(text))


@library.overload("int(timestamp) -> int")
def _seconds(value: datetime) -> int:
    return math.floor(value.timestamp())


@library.overload("uint(int) -> uint")
def _uint(value: int) -> UInt:
    return unsigned(value)


@library.overload("uint(double) -> uint")
def _truncated_unsigned(value: float) -> UInt:
    if not math.isfinite(value) or not 0 <= value < 2**64:
        raise CelEvaluationError("range error: the double does not fit into a uint")
    return unsigned(int(value))


@library.overload("uint(string) -> uint", cost=lambda text: len(text) // 10)
def _parsed_unsigned(text: str) -> UInt:
    if not _INTEGER.fullmatch(text):
        raise CelEvaluationError("type conversion error from 'string' to 'uint'")
    return unsigned(int(text))


@library.overload("double(int) -> double", "double(uint) -> double")
def _double(value: int) -> float:
    return float(value)


@library.overload("double(string) -> double", cost=lambda text: len(text) // 10)
def _parsed_double(text: str) -> float:
    try:
        if len(text) > 400 or "_" in text or text != text.strip():
            raise ValueError
        return float(text)
    except ValueError:
        raise CelEvaluationError("type conversion error from 'string' to 'double'") from None


@library.overload("string(int) -> string", "string(uint) -> string")
def _digits(value: int) -> str:
    return str(int(value))


@library.overload("string(bool) -> string")
def _word(value: bool) -> str:
    return "true" if value else "false"


def show_double(value: float) -> str:
    """A double as CEL writes it: without an exponent, and without a fraction where there is none."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


library.add("string(double) -> string", show_double)


@library.overload("string(bytes) -> string", cost=lambda value: len(value) // 10)
def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelEvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


library.add("string(timestamp) -> string", show_moment)
library.add("string(duration) -> string", show_duration)


@library.overload("bytes(string) -> bytes", cost=lambda text: len(text) // 10)
def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@library.overload("bool(string) -> bool")
def _truth(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise CelEvaluationError("type conversion error from 'string' to 'bool'")


library.add("timestamp(string) -> timestamp", parse_moment)


@library.overload("timestamp(int) -> timestamp")
def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(0, tz=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise CelEvaluationError("range error: the timestamp is out of range") from None


library.add("duration(string) -> duration", parse_duration)
