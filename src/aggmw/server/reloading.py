"""What SIGHUP reads again: one thing after another, beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from aggmw.contracts.reloading import Reload, read_again
from aggmw.errors import fault

__all__ = ["Reloading"]

_log = structlog.get_logger("aggmw.server")


class Reloading:
    """Reads things again, in order; whoever asks for it meanwhile has all of them read once more afterwards.

    Args:
        reloads: what, by name; may change.
    """

    def __init__(self, reloads: Mapping[str, Reload]) -> None:
        self._reloads = reloads
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self._reading = ""

    def begin(self) -> None:
        """Begin to read. What cannot be used is logged, and leaves its part as it was; so is what is still being read,
        for which everything behind it waits.
        """
        self._asked = True
        if self._reading:
            _log.info("still being read; afterwards everything is read again", what=self._reading)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="reading again")

    async def end(self) -> None:
        """Stop, also in the middle."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._asked:
            self._asked = False
            for name, reload in list(self._reloads.items()):
                self._reading = name
                try:
                    await read_again(name, reload, _log)
                except Exception as error:  # noqa: BLE001  a fault in one must not keep the others from being read
                    _log.error("not reloaded", what=name, **fault(error))
                finally:
                    self._reading = ""
