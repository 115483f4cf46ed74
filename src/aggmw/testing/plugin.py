"""Fixtures for pytest: `clock` and `hygiene`. Needs pytest and pytest-asyncio.

In the `conftest.py` beside your tests::

    pytest_plugins = ["aggmw.testing.plugin"]

    @pytest.fixture(autouse=True)
    def _hygiene(hygiene):
        '''Every test is watched.'''

With it, the suites of `aggmw.testing.transports` and `aggmw.testing.wire` say what they compared when they fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from aggmw.testing.clock import VirtualClock
from aggmw.testing.hygiene import Watch

__all__ = ["clock", "hygiene"]

pytest.register_assert_rewrite("aggmw.testing.transports", "aggmw.testing.wire")

_MARKER = 'allows(*waste): what the fixture `hygiene` does not look at: "tasks", "sockets", "errors", "blocking"'


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """The clock of the test's event loop, which only `await clock.advance(seconds)` moves on."""
    clock = VirtualClock()
    yield clock
    clock.restore()


@pytest.fixture
def hygiene(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Fails the test if it leaves a task, a socket or an unretrieved exception, or blocks the event loop.

    `@pytest.mark.allows("sockets")`, or `hygiene.allow("sockets")` inside the test, makes an exception.
    """
    watch = Watch()
    for marker in request.node.iter_markers("allows"):
        watch.allow(*marker.args)
    with watch:
        request.node.stash[_WATCH] = watch
        if request.node.get_closest_marker("asyncio") is not None:
            request.getfixturevalue("_loop_hygiene")
        yield watch
    if request.node.get_closest_marker("asyncio") is None:
        _report(watch)


@pytest_asyncio.fixture
async def _loop_hygiene(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The part of `hygiene` that runs in the test's loop: begun before and ended after the test's other fixtures."""
    watch = request.node.stash[_WATCH]
    watch.begin_loop()
    yield
    await watch.end_loop()
    _report(watch)


def _report(watch: Watch) -> None:
    problem = ""
    try:
        watch.check()
    except AssertionError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)


_WATCH = pytest.StashKey[Watch]()
