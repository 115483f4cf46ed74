"""What is wrong with an object, field by field, as one 422 (wire contract §0.2, §0.3; `util/validation/field`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from aggmw.contracts.catalog import GroupVersionKind
from aggmw.errors import StatusError
from aggmw.objects.refusal import quoted

__all__ = ["FieldError", "forbidden_field", "invalid_field", "invalid_object", "required_field", "too_long", "too_many"]

_MOST = 50
_SHOWN = 80  # characters
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class FieldError(NamedTuple):
    """One mistake.

    Attributes:
        field: the path of the field.
        reason: for programs, such as "FieldValueInvalid".
        message: what is wrong, without the path.
    """

    field: str
    reason: str
    message: str


def invalid_field(field: str, value: Any, detail: str) -> FieldError:
    """A value that the field cannot have."""
    text = quoted(_short(value)) if isinstance(value, str) else _short(_beginning(value))
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {text}: {detail}")


def required_field(field: str, detail: str) -> FieldError:
    """A field without the value it must have."""
    return FieldError(field, "FieldValueRequired", f"Required value: {detail}")


def forbidden_field(field: str, detail: str) -> FieldError:
    """A field that must have no value here."""
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def too_many(field: str, items: int, most: int) -> FieldError:
    """A list that is too long."""
    return FieldError(field, "FieldValueTooMany", f"Too many: {items}: must have at most {most} items")


def too_long(field: str, most: int) -> FieldError:
    """A value with too many characters."""
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {most} characters")


def _beginning(value: Any) -> str:
    """A value as JSON, as far as it is shown: it may be as long as a body."""
    return "".join(islice(_JSON.iterencode(value), _SHOWN + 1))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def invalid_object(kind: GroupVersionKind, name: str, errors: Iterable[FieldError]) -> StatusError:
    """The error of an object with mistakes, each told once, and of very many only the first."""
    errors = list(islice(errors, _MOST))
    told = list(dict.fromkeys(f"{each.field}: {each.message}" for each in errors))
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details: dict[str, Any] = {"name": name} if name else {}
    details |= {"group": kind.group, "kind": kind.kind}
    details["causes"] = [{"reason": each.reason, "message": each.message, "field": each.field} for each in errors]
    return StatusError(422, "Invalid", f"{kind.kind}.{kind.group} {quoted(name)} is invalid: {text}", details)
