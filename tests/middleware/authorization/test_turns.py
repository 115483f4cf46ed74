"""One work at a time, and no more often than somebody asks for it."""

from __future__ import annotations

import asyncio

import pytest

from aggmw.middleware.authorization.turns import Turns


class Work:
    """Ends when it is told to; notes how many were at it at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_once = self.most = 0
        self.going = asyncio.Event()
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.going.set()
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return number
        finally:
            self.at_once -= 1


async def test_those_who_ask_meanwhile_share_the_next_turn() -> None:
    """A turn that began before somebody asked is not enough for them; one more is, for all of them."""
    work = Work()
    turns = Turns(work, "work")
    first = asyncio.create_task(turns.take())
    await work.going.wait()
    others = [asyncio.create_task(turns.take()) for _ in range(100)]
    await asyncio.sleep(0)
    assert work.begun == 1
    work.gate.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2] * 100
    assert work.most == 1
    assert await turns.take() == 3


async def test_error_is_for_those_of_the_turn() -> None:
    """All who wait for a turn hear that it failed; the next one begins anew."""
    work = Work()
    turns = Turns(work, "work")
    work.error = ValueError("no")
    work.gate.set()
    some = await asyncio.gather(turns.take(), turns.take(), return_exceptions=True)
    assert [str(each) for each in some] == ["no", "no"]
    assert work.begun == 1
    work.error = None
    assert await turns.take() == 2


async def test_who_goes_away_ends_no_turn() -> None:
    """A turn is not broken off with who asked for it: others may wait, and a thread may be at it."""
    work = Work()
    turns = Turns(work, "work")
    one = asyncio.create_task(turns.take())
    await work.going.wait()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    other = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    assert work.begun == 1
    work.error = ValueError("nobody waits for this one any more")
    work.gate.set()
    with pytest.raises(ValueError, match="any more"):
        await other
    assert work.most == 1


def test_another_loop() -> None:
    """What was left of a loop that is gone holds nobody up."""
    never = asyncio.Event()
    turns = Turns(never.wait, "work")

    async def leave() -> None:
        await asyncio.wait({asyncio.create_task(turns.take())}, timeout=0)
        await asyncio.sleep(0)

    asyncio.run(leave())
    never.set()
    assert asyncio.run(turns.take())
