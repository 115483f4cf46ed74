"""What SIGHUP reads again: one thing after another, functions and coroutine functions, every mistake told."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from aggmw.contracts.reloading import read_again
from aggmw.errors import ConfigurationError, Problem
from aggmw.server.reloading import Reloading


class Log:
    """Takes lines down."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    error = info


async def _later() -> str:
    await asyncio.sleep(0)
    return "abc"


@pytest.mark.parametrize(
    ("reload", "fields"),
    [(lambda: None, {}), (lambda: True, {}), (_later, {"revision": "abc"}), (lambda: "abc", {"revision": "abc"})],
)
async def test_what_is_in_force_is_told(reload: object, fields: dict[str, object]) -> None:
    """Whatever kind of function it is, the log says that it was read, and which revision came of it."""
    log = Log()
    assert await read_again("policy", reload, log)  # type: ignore[arg-type]  # each of them is a Reload
    assert log.lines == [("reloaded", {"what": "policy", **fields})]


async def test_every_mistake_is_told() -> None:
    """A line for each mistake, however many; and other work goes on in between."""

    async def broken() -> None:
        raise ConfigurationError([Problem(f"policy.csv:{number}", "is wrong") for number in range(1000)])

    log, turns = Log(), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(count())
    assert not await read_again("policy", broken, log)
    beside.cancel()
    assert [fields["path"] for _, fields in log.lines] == [f"policy.csv:{number}" for number in range(1000)]
    assert {event for event, _ in log.lines} == {"not reloaded"}
    assert turns > 10


async def test_one_after_another() -> None:
    """In order, never two at once; one that is broken does not keep the others from being read."""
    at_once = 0
    seen: list[str] = []

    async def slow(name: str) -> None:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0)
        at_once -= 1
        seen.append(name)

    def broken() -> None:
        seen.append("broken")
        raise ConfigurationError([Problem("b", "is wrong")])

    reloads = {"a": lambda: slow("a"), "b": broken, "c": lambda: slow("c")}
    reloading = Reloading(reloads)
    with capture_logs() as logs:
        reloading.begin()
        reloading.begin()
        while len(seen) < 3:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen == ["a", "broken", "c"]
    assert [(log["event"], log["what"]) for log in logs] == [
        ("reloaded", "a"),
        ("not reloaded", "b"),
        ("reloaded", "c"),
    ]
    await reloading.end()


async def test_asked_meanwhile() -> None:
    """Who asks while it is being read gets all of it read once more: what they changed may have come too late. The log
    says what they wait for.
    """
    gate, going = asyncio.Event(), asyncio.Event()
    read = 0

    async def waits() -> None:
        nonlocal read
        read += 1
        going.set()
        await gate.wait()

    reloading = Reloading({"policy": waits})
    with capture_logs() as logs:
        reloading.begin()
        await going.wait()
        assert not logs
        for _ in range(5):
            reloading.begin()
        assert [log["what"] for log in logs if log["event"].startswith("still being read")] == ["policy"] * 5
        gate.set()
        while read < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert read == 2
    await reloading.end()


async def test_end() -> None:
    """The server does not wait for what is being read."""
    reloading = Reloading({"policy": asyncio.Event().wait})
    await reloading.end()
    reloading.begin()
    await asyncio.sleep(0)
    await reloading.end()


async def test_fault() -> None:
    """Something that raises what nobody expected keeps nothing else from being read, now or later, nor the end."""
    seen: list[str] = []

    def faulty() -> None:
        raise ZeroDivisionError

    reloading = Reloading({"a": faulty, "b": lambda: seen.append("b")})
    for _ in range(2):
        with capture_logs() as logs:
            reloading.begin()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [(log["event"], log["what"]) for log in logs] == [("not reloaded", "a"), ("reloaded", "b")]
        assert logs[0]["error"] == "ZeroDivisionError"
    assert seen == ["b", "b"]
    await reloading.end()
