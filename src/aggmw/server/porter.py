"""One sweep over all connections of a server: deadlines without a timer each, and how many come from one address."""

from __future__ import annotations

import asyncio
import select
from collections import Counter
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

import structlog
from uvicorn.server import ServerState

__all__ = ["Porter", "Swept"]

_log = structlog.get_logger("aggmw.server")
_SILENCE = 60.0
_HANG_UP: int | None = getattr(select, "POLLRDHUP", None)  # Linux
_GONE = (_HANG_UP or 0) | getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)


class Swept(Protocol):
    """A connection under a porter."""

    deadline: float
    write_deadline: float

    def overdue(self, now: float) -> None:
        """`deadline` is past."""
        ...

    def stalled(self, now: float) -> None:
        """`write_deadline` is past."""
        ...

    def unread_socket(self) -> int | None:
        """The descriptor of a connection whose reading is paused, so that its end would go unnoticed; else None."""
        ...

    def hung_up(self) -> None:
        """The client ended a connection that is not being read."""
        ...


class Porter:
    """Runs a timer while it has connections, and none otherwise."""

    _porters: ClassVar[WeakKeyDictionary[ServerState, Porter]] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float) -> None:
        self._loop = loop
        self._tick = tick
        self._connections: set[Swept] = set()
        self._peers: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._says_again = 0.0

    @classmethod
    def of(cls, state: ServerState, loop: asyncio.AbstractEventLoop, tick: float) -> Porter:
        """The porter of a server."""
        porter = cls._porters.get(state)
        if porter is None or porter._loop is not loop:
            porter = cls._porters[state] = cls(loop, tick)
        return porter

    def add(self, connection: Swept) -> None:
        """Look after `connection` until it is removed."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick, self._sweep)

    def remove(self, connection: Swept) -> None:
        """Forget it; one that is not there is no error."""
        self._connections.discard(connection)
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def enter(self, address: str, most: int) -> bool:
        """Count a connection from `address`. False, and not counted, when there are `most` already."""
        if self._peers[address] >= most:
            return False
        self._peers[address] += 1
        return True

    def turned_away(self, most: int) -> None:
        """There were `most` connections already, and one more was closed. Logged once a minute at most."""
        now = self._loop.time()
        if now >= self._says_again:
            self._says_again = now + _SILENCE
            _log.warning("connections are turned away: there are as many as are allowed", limit=most)

    def leave(self, address: str) -> None:
        """A counted connection ended."""
        self._peers[address] -= 1
        if self._peers[address] <= 0:
            del self._peers[address]

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._tick, self._sweep)
        now = self._loop.time()
        unread: dict[int, Swept] = {}
        for connection in tuple(self._connections):
            if connection.deadline <= now:
                connection.overdue(now)
            if connection.write_deadline <= now:
                connection.stalled(now)
            descriptor = connection.unread_socket()
            if descriptor is not None:
                unread[descriptor] = connection
        if unread and _HANG_UP is not None:
            self._listen(unread)

    @staticmethod
    def _listen(unread: dict[int, Swept]) -> None:
        poll = select.poll()
        for descriptor in unread:
            poll.register(descriptor, _HANG_UP or 0)
        for descriptor, event in poll.poll(0):
            if event & _GONE:
                unread[descriptor].hung_up()
