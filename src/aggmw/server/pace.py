"""How fast a request's body has to come."""

from __future__ import annotations

from aggmw.server.limits import DoorLimits

__all__ = ["Pace"]


class Pace:
    """Counts the seconds that the application waited for a body and what they brought.

    Every `body_bytes` that came set the seconds back to zero. Time in which nobody waits is free: a slow application is
    not the client's fault.
    """

    __slots__ = ("_brought", "_bytes", "_seconds", "_since", "_waited")

    def __init__(self, limits: DoorLimits) -> None:
        self._seconds = limits.body_seconds
        self._bytes = limits.body_bytes
        self.begin()

    def begin(self) -> None:
        """A new body."""
        self._since = 0.0
        self._waited = 0.0
        self._brought = 0

    def wait(self, now: float) -> float:
        """The application waits from `now` on; until when it may."""
        self._since = now
        return now + self._seconds - self._waited

    def bring(self, now: float, size: int) -> None:
        """`size` bytes ended the wait."""
        self._waited += now - self._since
        self._brought += size
        if self._brought >= self._bytes:
            self._waited = 0.0
            self._brought = 0
