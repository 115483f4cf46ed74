"""Headers without what speaks of identity: consumed credentials, and identity that only a front proxy may assert.

Names are compared after folding, because receivers fold them too (security cases C2, CVE-2025-64484).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aggmw.asgi.headers import fold, is_identity, is_impersonation
from aggmw.asgi.types import Headers
from aggmw.middleware.authentication.bearer import without_token_value
from aggmw.middleware.authentication.cookies import COOKIE, declared_cookies, without_cookies

__all__ = ["Sieve", "Sifted"]

_AUTHORIZATION = b"authorization"
_COOKIES = b"cookie"
_SUBPROTOCOLS = b"sec-websocket-protocol"
_REMEMBERED = 1024

# What becomes of a field.
_KEPT = 0
_GOES = 1
_IMPERSONATES = 2
_MAY_CARRY_TOKENS = 3
_MAY_CARRY_COOKIES = 4


class Sifted(NamedTuple):
    """What may go on, and whether the caller asked to act as somebody else."""

    headers: Headers
    impersonates: bool


class Sieve:
    """Takes out every spelling of identity headers and of some credentials. Prepared once, used by every request.

    Args:
        credentials: names of fields, in lower case, and of cookies, as `cookie:NAME`; with `authorization`, a bearer
            token among the WebSocket subprotocols goes too.
        identity: names of further fields that tell who is asking, and, with `*` at the end, what they begin with.
        keep_impersonation: leave `Impersonate-*` to the stage that follows.
    """

    __slots__ = ("_cookies", "_fates", "_keep_impersonation", "_tokens")

    def __init__(
        self,
        credentials: Iterable[bytes] = (),
        *,
        identity: Iterable[bytes] = (),
        keep_impersonation: bool = False,
    ) -> None:
        names = frozenset(credentials)
        self._cookies = declared_cookies(names)
        fields = [_folded(name) for name in names if not name.startswith(COOKIE)]
        self._fates = _Fates(fields, identity, cookies=bool(self._cookies))
        self._tokens = _AUTHORIZATION in self._fates.credentials
        self._keep_impersonation = keep_impersonation

    @property
    def takes_tokens(self) -> bool:
        """Whether bearer tokens are taken out, wherever they are."""
        return self._tokens

    def sift(self, headers: Headers) -> Sifted:
        """The fields that may go on, in order."""
        kept = []
        impersonates = False
        fates = self._fates
        for field in headers:
            fate = fates[field[0]]
            if fate == _KEPT:
                kept.append(field)
            elif fate == _IMPERSONATES:
                impersonates = True
                if self._keep_impersonation:
                    kept.append(field)
            elif (fate == _MAY_CARRY_TOKENS and (value := without_token_value(field[1]))) or (
                fate == _MAY_CARRY_COOKIES and (value := without_cookies(field[1], self._cookies))
            ):
                kept.append((field[0], value))
        return Sifted(tuple(kept), impersonates)


class _Fates(dict[bytes, int]):
    """Field names that were seen, and what becomes of them: the same few come again and again. Bounded."""

    def __init__(self, credentials: Iterable[bytes], identity: Iterable[bytes], *, cookies: bool) -> None:
        super().__init__()
        self.credentials = frozenset(credentials)
        told = frozenset(identity)
        self._names = frozenset([_folded(name) for name in told])
        self._beginnings = tuple([fold(name[:-1]).lstrip(b"-") for name in told if name.endswith(b"*")])
        self._cookies = cookies

    def __missing__(self, name: bytes) -> int:
        folded = _folded(name)
        if is_impersonation(folded):
            fate = _IMPERSONATES
        elif (
            is_identity(folded)
            or folded in self.credentials
            or folded in self._names
            or folded.startswith(self._beginnings)
        ):
            fate = _GOES
        elif folded == _SUBPROTOCOLS and _AUTHORIZATION in self.credentials:
            fate = _MAY_CARRY_TOKENS
        elif folded == _COOKIES and self._cookies:
            fate = _MAY_CARRY_COOKIES
        else:
            fate = _KEPT
        if len(self) < _REMEMBERED and len(name) < 64:
            self[name] = fate
        return fate


def _folded(name: bytes) -> bytes:
    """Folded, and without what folds to a dash at the ends: blanks that a receiver would trim."""
    return fold(name).strip(b"-")
