"""Each kind of waste that a test can leave is found, and named."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from aggmw.testing import hygiene
from aggmw.testing.hygiene import BlockingSleep, Watch, describe_socket, open_sockets


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left here is left on purpose."""
    monkeypatch.setattr(hygiene, "_PAUSES", hygiene._PAUSES[:8])


def watched(main: Coroutine[Any, Any, None], watch: Watch) -> None:
    """Run `main` in a loop of its own, watched from begin to end."""

    async def run() -> None:
        watch.begin_loop()
        await main
        await watch.end_loop()

    with watch:
        asyncio.run(run())
    watch.check()


async def leave_a_task() -> None:
    """Leaves a task running."""
    asyncio.get_running_loop().kept = asyncio.create_task(asyncio.sleep(60), name="lingering")  # type: ignore[attr-defined]


async def leave_an_exception() -> None:
    """Leaves a failed task that nobody asked."""

    async def fail() -> None:
        raise KeyError("unheard")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])


async def leave_a_failed_callback() -> None:
    """A callback raises into the loop."""
    asyncio.get_running_loop().call_soon(lambda: {}["missing"])
    await asyncio.sleep(0)


async def block() -> None:
    """A task holds the loop for 60 ms of work."""

    async def hog() -> None:
        until = time.thread_time() + 0.06
        while time.thread_time() < until:
            pass

    await asyncio.create_task(hog())


async def wait_in_it() -> None:
    """A task holds the loop for half a second, in which it waits for another thread."""

    async def hog() -> None:
        threading.Event().wait(0.5)

    await asyncio.create_task(hog())


async def clean() -> None:
    """Uses tasks and sockets, and leaves none."""
    task = asyncio.create_task(asyncio.sleep(60))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    server.close()
    task.cancel()


@pytest.mark.parametrize(
    ("waste", "main", "problem"),
    [
        ("tasks", leave_a_task, "a task was left running: .*lingering"),
        ("errors", leave_an_exception, "never retrieved: KeyError\\('unheard'\\)"),
        ("errors", leave_a_failed_callback, "Exception in callback .*KeyError\\('missing'\\)"),
        ("blocking", block, "the loop was blocked for .* seconds by .*hog"),
        ("blocking", wait_in_it, "the loop was blocked for .* seconds by .*hog"),
    ],
)
def test_found_in_the_loop(waste: Any, main: Any, problem: str) -> None:
    """What is left in the loop fails with its name, unless it is allowed."""
    with pytest.raises(AssertionError, match=problem):
        watched(main(), Watch(blocking_limit=0.05))
    watched(main(), Watch([waste], blocking_limit=0.05))


def test_the_collector_is_no_callback() -> None:
    """A collection goes through all that the process of the tests holds: no callback is blamed for that."""

    def slowly(phase: str, info: dict[str, int]) -> None:
        until = time.perf_counter() + 0.1
        while phase == "stop" and time.perf_counter() < until:
            pass

    async def collect() -> None:
        gc.callbacks.insert(0, slowly)
        gc.collect()
        gc.callbacks.remove(slowly)

    before = list(gc.callbacks)
    watched(collect(), Watch(blocking_limit=0.05))
    assert gc.callbacks == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells why a thread did not run")
def test_a_busy_machine_is_no_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that the process did not get is nobody's fault."""
    rested = 0.0
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + rested)

    async def rest() -> None:
        nonlocal rested
        rested += 10

    watched(rest(), Watch(blocking_limit=0.05))


def test_a_thread_that_gets_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it the fault of a callback that waits for another thread when that one gets no time to run."""
    monkeypatch.setattr(hygiene, "_waiting_for_turns", lambda: {"1": time.perf_counter()})
    watched(wait_in_it(), Watch(blocking_limit=0.05))


def test_loops_of_the_tests_own() -> None:
    """A loop that a test without pytest-asyncio runs is watched too."""
    watch = Watch()
    with watch:
        asyncio.run(leave_a_failed_callback())
    with pytest.raises(AssertionError, match="Exception in callback"):
        watch.check()


def test_uvloop() -> None:
    """On a loop that is not asyncio's own, tasks and exceptions are found as well."""

    async def main() -> None:
        watch.begin_loop()
        await leave_a_failed_callback()
        kept = asyncio.create_task(asyncio.sleep(60), name="lingering")
        await watch.end_loop()
        kept.cancel()

    with Watch() as watch, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    with pytest.raises(AssertionError, match=r"(?s)Exception in callback.*lingering"):
        watch.check()


def test_clean() -> None:
    """What closes its sockets and cancels its tasks passes, though transports close a little later."""
    watched(clean(), Watch())


def test_socket_left() -> None:
    """A socket left open is found by its address, in a loop and without one."""
    left: list[socket.socket] = []

    def leave() -> str:
        left.append(socket.create_server(("127.0.0.1", 0)))
        return str(left[-1].getsockname()[1])

    async def leave_in_loop() -> None:
        leave()

    watch = Watch()
    with watch:
        port = leave()
    with pytest.raises(AssertionError, match=f"a socket was left open: .*{port}"):
        watch.check()
    with pytest.raises(AssertionError, match="a socket was left open"):
        watched(leave_in_loop(), Watch())
    watched(leave_in_loop(), Watch(["sockets"]))
    for each in left:
        each.close()


def test_socket_open_before() -> None:
    """A socket that was open before is nobody's waste; nor are the loop's own."""
    with socket.create_server(("127.0.0.1", 0)):
        watched(asyncio.sleep(0), Watch())


def test_open_sockets() -> None:
    """The sockets of this process are listed, and described by both addresses."""
    before = open_sockets()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        (inode,) = {inode for inode, number in open_sockets().items() if number == client.fileno()}
        assert inode not in before
        description = describe_socket(client.fileno())
        assert str(server.getsockname()) in description
        assert str(client.getsockname()) in description
        assert "without a peer" in describe_socket(server.fileno())
    assert inode not in open_sockets()


def test_unraisable() -> None:
    """An exception in a destructor is found."""

    class Grumpy:
        def __del__(self) -> None:
            raise KeyError("destructor")

    watch = Watch()
    with watch:
        Grumpy()
    with pytest.raises(AssertionError, match=r"Grumpy.*destructor"):
        watch.check()


def test_sleeping_in_a_loop() -> None:
    """`time.sleep` raises where a loop runs, and only there."""

    async def sleepy() -> None:
        with pytest.raises(BlockingSleep):
            time.sleep(0)
        await asyncio.to_thread(time.sleep, 0)

    watched(sleepy(), Watch())
    with Watch():
        time.sleep(0)


def test_restored() -> None:
    """Afterwards everything that was patched is as before."""
    before = time.sleep, asyncio.Handle._run
    with Watch():
        assert before != (time.sleep, asyncio.Handle._run)
    assert before == (time.sleep, asyncio.Handle._run)


def test_unknown_word() -> None:
    """A misspelt exemption is an error."""
    with pytest.raises(ValueError, match="unknown: task; known: tasks, sockets"):
        Watch(["task"])  # type: ignore[list-item]
