"""The header fields that leave towards a backend, and those that come back: one table each way (wire contract §2.3).

Order of work: what belongs to one hop goes first, then whatever speaks of identity or of where the request came from,
in any spelling, and last our own fields are set: nothing a client sends can remove or add to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from aggmw.asgi.headers import HOP_BY_HOP, fold, is_identity
from aggmw.asgi.remote_headers import write_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import Backend, BalancedBackend
from aggmw.contracts.identity import Identity
from aggmw.errors import StatusError

__all__ = ["IdentityFields", "Incoming", "authority_of", "backwards", "forwards", "sift", "without_handshake"]

_REMEMBERED = 1024

_DROPPED = HOP_BY_HOP | {
    b"authorization",
    b"host",
    b"content-length",
    b"expect",
    b"audit-id",
    b"forwarded",
    b"x-real-ip",
}
"""Folded names that end here: of one hop, of the framing, or ours to say."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


# What becomes of a field of a request.
_KEPT = 0
_ENDS_HERE = 1
_CONNECTION = 2
_LENGTH = 3
_CODING = 4
_UPGRADE = 5
_FORWARDED_FOR = 6
_UNFIT = 7
_ORIGINS = 8

_BACK = {
    **dict.fromkeys((*HOP_BY_HOP, b"audit-id"), _ENDS_HERE),
    b"access-control-allow-credentials": _ORIGINS,
    b"access-control-allow-headers": _ORIGINS,
    b"access-control-allow-methods": _ORIGINS,
    b"access-control-allow-origin": _ORIGINS,
    b"access-control-allow-private-network": _ORIGINS,
    b"access-control-expose-headers": _ORIGINS,
    b"access-control-max-age": _ORIGINS,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
}
"""Names of an answer's fields that do not simply go back."""

_SPECIAL = {
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"upgrade": _UPGRADE,
    b"x-forwarded-for": _FORWARDED_FOR,
}


class _Fates(dict[bytes, int]):
    """Field names that were seen, and what becomes of them: the same few come again and again. Bounded."""

    def __missing__(self, name: bytes) -> int:
        fate = _fate(name)
        if len(self) < _REMEMBERED and len(name) < 64:
            self[name] = fate
        return fate


def _fate(name: bytes) -> int:
    if name in _SPECIAL:
        return _SPECIAL[name]
    if not _TOKEN(name):
        return _UNFIT
    folded = fold(name)
    if folded in _DROPPED or folded.startswith(b"x-forwarded-") or is_identity(name):
        return _ENDS_HERE
    return _KEPT


_fates = _Fates()


class Incoming(NamedTuple):
    """A request's fields, taken apart.

    Attributes:
        kept: what goes on as it is.
        earlier: the values of `X-Forwarded-For`.
        length: the declared length of the body, None without one.
        chunked: a body of unknown length follows.
        upgrade: the client asks to switch protocols.
    """

    kept: list[tuple[bytes, bytes]]
    earlier: list[bytes]
    length: int | None
    chunked: bool
    upgrade: bool


def sift(headers: Headers) -> Incoming:
    """Take the fields of a request apart.

    Raises:
        StatusError: 400 for an invalid name, or framing that recipients may read differently.
    """
    kept: list[tuple[bytes, bytes]] = []
    earlier: list[bytes] = []
    named: set[bytes] = set()
    length: int | None = None
    chunked = upgrade = False
    for field in headers:
        fate = _fates[field[0]]
        if fate == _KEPT:
            kept.append(field)
        elif fate == _ENDS_HERE:
            continue
        elif fate == _CONNECTION:
            named.update([token.strip().lower() for token in field[1].split(b",")])
        elif fate == _LENGTH:
            if length is not None or not field[1].isdigit() or len(field[1]) > 18:
                raise _refused("Content-Length is repeated or no number")
            length = int(field[1])
        elif fate == _CODING:
            if chunked or field[1].lower() != b"chunked":
                raise _refused("its transfer coding is not exactly chunked")
            chunked = True
        elif fate == _UPGRADE:
            upgrade = True
        elif fate == _FORWARDED_FOR:
            earlier.append(field[1])
        else:
            raise _refused("a header name is not a token")
    if chunked and length is not None:
        raise _refused("Content-Length and Transfer-Encoding exclude each other")
    if named - {b"keep-alive", b"close"}:
        kept = [field for field in kept if field[0] not in named]
        if b"x-forwarded-for" in named:
            earlier = []
    return Incoming(kept, earlier, length, chunked, upgrade)


