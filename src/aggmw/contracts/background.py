"""Work that goes on without a request, for as long as anybody has it open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context

from aggmw.contracts.catalog import Controller

__all__ = ["Background"]


class Background:
    """Controllers at work: begun by the first who opens this, cancelled by the last who closes it.

    An async context manager, which may be entered again while it is open, and after its end. Inside, each controller
    has begun; who enters while the last one is closing it waits until that is done, so that none runs twice.

    Args:
        controllers: what is run, each in a task of its own.
    """

    __slots__ = ("_controllers", "_ending", "_holders", "_tasks")

    def __init__(self, controllers: Iterable[Controller]) -> None:
        self._controllers = tuple(controllers)
        self._holders = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"Background([{', '.join(each.name for each in self._controllers)}])"

    @property
    def is_open(self) -> bool:
        """Whether anybody has it open."""
        return self._holders > 0

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        while ending := [task for task in self._ending if not task.done() and task.get_loop() is loop]:
            await asyncio.wait(ending)
        if all(task.done() for task in self._tasks):
            # An empty context: nothing that was bound where this is opened leaks into work that outlives it.
            self._tasks = [
                asyncio.create_task(each.run(), name=each.name, context=Context()) for each in self._controllers
            ]
        self._holders += 1
        try:
            await asyncio.sleep(0)  # so that each has begun
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        self._holders -= 1
        if not self._holders:
            self._ending, self._tasks = self._tasks, []
            for task in self._ending:
                task.cancel()
            await asyncio.gather(*self._ending, return_exceptions=True)
