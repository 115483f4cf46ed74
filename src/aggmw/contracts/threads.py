"""What waits for a disk, or computes for long, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

__all__ = ["in_thread"]

_T = TypeVar("_T")


async def in_thread(function: Callable[[], _T]) -> _T:
    """What a function gives, called in a thread. As `asyncio.to_thread`, but no process waits for it at its end.

    Raises:
        Exception: what the function raised.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def tell(result: Callable[[], None]) -> None:
        if not future.done():
            result()

    def run() -> None:
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001  whoever waits raises it
            _forget(error)
            told = partial(future.set_exception, error)
        else:
            told = partial(future.set_result, value)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, told)

    threading.Thread(target=run, name=f"aggmw {_named(function)}", daemon=True).start()
    return await future


def _named(function: Callable[[], object]) -> str:
    """Never with its arguments: they may be large, and hold secrets."""
    called = function.func if isinstance(function, partial) else function
    return getattr(called, "__qualname__", type(called).__name__)


def _forget(error: BaseException) -> None:
    """Let go of what failed: the traceback would keep it for as long as the error is kept, or for ever where frozen."""
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            traceback.clear_frames(each.__traceback__)
