"""JSON Web Tokens as they are presented: read, and their times checked (RFC 7519, 8725; security cases C3).

Nothing of a token is believed before its signature is; what is read first only finds the keys to check it with.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication.algorithms import ALGORITHMS
from aggmw.middleware.authentication.jose import strict_object

__all__ = ["LEEWAY", "MAX_TOKEN", "Token", "audiences_of", "check_times", "read_token"]

MAX_TOKEN = 16_384
"""Bytes of a token; larger ones are refused unread."""

LEEWAY = 60.0
"""Seconds that an issuer's clock may be ahead of ours. An expired token is expired: no leeway there."""

_MAX_KID = 1024
_LAST = 253_402_300_799  # the end of year 9999
_SEGMENTS = re.compile(rb"([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{2,})").fullmatch
_TYPES = frozenset({"jwt", "at+jwt"})
"""What a token that says who is asking calls itself, if anything: not a logout token, no proof of possession. With
`application/` in front it is the same (RFC 7515 §4.1.9)."""


class Token(NamedTuple):
    """A token that was read, and not verified.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        kid: the name of the key; None when it names none.
        claims: what it says.
        signed: what the signature is over.
        signature: in the form of RFC 7518.
    """

    algorithm: str
    kid: str | None
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who is said to have issued it; "" when it does not say so properly."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""


def read_token(token: bytes) -> Token:
    """A token in the compact form of RFC 7515.

    Raises:
        InvalidCredentials: it is too large, none, or asks for something that is not done here.
    """
    if len(token) > MAX_TOKEN:
        raise InvalidCredentials(f"the token is larger than {MAX_TOKEN} bytes")
    segments = _SEGMENTS(token)
    if segments is None:
        raise InvalidCredentials("the token is no JSON Web Token")
    header = _object(segments[1], "header")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise InvalidCredentials("the token is not signed with an algorithm that is accepted")
    if "crit" in header:
        raise InvalidCredentials("the token demands extensions that are not understood (crit)")
    if header.get("b64", True) is not True:  # RFC 7797, which demands crit beside it; others may read it otherwise
        raise InvalidCredentials("the token's payload is said not to be in base64url (b64)")
    kind = header.get("typ")
    if kind is not None and (not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES):
        raise InvalidCredentials("the token is of a type that does not say who is asking (typ)")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > _MAX_KID):
        raise InvalidCredentials("the token names its key by something that is no name (kid)")
    signed = token[: segments.end(2)]
    return Token(algorithm, kid, _object(segments[2], "payload"), signed, _decode(segments[3]))


def check_times(claims: Mapping[str, Any], now: float, *, leeway: float = LEEWAY) -> float:
    """When the token expires, in seconds since the epoch.

    Args:
        claims: of a token whose signature is good.
        now: seconds since the epoch.
        leeway: how far `nbf` and `iat` may be in the future.

    Raises:
        InvalidCredentials: it says no end, has ended, or does not hold yet.
    """
    expires = _time(claims, "exp")
    if expires is None:
        raise InvalidCredentials("the token never expires (it has no exp)")
    if now >= expires:
        raise InvalidCredentials("the token is expired")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + leeway:
            raise InvalidCredentials(f"the token does not hold yet ({name})")
    return expires


def audiences_of(claims: Mapping[str, Any]) -> Sequence[str]:
    """Whom a token is for: `aud` is one text or a list of them.

    Raises:
        InvalidCredentials: it is something else, or missing.
    """
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        return (audiences,)
    if isinstance(audiences, list) and all(isinstance(each, str) for each in audiences):
        return audiences
    raise InvalidCredentials("the token does not say whom it is for (aud)")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST:
        raise InvalidCredentials(f"the token has a time that is none ({name})")
    return float(value)


def _object(segment: bytes, what: str) -> Mapping[str, Any]:
    try:
        return strict_object(_decode(segment))
    except ValueError as error:
        raise InvalidCredentials(f"the token's {what} cannot be read: {error}") from None


def _decode(segment: bytes) -> bytes:
    """Base64url without padding; the alphabet was checked."""
    try:
        return binascii.a2b_base64(segment.translate(_STANDARD) + b"=" * (-len(segment) % 4), strict_mode=True)
    except binascii.Error:
        raise InvalidCredentials("the token is not in base64url") from None


_STANDARD = bytes.maketrans(b"-_", b"+/")
