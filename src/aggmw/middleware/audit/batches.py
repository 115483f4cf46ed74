"""Batches: a bounded queue of events, and the task that writes them behind the requests' back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Literal, TypeAlias

import structlog

from aggmw.contracts.audit import AuditEvent
from aggmw.contracts.metrics import Sample
from aggmw.errors import fault

__all__ = ["Batches", "NotWanted", "NotWritten", "WhenFull"]

WhenFull: TypeAlias = Literal["wait", "drop"]

_log = structlog.get_logger("aggmw.audit")

_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_GOODBYE_SECONDS = 3.0


class NotWritten(Exception):
    """A batch could not be written; the text is safe for the log. It is tried again."""


class NotWanted(NotWritten):
    """A batch will not be written, however often it is tried. It is dropped and counted."""


class Batches:
    """Events on their way to a sink, in order.

    A batch that cannot be written is kept and tried again, first after half a second, at last every 30 seconds. What
    comes meanwhile waits in the queue, and when that is full requests wait, or events are dropped and counted.

    Args:
        name: of the sink, in logs and metrics.
        write: writes a batch, or raises `NotWritten`.
        most: events in one batch.
        delay: seconds that the first event of a batch waits for others.
        limit: events in the queue.
        when_full: "wait": requests wait for room, and only above twice the limit events are dropped, because who is
            refused does not wait; "drop": events are dropped and counted.
        interval: seconds between two batches, at least.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[AuditEvent]], Awaitable[None]],
        *,
        most: int = 1000,
        delay: float = 0.0,
        limit: int = 10_000,
        when_full: WhenFull = "wait",
        interval: float = 0.0,
    ) -> None:
        if limit < 1 or most < 1:
            raise ValueError("a queue and its batches hold at least one event")
        if when_full not in ("wait", "drop"):
            raise ValueError(f'when_full must be "wait" or "drop", not {when_full!r}')
        self.name = name
        self._write = write
        self._most = most
        self._delay = delay
        self._limit = limit
        self._drops = when_full == "drop"
        self._most_of_all = limit if self._drops else 2 * limit
        self._interval = interval
        self._queue: deque[AuditEvent] = deque()
        self._some: asyncio.Event | None = None
        self._now: asyncio.Event | None = None  # do not wait for further events
        self._waiting: list[asyncio.Future[None]] = []
        self._marks: list[tuple[int, asyncio.Future[bool]]] = []
        self._taken = 0
        self._gone = 0  # written or dropped at the end
        self._written = 0
        self._dropped = 0
        self._errors = 0
        self._failing = False

    @property
    def full(self) -> bool:
        """Whether a request should wait in `room`."""
        return not self._drops and len(self._queue) >= self._limit

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                if not waiter.done() or waiter.cancelled():
                    self._waiting = [each for each in self._waiting if each is not waiter]

    def put(self, event: AuditEvent) -> None:
        """Take an event. That of a request that was let in before the queue was full, or refused without being asked
        to wait, is taken above the limit, but not above twice of it."""
        if len(self._queue) >= self._most_of_all:
            if not self._dropped:
                _log.error("audit events are dropped: the queue is full", sink=self.name, limit=self._limit)
            self._dropped += 1
            return
        self._queue.append(event)
        self._taken += 1
        if self._some is not None:
            self._some.set()
        if self._now is not None and len(self._queue) >= self._most:
            self._now.set()

    async def written(self) -> bool:
        """Wait until what was taken so far is written; False as soon as a batch could not be, or one was dropped."""
        if self._failing or len(self._queue) >= self._most_of_all:
            return False
        if self._gone == self._taken:
            return True
        mark: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._marks.append((self._taken, mark))
        if self._now is not None:
            self._now.set()
        return await mark

    async def run(self) -> None:
        """Write until cancelled, then write the rest, if that is possible at once."""
        self._some, self._now = asyncio.Event(), asyncio.Event()
        if self._queue:
            self._some.set()
        retry = _FIRST_RETRY
        try:
            while True:
                await self._some.wait()
                if self._delay and len(self._queue) < self._most and not self._marks:
                    self._now.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._delay):
                            await self._now.wait()
                if await _whole(self._write_some()):
                    retry = _FIRST_RETRY
                    if self._interval:
                        await asyncio.sleep(self._interval)
                else:
                    await asyncio.sleep(retry)
                    retry = min(retry * 2, _LAST_RETRY)
        finally:
            self._some = self._now = None
            await self._end()

    def samples(self) -> Iterable[Sample]:
        """What became of the events."""
        labels = (("plugin", self.name),)
        yield Sample(
            "aggmw_audit_written_events_total", "Audit events that were written.", "counter", labels, self._written
        )
        yield Sample(
            "aggmw_audit_dropped_events_total",
            "Audit events that were not written, because the queue was full or the process ended.",
            "counter",
            labels,
            self._dropped,
        )
        yield Sample(
            "aggmw_audit_queued_events", "Audit events that wait to be written.", "gauge", labels, len(self._queue)
        )
        yield Sample(
            "apiserver_audit_error_total",
            "Batches of audit events that could not be written when they were tried.",
            "counter",
            labels,
            self._errors,
        )

    async def _write_some(self) -> bool:
        """Write one batch. It leaves the queue when it is written, so that nothing is lost on the way."""
        batch = list(islice(self._queue, self._most))
        try:
            await self._write(batch)
        except NotWanted as error:
            _log.error("audit events are dropped: they are not wanted", sink=self.name, reason=str(error))
            self._errors += 1
            self._dropped += len(batch)
            self._take_out(len(batch))
            return True
        except NotWritten as error:
            self._fail(str(error))
            return False
        except Exception as error:  # noqa: BLE001  whatever broke in a sink must not end it
            self._fail(**fault(error))
            return False
        if self._failing:
            _log.info("audit events are written again", sink=self.name)
            self._failing = False
        self._written += len(batch)
        self._take_out(len(batch))
        return True

    def _take_out(self, number: int) -> None:
        for _ in range(number):
            self._queue.popleft()
        self._pass(number)

    def _pass(self, number: int) -> None:
        """So many events are through: wake who waited for that."""
        self._gone += number
        if self._some is not None and not self._queue:
            self._some.clear()
        while self._marks and self._marks[0][0] <= self._gone:
            _, mark = self._marks.pop(0)
            if not mark.done():
                mark.set_result(True)
        if not self.full:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def _fail(self, reason: str = "", **fields: str) -> None:
        self._errors += 1
        if not self._failing:
            _log.error("audit events cannot be written, trying again", sink=self.name, reason=reason, **fields)
        self._failing = True
        marks, self._marks = self._marks, []
        for _, mark in marks:
            if not mark.done():
                mark.set_result(False)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while self._queue and await self._write_some():
                    pass
        except TimeoutError:
            pass
        if lost := len(self._queue):
            self._queue.clear()
            self._dropped += lost
            self._pass(lost)
            _log.error("audit events are lost: they could not be written before the end", sink=self.name, events=lost)


async def _whole(work: Coroutine[Any, Any, bool]) -> bool:
    """Wait for it to its end, also when cancelled meanwhile: a batch must not be written twice, nor by half."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_GOODBYE_SECONDS)
        task.cancel()
        raise
