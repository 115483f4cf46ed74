"""The single parts that are measured are those that a request goes through: they are made of the project's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from benchmarks import micro
from benchmarks.report import Report


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """Measuring freezes what the collector sees, as a server does."""
    yield
    gc.unfreeze()


def test_every_part_runs() -> None:
    """Each part does its work once and has a line; the parts that are set beside whole servers are among them."""
    report = Report()
    found = micro.measure(report, seconds=0.0)
    servers = {micro.ONE_SERVER, micro.THREE_SERVERS}
    assert {micro.DOOR, micro.PROXY, *servers, micro.RECOVERY, micro.FUSED, *micro.STAGES} <= found.keys()
    assert all(found[part] > 0 for part in (micro.DOOR, micro.PROXY, micro.RECOVERY, micro.FUSED))
    tokens = {"token remembered", "RS256 token cold", "ES256 token cold"}
    casbin = {"allow cold", "deny cold", "remembered", "loading", "strangers", "reload lag p99", "reload lag max"}
    assert {*casbin, "RBAC allow", "RBAC deny", "loading bindings", *tokens} == report.figures.keys()


def test_tokens_alone() -> None:
    """P8 by itself measures what is remembered, and what is new."""
    report = Report()
    micro.tokens(report, seconds=0.0)
    assert report.figures.keys() == {"token remembered", "RS256 token cold", "ES256 token cold"}
