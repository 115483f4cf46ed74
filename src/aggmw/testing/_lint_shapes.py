"""The shapes that ASGI prescribes for scopes, messages and header fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from aggmw.asgi.types import Message, Scope

__all__ = ["LintError", "check_headers", "check_message", "check_scope", "require"]

_HTTP_VERSIONS = {"1.0", "1.1", "2", "3"}
_NOT_A_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9a-z]")
_NOT_A_VALUE = re.compile(rb"[\x00\r\n]")


class LintError(AssertionError):
    """A scope or message that the ASGI specification does not allow at this point."""


def require(condition: object, problem: str) -> None:
    """Raise `LintError(problem)` unless `condition` holds."""
    if not condition:
        raise LintError(problem)


def check_message(message: Message, fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """The type of every field that is present and not None."""
    for name, kind in fields.items():
        value = message.get(name)
        require(
            value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))),
            f"{message['type']!r}: {name!r} is a {type(value).__name__}",
        )


def check_headers(headers: object, where: str, *, limited: bool = True) -> list[tuple[bytes, bytes]]:
    """The header fields as a list, after checking the shape of each.

    Args:
        headers: what the message or scope holds.
        where: what it is part of, for the error.
        limited: whether names must be tokens and values without CR, LF and NUL (what an application sends).
    """
    require(
        isinstance(headers, Iterable) and not isinstance(headers, (bytes, str, Mapping)),
        f"{where}: headers are a {type(headers).__name__}, not an iterable of pairs",
    )
    assert isinstance(headers, Iterable)
    fields = []
    for field in headers:
        require(
            isinstance(field, (tuple, list)) and len(field) == 2 and all(isinstance(part, bytes) for part in field),
            f"{where}: the header {field!r} is not a pair of byte strings",
        )
        name, value = field
        require(name == name.lower(), f"{where}: the header name {name!r} is not in lower case")
        require(not name.startswith(b":"), f"{where}: the pseudo header {name!r} is not the application's to send")
        if limited:
            require(name and not _NOT_A_NAME.search(name), f"{where}: the header name {name!r} is not a token")
            require(not _NOT_A_VALUE.search(value), f"{where}: the value of header {name!r} has a line break or NUL")
        fields.append((name, value))
    return fields


def check_scope(scope: Scope) -> None:
    """What every scope must hold, by type."""
    require(isinstance(scope, MutableMapping), f"the scope is a {type(scope).__name__}")
    kind = scope.get("type")
    require(kind in ("http", "websocket", "lifespan"), f"the scope has type {kind!r}")
    version = scope.get("asgi")
    require(isinstance(version, Mapping) and isinstance(version.get("version"), str), "the scope tells no ASGI version")
    if kind == "lifespan":
        return
    where = f"the {kind} scope"
    require(scope.get("http_version", "1.1") in _HTTP_VERSIONS, f"{where}: http_version {scope.get('http_version')!r}")
    _check_field(scope, where, "path", str)
    _check_field(scope, where, "query_string", bytes)
    if scope.get("raw_path") is not None:
        _check_field(scope, where, "raw_path", bytes)
        require(b"?" not in scope["raw_path"], f"{where}: raw_path holds the query string")
    if kind == "http":
        _check_field(scope, where, "method", str)
        require(scope["method"] == scope["method"].upper(), f"{where}: the method {scope['method']!r}")
    else:
        require(all(isinstance(p, str) for p in scope.get("subprotocols") or ()), f"{where}: subprotocols")
    for name in ("root_path", "scheme"):
        if name in scope:
            _check_field(scope, where, name, str)
    for name in ("state", "extensions"):
        if scope.get(name) is not None:
            _check_field(scope, where, name, Mapping)
    for name in ("client", "server"):
        require(scope.get(name) is None or len(scope[name]) == 2, f"{where}: {name} is {scope.get(name)!r}")
    check_headers(scope.get("headers"), where, limited=False)


def _check_field(scope: Scope, where: str, name: str, kind: Any) -> None:
    require(isinstance(scope.get(name), kind), f"{where}: {name} is {scope.get(name)!r}")
