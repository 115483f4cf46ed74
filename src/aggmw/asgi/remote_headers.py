"""`X-Remote-*`: a caller in header fields, as a front proxy writes them and a server behind it reads them.

Writing is wire contract §2.3, reading §6.3 (`k8s.io/apiserver/pkg/authentication/request/headerrequest`). Both are
here, because what one side means is what the other side believes. Whether they may be believed is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from aggmw.asgi.headers import fold, is_identity, values
from aggmw.asgi.types import Headers
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity

__all__ = ["escaped_key", "extra_key", "has_identity", "read_identity", "without_identity", "write_identity"]

_ESCAPED = re.compile(rb"[^!#$&'*+\-.^_`|~0-9A-Za-z]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_EXTRA = b"x-remote-extra-"


def write_identity(identity: Identity) -> Headers:
    """The fields in the order user, uid, groups, extra. An extra key without values is not sent.

    Raises:
        InvalidIdentity: a value that a header cannot carry; it is checked again here, where it is written.
    """
    identity = Identity(identity.user, identity.uid, identity.groups, identity.extra)
    fields = [(b"X-Remote-User", identity.user.encode())]
    if identity.uid:
        fields.append((b"X-Remote-Uid", identity.uid.encode()))
    fields.extend((b"X-Remote-Group", group.encode()) for group in identity.groups)
    for key, texts in identity.extra.items():
        name = b"X-Remote-Extra-" + escaped_key(key)
        fields.extend((name, text.encode()) for text in texts)
    return tuple(fields)


def read_identity(headers: Headers) -> Identity | None:
    """The caller whom the fields name; None when they name no user.

    Only these very names count, no other spelling. Empty groups are skipped. The key of an extra is percent-decoded;
    one that cannot be is taken as it is. Unlike in Kubernetes, a user or uid that is there twice is refused, not the
    first of them taken: a front proxy sends one, so the other came from somebody else.

    Args:
        headers: names in lower case.

    Raises:
        InvalidIdentity: several users or uids, text that is not UTF-8, or what no `Identity` may hold.
    """
    user = _single(headers, b"x-remote-user")
    if not user:
        return None
    groups = [_text(value) for value in values(headers, b"x-remote-group") if value]
    extra: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith(_EXTRA):
            extra.setdefault(extra_key(name[len(_EXTRA) :]), []).append(_text(value))
    return Identity(user, _single(headers, b"x-remote-uid"), tuple(groups), extra)


def has_identity(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether any field, in any spelling, could tell who is asking."""
    return any(_speaks(name) for name, _ in headers)


def without_identity(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The fields that could not, in any spelling, tell who is asking."""
    return tuple([field for field in headers if not _speaks(field[0])])


def _speaks(name: bytes) -> bool:
    """Also with blanks around the name, which a receiver would trim: they fold to dashes."""
    folded = fold(name)
    return is_identity(folded) or is_identity(folded.strip(b"-"))


def _single(headers: Headers, name: bytes) -> str:
    found = values(headers, name)
    if len(found) > 1:
        raise InvalidIdentity(f"{name.decode()} is there {len(found)} times")
    return _text(found[0]) if found else ""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidIdentity("an identity header is not UTF-8") from None


def escaped_key(key: str) -> bytes:
    """The key of an extra as a part of a field name: what is no token character there, and `%`, as `%XX`."""
    return _ESCAPED.sub(lambda byte: b"%%%02X" % byte[0][0], key.encode())


def extra_key(escaped: bytes) -> str:
    """The key of an extra from a field name; one that cannot be decoded is taken as it is.

    Raises:
        InvalidIdentity: text that is not UTF-8.
    """
    if not _BROKEN_ESCAPE.search(escaped):
        try:
            return unquote_to_bytes(escaped).decode()
        except UnicodeDecodeError:
            pass
    return _text(escaped)
