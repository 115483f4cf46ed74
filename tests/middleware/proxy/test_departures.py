"""Noticing that a client left, by a tick instead of a task per request (performance §3.3)."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

from aggmw.asgi.types import Message
from aggmw.middleware.proxy.watching import Departures
from aggmw.testing import VirtualClock

DISCONNECT: Message = {"type": "http.disconnect"}
EMPTY: Message = {"type": "http.request", "body": b"", "more_body": False}


def receiving(*messages: Message) -> tuple[Callable[[], Awaitable[Message]], list[int]]:
    """A `receive` with these messages, and how often it was asked; then it waits for ever."""
    left = list(messages)
    asked: list[int] = []

    async def receive() -> Message:
        asked.append(1)
        if left:
            return left.pop(0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return receive, asked


async def test_what_is_quick_is_never_asked(clock: VirtualClock) -> None:
    """An exchange of less than a tick costs no task; nothing ticks when nothing is watched."""
    departures = Departures()
    receive, asked = receiving()
    watched = departures.watch(receive, lambda: None)
    await clock.advance(0.04)
    assert departures.forget(watched) is None
    await clock.advance(1)
    assert asked == []
    assert clock._next_timer() is None


async def test_what_takes_time_is_watched(clock: VirtualClock) -> None:
    """After one or two ticks a departure is noticed at once; empty messages before it are none."""
    departures = Departures()
    gone: list[int] = []
    receive, asked = receiving(EMPTY, EMPTY, DISCONNECT)
    watched = departures.watch(receive, lambda: gone.append(1))
    await clock.advance(0.06)
    assert asked == []
    await clock.advance(0.05)
    assert (gone, len(asked)) == ([1], 3)
    ending = departures.forget(watched)
    assert ending is not None
    await asyncio.gather(ending, return_exceptions=True)


async def test_an_end_stops_the_watching(clock: VirtualClock) -> None:
    """A watcher that still waits is cancelled with its exchange, and says nothing afterwards."""
    departures = Departures()
    gone: list[int] = []
    receive, _ = receiving()
    watched = departures.watch(receive, lambda: gone.append(1))
    await clock.advance(0.2)
    ending = departures.forget(watched)
    assert ending is not None
    await asyncio.gather(ending, return_exceptions=True)
    assert ending.cancelled()
    assert gone == []


async def test_many_share_one_timer(clock: VirtualClock) -> None:
    """However many exchanges there are, one timer looks after them."""
    departures = Departures()
    receive, _ = receiving()
    watched = [departures.watch(receive, lambda: None) for _ in range(100)]
    loop = asyncio.get_running_loop()
    assert len(loop._scheduled) == 1  # type: ignore[attr-defined]
    for each in watched:
        departures.forget(each)
    await clock.advance(1)
    assert clock._next_timer() is None


async def test_endless_empty_messages_do_not_hold_the_loop() -> None:
    """A server whose `receive` never waits and never says goodbye costs time, not the event loop."""
    departures = Departures()

    async def receive() -> Message:
        return EMPTY

    watched = departures.watch(receive, lambda: None)
    while watched.task is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)
    ending = departures.forget(watched)
    assert ending is not None
    await asyncio.gather(ending, return_exceptions=True)


async def test_who_stays_leaves_no_cycle() -> None:
    """A client that stayed longer than a tick: what watched it is freed at once, and all that it holds with it."""
    departures = Departures()
    watched = departures.watch(asyncio.Event().wait, lambda: None)  # type: ignore[arg-type]
    while watched.task is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    gone = weakref.ref(watched.task)
    gc.disable()
    try:
        ending = departures.forget(watched)
        assert ending is not None
        await asyncio.gather(ending, return_exceptions=True)
        del ending, watched
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
