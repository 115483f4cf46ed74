"""How old a connection may become, and that a name is looked up again for the next one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.middleware.proxy.proxying import GET, backend_of, whole

from aggmw.contracts.backends import Backend
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.testing import ReadHead, ScriptedBackend, Send, VirtualClock, Wait, respond

ANSWER = respond(body=b"hello")


async def send_whole(transport: Http1Transport, backend: Backend) -> bytes:
    return await whole(await transport.send(backend, GET))


@pytest.fixture
def aging() -> Http1Transport:
    """100 seconds, and no other reason to close."""
    return Http1Transport(limits=TransportLimits(max_age_seconds=100, idle_seconds=10_000))


async def test_idle_and_too_old(aging: Http1Transport, clock: VirtualClock) -> None:
    """The sweep closes an idle connection past its age, not one before it."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        await send_whole(aging, backend_of(backend))
        await clock.advance(79)
        assert not backend.connections[0].ended
        await clock.advance(22)
        await backend.connections[0].gone()
        assert aging.statistics[0].idle == 0
        await aging.aclose()


async def test_use_makes_nobody_younger(aging: Http1Transport, clock: VirtualClock) -> None:
    """A connection that is always in use is replaced when its time has come."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        for _ in range(30):
            await send_whole(aging, backend_of(backend))
            await clock.advance(10)
        assert 3 <= len(backend.connections) <= 4
        await aging.aclose()


async def test_busy_and_too_old(aging: Http1Transport, clock: VirtualClock) -> None:
    """An exchange is not disturbed; its connection is not given back."""
    more = asyncio.Event()
    script = [ReadHead(), respond(headers={"Content-Length": "6"}, body=b"one"), Wait(more), Send(b"two"), Wait(more)]
    async with ScriptedBackend(script) as backend:
        response = await aging.send(backend_of(backend), replace(GET, long_running=True, timeout=None))
        await clock.advance(500)
        more.set()
        assert await whole(response) == b"onetwo"
        assert (aging.statistics[0].idle, aging.taken) == (0, 0)
        await aging.aclose()


async def test_who_waits_gets_the_place_of_the_old(clock: VirtualClock) -> None:
    """Who waits for the place of a connection that is too old dials in its place."""
    transport = Http1Transport(limits=TransportLimits(connections=1, max_age_seconds=2, wait_seconds=60))
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        first = await transport.send(backend_of(backend), GET)
        waiting = asyncio.create_task(send_whole(transport, backend_of(backend)))
        await clock.advance(3)
        await whole(first)
        assert await waiting == b"hello"
        assert len(backend.connections) == 2
        await transport.aclose()


async def test_ages_differ(aging: Http1Transport, clock: VirtualClock) -> None:
    """Connections that began together do not end together: none before 80 seconds, all by 100, with some in between."""
    async with ScriptedBackend(lambda request: ANSWER) as backend:
        responses = await asyncio.gather(*(aging.send(backend_of(backend), GET) for _ in range(40)))
        for response in responses:
            await whole(response)
        left = []
        await clock.advance(79)
        for _ in range(22):
            left.append(aging.statistics[0].idle)
            await clock.advance(1)
        assert left[0] == 40
        assert aging.statistics[0].idle == 0
        assert len(set(left)) > 4
        await aging.aclose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections": 0},
        {"waiting": -1},
        {"dial_seconds": 0},
        {"silence_seconds": 0},
        {"idle_seconds": -1},
        {"max_age_seconds": float("nan")},
    ],
)
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    """A limit under which nothing would go is a mistake, told by name when it is made."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"^{name} must be at least [0-9.]+, not {value!r}$"):
        TransportLimits(**wrong)


# Names


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Names, and the address that each has at the moment."""
    known: dict[str, str] = {}

    async def getaddrinfo(loop: Any, host: str, port: int, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


async def test_a_name_is_looked_up_for_each_connection(names: dict[str, str], transport: Http1Transport) -> None:
    """A changed answer is used for the next connection."""
    async with ScriptedBackend(lambda request: respond(headers={"Connection": "close"}, body=b"old")) as old:
        named = Backend("v1.x", "moves.example", old.port, tls=False)
        names["moves.example"] = old.host
        assert await send_whole(transport, named) == b"old"
        async with ScriptedBackend(lambda request: respond(body=b"new"), host="127.0.0.2", port=old.port) as new:
            names["moves.example"] = new.host
            assert await send_whole(transport, named) == b"new"


async def test_an_old_address_is_left(names: dict[str, str], aging: Http1Transport, clock: VirtualClock) -> None:
    """However busy a connection is kept, the old address gets nothing more once the maximum age has passed."""
    async with (
        ScriptedBackend(lambda request: respond(body=b"old")) as old,
        ScriptedBackend(lambda request: respond(body=b"new"), host="127.0.0.2", port=old.port) as new,
    ):
        named = Backend("v1.x", "moves.example", old.port, tls=False)
        names["moves.example"] = old.host
        assert await send_whole(aging, named) == b"old"
        names["moves.example"] = new.host
        answers = []
        for _ in range(13):  # the last one after 108 seconds, when also the oldest that may be is too old
            answers.append(await send_whole(aging, named))
            await clock.advance(9)
        assert answers[0] == b"old"
        assert answers == sorted(answers, reverse=True)
        assert answers[-1] == b"new"
        await old.connections[0].gone()
        await aging.aclose()
