"""Reading files again while requests are served: neither a slow disk nor keys that take long to check hold up any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aggmw.contracts.reloading import Reload
from aggmw.contracts.threads import in_thread

__all__ = ["read_aside"]

_T = TypeVar("_T")


def read_aside(read: Callable[[], _T], use: Callable[[_T], object]) -> Reload:
    """Reads in a thread, and then puts what was read into force on the event loop.

    Args:
        read: reads files and checks them; raises `ConfigurationError` for what cannot be used, and changes nothing.
        use: takes over what was read.
    """

    async def reload() -> None:
        use(await in_thread(read))

    return reload
