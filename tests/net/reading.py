"""Waiting for files that are read in a thread."""

from __future__ import annotations

import threading
from pathlib import Path


def read_through(path: Path) -> None:
    """Wait for the end of a reading of a token's file that has begun."""
    for thread in threading.enumerate():
        if thread.name == f"token file {path}":
            thread.join(30)
            assert not thread.is_alive()
