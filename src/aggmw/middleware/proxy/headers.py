"""The header fields that leave towards a backend, and those that come back: one table each way (wire contract §2.3).

Order of work: what belongs to one hop goes first, then whatever speaks of identity or of where the request came from,
in any spelling, and last our own fields are set: nothing a client sends can remove or add to them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable

from aggmw.asgi.headers import end_to_end, fold, is_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import Backend
from aggmw.contracts.identity import Identity

__all__ = ["IdentityFields", "backwards", "forwards"]

_REMEMBERED = 1024
_OWN_FORWARDED = frozenset({b"x-forwarded-uri", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for"})
_DROPPED = frozenset(
    {
        b"authorization",
        b"host",
        b"content-length",
        b"expect",
        b"audit-id",
        b"forwarded",
        b"x-real-ip",
    }
)
_DROPPED_BACK = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"audit-id",
    }
)
_TOKEN_BYTE = re.compile(rb"[^!#$&'*+\-.^_`|~0-9A-Za-z]")


def forwards(
    headers: Headers,
    *,
    backend: Backend,
    identity: Headers,
    target: bytes,
    peer: str | None,
    proto: bytes,
    request_id: str,
) -> tuple[tuple[bytes, bytes], ...]:
    """What goes to the backend, without Host and framing.

    Args:
        headers: the request's fields.
        backend: for `X-Forwarded-Host`.
        identity: the caller's fields, from `IdentityFields`.
        target: the target that is sent, for `X-Forwarded-Uri`.
        peer: the address of the socket's other end.
        proto: how the client came, "https" or "http".
        request_id: the audit id; "" for none.
    """
    kept: list[tuple[bytes, bytes]] = []
    earlier: list[bytes] = []
    for field in end_to_end(headers):
        name = field[0]
        if name in _DROPPED or is_identity(name):
            continue
        folded = fold(name)
        if folded.startswith(b"x-forwarded-"):
            if name == b"x-forwarded-for":
                earlier.append(field[1])
            continue
        kept.append(field)
    if peer is not None:
        earlier.append(peer.encode("ascii", "replace"))
    kept.append((b"X-Forwarded-Uri", target.partition(b"?")[0]))
    kept.append((b"X-Forwarded-Host", backend.authority.encode("ascii")))
    kept.append((b"X-Forwarded-Proto", proto))
    if earlier:
        kept.append((b"X-Forwarded-For", b", ".join(earlier)))
    if request_id:
        kept.append((b"Audit-ID", request_id.encode("ascii")))
    kept.extend(identity)
    return tuple(kept)


class IdentityFields:
    """`X-Remote-*` of a caller, made once and remembered: the same few callers come again and again.

    Bounded, and keyed by everything that is written, extra included.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Identity, tuple[tuple[str, tuple[str, ...]], ...]], Headers] = OrderedDict()

    def of(self, identity: Identity) -> Headers:
        """The fields in the order user, uid, groups, extra.

        Raises:
            InvalidIdentity: a value that a header cannot carry; it is checked again here, where it is written.
        """
        key = (identity, tuple((name, tuple(values)) for name, values in identity.extra.items()))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _identity_fields(identity)
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return made


def _identity_fields(identity: Identity) -> Headers:
    identity = Identity(identity.user, identity.uid, identity.groups, identity.extra)
    fields = [(b"X-Remote-User", identity.user.encode())]
    if identity.uid:
        fields.append((b"X-Remote-Uid", identity.uid.encode()))
    fields.extend((b"X-Remote-Group", group.encode()) for group in identity.groups)
    for key, values in identity.extra.items():
        name = b"X-Remote-Extra-" + _TOKEN_BYTE.sub(lambda byte: b"%%%02X" % byte[0][0], key.encode())
        fields.extend((name, value.encode()) for value in values)
    return tuple(fields)


def backwards(status: int, headers: Headers) -> list[tuple[bytes, bytes]]:
    """What goes back to the client: end-to-end fields, without what only the front may say."""
    bodiless = status in (204, 304)
    return [
        field
        for field in end_to_end(headers)
        if field[0] not in _DROPPED_BACK and not (bodiless and field[0] == b"content-length")
    ]


def carries_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request asks to switch protocols."""
    return any(name == b"upgrade" for name, _ in headers)
