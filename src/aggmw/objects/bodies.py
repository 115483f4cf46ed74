"""Objects in and out of HTTP bodies: JSON, YAML and protobuf, as `k8s.io/apiserver` negotiates and decodes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from aggmw.contracts.kinds import Object
from aggmw.errors import StatusError
from aggmw.objects.encoding import encode
from aggmw.objects.messages import Field, Message, message_of, shape_of
from aggmw.objects.negotiation import parse_accept, parse_media_type
from aggmw.objects.protobuf import PROTOBUF, BadProtobuf
from aggmw.objects.protobuf import decode as decode_protobuf
from aggmw.objects.protobuf import encode as encode_protobuf
from aggmw.objects.yaml_files import NotYaml, parse_documents, write_document

__all__ = [
    "MAX_BYTES",
    "MAX_VALUES",
    "TOO_LARGE",
    "ExpectedKind",
    "FieldValidation",
    "decode_object",
    "encode_object",
    "form_for",
]

MAX_BYTES = 3 * 1024 * 1024
"""Of a request's body."""

MAX_VALUES = 32_768
"""Members of objects, objects and lists in a body, and what YAML calls nodes: a parser works on all of them in one go,
and keeps everybody else waiting, a tenth of a second for so many."""

TOO_LARGE = StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BYTES}")

_JSON, _YAML = "application/json", "application/yaml"
_FORMS = (_JSON, _YAML, PROTOBUF)
_ACCEPTED = ", ".join(_FORMS)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]").search


class FieldValidation(Enum):
    """What becomes of unknown and repeated fields (`?fieldValidation=`)."""

    IGNORE = "Ignore"
    WARN = "Warn"
    STRICT = "Strict"


class ExpectedKind(NamedTuple):
    """The kind that an endpoint takes."""

    api_version: str
    kind: str


def form_for(accept: str | None) -> str:
    """The first form that a client accepts; JSON for one that says nothing.

    Raises:
        StatusError: 406.
    """
    if accept is None or not accept.strip():
        return _JSON
    for clause in parse_accept(accept):
        if "as" in clause.parameters:
            continue  # tables and partial metadata are for what is listed
        if clause.name in _FORMS:
            return clause.name
        if clause.name in ("*/*", "application/*"):
            return _JSON
    raise StatusError(406, "NotAcceptable", f"only the following media types are accepted: {_ACCEPTED}")


def encode_object(value: Object, form: str) -> bytes:
    """An object in one of the forms."""
    if form == PROTOBUF:
        return encode_protobuf(value)
    return write_document(value) if form == _YAML else encode(value)


def decode_object(
    content_type: str | None, data: bytes, expected: ExpectedKind, validation: FieldValidation
) -> tuple[Object, list[str]]:
    """The object in a request's body, and warnings.

    Kind and apiVersion may be left out. Where the kind is known to `objects.messages` its fields are checked: types
    always, unknown ones as `validation` says.

    Args:
        content_type: the header field; without one it is JSON.
        data: the body.
        expected: the kind that the endpoint takes.
        validation: for unknown and repeated fields.

    Raises:
        StatusError: 415 for another form; 400 for what cannot be read, is another kind, or has a wrong type.
    """
    form = _JSON if content_type is None or not content_type.strip() else parse_media_type(content_type).name
    reader = _Reader(expected)
    if form == _JSON:
        value = reader.json(data)
    elif form in (_YAML, "application/x-yaml", "text/yaml"):
        value = reader.yaml(data)
    elif form == PROTOBUF:
        value = reader.protobuf(data)
    else:
        raise StatusError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - accepted media types include: {_ACCEPTED}",
        )
    found = reader.checked(value)
    problems = _unique([*reader.repeated, *reader.unknown])
    if problems and validation is FieldValidation.STRICT:
        reader.unfit(f"strict decoding error: {', '.join(problems)}")
    return found, problems if validation is FieldValidation.WARN else []


def _unique(problems: Iterable[str]) -> list[str]:
    """At most so many of them as a client can read."""
    return list(dict.fromkeys(problems))[:20]


