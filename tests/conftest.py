"""What all tests share: every one of them is watched for what it leaves behind; and random ones have two sizes."""

from __future__ import annotations

import pytest

from aggmw.testing.hygiene import Watch

pytest_plugins = ["aggmw.testing.plugin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--whole` is for `make soak`."""
    parser.addoption("--whole", action="store_true", help="run random tests at their full size, which takes a minute")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests recorded as their figures."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "figures" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether random tests are to run at their full size."""
    asked: bool = request.config.getoption("--whole")
    return asked


@pytest.fixture(autouse=True)
def _hygiene(hygiene: Watch) -> None:
    """No test leaves a task, a socket or an unretrieved exception, or blocks the event loop."""
