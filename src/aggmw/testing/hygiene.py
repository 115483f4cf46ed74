"""What a test must not leave behind: tasks, sockets, unretrieved exceptions; and it must not block the loop.

The fixture `hygiene` of `aggmw.testing.plugin` watches every test with this. Without pytest::

    with Watch() as watch:
        asyncio.run(main())
    watch.check()
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

__all__ = ["BlockingSleep", "Waste", "Watch", "describe_socket", "open_sockets"]

Waste: TypeAlias = Literal["tasks", "sockets", "errors", "blocking"]
"""What can be allowed: tasks left, sockets left, exceptions nobody retrieved, a blocked loop."""

BLOCKING_LIMIT = 1.0
"""Seconds that one callback may hold the loop."""

_PAUSES = [0.001 * 2**doubled for doubled in range(12)]  # four seconds altogether, for threads on a busy machine


class BlockingSleep(AssertionError):
    """`time.sleep` was called in the thread of a running event loop."""


def open_sockets() -> dict[int, int]:
    """The sockets this process holds open: inode to file descriptor. Empty where there is no /proc."""
    found: dict[int, int] = {}
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found[int(target[8:-1])] = int(name)
    return found


def describe_socket(descriptor: int) -> str:
    """A socket as far as it tells: family, and both addresses."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as twin:
            words = [f"fd {descriptor}", socket.AddressFamily(twin.family).name, str(twin.getsockname())]
            try:
                words.append(f"to {twin.getpeername()}")
            except OSError:
                words.append("without a peer")
            return " ".join(words)
    except (OSError, ValueError):
        return f"fd {descriptor}"


