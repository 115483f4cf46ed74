"""How much work something is, on however busy a machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Work", "measured"]


@dataclass(slots=True)
class Work:
    """What was measured.

    Attributes:
        seconds: for which this thread has worked. Those in which others had the processor do not count, nor does the
            collector, which goes through all that a process of many tests holds.
    """

    seconds: float = 0.0


@contextmanager
def measured() -> Iterator[Work]:
    """Measures what is done within."""
    work, collecting = Work(), gc.isenabled()
    gc.disable()
    began = time.thread_time()
    try:
        yield work
    finally:
        work.seconds = time.thread_time() - began
        if collecting:
            gc.enable()
