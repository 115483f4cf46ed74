"""The page about cancellation and memory: each phase names a test that exists, the bounds are those of the code."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS
from tests.docs.test_explanation import functions
from tests.soak.test_memory import PLAIN, TLS
from tests.soak.whereabouts import PHASES

from aggmw.middleware.proxy import TransportLimits
from aggmw.net.buffers import HIGH_WATER
from aggmw.server.limits import DoorLimits

PAGE = (DOCS / "explanation" / "cancellation.md").read_text(encoding="utf-8")


def test_each_phase_has_a_test() -> None:
    """Each row of the first table names a test, and whatever test is named exists."""
    rows = [row for row in PAGE.partition("## Memory")[0].splitlines() if row.startswith("| ")][1:]
    assert len(rows) > len(PHASES)
    assert [row for row in rows if not row.endswith("` |")] == []
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) == len(rows) + 3
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_bounds() -> None:
    """The figures in the text are the defaults."""
    limits, door = TransportLimits(), DoorLimits()
    assert f"{HIGH_WATER >> 10} KiB" in PAGE
    assert f"{limits.connections:,} (`services.limits.connections`)" in PAGE
    assert f"{limits.waiting:,} a service (`services.limits.waiting`)" in PAGE
    assert f"{door.connections:,} (`DoorLimits.connections`)" in PAGE
    assert f"more than {PLAIN / (1 << 20):g} MiB, or {TLS / (1 << 20):g} MiB under TLS" in PAGE
    assert f"after {door.write_seconds:g} s without a byte taken" in PAGE
    assert f"without a client after {door.head_seconds:g} s" in PAGE
    for seconds in (limits.wait_seconds, limits.dial_seconds):
        assert f"or after {seconds:g} s" in PAGE
