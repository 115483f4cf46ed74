"""Bodies for the record: kept while they pass, up to a limit, and only where they are JSON."""

from __future__ import annotations

import json
from typing import Any

from aggmw.asgi.headers import first
from aggmw.asgi.types import Headers

__all__ = ["Kept"]

_JSON = (b"application/json", b"application/apply-patch+yaml")  # kubectl applies JSON under the name of YAML


class Kept:
    """A body that is kept while it passes.

    Args:
        headers: of the message it belongs to.
        limit: bytes; a larger body is not recorded at all.
    """

    __slots__ = ("_chunks", "_limit", "_size", "_why_not")

    def __init__(self, headers: Headers, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._why_not = ""
        content_type = (first(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
        if content_type and content_type not in _JSON and not content_type.endswith(b"+json"):
            self._why_not = "it is not JSON"
        elif (first(headers, b"content-encoding") or b"identity").strip().lower() != b"identity":
            self._why_not = "it is compressed"

    def add(self, chunk: bytes) -> None:
        """A piece of the body passes."""
        self._size += len(chunk)
        if self._size > self._limit:
            self._why_not = self._why_not or f"it has more than {self._limit} bytes"
            self._chunks.clear()
        elif not self._why_not and chunk:
            self._chunks.append(chunk)

    def value(self, *, without_managed_fields: bool) -> tuple[Any, str]:
        """The object, or None and why it is not there; None and "" for no body at all."""
        if not self._size:
            return None, ""
        if self._why_not:
            return None, self._why_not
        try:
            value = json.loads(b"".join(self._chunks), parse_constant=_refuse)
        except (ValueError, RecursionError):
            return None, "it is not JSON"
        if without_managed_fields and isinstance(value, dict):
            _drop_managed_fields(value)
        return value, ""


def _refuse(constant: str) -> None:
    """NaN and Infinity, which Python takes for JSON."""
    raise ValueError(constant)


def _drop_managed_fields(value: dict[str, Any]) -> None:
    """Of an object, and of the objects of a list."""
    items = value.get("items")
    for each in (value, *(items if isinstance(items, list) else ())):
        metadata = each.get("metadata") if isinstance(each, dict) else None
        if isinstance(metadata, dict):
            metadata.pop("managedFields", None)
