"""Threads for what blocks: started when they are needed, a bounded number of them, and nobody waits for them to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Threads"]


class Threads:
    """Runs jobs in their order on daemon threads: one that hangs does not hold up the end of the process.

    Args:
        number: threads at most.
        waiting: jobs that may wait for one at most.
    """

    def __init__(self, number: int, waiting: int) -> None:
        self._number = number
        self._most = number + waiting
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._given = 0

    def __repr__(self) -> str:
        return f"Threads({self._started} of {self._number}, {self._given} jobs)"

    def submit(self, job: Callable[[], None]) -> bool:
        """Run this when its turn comes; False when too many wait already. A job must not raise."""
        with self._lock:
            if self._given >= self._most:
                return False
            self._given += 1
            if self._started < min(self._number, self._given):
                self._started += 1
                name = f"aggmw WSGI {self._started}"
                threading.Thread(target=self._run, args=(self._jobs,), name=name, daemon=True).start()
            self._jobs.put(job)
        return True

    def stop(self) -> None:
        """Let every thread end once its jobs are done; new jobs get new threads."""
        with self._lock:
            for _ in range(self._started):
                self._jobs.put(None)
            self._jobs = SimpleQueue()
            self._started = 0

    def _run(self, jobs: SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
            del job  # or it would be kept until the next one
            with self._lock:
                self._given -= 1
