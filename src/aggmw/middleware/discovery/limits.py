"""How much a backend may say, and where the work on it is done: one backend must not hold up the others.

What is made from a document is many times its size, so the number of things in it is limited, not only its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from aggmw.middleware.discovery.names import TooMuch

__all__ = [
    "MAX_BYTES",
    "MAX_ENTRIES",
    "MAX_OPENAPI_BYTES",
    "MAX_RESOURCES",
    "MAX_TOKENS",
    "SMALL_BYTES",
    "Budget",
    "Offload",
    "check_size",
]

MAX_BYTES = 2 * 1024 * 1024
"""The largest document read: the whole discovery of a large cluster is under 1 MiB."""

MAX_TOKENS = 128 * 1024
"""Objects, arrays and commas in it: decoding cannot be interrupted and costs by the element. 1 MiB has some 55,000."""

MAX_RESOURCES = 500
MAX_ENTRIES = 2000
"""Resources and subresources of one group version. A metrics server lists each metric as a subresource."""

MAX_OPENAPI_BYTES = 4 * 1024 * 1024
"""The largest document made for a group version."""

SMALL_BYTES = 64 * 1024
"""Up to here work is done at once: a thread would cost more than it saves."""

_TOO_MANY = "its discovery lists too many resources"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def check_size(body: bytes) -> None:
    """Whether a document can be decoded within a moment; looks at it without decoding.

    Raises:
        TooMuch: it cannot.
    """
    if len(body) > MAX_BYTES or body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_TOKENS:
        raise TooMuch(_TOO_MANY)


class Budget:
    """What one group version may still list, legal names or not."""

    def __init__(self) -> None:
        self._resources = MAX_RESOURCES
        self._entries = MAX_ENTRIES

    def resources(self, number: int) -> None:
        """Count resources.

        Raises:
            TooMuch: it has listed too many.
        """
        self._resources -= number
        self._check()

    def entries(self, number: int) -> None:
        """Count resources and subresources.

        Raises:
            TooMuch: it has listed too many.
        """
        self._entries -= number
        self._check()

    def _check(self) -> None:
        if self._resources < 0 or self._entries < 0:
            raise TooMuch(_TOO_MANY)


class Offload:
    """Runs work on large documents in a thread, one at a time: several would keep the interpreter from the loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def __call__(self, size: int, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `work` returns or raises.

        Args:
            size: of what is worked on, in bytes; a little is worked on at once.
        """
        if size <= SMALL_BYTES:
            return work(*args, **kwargs)
        async with self._turn:
            return await asyncio.to_thread(work, *args, **kwargs)
