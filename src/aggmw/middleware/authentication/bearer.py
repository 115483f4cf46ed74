"""Bearer tokens: where a caller may put one (RFC 6750 §2.1, for WebSockets a subprotocol), and taking it out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence

from aggmw.contracts.identity import Presented
from aggmw.errors import InvalidCredentials

__all__ = ["SUBPROTOCOL", "TOO_MANY_SPACES", "presented_token", "without_token", "without_token_value"]

SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
"""What the subprotocol that carries a token begins with."""

TOO_MANY_SPACES = "the provided Authorization header contains extra space before the bearer token, and is ignored"
"""kube-apiserver's words."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*").fullmatch
_BLANK = b" \t"


def presented_token(presented: Presented) -> bytes | None:
    """The one token that a caller presents, or None.

    `Authorization: Bearer T`, the scheme in any case; on a WebSocket also `base64url.bearer.authorization.k8s.io.T`,
    T in base64url without padding, beside at least one other subprotocol. An empty token is none; with two spaces in
    front the header is ignored and a warning added.

    Raises:
        InvalidCredentials: several `Authorization` fields, several tokens, or one that cannot be read.
    """
    fields = presented.header(b"authorization")
    if len(fields) > 1:
        raise InvalidCredentials("several Authorization fields")
    token = _in_header(fields[0], presented.warnings) if fields else None
    if not presented.subprotocols:
        return token
    offered = _in_subprotocols(presented.subprotocols)
    if token is not None and offered is not None:
        raise InvalidCredentials("a token in Authorization and another in the subprotocols")
    return token if offered is None else offered


def _in_header(value: bytes, warnings: list[str]) -> bytes | None:
    scheme, _, token = value.strip(_BLANK).partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return None
    if token.startswith(b" "):
        if TOO_MANY_SPACES not in warnings:
            warnings.append(TOO_MANY_SPACES)
        return None
    if token.find(b" ") >= 0 or token.find(b"\t") >= 0:  # `in` would first try it as a number, which takes longer
        raise InvalidCredentials("white space in the bearer token")
    return token


def _in_subprotocols(subprotocols: Sequence[str]) -> bytes | None:
    tokens = [each.strip() for each in subprotocols if _carries_token(each)]
    if not tokens:
        return None
    if len(tokens) > 1:
        raise InvalidCredentials("several bearer tokens in the subprotocols")
    encoded = tokens[0].removeprefix(SUBPROTOCOL)
    if not _BASE64URL(encoded):
        raise InvalidCredentials("the bearer token in the subprotocols is not base64url without padding")
    try:
        token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        token.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidCredentials("the bearer token in the subprotocols is not UTF-8 in base64url") from None
    if not token:
        return None
    if len(subprotocols) == 1:
        raise InvalidCredentials("a bearer token is the only subprotocol, so none is left to be chosen")
    return token


def without_token(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """The subprotocols that may go on."""
    return tuple(each for each in subprotocols if not _carries_token(each))


def without_token_value(value: bytes) -> bytes:
    """A `Sec-WebSocket-Protocol` value without the entries that carry tokens; itself when there are none."""
    if SUBPROTOCOL.encode() not in value.lower():
        return value
    entries = [entry.strip(_BLANK) for entry in value.split(b",")]
    return b", ".join(entry for entry in entries if not _carries_token(entry.decode("latin-1")))


def _carries_token(subprotocol: str) -> bool:
    return subprotocol.strip().lower().startswith(SUBPROTOCOL)
