"""Turns: so many at a time, the others in order, and nobody's leaving loses one."""

from __future__ import annotations

import asyncio

import pytest

from aggmw.errors import UpstreamBusy
from aggmw.middleware.proxy import TransportLimits
from aggmw.middleware.proxy.transports.turns import Turns
from aggmw.testing import VirtualClock


def turns(**limits: float) -> Turns:
    return Turns(TransportLimits(**{"connections": 1, **limits}))  # type: ignore[arg-type]


async def test_in_order() -> None:
    """Who waits longest is next; who comes now does not overtake."""
    made, order = turns(), []

    async def take(name: str) -> None:
        await made.take(None)
        order.append(name)

    await made.take(None)
    waiting = [asyncio.ensure_future(take(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert (made.taken, made.waiting, repr(made)) == (1, 3, "<Turns: 1 taken, 3 waiting>")
    for _ in range(3):
        made.give_back()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]
    made.give_back()
    assert (made.taken, made.waiting) == (0, 0)


async def test_too_many() -> None:
    """More than may wait are refused at once."""
    made = turns(waiting=0)
    await made.take(None)
    with pytest.raises(UpstreamBusy, match="too many requests wait for it"):
        await made.take(None)


@pytest.mark.parametrize("deadline", [None, 3.0])
async def test_too_long(clock: VirtualClock, deadline: float | None) -> None:
    """The time to wait is bounded by the limits, and by the request's own deadline."""
    made = turns(wait_seconds=5)
    await made.take(None)
    waiting = asyncio.ensure_future(made.take(None if deadline is None else clock.time() + deadline))
    await clock.advance((deadline or 5) - 0.5)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(UpstreamBusy, match="no connection came free in time"):
        await waiting
    assert (made.taken, made.waiting) == (1, 0)


async def test_leaving_while_waiting() -> None:
    """Who leaves the queue leaves it, and who leaves in the moment its turn comes hands it on."""
    made = turns()
    await made.take(None)
    first, second, third = (asyncio.ensure_future(made.take(None)) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert made.waiting == 2
    made.give_back()
    second.cancel()
    await asyncio.wait({second})
    await third
    assert second.cancelled()
    assert (made.taken, made.waiting) == (1, 0)
