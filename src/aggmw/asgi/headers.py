"""Header fields as byte pairs, names in lower case: which of them speak of identity, and which belong to one hop.

Servers and frameworks behind us fold names differently (CGI and WSGI turn `-`, `_` and `.` into the same letter), so a
name is compared after folding every byte that is neither letter nor digit (security cases C2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aggmw.asgi.types import Headers

__all__ = [
    "HOP_BY_HOP",
    "end_to_end",
    "first",
    "fold",
    "is_identity",
    "is_impersonation",
    "unfit",
    "values",
]

_FOLD = bytes(c if chr(c).isalnum() and c < 128 else ord("-") for c in range(256))
_IDENTITY_PREFIXES = (b"x-remote-", b"x-aggmw-", b"impersonate-")
_IDENTITY_NAMES = frozenset({b"client-cert", b"client-cert-chain", b"x-forwarded-client-cert"})

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Fields for one hop (RFC 9110 §7.6.1), besides those that `Connection` names."""

_NOT_A_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z\n]|\n\n|^\n|\n\Z|^\Z")
_NOT_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def fold(name: bytes) -> bytes:
    """The name as a careless receiver might read it: lower case, `-` for every byte but letters and digits."""
    return name.lower().translate(_FOLD)


def is_identity(name: bytes) -> bool:
    """Whether a field, in any spelling, could tell a backend who is asking."""
    folded = fold(name)
    return folded.startswith(_IDENTITY_PREFIXES) or folded in _IDENTITY_NAMES


def is_impersonation(name: bytes) -> bool:
    """Whether a field, in any spelling, asks to act as somebody else."""
    return fold(name).startswith(b"impersonate-")


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """All values of a field, in order."""
    return [value for key, value in headers if key == name]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a field, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without what belongs to one hop: the fixed list, and whatever `Connection` names."""
    headers = tuple(headers)
    drop: frozenset[bytes] | set[bytes] = HOP_BY_HOP
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            drop = {*drop, *(token.strip().lower() for token in value.split(b","))}
    return [field for field in headers if field[0] not in drop]


def unfit(headers: Headers) -> str | None:
    """Why these fields may not be read or sent on, or None: names are tokens, values hold no control bytes."""
    if headers:
        names = b"\n".join([name for name, _ in headers])
        if _NOT_A_TOKEN.search(names) or names.count(b"\n") != len(headers) - 1:
            return "a header name is not a token"
        if _NOT_A_VALUE.search(b"".join([value for _, value in headers])):
            return "a header value holds a control character"
    return None
