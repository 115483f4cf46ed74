"""A policy that is edited on disk is followed by every worker, each by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.server.workers.conftest import Workers, eventually

Begin = Callable[..., Workers]
HEALTH = "p2, user:reader, get, /readyz|/metrics\n"


def revisions(page: str) -> dict[str, float]:
    """How many workers decide by each."""
    found = {}
    for line in page.splitlines():
        if line.startswith("aggmw_authorization_policy_revision_info{"):
            labels, _, value = line.rpartition(" ")
            found[labels.partition('revision="')[2].partition('"')[0]] = float(value)
    return found


def test_every_worker_follows(begin: Begin, directory: Path) -> None:
    """Issue 7: all workers have the new policy soon after it was written, and the same revision; none restarts."""
    (directory / "policy.csv").write_text(HEALTH)
    with (directory / "config.yaml").open("a") as config:
        config.write("authorization: {policy: policy.csv}\n")
    workers = begin(2)
    serving = workers.up(1, 2)
    eventually(lambda: list(revisions(workers.get("/metrics")[1]).values()) == [2])
    (before,) = revisions(workers.get("/metrics")[1])
    began = time.monotonic()
    (directory / "policy.csv").write_text(f"{HEALTH}p2, user:reader, get, /x\n")
    told = [workers.until("reloaded", what="policy") for _ in range(2)]
    took = time.monotonic() - began
    assert {line["worker"] for line in told} == {1, 2}
    (after,) = {line["revision"] for line in told}
    assert after != before
    assert revisions(workers.get("/metrics")[1]) == {after: 2}
    assert workers.children == set(serving.values())
    (directory / "policy.csv").write_text("p2, reader\n")
    for _ in range(2):
        assert workers.until("not reloaded", what="policy")["path"] == "policy.csv:1"
    assert "stale" in workers.get("/readyz?verbose")[1]
    assert revisions(workers.get("/metrics")[1]) == {after: 2}
    assert workers.stop() == 0
    assert took < 20  # 0.3 to 0.5 seconds where nothing else is to do
