"""casbin's watchers, which tell several processes that a policy was changed, as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from inspect import isawaitable, iscoroutinefunction
from typing import Any

__all__ = ["CasbinWatcher"]


class CasbinWatcher:
    """A casbin watcher as a `PolicyWatcher`, such as those for Redis, etcd and PostgreSQL.

    Args:
        watcher: has `set_update_callback(function)` and `update()`, coroutine functions or not. The function may be
            called from any thread; an `update()` that blocks is called in one.

    Raises:
        TypeError: it is none.
    """

    def __init__(self, watcher: Any) -> None:
        for method in ("set_update_callback", "update"):
            if isinstance(watcher, type) or not callable(getattr(watcher, method, None)):
                raise TypeError(f"watcher: a casbin watcher is an object with a method {method}()")
        self._watcher = watcher

    def __repr__(self) -> str:
        return f"CasbinWatcher({type(self._watcher).__name__})"

    async def changes(self) -> AsyncIterator[None]:
        """Something once it listens, and then each time that the watcher calls."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell(*_: object, **__: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is listening any more
                loop.call_soon_threadsafe(changed.set)

        result = self._watcher.set_update_callback(tell)
        if isawaitable(result):
            await result
        changed.set()
        while True:
            await changed.wait()
            changed.clear()
            yield None

    async def announce(self) -> None:
        """Tell the others."""
        update = self._watcher.update
        if iscoroutinefunction(update):
            await update()
        else:
            await asyncio.to_thread(update)
