"""What a front proxy needs of its server, under each of them: what happens is in a table."""

from __future__ import annotations

import pytest
from tests.servers import behaviours
from tests.servers.behaviours import BEHAVIOURS
from tests.servers.expected import OTHER_BEHAVIOURS
from tests.servers.processes import SERVERS


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("server", SERVERS)
async def test_behaviour(port: int, things: int, server: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it should be, or as the table says that this server cannot do better."""
    behave, right = BEHAVIOURS[name]
    expected = OTHER_BEHAVIOURS.get(name, {}).get(server, right)
    if expected == right:
        monkeypatch.setattr(behaviours, "NOTICE_SECONDS", behaviours.SECONDS)
    assert await behave(port, things) == expected


def test_the_door_can_do_everything() -> None:
    """The table has no excuse for our door, and none that nobody needs."""
    assert set(OTHER_BEHAVIOURS) <= set(BEHAVIOURS)
    for name, outcomes in OTHER_BEHAVIOURS.items():
        assert set(outcomes) <= set(SERVERS) - {"door"}
        assert BEHAVIOURS[name][1] not in outcomes.values()
