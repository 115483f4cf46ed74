"""The single parts that are measured are those that a request goes through: they are made of the project's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from benchmarks import micro
from benchmarks.report import Report

TOKENS = {"token remembered", "RS256 token cold", "ES256 token cold"}
CASBIN = {"allow cold", "deny cold", "remembered", "loading", "strangers", "reload lag p99", "reload lag max"}
POLICIES = {*CASBIN, "RBAC allow", "RBAC deny", "loading bindings"}


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
    assert report.figures.keys() == POLICIES | TOKENS


def test_tokens_alone() -> None:
    """P8 by itself measures what is remembered, and what is new."""
    report = Report()
    micro.tokens(report, seconds=0.0)
    assert report.figures.keys() == TOKENS


def test_policies_alone() -> None:
    """P7 by itself: decisions, loading, a reload, and strangers."""
    report = Report()
    micro.policies(report, seconds=0.0)
    assert report.figures.keys() == POLICIES
