"""`Impersonate-*` and the front proxy's own token, in place of `X-Remote-*`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aggmw.asgi.remote_headers import escaped_key
from aggmw.asgi.types import Headers
from aggmw.contracts.identity import SYSTEM_ANONYMOUS, SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED, Identity
from aggmw.contracts.impersonation import Impersonate
from aggmw.errors import StatusError
from aggmw.middleware.proxy.headers import IdentityFields
from aggmw.net.token_file import TokenFile

__all__ = ["ImpersonationFields", "write_impersonation"]


def write_impersonation(identity: Identity, impersonate: Impersonate) -> Headers:
    """The fields in the order user, uid, groups, extra.

    Raises:
        InvalidIdentity: a value that a header cannot carry; it is checked again here, where it is written.
    """
    identity = Identity(identity.user, identity.uid, identity.groups, identity.extra)
    added = SYSTEM_UNAUTHENTICATED if identity.user == SYSTEM_ANONYMOUS else SYSTEM_AUTHENTICATED
    fields = [(b"Impersonate-User", identity.user.encode())]
    if impersonate.uid and identity.uid:
        fields.append((b"Impersonate-Uid", identity.uid.encode()))
    fields.extend((b"Impersonate-Group", group.encode()) for group in identity.groups if group != added)
    for key in impersonate.extra:
        name = b"Impersonate-Extra-" + escaped_key(key)
        fields.extend((name, text.encode()) for text in identity.extra.get(key, ()))
    return tuple(fields)


class ImpersonationFields:
    """What tells a server who asks, and who says so. Callers' fields are remembered, tokens read again.

    Args:
        clock: seconds.
    """

    __slots__ = ("_clock", "_made", "_tokens")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: dict[Impersonate, IdentityFields] = {}
        self._tokens: dict[Path, TokenFile] = {}

    def of(self, identity: Identity, impersonate: Impersonate) -> Headers:
        """The fields of a caller; never the token alone.

        Raises:
            InvalidIdentity: a value that a header cannot carry.
            StatusError: 503, the front proxy has no token.
        """
        made = self._made.get(impersonate)
        if made is None:
            made = self._made[impersonate] = IdentityFields(partial(write_impersonation, impersonate=impersonate))
        fields = made.of(identity)
        path = impersonate.token_file
        if path is None:
            return fields
        file = self._tokens.get(path)
        if file is None:
            file = self._tokens[path] = TokenFile(path)
        token = file.value(self._clock())
        if not token:
            raise StatusError(503, "ServiceUnavailable", "the front proxy has no token for this service")
        return (*fields, (b"Authorization", b"Bearer " + token))
