"""A transport to fake backends, and a discovery whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from tests.middleware.discovery.fakes import FakeTransport, Running

from aggmw.middleware.discovery import Discovery
from aggmw.testing import VirtualClock


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def running(clock: VirtualClock) -> Callable[[Discovery], AbstractAsyncContextManager[Running]]:
    """Run a discovery's background work until its first answers are published."""

    @asynccontextmanager
    async def running(discovery: Discovery) -> AsyncIterator[Running]:
        async with discovery.running():
            await clock.advance(0.1)
            yield Running(discovery)

    return running
