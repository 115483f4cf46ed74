"""The virtual clock fires timers without waiting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import uvloop

from aggmw.testing import Client, ReadHead, ScriptedBackend, Send, VirtualClock


async def test_timers_fire_in_time(clock: VirtualClock) -> None:
    """A timer fires when the clock reaches it, not before; an hour takes no time."""
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(3600, fired.set)
    await clock.advance(3599)
    assert not fired.is_set()
    await clock.advance(1)
    assert fired.is_set()


async def test_loop_time_moves(clock: VirtualClock) -> None:
    """`loop.time()` moves by what was advanced."""
    before = asyncio.get_running_loop().time()
    await clock.advance(100)
    assert 100 <= clock.time() - before < 100.5


async def test_busy_machine(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that gets no time for a while, or a callback that takes some, does not make the clock go on."""
    rests = 0.0
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + rests)  # the time that a loop goes by
    loop = asyncio.get_running_loop()
    before = clock.time()
    fired = asyncio.Event()
    loop.call_later(10, fired.set)
    for _ in range(3):
        rests += 100  # while a callback runs
        await asyncio.sleep(0)
        rested = asyncio.Event()

        def rest(rested: asyncio.Event = rested) -> None:
            nonlocal rests
            rests += 100
            loop.call_soon_threadsafe(rested.set)

        resting = threading.Timer(0.02, rest)  # while the loop waits
        resting.start()
        await rested.wait()
        resting.join()
    await clock.advance(9)
    assert not fired.is_set()
    assert clock.time() - before < 10
    await clock.advance(1)
    assert fired.is_set()


async def test_real_time_passes(clock: VirtualClock) -> None:
    """Who really waits under the clock is woken, and who keeps the loop running all the time interrupted."""
    before = clock.time()
    await asyncio.sleep(0.02)
    assert clock.time() - before > 0.019

    async def restless() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(restless(), 0.02)


async def test_order(clock: VirtualClock) -> None:
    """Timers on the way fire in order, and periodic ones as often as they would have."""
    seen: list[str] = []

    async def periodic() -> None:
        while True:
            await asyncio.sleep(10)
            seen.append("tick")

    async def once() -> None:
        await asyncio.sleep(25)
        seen.append("once")

    tasks = [asyncio.create_task(periodic()), asyncio.create_task(once())]
    await clock.advance(45)
    assert seen == ["tick", "tick", "once", "tick", "tick"]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_time_out(clock: VirtualClock) -> None:
    """`asyncio.timeout` runs by the clock, and what it interrupts has come to its end."""
    outcome = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        except TimeoutError:
            for _ in range(20):
                await asyncio.sleep(0)
            outcome.append("timed out")

    task = asyncio.create_task(wait())
    await clock.advance(30)
    assert outcome == ["timed out"]
    await task


async def test_sockets_served(clock: VirtualClock) -> None:
    """What a timer starts on a local connection has gone through when the clock has settled."""
    async with ScriptedBackend([ReadHead(), Send(b"answer")]) as backend:
        reader, writer = await asyncio.open_connection(backend.host, backend.port)
        asyncio.get_running_loop().call_later(60, writer.write, b"GET / HTTP/1.1\r\n\r\n")
        answer = asyncio.create_task(reader.read())
        await clock.advance(60)
        assert answer.done()
        assert await answer == b"answer"
        writer.close()
        await writer.wait_closed()


async def test_limits_of_the_client(clock: VirtualClock) -> None:
    """The client's limits are of real time: moving the clock does not use them up."""

    async def app(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(1000)
        await send({"type": "http.response.start", "status": 204})  # type: ignore[operator]
        await send({"type": "http.response.body"})  # type: ignore[operator]

    request = asyncio.create_task(Client(app, limit=5).request("GET", "/"))
    await clock.advance(1000)
    assert (await request).status == 204


async def test_restored() -> None:
    """Afterwards the loop has its own time again."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with VirtualClock() as clock:
        await clock.advance(1000)
    assert loop.time() - before < 100


async def test_not_backwards(clock: VirtualClock) -> None:
    """The clock does not go backwards."""
    with pytest.raises(ValueError, match="backwards"):
        await clock.advance(-1)


async def test_never_resting(clock: VirtualClock) -> None:
    """A task that never rests does not keep the clock from moving."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(5, fired.set)
    await clock.advance(5)
    assert fired.is_set()
    task.cancel()


def test_other_loops() -> None:
    """A loop that keeps its time elsewhere is refused."""

    async def main() -> None:
        with pytest.raises(TypeError, match="asyncio"):
            await VirtualClock().advance(1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
