"""Background work goes on while anybody has it open."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from aggmw.contracts.background import Background

CALLER: ContextVar[str] = ContextVar("CALLER", default="nobody")


class Work:
    """Runs until it is cancelled, or is over at once, perhaps by a fault."""

    name = "work"

    def __init__(self, *, over: bool = False, fault: Exception | None = None) -> None:
        self.begun = 0
        self.ended = 0
        self.callers: list[str] = []
        self._over = over
        self._fault = fault

    async def run(self) -> None:
        self.begun += 1
        self.callers.append(CALLER.get())
        try:
            if self._fault is not None:
                raise self._fault
            if not self._over:
                await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_from_the_first_to_the_last() -> None:
    """It begins once, has begun inside, and ends when nobody has it open any more."""
    work, other = Work(), Work()
    background = Background([work, other])
    assert not background.is_open
    async with background:
        async with background:
            assert (work.begun, other.begun) == (1, 1)
        assert background.is_open
        assert work.ended == 0
    assert (work.ended, other.ended) == (1, 1)
    assert not background.is_open


class Slow(Work):
    """Takes its time to end, as what has something to write does."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = asyncio.Event()
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        try:
            await super().run()
        except asyncio.CancelledError:
            self.ending.set()
            await self.may_end.wait()
            raise


async def test_opened_while_it_ends() -> None:
    """Whoever opens it then waits for the end, so that nothing is done twice; one who gives up changes nothing."""
    work = Slow()
    background = Background([work])
    await background.__aenter__()
    closing = asyncio.create_task(background.__aexit__())
    await work.ending.wait()
    opening, other, gives_up = [asyncio.create_task(background.__aenter__()) for _ in range(3)]
    await asyncio.sleep(0)
    gives_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gives_up
    assert (work.begun, background.is_open) == (1, False)
    work.may_end.set()
    await asyncio.gather(closing, opening, other)
    assert (work.begun, background.is_open) == (2, True)
    await background.__aexit__()
    assert background.is_open
    await background.__aexit__()
    assert not background.is_open


async def test_again() -> None:
    """After its end it can be opened again; work that has failed meanwhile fails nobody."""
    work = Work(fault=OSError("broken"))
    background = Background([work])
    for _ in range(2):
        async with background:
            pass
    assert (work.begun, work.ended) == (2, 2)


async def test_work_that_is_over_begins_anew() -> None:
    """Who opens it next begins it again, though somebody still has it open."""
    work = Work(over=True)
    background = Background([work])
    async with background:
        await asyncio.sleep(0)
        async with background:
            assert work.begun == 2


async def test_nothing_of_who_opens_it() -> None:
    """What is bound where it is opened is not bound in the work, which may outlive it."""
    work = Work()
    token = CALLER.set("alice")
    try:
        async with Background([work]):
            assert work.callers == ["nobody"]
    finally:
        CALLER.reset(token)


async def test_cancelled_while_it_opens() -> None:
    """Who is cancelled then leaves nothing behind."""
    work = Work()
    background = Background([work])
    opening = asyncio.ensure_future(background.__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not background.is_open
    assert work.begun == work.ended
