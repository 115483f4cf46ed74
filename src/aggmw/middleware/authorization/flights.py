"""One question for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Flights"]

_T = TypeVar("_T")


@dataclass(slots=True)
class _Flight(Generic[_T]):
    task: asyncio.Task[_T]
    waiting: int = 0


class Flights(Generic[_T]):
    """Questions that are being asked. Whoever goes away leaves the others their answer; the last one ends it."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[_T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def join(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The answer to the question that is being asked under this key; `ask` asks it when none is."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(ask()))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if (not flight.waiting or flight.task.done()) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.waiting:
                flight.task.cancel()  # which does nothing to one that is done
