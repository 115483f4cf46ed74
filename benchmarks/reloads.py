"""P7: what a reload of a long policy keeps the event loop waiting with, while requests are decided."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.server.serving import settle_memory
from benchmarks.report import Figure, Report, Row, progress
from benchmarks.workspace import GROUP, rules

__all__ = ["reloading"]

_CALLER = Identity("alice", "1042", ("developers", "team-a", "system:authenticated"))
_ASKED = Attributes(_CALLER, "get", True, GROUP, "v1", "things", "", "dev", "one")
_TICK = 0.001
_RELOADS = 3


def reloading(report: Report, number: int) -> None:
    """A table: how late the event loop is, a timer every millisecond says, without a reload and while it goes on.

    Questions that were never asked before are decided meanwhile: one a millisecond, and as many as there is time for.
    In a process of its own, which holds what a server would hold.
    """
    progress(f"  reloading {number:,} rules")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        rows = process.submit(_measured, number).result()
    during = rows[1]
    for name in ("p99", "max"):
        value = during[f"{name}, ms late"]
        report.reached(f"reload lag {name}", Figure(float(value or 0)))
    report.table(
        f"The event loop during a reload of {number:,} rules", rows, under="in one process, on one core or more"
    )


def _measured(number: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "policy.csv"
        path.write_text(rules(number))
        authorizer = CasbinAuthorizer.from_files(path)
        settle_memory()  # as `aggmw serve` does
        return [
            asyncio.run(_watched(authorizer, reloads, busy=busy)) for busy in (False, True) for reloads in (False, True)
        ]


async def _watched(authorizer: CasbinAuthorizer, reloads: bool, *, busy: bool) -> Row:
    late: list[float] = []
    names = count()

    def decide() -> None:
        authorizer.verdict(_ASKED._replace(name=f"thing-{next(names)}"))

    beside = [asyncio.create_task(_tick(late)), asyncio.create_task(_deciding(decide, 0.0 if busy else _TICK))]
    began = time.perf_counter()
    if reloads:
        for _ in range(_RELOADS):
            await authorizer.refresh()
    else:
        await asyncio.sleep(_RELOADS)
    took = time.perf_counter() - began
    for task in beside:
        task.cancel()
    await asyncio.wait(beside)
    late.sort()
    return {
        "decided meanwhile": "all the time" if busy else "one a ms",
        "reload": f"{took / _RELOADS:.2f} s each" if reloads else "none",
        "p50, ms late": late[len(late) // 2] * 1000,
        "p99, ms late": late[len(late) * 99 // 100] * 1000,
        "max, ms late": late[-1] * 1000,
        "decisions/s": next(names) / took,
    }


async def _tick(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK)
        late.append(time.perf_counter() - began - _TICK)


async def _deciding(decide: Callable[[], None], pause: float) -> None:
    while True:
        decide()
        await asyncio.sleep(pause)
