"""Building a large value in a thread while the event loop goes on, and letting go of the one before.

An interpreter runs one thread at a time. What a build keeps the event loop waiting with, and what is done about it:

- The loop asks for the interpreter when it wakes up, and after each system call; it gets it after the switch interval,
  5 ms by default. For the time of a build that is half a millisecond.
- A collection of garbage stops everybody, and a full one goes through all that was built. For the time of a build there
  is none.
- Freeing hundreds of thousands of objects at once is one long step. They are freed a few at a time.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["beside_the_loop", "collect_what_is_left", "drain", "giving_way", "let_go"]

_INTERVAL = 0.0005  # seconds; measured in docs/explanation/policies.md
_ROUNDING = 5e-7  # it is cut to whole microseconds, each time that it is set
_STEP = 500  # objects that are freed at once
_SHARDS = 1024
_WAITS = 200
_WAIT = 0.005  # seconds

_CONTAINERS = (dict, list, tuple, set, frozenset)


class _SwitchInterval:
    """The interpreter's, small for as long as anybody needs it so. It belongs to the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._needed = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._needed:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _INTERVAL) + _ROUNDING)
            self._needed += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._needed -= 1
            if not self._needed:
                sys.setswitchinterval(self._before + _ROUNDING)


class _Freezing:
    """Whether this process freezes what it has made. Asking the collector goes through all that is frozen, so once."""

    def __init__(self) -> None:
        self._found = False

    def __bool__(self) -> bool:
        self._found = self._found or gc.get_freeze_count() > 0
        return self._found


_freezing = _Freezing()
_switch_interval = _SwitchInterval()
_one_at_a_time = threading.Lock()  # the collector belongs to the whole process, too


def giving_way() -> AbstractContextManager[None]:
    """Let other threads have the interpreter soon while the caller computes."""
    return _switch_interval


@contextmanager
def beside_the_loop() -> Iterator[None]:
    """The same, for building something large that leaves no garbage in circles: nothing is collected meanwhile.

    One build at a time, in the whole process. Where the process has frozen what it made before (`gc.freeze`), what was
    built is frozen, too.
    """
    with _one_at_a_time, giving_way():
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
            if collecting and _freezing:
                gc.freeze()
        finally:
            if collecting:
                gc.enable()


def collect_what_is_left() -> None:
    """Before a build, collect what the code of others has left behind: frozen, it would stay for ever."""
    if gc.isenabled() and _freezing:
        gc.collect()


def let_go(last: list[object], kinds: tuple[type, ...] = ()) -> None:
    """Free a large value in small steps.

    Args:
        last: holds the value and nothing else; empty afterwards. Who else is still using the value is waited for, a
            second at most.
        kinds: besides containers, the types of objects that hold parts of it.
    """
    parts = _parts_of(last[0], (*_CONTAINERS, *kinds))
    if not _in_a_loop():
        pause = threading.Event()
        for _ in range(_WAITS):
            if sys.getrefcount(last[0]) <= 3:  # `last`, `parts`, and the argument
                break
            pause.wait(_WAIT)
    last.clear()
    parts.reverse()  # what holds others goes before them
    drain(parts)


def drain(held: list[Any] | dict[Any, Any] | set[Any]) -> None:
    """Empty a large collection that nobody needs any more in small steps, from its end."""
    if isinstance(held, list):
        while held:
            del held[-_STEP:]
    elif isinstance(held, dict):
        while held:
            held.popitem()
    else:
        while held:
            held.pop()


def _parts_of(value: object, kinds: tuple[type, ...]) -> list[object]:
    """The value and all parts of it of some types, each once, what holds others before these."""
    parts = [value]
    seen: list[set[int]] = [set() for _ in range(_SHARDS)]  # a large set would take long to grow
    for part in parts:
        for each in gc.get_referents(part):
            if isinstance(each, kinds):
                number = id(each)
                known = seen[number // 64 % _SHARDS]
                if number not in known:
                    known.add(number)
                    parts.append(each)
    drain(seen)
    return parts


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
