"""Slow peers grow nothing: what an exchange needs does not depend on the size of its body, nor on what came before.

`python -m tests.soak.memory` measures the same at full size; the page about cancellation and memory has its figures.
"""

from __future__ import annotations

import pytest
from tests.soak.memory import measure
from tests.soak.site import Certificates

EXCHANGES = 20
BODY = 32 << 20
PLAIN = 1.25 * (1 << 20)
TLS = 3.5 * (1 << 20)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For both sides."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.mark.allows("sockets")  # the kernel takes a moment to let go of what was reset
@pytest.mark.parametrize("kind", ["download", "upload", "queue"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_bounded(loop: str, tls: bool, kind: str, certificates: Certificates) -> None:
    """Of bodies of 32 MiB, a front proxy whose peers do not read holds little more than a MiB each, under TLS
    three and a half; and when all have left and come again, no more than before.
    """
    found = await measure(loop, kind, certificates if tls else None, exchanges=EXCHANGES, size=BODY, rounds=2)
    assert found.growth / EXCHANGES < (TLS if tls else PLAIN)
    assert found.again < found.growth * 1.3 + (4 << 20)
