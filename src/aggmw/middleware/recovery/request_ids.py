"""Audit ids: the caller's when it is fit to be repeated, else a new one."""

from __future__ import annotations

import re
import secrets
from itertools import count

from aggmw.asgi.headers import first
from aggmw.asgi.types import Headers

__all__ = ["RequestIds"]

_FIT = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")


class RequestIds:
    """Makes ids that are unique over processes: a random prefix and a counter, a tenth of a UUID's cost."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._count = count(1)

    def of(self, headers: Headers) -> str:
        """The request's own `Audit-ID`, if it is at most 64 token characters, else a new id."""
        given = first(headers, b"audit-id")
        if given is not None and _FIT.fullmatch(given):
            return given.decode("ascii")
        return f"{self._prefix}-{next(self._count):08x}"
