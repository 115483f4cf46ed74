"""Ports for servers that have to be told theirs before they start.

Who asks the system for a free one and lets go of it again may find it taken a moment later: the system gives it to
whoever asks next. These are below those that systems give out, each is handed out once, and the processes of one test
run have different ones.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

__all__ = ["free_port"]

_SHARES = 50  # of processes that test at once
_RANGES = {4: range(2000, 10000), 5: range(10000, 32000)}


def free_port(digits: int = 5) -> int:
    """One that nobody listens on, and that nobody is given again.

    Args:
        digits: of the number; what is printed in columns may need as many as are written elsewhere.
    """
    for port in _CANDIDATES[digits]:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no port of {digits} digits is left")


def _share(ports: range) -> Iterator[int]:
    """The ports of this process, from anywhere among them, so that a second run beside this one begins elsewhere."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    share = ports[int(worker or random.randrange(_SHARES)) % _SHARES :: _SHARES]
    begin = random.randrange(len(share))
    yield from (*share[begin:], *share[:begin])


_CANDIDATES = {digits: _share(ports) for digits, ports in _RANGES.items()}
