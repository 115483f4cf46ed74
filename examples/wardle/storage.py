"""Objects in memory, with one revision for all of them and the latest changes for watches."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name: the order of lists


class Expired(Exception):
    """The changes after this revision are no longer all known."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {revision} ({oldest})")


class Change(NamedTuple):
    """What became of one object; None where it was not, or is no more."""

    revision: int
    current: Object | None
    previous: Object | None


class Storage:
    """Stored objects are never changed in place: whoever was given one may keep it.

    Args:
        revision: where to begin; a server that forgets its objects at its end begins later the next time, so that
            clients who come back with an old revision are told to list again.
        history: how many changes are kept.
    """

    def __init__(self, revision: int = 1, history: int = 1000) -> None:
        self.revision = revision
        self.closed = False
        self.changed = asyncio.Event()  # of the next change; take it before reading, and nothing is missed
        self._objects: dict[Key, Object] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._forgotten = revision

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def all(self) -> list[Object]:
        """By namespace, then by name."""
        return [self._objects[key] for key in sorted(self._objects)]

    def put(self, key: Key, object_: Object) -> Object:
        """Create or replace; gives the object with its new resourceVersion."""
        stored = self._stamped(object_)
        self._record(Change(self.revision, stored, self._objects.get(key)))
        self._objects[key] = stored
        return stored

    def remove(self, key: Key) -> Object:
        """Delete; gives the object with the revision of its end."""
        last = self._stamped(self._objects.pop(key))
        self._record(Change(self.revision, None, last))
        return last

    def since(self, revision: int) -> list[Change]:
        """The changes after `revision`.

        Raises:
            Expired: some of them are forgotten.
        """
        if revision < self._forgotten:
            raise Expired(revision, self._forgotten)
        return [change for change in self._history if change.revision > revision]

    def close(self) -> None:
        """Let every watch end."""
        self.closed = True
        self._wake()

    def _stamped(self, object_: Object) -> Object:
        self.revision += 1
        return {**object_, "metadata": {**object_["metadata"], "resourceVersion": str(self.revision)}}

    def _record(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].revision
        self._history.append(change)
        self._wake()

    def _wake(self) -> None:
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()
