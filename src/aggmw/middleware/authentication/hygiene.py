"""Headers without what speaks of identity: consumed credentials, and identity that only a front proxy may assert.

Names are compared after folding, because receivers fold them too (security cases C2, CVE-2025-64484).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aggmw.asgi.headers import fold, is_identity, is_impersonation
from aggmw.asgi.types import Headers
from aggmw.middleware.authentication.bearer import without_token_value

__all__ = ["Sieve", "Sifted"]

_AUTHORIZATION = b"authorization"
_SUBPROTOCOLS = b"sec-websocket-protocol"
_ORDINARY = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"audit-id",
        b"cache-control",
        b"connection",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
        b"if-match",
        b"if-none-match",
        b"kubectl-command",
        b"kubectl-session",
        b"origin",
        b"traceparent",
        b"transfer-encoding",
        b"user-agent",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
    }
)
"""Frequent names that fold to nothing of interest: they need no second look."""


class Sifted(NamedTuple):
    """What may go on, and whether the caller asked to act as somebody else."""

    headers: Headers
    impersonates: bool


class Sieve:
    """Takes out every spelling of identity headers and of some credentials. Prepared once, used by every request.

    Args:
        credentials: names of fields, in lower case; with `authorization`, a bearer token among the WebSocket
            subprotocols goes too.
        keep_impersonation: leave `Impersonate-*` to the stage that follows.
    """

    __slots__ = ("_credentials", "_keep_impersonation", "_ordinary", "_tokens")

    def __init__(self, credentials: Iterable[bytes] = (), *, keep_impersonation: bool = False) -> None:
        self._credentials = frozenset(_folded(name) for name in credentials)
        self._ordinary = _ORDINARY - self._credentials
        self._tokens = _AUTHORIZATION in self._credentials
        self._keep_impersonation = keep_impersonation

    @property
    def takes_tokens(self) -> bool:
        """Whether bearer tokens are taken out, wherever they are."""
        return self._tokens

    def sift(self, headers: Headers) -> Sifted:
        """The fields that may go on, in order."""
        kept = []
        impersonates = False
        for field in headers:
            name, value = field
            if name in self._ordinary:
                kept.append(field)
                continue
            folded = _folded(name)
            if is_impersonation(folded):
                impersonates = True
                if self._keep_impersonation:
                    kept.append(field)
            elif is_identity(folded) or folded in self._credentials:
                continue
            elif folded == _SUBPROTOCOLS and self._tokens:
                if value := without_token_value(value):
                    kept.append((name, value))
            else:
                kept.append(field)
        return Sifted(tuple(kept), impersonates)


def _folded(name: bytes) -> bytes:
    """Folded, and without what folds to a dash at the ends: blanks that a receiver would trim."""
    return fold(name).strip(b"-")
