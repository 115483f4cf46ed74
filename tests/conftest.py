"""What all tests share: every one of them is watched for what it leaves behind."""

from __future__ import annotations

import pytest

from aggmw.testing.hygiene import Watch

pytest_plugins = ["aggmw.testing.plugin"]


@pytest.fixture(autouse=True)
def _hygiene(hygiene: Watch) -> None:
    """No test leaves a task, a socket or an unretrieved exception, or blocks the event loop."""
