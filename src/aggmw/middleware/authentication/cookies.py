"""Cookies of a request (RFC 6265 §5.4): reading ours, and taking it out while the others stay."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from aggmw.asgi.types import Headers

__all__ = ["COOKIE", "check_name", "cookie_values", "declared_cookies", "without_cookies"]

COOKIE = b"cookie:"
"""What the name of a cookie begins with among an authenticator's `credentials`."""

_BLANK = b" \t"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


def check_name(name: str) -> bytes:
    """The name as it stands in the header.

    Raises:
        ValueError: not the name of a cookie.
    """
    if not isinstance(name, str) or not _TOKEN(name):
        raise ValueError(f"{name!r} is no name of a cookie: letters, digits, '-' and '_', such as __Host-aggmw")
    return name.encode("ascii")


def cookie_values(headers: Headers, name: bytes) -> list[bytes]:
    """All values that cookies of this name have, in order, without quotes around them."""
    return [
        _unquoted(value.strip(_BLANK))
        for key, field in headers
        if key == b"cookie"
        for found, is_pair, value in (pair.partition(b"=") for pair in field.split(b";"))
        if is_pair and found.strip(_BLANK) == name
    ]


def _unquoted(value: bytes) -> bytes:
    return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value


def without_cookies(value: bytes, names: Collection[bytes]) -> bytes:
    """A `Cookie` value without the cookies of these names; itself when there are none."""
    if not any(name in value for name in names):
        return value
    pairs = [pair.strip(_BLANK) for pair in value.split(b";")]
    return b"; ".join(pair for pair in pairs if pair and pair.partition(b"=")[0].strip(_BLANK) not in names)


def declared_cookies(credentials: Iterable[bytes]) -> frozenset[bytes]:
    """The names of cookies among an authenticator's `credentials`."""
    return frozenset(each.removeprefix(COOKIE) for each in credentials if each.startswith(COOKIE))
