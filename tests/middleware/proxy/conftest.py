"""A transport whose connections are closed after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aggmw.middleware.proxy import Http1Transport


@pytest.fixture
async def transport() -> AsyncIterator[Http1Transport]:
    transport = Http1Transport()
    yield transport
    assert transport.taken == 0
    await transport.aclose()