class _Reader:
    """One pass over one body."""

    def __init__(self, expected: ExpectedKind) -> None:
        self._expected = expected
        self.repeated: list[str] = []
        self.unknown: list[str] = []

    def unfit(self, reason: str) -> NoReturn:
        version = self._expected.api_version.rpartition("/")[2]
        kind = self._expected.kind
        raise StatusError(400, "BadRequest", f'{kind} in version "{version}" cannot be handled as a {kind}: {reason}')

    def _unreadable(self, reason: str) -> NoReturn:
        raise StatusError(
            400,
            "BadRequest",
            f"the object provided is unrecognized (must be of type {self._expected.kind}): {reason}",
        )

    def json(self, data: bytes) -> Any:
        if _values(data) > MAX_VALUES:
            self._unreadable(f"it holds more than {MAX_VALUES} members and lists")
        try:
            value = json.loads(data.decode(), object_pairs_hook=self._pairs, parse_constant=_no_constant)
            if _SURROGATE(data):
                encode(value)  # halves of a pair are no text, and could not be written again
            return value
        except RecursionError:
            self._unreadable("json parse error: exceeded max depth")
        except UnicodeError:
            self._unreadable("json parse error: not UTF-8")
        except json.JSONDecodeError as error:
            self._unreadable(f"json parse error: {error.msg} at line {error.lineno}, column {error.colno}")
        except ValueError:
            self._unreadable("json parse error: a number cannot be read")

    def yaml(self, data: bytes) -> Any:
        try:
            documents = parse_documents(data, most=MAX_VALUES)
        except NotYaml as error:
            self._unreadable(f"yaml parse error: line {error.line}: {error}")
        if len(documents) != 1:
            self._unreadable("yaml parse error: there must be one document")
        return documents[0].value

    def protobuf(self, data: bytes) -> Any:
        try:
            return decode_protobuf(data)
        except BadProtobuf as error:
            self._unreadable(f"the body is not protobuf: {error}")

    def _pairs(self, pairs: list[tuple[str, Any]]) -> Object:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append(f"duplicate field {json.dumps(key[:80])}")
                seen.add(key)
        return value

    def checked(self, value: Any) -> Object:
        if not isinstance(value, dict):
            self._unreadable("it is no object")
        expected = self._expected
        api_version, kind = value.get("apiVersion") or expected.api_version, value.get("kind") or expected.kind
        if not isinstance(api_version, str) or not isinstance(kind, str):
            self._unreadable("apiVersion and kind must be texts")
        if kind != expected.kind:
            raise StatusError(
                400,
                "BadRequest",
                f"the object provided is a {_short(kind)}, and this endpoint takes a {expected.kind}",
            )
        if api_version != expected.api_version:
            raise StatusError(
                400,
                "BadRequest",
                f"the API version in the data ({_short(api_version)}) does not match the expected API version"
                f" ({expected.api_version})",
            )
        shape = shape_of(*expected)
        fields = {name: each for name, each in value.items() if name not in ("apiVersion", "kind")}
        found = fields if shape is None else self._message(shape, fields, "")
        return {"apiVersion": api_version, "kind": kind, **found}

    def _message(self, message: Message, value: Any, path: str) -> Object:
        if not isinstance(value, dict):
            self._mistyped(value, path, "an object")
        found: Object = {}
        for name, each in value.items():
            field = message.by_name.get(name)
            where = f"{path}.{name}" if path else name
            if field is None:
                self.unknown.append(f"unknown field {json.dumps(where[:200])}")
            elif each is not None:
                found[name] = self._field(field, each, where)
        return found

    def _field(self, field: Field, value: Any, path: str) -> Any:
        if field.many == "list":
            if not isinstance(value, list):
                self._mistyped(value, path, "a list")
            return [self._one(field.kind, each, f"{path}[{place}]") for place, each in enumerate(value)]
        if field.many == "map":
            if not isinstance(value, dict):
                self._mistyped(value, path, "an object")
            return {key: self._one(field.kind, each, f"{path}[{_short(key)}]") for key, each in value.items()}
        return self._one(field.kind, value, path)

    def _one(self, kind: str, value: Any, path: str) -> Any:
        if kind in ("string", "bytes", "time"):
            if not isinstance(value, str):
                self._mistyped(value, path, "a text")
            return value
        if kind == "bool":
            if not isinstance(value, bool):
                self._mistyped(value, path, "true or false")
            return value
        if kind in ("int32", "int64"):
            limit = 1 << (31 if kind == "int32" else 63)
            if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
                self._mistyped(value, path, f"a whole number ({kind})")
            return value
        if kind == "strings":
            if value is None:
                return []
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                self._mistyped(value, path, "a list of texts")
            return value
        return value if kind == "json" else self._message(message_of(kind), value, path)

    def _mistyped(self, value: Any, path: str, wanted: str) -> NoReturn:
        found = {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}
        self.unfit(f"{path or 'it'} must be {wanted}, not {found.get(type(value), 'a number')}")


def _values(data: bytes) -> int:
    """How much work a JSON text may be, from above: what stands in strings counts, too; what is in no object, less."""
    return data.count(b":") + data.count(b"{") + data.count(b"[") + data.count(b",") // 8


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _short(text: str) -> str:
    """A word of the client's in a message, not too long."""
    return text if len(text) <= 80 and text.isprintable() else f"{json.dumps(text[:80])}…"
