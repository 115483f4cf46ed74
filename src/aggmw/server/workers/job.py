"""What a worker is told first."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from aggmw.config import Configuration
from aggmw.errors import Problem

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One worker's work.

    Args:
        number: which worker it is, from 1.
        configuration: what to serve; its files are read by the worker.
        directory: of certificates, which are there.
        listeners: the descriptors of every worker's socket; none: only look for mistakes.
        trouble: why there are none.
        patient: accept connections only when every service was asked once what it serves, or has had the time.
    """

    number: int
    configuration: Configuration
    directory: Path
    listeners: tuple[int, ...]
    trouble: tuple[Problem, ...] = ()
    patient: bool = False

    def packed(self) -> bytes:
        """For `unpacked` in a process of the same version."""
        return pickle.dumps(self)

    @staticmethod
    def unpacked(data: bytes) -> Job:
        """What `packed` made."""
        job = pickle.loads(data)  # noqa: S301  from the process that started this one, over a socket nobody else has
        assert isinstance(job, Job)
        return job
