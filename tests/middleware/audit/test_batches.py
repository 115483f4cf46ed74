"""The queue of a sink: order, batches, what is full, what fails, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw.contracts.audit import AuditEvent
from aggmw.middleware.audit.batches import Batches, NotWritten
from aggmw.testing import VirtualClock


class Book:
    """Keeps batches; fails, or waits, as long as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.failing: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.tries = 0

    async def write(self, events: Sequence[AuditEvent]) -> None:
        self.tries += 1
        await self.go_on.wait()
        if self.failing is not None:
            raise self.failing
        self.batches.append([event["n"] for event in events])

    @property
    def events(self) -> list[int]:
        return [event for batch in self.batches for event in batch]


def figures(batches: Batches) -> dict[str, float]:
    return {sample.name: sample.value for sample in batches.samples()}


@asynccontextmanager
async def running(batches: Batches) -> AsyncIterator[None]:
    task = asyncio.create_task(batches.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(batches: Batches, *numbers: int) -> None:
    for number in numbers:
        batches.put({"n": number})


async def test_in_order_and_in_batches(clock: VirtualClock) -> None:
    """Everything is written once, in order, at most so many at once; also what came before it ran."""
    book = Book()
    batches = Batches("b", book.write, most=3)
    put(batches, 1, 2)
    async with running(batches):
        put(batches, 3, 4, 5)
        assert await batches.written()
        assert book.batches == [[1, 2, 3], [4, 5]]
        put(batches, 6)
    assert book.events == [1, 2, 3, 4, 5, 6]
    assert figures(batches)["aggmw_audit_written_events_total"] == 6


async def test_delay_gathers(clock: VirtualClock) -> None:
    """The first event waits for others; a full batch and somebody who waits for the writing do not."""
    book = Book()
    batches = Batches("b", book.write, most=3, delay=5.0)
    async with running(batches):
        put(batches, 1)
        await clock.advance(4.9)
        put(batches, 2)
        assert book.batches == []
        await clock.advance(0.2)
        assert book.batches == [[1, 2]]
        put(batches, 3, 4, 5)
        await clock.settle()
        assert book.batches == [[1, 2], [3, 4, 5]]


async def test_requests_wait_for_room(clock: VirtualClock) -> None:
    """A full queue that does not drop makes who comes wait until a batch was written."""
    book = Book()
    book.go_on.clear()
    batches = Batches("b", book.write, limit=2)
    async with running(batches):
        put(batches, 1, 2)
        assert batches.full
        waiter = asyncio.create_task(batches.room())
        gone = asyncio.create_task(batches.room())
        await clock.settle()
        gone.cancel()
        put(batches, 3)  # of a request that was let in before
        assert not waiter.done()
        book.go_on.set()
        await waiter
        await asyncio.gather(gone, return_exceptions=True)
    assert book.events == [1, 2, 3]


async def test_who_is_refused_does_not_fill_memory(clock: VirtualClock) -> None:
    """Events of callers who are refused do not wait for room: above twice the limit they are dropped and counted."""
    book = Book()
    book.failing = NotWritten("the disk is full")
    batches = Batches("b", book.write, limit=2)
    with capture_logs():
        put(batches, *range(100))
    assert figures(batches)["aggmw_audit_queued_events"] == 4
    assert figures(batches)["aggmw_audit_dropped_events_total"] == 96
    assert batches.full
    assert not await batches.written()


async def test_full_queue_drops_and_counts(clock: VirtualClock) -> None:
    """With "drop", nobody waits: what does not fit is counted, and said once."""
    batches = Batches("b", Book().write, limit=2, when_full="drop")
    with capture_logs() as log:
        put(batches, 1, 2, 3, 4)
    assert not batches.full
    assert not await batches.written()
    assert [line["event"] for line in log] == ["audit events are dropped: the queue is full"]
    assert figures(batches)["aggmw_audit_dropped_events_total"] == 2
    assert figures(batches)["aggmw_audit_queued_events"] == 2


@pytest.mark.parametrize("error", [NotWritten("the disk is full"), LookupError("s3cr3t")])
async def test_what_fails_is_tried_again(clock: VirtualClock, error: Exception) -> None:
    """After half a second, then ever later; nothing is lost, and both changes are said once."""
    book = Book()
    book.failing = error
    batches = Batches("b", book.write)
    with capture_logs() as log:
        async with running(batches):
            put(batches, 1)
            assert not await batches.written()
            assert not await batches.written()
            await clock.advance(0.5)
            await clock.advance(0.9)
            assert book.tries == 2
            await clock.advance(0.2)
            assert book.tries == 3
            book.failing = None
            put(batches, 2)
            await clock.advance(30.0)
            assert book.batches == [[1, 2]]
            assert await batches.written()
    assert [line["event"] for line in log] == [
        "audit events cannot be written, trying again",
        "audit events are written again",
    ]
    assert "s3cr3t" not in str(log)
    assert figures(batches)["apiserver_audit_error_total"] == 3


async def test_end_writes_the_rest_once(clock: VirtualClock) -> None:
    """Told to stop in the middle of a batch: that batch is written once, and what waits behind it, too."""
    book = Book()
    book.go_on.clear()
    batches = Batches("b", book.write, most=2)
    task = asyncio.create_task(batches.run())
    put(batches, 1, 2, 3)
    await clock.settle()
    task.cancel()
    await clock.settle()
    book.go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert book.batches == [[1, 2], [3]]


async def test_end_counts_what_is_lost(clock: VirtualClock) -> None:
    """What cannot be written at the end is lost, and the log says how much."""
    book = Book()
    book.failing = NotWritten("gone")
    batches = Batches("b", book.write)
    put(batches, 1, 2)
    with capture_logs() as log:
        async with running(batches):
            await clock.settle()
    assert log[-1]["event"].startswith("audit events are lost")
    assert (log[-1]["events"], figures(batches)["aggmw_audit_dropped_events_total"]) == (2, 2)


def test_options() -> None:
    """Queues that hold nothing and words that mean nothing are refused."""
    with pytest.raises(ValueError, match="at least one event"):
        Batches("b", Book().write, limit=0)
    with pytest.raises(ValueError, match='"wait" or "drop"'):
        Batches("b", Book().write, when_full="block")  # type: ignore[arg-type]  # as from a file
