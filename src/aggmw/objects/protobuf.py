"""Kubernetes' protobuf: `k8s\\0`, then `runtime.Unknown` around the object (wire contract, appendix A).

By the tables of `objects.messages`; what is not in them is skipped when it is read. Objects are as they are in JSON.
Present but empty means unset, as in Go, except behind pointers.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aggmw.errors import AggmwError
from aggmw.objects.encoding import encode as encode_json
from aggmw.objects.messages import Field, Message, message_of, shape_of

__all__ = ["MAGIC", "PROTOBUF", "BadProtobuf", "UnknownKind", "decode", "encode"]

PROTOBUF = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KIND_OF_WIRE = {"bool": _VARINT, "int32": _VARINT, "int64": _VARINT}
Object = dict[str, Any]  # an object as JSON has it


class BadProtobuf(AggmwError, ValueError):
    """Bytes that are no object. The text completes "the body is not protobuf: …" and repeats nothing of them."""


class UnknownKind(BadProtobuf):
    """An object of a kind whose fields are not known here."""


def decode(data: bytes) -> Object:
    """The object in an envelope, with apiVersion and kind first.

    Raises:
        UnknownKind: there is no table for it.
        BadProtobuf: no envelope, or bytes that do not fit its message.
    """
    if not data.startswith(MAGIC):
        raise BadProtobuf("it does not begin with k8s\\0")
    api_version = kind = encoding = content_type = ""
    raw = b""
    for number, value in _fields(data, len(MAGIC), len(data)):
        if number == 1:
            for inner, text in _fields(_bytes(value), 0, len(_bytes(value))):
                api_version = _text(text) if inner == 1 else api_version
                kind = _text(text) if inner == 2 else kind
        elif number == 2:
            raw = _bytes(value)
        elif number == 3:
            encoding = _text(value)
        elif number == 4:
            content_type = _text(value)
    if encoding or content_type not in ("", PROTOBUF):
        raise BadProtobuf("the envelope holds another encoding")
    shape = shape_of(api_version, kind)
    if shape is None:
        raise UnknownKind("its kind has no protobuf form here; send JSON")
    return {"apiVersion": api_version, "kind": kind, **_decoded(shape, raw)}


def encode(value: Mapping[str, Any]) -> bytes:
    """The envelope of an object, as kube-apiserver writes it.

    Raises:
        UnknownKind: there is no table for it.
        ValueError: a value that does not fit its field.
    """
    api_version, kind = str(value.get("apiVersion", "")), str(value.get("kind", ""))
    shape = shape_of(api_version, kind)
    if shape is None:
        raise UnknownKind("its kind has no protobuf form here")
    type_meta = _delimited(1, api_version.encode()) + _delimited(2, kind.encode())
    raw = _delimited(2, _encoded(shape, value))
    return MAGIC + _delimited(1, type_meta) + raw + _delimited(3, b"") + _delimited(4, b"")


# Reading.


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= end:
            raise BadProtobuf("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise BadProtobuf("a number has more than 64 bits")
            return value, at
        shift += 7
        if shift > 63:
            raise BadProtobuf("a number has more than 64 bits")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an int, or the bytes of a length-delimited one. Fixed-size ones are left out."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise BadProtobuf("a field has no legal number")
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at, end)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise BadProtobuf("a field has no legal wire type")
        if length > end - at:
            raise BadProtobuf("it ends within a field")
        if wire == _BYTES:
            yield number, data[at : at + length]
        at += length


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadProtobuf("a field has another wire type than its message says")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise BadProtobuf("a text is not UTF-8") from None


def _decoded(message: Message, data: bytes) -> Object:
    found: Object = {}
    for number, value in _fields(data, 0, len(data)):
        field = message.by_number.get(number)
        if field is None:
            continue
        if field.many == "list":
            found.setdefault(field.name, []).append(_value(field, value))
        elif field.many == "map":
            key, entry = _entry(field, _bytes(value))
            found.setdefault(field.name, {})[key] = entry
        else:
            one = _value(field, value)
            if field.pointer or one not in ("", 0, False, None, {}):
                found[field.name] = one
            else:
                found.pop(field.name, None)
    return found


def _entry(field: Field, data: bytes) -> tuple[str, Any]:
    key, value = "", b""
    for number, part in _fields(data, 0, len(data)):
        if number == 1:
            key = _text(part)
        elif number == 2:
            value = _bytes(part)
    return key, _value(field, value)


def _value(field: Field, value: int | bytes) -> Any:
    kind = field.kind
    if kind in _KIND_OF_WIRE:
        if not isinstance(value, int):
            raise BadProtobuf("a field has another wire type than its message says")
        if kind == "bool":
            return value != 0
        bits = 32 if kind == "int32" else 64
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if kind == "string":
        return _text(value)
    data = _bytes(value)
    if kind == "bytes":
        return base64.b64encode(data).decode()
    if kind == "time":
        return _time(data)
    if kind == "json":
        return _json(data)
    if kind == "strings":
        return [_text(each) for number, each in _fields(data, 0, len(data)) if number == 1]
    return _decoded(message_of(kind), data)


def _time(data: bytes) -> str | None:
    if not data:
        return None
    seconds = 0
    for number, value in _fields(data, 0, len(data)):
        if number == 1 and isinstance(value, int):
            seconds = value - (1 << 64) if value >> 63 else value
    try:
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except OverflowError:
        raise BadProtobuf("a time is out of range") from None


def _json(data: bytes) -> Any:
    for number, value in _fields(data, 0, len(data)):
        if number == 1:
            try:
                return json.loads(_bytes(value))
            except (ValueError, RecursionError):
                raise BadProtobuf("a field that holds JSON does not") from None
    return None


# Writing.


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _delimited(number: int, data: bytes) -> bytes:
    return b"%b%b%b" % (_number(number << 3 | _BYTES), _number(len(data)), data)


def _encoded(message: Message, value: Mapping[str, Any]) -> bytes:
    """Fields in the order of their numbers; what is no pointer is written also when it is empty, as gogo does."""
    return b"".join(_written(field, value.get(field.name)) for field in message.by_number.values())


def _written(field: Field, value: Any) -> bytes:
    if field.many == "list":
        return b"".join(_one(field, each) for each in value or ())
    if field.many == "map":
        return b"".join(
            _delimited(field.number, _delimited(1, key.encode()) + _one(field, each, number=2))
            for key, each in sorted((value or {}).items())
        )
    if value is None and field.pointer:
        return b""
    return _one(field, value)


def _one(field: Field, value: Any, *, number: int = 0) -> bytes:
    number = number or field.number
    if field.kind in _KIND_OF_WIRE:
        return _number(number << 3 | _VARINT) + _number(int(value or 0))
    return _delimited(number, _body(field.kind, value))


def _body(kind: str, value: Any) -> bytes:
    if kind == "string":
        return str(value or "").encode()
    if kind == "bytes":
        try:
            return base64.b64decode(value or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
    if kind == "time":
        if not value:
            return b""
        moment = datetime.fromisoformat(value) - _EPOCH
        return b"\x08%b\x10\x00" % _number(moment // timedelta(seconds=1))
    if kind == "json":
        return _delimited(1, encode_json(value))
    if kind == "strings":
        return b"".join(_delimited(1, str(each).encode()) for each in value or ())
    return _encoded(message_of(kind), value or {})