def without_handshake(incoming: Incoming) -> Incoming:
    """The fields of a WebSocket handshake without those that make it one: the other half has a handshake of its own."""
    kept = [field for field in incoming.kept if not fold(field[0]).startswith(b"sec-websocket-")]
    return Incoming(kept, incoming.earlier, None, False, False)


def _refused(what: str) -> StatusError:
    # Where one reader sees one request another sees two: what follows on the connection is nobody's (RFC 9112 §6.1).
    return StatusError(
        400, "BadRequest", f"the request cannot be forwarded: {what}", headers=((b"connection", b"close"),)
    )


def forwards(
    incoming: Incoming, host: bytes, identity: Headers, target: bytes, peer: str, proto: str, request_id: str
) -> Headers:
    """What goes to the backend, without Host and framing. `TE` is dropped: trailers are not forwarded.

    Args:
        incoming: the client's fields, from `sift`.
        host: for `X-Forwarded-Host`.
        identity: the caller's fields, from `IdentityFields`.
        target: the target that was asked for, for `X-Forwarded-Uri`.
        peer: the address of the socket's other end; "" where it is not known.
        proto: how the client came, "https" or "http".
        request_id: the audit id; "" for none.
    """
    fields = incoming.kept
    fields.append((b"X-Forwarded-Uri", target.partition(b"?")[0]))
    fields.append((b"X-Forwarded-Host", host))
    fields.append((b"X-Forwarded-Proto", proto.encode()))
    earlier = b", ".join(incoming.earlier)
    if peer:
        fields.append((b"X-Forwarded-For", b"%b, %b" % (earlier, peer.encode()) if earlier else peer.encode()))
    elif earlier:
        fields.append((b"X-Forwarded-For", earlier))
    if request_id:
        fields.append((b"Audit-ID", request_id.encode()))
    return (*fields, *identity)


@lru_cache(_REMEMBERED)
def authority_of(backend: Backend | BalancedBackend) -> bytes:
    """`host:port` of a server, of several the first, for `X-Forwarded-Host`."""
    return backend.authority.encode("ascii", "replace")


class IdentityFields:
    """`X-Remote-*` of a caller, made once and remembered: the same few callers come again and again.

    Bounded. An entry belongs to one identity object, which cannot change; another, equal one has its own.

    Args:
        write: makes other fields of a caller instead.
    """

    __slots__ = ("_made", "_write")

    def __init__(self, write: Callable[[Identity], Headers] = write_identity) -> None:
        self._write = write
        self._made: dict[int, tuple[Identity, Headers]] = {}

    def of(self, identity: Identity) -> Headers:
        """The fields in the order user, uid, groups, extra.

        Raises:
            InvalidIdentity: a value that a header cannot carry; it is checked again here, where it is written.
        """
        made = self._made.get(id(identity))
        if made is not None and made[0] is identity:
            return made[1]
        fields = self._write(identity)
        if len(self._made) >= _REMEMBERED:
            del self._made[next(iter(self._made))]
        self._made[id(identity)] = (identity, fields)
        return fields


def backwards(
    status: int, headers: Headers, *, api: bool = True, own_cookies: frozenset[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """What goes back to the client: end-to-end fields, without what only the front may say.

    Args:
        status, headers: the answer's.
        api: whether it is an API server's: then who may read it from other origins is the front's to say, too.
        own_cookies: names of cookies that only the front may set (wire contract §12.5).
    """
    kept = []
    named: set[bytes] = set()
    for field in headers:
        fate = _BACK.get(field[0])
        if fate is None or (fate == _ORIGINS and not api):
            kept.append(field)
        elif fate == _LENGTH:
            if status not in (204, 304):
                kept.append(field)
        elif fate == _CONNECTION and (value := field[1].lower()) not in (b"keep-alive", b"close"):
            named.update([token.strip() for token in value.split(b",")])
    if named:
        kept = [field for field in kept if field[0] not in named]
    if own_cookies:
        kept = [field for field in kept if field[0] != b"set-cookie" or _cookie_name(field[1]) not in own_cookies]
    return kept


def _cookie_name(value: bytes) -> bytes:
    """Of a `Set-Cookie` value, as it comes back: browsers send `=name=value`, which has no name, as `name=value`."""
    return value.lstrip(b"= \t").partition(b"=")[0].partition(b";")[0].strip(b" \t")
