"""One work, done whenever somebody asks for it, one at a time."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Turns"]

_T = TypeVar("_T")


class Turns(Generic[_T]):
    """Does a work when asked. Those who ask while it is being done share the next turn, which begins after this one.

    So whoever asks gets what was begun after they asked, and a hundred of them cost two turns. A turn ends although who
    asked for it goes away.

    Args:
        work: what is done.
        name: of the task.
    """

    def __init__(self, work: Callable[[], Awaitable[_T]], name: str) -> None:
        self._work = work
        self._name = name
        self._current: asyncio.Task[_T] | None = None
        self._next: asyncio.Task[_T] | None = None

    async def take(self) -> _T:
        """Have it done.

        Raises:
            Exception: what the work raised.
        """
        loop = asyncio.get_running_loop()
        task = _pending(self._next, loop)
        if task is None:
            turn = self._turn(_pending(self._current, loop))
            task = self._next = loop.create_task(turn, name=self._name, context=contextvars.Context())
            task.add_done_callback(_look)
        return await asyncio.shield(task)

    async def _turn(self, before: asyncio.Task[_T] | None) -> _T:
        if before is not None:
            await asyncio.wait({before})
        self._current, self._next = self._next, None
        return await self._work()


def _pending(task: asyncio.Task[_T] | None, loop: asyncio.AbstractEventLoop) -> asyncio.Task[_T] | None:
    """A task that is not over; one of another loop is no concern of this one."""
    return None if task is None or task.done() or task.get_loop() is not loop else task


def _look(task: asyncio.Task[object]) -> None:
    """Its error is known to those who wait for it, if there are any."""
    if not task.cancelled():
        task.exception()
