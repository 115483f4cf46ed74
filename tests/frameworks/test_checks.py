"""The checks that each framework's tests run: none of the stages is forgotten."""

from __future__ import annotations

from tests.frameworks.alone import CHECKS

from aggmw import FrontProxy


def test_every_stage_has_a_check() -> None:
    """One by its name for each stage of the order, for the one in front of other proxies, and for all together."""
    assert {check.__name__ for check in CHECKS} == {*FrontProxy().order, "forward_auth", "together"}
