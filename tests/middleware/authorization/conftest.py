"""What all tests of authorization need."""

from __future__ import annotations

import pytest

from aggmw.middleware.authorization import aside


@pytest.fixture(autouse=True)
def _forgets_freezing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test freezes is thawed after it, and no build of another test freezes anything because of it."""
    monkeypatch.setattr(aside, "_freezing", aside._Freezing())
