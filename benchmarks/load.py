"""wrk: one thread, 64 connections, for some seconds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import INSTALL, program
from benchmarks.site import Missing, Server
from benchmarks.workspace import GROUP, ONE, TOKEN, Workspace

__all__ = ["CONNECTIONS", "Round", "Wrk"]

CONNECTIONS = 64
SPREAD = 100_000
"""How many different objects are asked for when it is not always the same one."""

_SCRIPT = """\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_SPREAD = f"""
function request()
  return wrk.format(nil, "/apis/{GROUP}/v1/namespaces/dev/things/thing-" .. math.random({SPREAD}))
end
"""


class Round(NamedTuple):
    """What one run of wrk saw. Latencies in milliseconds; `errors` counts refused, broken and non-2xx answers."""

    rate: float
    p50: float
    p99: float
    requests: int
    errors: int


class Wrk:
    """Runs wrk on whatever core this process is pinned to.

    Args:
        workspace: where its scripts are kept.

    Raises:
        Missing: it is not installed.
    """

    def __init__(self, workspace: Workspace) -> None:
        path = program("wrk")
        if path is None:
            raise Missing(f"not installed. {INSTALL['wrk']}")
        self._program = path
        self._scripts = {False: workspace.path / "same.lua", True: workspace.path / "spread.lua"}
        for spread, script in self._scripts.items():
            script.write_text(_SCRIPT + _SPREAD * spread)

    def run(self, server: Server, seconds: int, *, spread: bool = False) -> Round:
        """Load one server.

        Args:
            spread: ask for one of `SPREAD` objects each time, instead of always the same.

        Raises:
            Missing: wrk failed; the text is what it said.
        """
        script: Path = self._scripts[spread]
        arguments = [self._program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"-s{script}"]
        arguments += ["-H", f"Authorization: Bearer {TOKEN}", server.url(ONE)]
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds + 30)
        if ran.returncode:
            raise Missing(f"wrk failed: {(ran.stderr or ran.stdout).strip()}")
        found = json.loads(ran.stdout.strip().splitlines()[-1])
        rate = found["requests"] / found["micros"] * 1e6
        return Round(rate, found["p50"] / 1e3, found["p99"] / 1e3, found["requests"], found["errors"])
