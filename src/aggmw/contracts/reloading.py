"""Reading again what was read at the start, while the server runs; and who says that it is time to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from aggmw.errors import ConfigurationError

__all__ = ["PolicyWatcher", "Reload", "read_again"]

Reload: TypeAlias = Callable[[], object]
"""Reads something again, or begins to: what it returns is awaited where it can be.

Raises `ConfigurationError` for what cannot be used, and then leaves everything as it was. A text that comes of it is
the revision that is in force now.
"""

_LINES = 50  # that are logged in one go


@runtime_checkable
class PolicyWatcher(Protocol):
    """Tells several processes, on whatever machines, that the policy they share was changed."""

    def changes(self) -> AsyncIterator[object]:
        """Something for each time that somebody changed the policy; changes that come at once may be one.

        And something at the beginning, once it listens: what was changed before may have been missed. It may fail; then
        it is begun again after a second.
        """
        ...

    async def announce(self) -> None:
        """Tell the others that it was changed."""
        ...


async def read_again(what: str, reload: Reload, log: Any) -> bool:
    """Read something again, and log what came of it: every mistake, or that it is in force.

    Args:
        what: what it is, in a word.
        log: a structlog logger.

    Returns:
        Whether it was read.
    """
    try:
        result = reload()
        if isawaitable(result):
            result = await result
    except ConfigurationError as error:
        for number, problem in enumerate(error.problems, 1):
            log.error("not reloaded", what=what, path=problem.path, problem=problem.message)
            if not number % _LINES:
                await asyncio.sleep(0)  # a long file can be wrong in every line
        return False
    revision = {"revision": result} if isinstance(result, str) else {}
    log.info("reloaded", what=what, **revision)
    return True