class Watch:
    """Watches from `__enter__` to `__exit__`; `check()` raises what was found. One thread, any number of loops.

    Args:
        allowed: what is not looked at.
        blocking_limit: seconds that one callback may hold a loop, working or waiting for something. What the collector
            takes does not count: a process of many tests holds much that a server would not. Nor does, on Linux, what a
            busy machine gives to others.
    """

    def __init__(self, allowed: Iterable[Waste] = (), *, blocking_limit: float = BLOCKING_LIMIT) -> None:
        self._allowed: set[str] = set()
        self.allow(*allowed)
        self._blocking_limit = blocking_limit
        self.problems: list[str] = []
        self._sockets: dict[int, int] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._undo: list[Callable[[], None]] = []
        self._collecting_since = 0.0, 0.0
        self._collected = self._collected_working = 0.0  # seconds, and of them those of work
        self._turns: dict[str, float] = {}
        self._turns_again = 0.0  # when to look at them the next time

    def allow(self, *waste: Waste) -> None:
        """Do not look at these any more.

        Raises:
            ValueError: for an unknown word.
        """
        if unknown := set(waste) - set(get_args(Waste)):
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(get_args(Waste))}")
        self._allowed.update(waste)

    def __enter__(self) -> Watch:
        self._sockets = open_sockets()
        gc.callbacks.append(self._collects)
        self._undo.append(lambda: gc.callbacks.remove(self._collects))
        self._patch(asyncio.Handle, "_run", self._timed(asyncio.Handle._run))
        self._patch(time, "sleep", self._guarded(time.sleep))
        self._patch(sys, "unraisablehook", self._unraisable)
        # On the class, so that loops a test makes itself are watched; a handler that a test sets itself still wins.
        self._patch(asyncio.BaseEventLoop, "default_exception_handler", lambda loop, context: self._reported(context))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._undo:
            self._undo.pop()()

    def begin_loop(self) -> None:
        """Watch the tasks of the running loop, until `end_loop`. What is open and running now is not counted."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.BaseEventLoop):
            loop.set_exception_handler(lambda _, context: self._reported(context))
        self._tasks = asyncio.all_tasks()
        self._sockets = open_sockets()

    async def end_loop(self) -> None:
        """Look at the running loop, once transports and cancelled tasks had a chance to end."""
        for _ in range(10):
            await asyncio.sleep(0)
        for pause in _PAUSES:
            if not self._left_tasks() and not self._left_sockets():
                break
            await asyncio.sleep(pause)
        gc.collect(1)  # an unretrieved exception is reported when its task is collected
        for _ in range(3):  # and an asynchronous generator is closed then, by a task of the loop's own
            await asyncio.sleep(0)
        self.problems += [f"a task was left running: {task!r}" for task in self._left_tasks()]
        self._end_sockets()

    def check(self) -> None:
        """Raise what was found; without a loop, once threads had a chance to end.

        Raises:
            AssertionError: a line for each problem.
        """
        if self._sockets is not None:
            for pause in _PAUSES:
                if not self._left_sockets():
                    break
                time.sleep(pause)
            self._end_sockets()
        found, self.problems = self.problems, []
        if found:
            raise AssertionError("\n".join(found))

    def _left_tasks(self) -> set[asyncio.Task[Any]]:
        if "tasks" in self._allowed:
            return set()
        current = asyncio.current_task()
        return {task for task in asyncio.all_tasks() if task not in self._tasks and task is not current}

    def _left_sockets(self) -> list[int]:
        if "sockets" in self._allowed:
            return []
        known = self._sockets or {}
        return [descriptor for inode, descriptor in open_sockets().items() if inode not in known]

    def _end_sockets(self) -> None:
        self.problems += [f"a socket was left open: {describe_socket(each)}" for each in self._left_sockets()]
        self._sockets = None

    def _patch(self, owner: Any, name: str, value: object) -> None:
        original = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, original))

    def _timed(self, run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
        clock, working, limit = time.perf_counter, time.thread_time, self._blocking_limit

        def _run(handle: asyncio.Handle) -> None:
            callback = handle._callback  # type: ignore[attr-defined]  # a cancelled handle forgets it
            if clock() > self._turns_again:
                self._turns, self._turns_again = _waiting_for_turns(), clock() + limit / 2
            collected, collected_working, waits = self._collected, self._collected_working, _waits()
            worked, started = working(), clock()
            try:
                run(handle)
            finally:
                taken = clock() - started - (self._collected - collected)
                if taken > limit and "blocking" not in self._allowed:
                    worked = working() - worked - (self._collected_working - collected_working)
                    if worked > limit or (_waits() != waits and taken - self._lost() > limit) or waits is None:
                        owner = getattr(callback, "__self__", None)
                        name = repr(owner if isinstance(owner, asyncio.Task) else callback)
                        self.problems.append(f"the loop was blocked for {taken:.2f} seconds by {name}")
                del handle, callback  # an exception may keep this frame: no cycle by what ran in it

        return _run

    def _lost(self) -> float:
        """Seconds for which threads of this process had no turn just now: who waits for one of them has none, too."""
        return sum(seconds - self._turns.get(thread, 0.0) for thread, seconds in _waiting_for_turns().items())

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter(), time.thread_time()
        if phase == "start":
            self._collecting_since = now
        else:
            self._collected += now[0] - self._collecting_since[0]
            self._collected_working += now[1] - self._collecting_since[1]

    def _guarded(self, sleep: Callable[[float], None]) -> Callable[[float], None]:
        def guarded_sleep(seconds: float, /) -> None:
            if "blocking" not in self._allowed and asyncio._get_running_loop() is not None:
                raise BlockingSleep("time.sleep() would block the event loop: await asyncio.sleep()")
            sleep(seconds)

        return guarded_sleep

    def _reported(self, context: dict[str, Any]) -> None:
        if "errors" not in self._allowed:
            details = [repr(context[key]) for key in ("exception", "task", "future", "handle") if context.get(key)]
            self.problems.append(f"reported to the event loop: {context.get('message')}: {', '.join(details)}")

    def _unraisable(self, unraisable: Any) -> None:
        if "errors" not in self._allowed:
            where = unraisable.err_msg or "an exception was ignored in"
            self.problems.append(f"{where}: {unraisable.object!r}: {unraisable.exc_value!r}")


def _waiting_for_turns() -> dict[str, float]:
    """For each thread how many seconds it has waited for a processor; empty where nobody counts them."""
    found: dict[str, float] = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError, IndexError), open(f"/proc/self/task/{thread}/schedstat") as figures:
                found[thread] = int(figures.read().split()[1]) / 1e9
    return found


if sys.platform == "linux":
    from resource import RUSAGE_THREAD, getrusage

    def _waits() -> int | None:
        """How often this thread has waited for anything but its turn."""
        return getrusage(RUSAGE_THREAD).ru_nvcsw

else:

    def _waits() -> int | None:
        """Nobody knows."""
        return None
