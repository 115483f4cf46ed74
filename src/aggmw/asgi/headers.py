"""Header fields as byte pairs, names in lower case: which of them speak of identity, and which belong to one hop.

Servers and frameworks behind us fold names differently (CGI and WSGI turn `-`, `_` and `.` into the same letter), so a
name is compared after folding every byte that is neither letter nor digit (security cases C2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = [
    "HOP_BY_HOP",
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

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))


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


def unfit(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Why these fields may not be read or sent on, or None: names are tokens, values hold no control bytes.

    `translate` looks at each byte once, where a regular expression costs several times as much.
    """
    names = []
    values = []
    for name, value in headers:
        names.append(name)
        values.append(value)
    return unfit_parts(names, values)


def unfit_parts(names: Sequence[bytes], values: Sequence[bytes]) -> str | None:
    """The same of names and values apart."""
    if b"" in names or b"".join(names).translate(None, _TOKEN):
        return "a header name is not a token"
    if b"".join(values).translate(None, _VALUE):
        return "a header value holds a control character"
    return None
