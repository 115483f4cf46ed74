"""`Impersonate-*`: whom a caller wants to act as, as its headers say (wire contract §6.10).

Follows `k8s.io/apiserver/pkg/endpoints/filters/impersonation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aggmw.asgi.headers import is_impersonation
from aggmw.asgi.remote_headers import extra_key
from aggmw.asgi.types import Headers
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity, StatusError

__all__ = ["Wanted", "has_impersonation", "read_wanted", "without_impersonation"]

_USER = b"impersonate-user"
_UID = b"impersonate-uid"
_GROUP = b"impersonate-group"
_EXTRA = b"impersonate-extra-"


class Wanted(NamedTuple):
    """Whom a caller wants to act as, and nothing that would follow from that."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]

    @property
    def only_a_name(self) -> bool:
        return not (self.uid or self.groups or self.extra)


def has_impersonation(headers: Headers) -> bool:
    """Whether any field, in any spelling, asks to act as somebody else."""
    return any(is_impersonation(name) for name, _ in headers)


def without_impersonation(headers: Headers) -> Headers:
    """The fields that, in no spelling, ask for that."""
    return tuple([field for field in headers if not is_impersonation(field[0])])


def read_wanted(headers: Headers) -> Wanted:
    """Whom the fields ask for. There is at least one.

    Stricter than Kubernetes, which takes the first of several users and passes over what it does not know: what one
    reader ignores another one may believe.

    Args:
        headers: names in lower case.

    Raises:
        StatusError: 400 for no user or several, for a field that is none of the four, and for values that nobody's
            identity can have.
    """
    users: list[str] = []
    uids: list[str] = []
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    try:
        for name, value in headers:
            if not is_impersonation(name):
                continue
            text = value.decode("utf-8", "strict")
            if name == _USER:
                users.append(text)
            elif name == _UID:
                uids.append(text)
            elif name == _GROUP:
                groups.append(text)
            elif name.startswith(_EXTRA):
                key = extra_key(name[len(_EXTRA) :])
                extra[key] = (*extra.get(key, ()), text)
            else:
                raise _bad("a header that looks like Impersonate-… is none of User, Uid, Group and Extra-…")
        if not users or not users[0]:
            raise _bad("a uid, groups or extra without a user (Impersonate-User)" if not users else "an empty user")
        if len(users) > 1 or len(uids) > 1:
            raise _bad("several users or several uids")
        wanted = Wanted(users[0], "".join(uids), tuple(groups), extra)
        Identity(*wanted)  # checks what it may hold
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None
    except InvalidIdentity as error:
        raise _bad(str(error)) from None
    return wanted


def _bad(what: str) -> StatusError:
    return StatusError(400, "BadRequest", f"impersonation was requested with {what}")
