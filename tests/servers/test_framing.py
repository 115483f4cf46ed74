"""Requests that two readers could read differently, under each server: what comes of them is in a table.

Under our door at most one request of a connection's bytes reaches the service, in our own framing; anything else is
refused. Under the others the table says what differs, so that a change is noticed.
"""

from __future__ import annotations

import pytest
from tests.servers.corpus import GROUPS
from tests.servers.expected import DIFFERENCES
from tests.servers.harness import faults, outcome, seen, talk
from tests.servers.processes import SERVERS

from aggmw.testing import ScriptedBackend, respond

BARRIER = b"GET /things/barrier HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def expected(server: str, group: str) -> dict[str, str]:
    return {name: DIFFERENCES.get(name, {}).get(server, case.outcome) for name, case in GROUPS[group].items()}


async def found(port: int, things: int, group: str, right: dict[str, str], *, split: bool = False) -> dict[str, str]:
    """What comes of the cases of a group that something is expected of."""
    requests: list[bytes] = []

    def remember(raw: bytes) -> bytes:
        requests.append(raw)
        return respond(body=b"ok")

    outcomes = {}
    async with ScriptedBackend(remember, port=things):
        for name in right:
            case = GROUPS[group][name]
            packets = [case.raw[at : at + 1] for at in range(len(case.raw))] if split else [case.raw]
            stays = right[name] if right[name].endswith(("open", "HTTP/2")) else None
            received, ended = await talk(port, *packets, stays=stays)
            await talk(port, BARRIER)  # answered behind whatever an application still did that nobody waits for
            assert requests.pop().startswith(b"GET /things/barrier ")
            assert faults(requests) == []
            outcomes[name] = outcome(case, seen(received, ended=ended), requests)
            requests.clear()
    return outcomes


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("server", SERVERS)
async def test_corpus(port: int, things: int, server: str, group: str) -> None:
    """C5 6–8: refused, or forwarded in our own framing."""
    right = expected(server, group)
    assert await found(port, things, group, right) == right


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("server", ["door"])
async def test_corpus_byte_by_byte(port: int, things: int, server: str, group: str) -> None:
    """Our door reads the same however the bytes are cut."""
    right = {name: text for name, text in expected(server, group).items() if len(GROUPS[group][name].raw) < 2_000}
    assert await found(port, things, group, right, split=True) == right


def test_the_table_is_about_cases_that_there_are() -> None:
    """Nothing in the table is left over, or says what holds anyway."""
    cases = {name: case for group in GROUPS.values() for name, case in group.items()}
    assert sum(map(len, GROUPS.values())) == len(cases)
    assert set(DIFFERENCES) <= set(cases)
    for name, outcomes in DIFFERENCES.items():
        assert set(outcomes) <= set(SERVERS) - {"door"}
        assert cases[name].outcome not in outcomes.values()


def test_the_door_forwards_one_request_or_none() -> None:
    """The rule itself: no case has two answers, and nothing is forwarded that is not answered."""
    assert {case.outcome for group in GROUPS.values() for case in group.values()} == {"200", "400", "405", "431"}
