"""`X-Remote-*`: a caller in header fields, as a front proxy writes them and a server behind it reads them.

Writing is wire contract §2.3, reading §6.3 (`k8s.io/apiserver/pkg/authentication/request/headerrequest`). Both are
here, because what one side means is what the other side believes. Whether they may be believed is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aggmw.asgi.headers import HOP_BY_HOP, fold, is_identity, is_impersonation, values
from aggmw.asgi.types import Headers
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity

__all__ = [
    "RemoteNames",
    "check_remote_name",
    "escaped_key",
    "extra_key",
    "has_identity",
    "read_identity",
    "without_identity",
    "write_identity",
]

_ESCAPED = re.compile(rb"[^!#$&'*+\-.^_`|~0-9A-Za-z]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_NOT_OURS = HOP_BY_HOP | {b"authorization", b"content-length", b"cookie", b"host", b"sec-websocket-protocol"}
_UID = b"x-remote-uid"


@dataclass(frozen=True, slots=True)
class RemoteNames:
    """Which fields say what about a caller, in lower case; what they begin with, for extras.

    Args:
        users, uids: the first one that is not empty counts.
        groups: the values of all of them count.
        extras: what is behind the beginning is the key.
    """

    users: tuple[bytes, ...] = (b"x-remote-user",)
    uids: tuple[bytes, ...] = (_UID,)
    groups: tuple[bytes, ...] = (b"x-remote-group",)
    extras: tuple[bytes, ...] = (b"x-remote-extra-",)

    @classmethod
    def of(cls, users: Iterable[str], uids: Iterable[str], groups: Iterable[str], extras: Iterable[str]) -> RemoteNames:
        """From names as people write them.

        Raises:
            ValueError: no name for users, one that no identity may be in, or uids without `X-Remote-Uid`.
            TypeError: one string instead of several.
        """
        checked = []
        for option, names in (("user", users), ("uid", uids), ("group", groups), ("extra", extras)):
            if isinstance(names, str):
                raise TypeError(f"the names of headers for the {option} are a list, not one string")
            checked.append(tuple([check_remote_name(name) for name in names]))
        if not checked[0]:
            raise ValueError("no header is named that says who the user is, such as X-Remote-User")
        if checked[1] and _UID not in checked[1]:
            raise ValueError("the headers for the uid must include X-Remote-Uid, as in Kubernetes")
        return cls(*checked)

    @property
    def fields(self) -> frozenset[bytes]:
        """All of them, as `Authenticator.identity_fields`."""
        beginnings = [each + b"*" for each in self.extras]
        return frozenset([*self.users, *self.uids, *self.groups, *beginnings])

    def name_somebody(self, headers: Headers) -> bool:
        """Whether a field says who the user is."""
        return any(name in self.users and value for name, value in headers)


REMOTE = RemoteNames()


def check_remote_name(name: str) -> bytes:
    """The name, or the beginning of names, as it stands in headers.

    Raises:
        ValueError: no name of a header, or of one that means something else already.
    """
    if not isinstance(name, str) or not _TOKEN(name):
        raise ValueError(f"{name!r} is no name of a header")
    lower = name.lower().encode("ascii")
    folded = fold(lower).strip(b"-")
    if not folded or folded in _NOT_OURS or is_impersonation(folded + b"-"):
        raise ValueError(f"{name!r} is the name of a header that says something else than who is asking")
    return lower


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


def read_identity(headers: Headers, names: RemoteNames = REMOTE) -> Identity | None:
    """The caller whom the fields name; None when they name no user.

    Only these very names count, no other spelling. Empty groups are skipped. The key of an extra is percent-decoded;
    one that cannot be is taken as it is. Unlike in Kubernetes, a user or uid that is there twice is refused, not the
    first of them taken: a front proxy sends one, so the other came from somebody else.

    Args:
        headers: names in lower case.
        names: which fields count.

    Raises:
        InvalidIdentity: several users or uids, text that is not UTF-8, or what no `Identity` may hold.
    """
    user = _first(headers, names.users)
    if not user:
        return None
    groups = [_text(value) for group in names.groups for value in values(headers, group) if value]
    extra: dict[str, list[str]] = {}
    for beginning in names.extras:
        for name, value in headers:
            if name.startswith(beginning):
                extra.setdefault(extra_key(name[len(beginning) :]), []).append(_text(value))
    return Identity(user, _first(headers, names.uids), tuple(groups), extra)


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


def _first(headers: Headers, names: Iterable[bytes]) -> str:
    """The first of these fields that is not empty; each may be there once."""
    found = [_single(headers, name) for name in names]
    return next(filter(None, found), "")


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
