"""The signal that this process stops taking work: streams end, readiness fails, connections close.

ASGI has none: `lifespan.shutdown` comes after the last response, so a stream that waited for it would wait for itself.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Drain"]


class Drain:
    """Begins once. Whoever holds a long stream registers a callback; everybody may ask `begun`.

    Not thread-safe: begin it on the event loop.
    """

    __slots__ = ("__weakref__", "_callbacks", "begun")

    def __init__(self) -> None:
        self.begun: bool = False
        self._callbacks: set[Callable[[], None]] = set()

    def __repr__(self) -> str:
        return f"Drain(begun={self.begun})"

    def begin(self) -> None:
        """Tell everybody. Calls each callback once; a second call does nothing."""
        if self.begun:
            return
        self.begun = True
        callbacks, self._callbacks = self._callbacks, set()
        for callback in callbacks:
            callback()

    def add(self, callback: Callable[[], None]) -> None:
        """Call `callback` when draining begins; at once when it has begun."""
        if self.begun:
            callback()
        else:
            self._callbacks.add(callback)

    def remove(self, callback: Callable[[], None]) -> None:
        """Forget a callback; one that is not registered is no error."""
        self._callbacks.discard(callback)
