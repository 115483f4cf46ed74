"""Lifespans of applications in this process: run, contained, and each with its own state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from aggmw.asgi.applications import Applications
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import LocalBackend
from aggmw.errors import UpstreamUnreachable
from aggmw.testing import VirtualClock


def application(log: list[str], name: str) -> Starlette:
    """An application that says when it starts and stops, and leaves its name in its state."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        log.append(f"{name} starts")
        yield {"name": name}
        log.append(f"{name} stops")

    return Starlette(lifespan=lifespan)


def backend(app: ASGIApp, name: str = "v1.x") -> LocalBackend:
    return LocalBackend(name, app)


async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def test_started_and_stopped_with_own_state() -> None:
    """Each application's state is its own; what a request changes in its copy nobody else sees."""
    log: list[str] = []
    one, two = backend(application(log, "one")), backend(application(log, "two"))
    applications = Applications()
    async with applications.running([one, two]):
        assert sorted(log) == ["one starts", "two starts"]
        applications.state_of(one)["name"] = "changed"
        assert applications.state_of(one) == {"name": "one"}
        assert applications.state_of(two) == {"name": "two"}
    assert sorted(log)[1:] == ["one stops", "two starts", "two stops"]
    with pytest.raises(UpstreamUnreachable):
        applications.state_of(one)


async def test_one_application_of_several_services_starts_once() -> None:
    """Two versions of a group may share an application."""
    log: list[str] = []
    app = application(log, "one")
    async with Applications().running([backend(app, "v1.x"), backend(app, "v2.x")]):
        pass
    assert log == ["one starts", "one stops"]


async def test_a_failure_is_nobody_elses() -> None:
    """An application that cannot start is unavailable; the others, and whoever opens them, do not notice."""

    @asynccontextmanager
    async def fails(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("password=hunter2")
        yield

    bad, good = backend(Starlette(lifespan=fails), "v1.bad"), backend(application([], "good"))
    applications = Applications()
    with capture_logs() as logs:
        async with applications.running([bad, good]):
            assert applications.state_of(good) == {"name": "good"}
            with pytest.raises(UpstreamUnreachable, match="did not start"):
                applications.state_of(bad)
    assert [(log["service"], log["log_level"]) for log in logs] == [("v1.bad", "error")]
    assert "hunter2" not in str(logs)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_an_exit_while_starting_is_a_failure(error: BaseException) -> None:
    """`sys.exit` in a start-up does not end the process that it is in."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    applications = Applications()
    async with applications.running([backend(app)]):
        with pytest.raises(UpstreamUnreachable, match="did not start"):
            applications.state_of(backend(app))


async def test_no_lifespan_is_fine() -> None:
    """An application that raises on the lifespan scope, or returns, knows none: it is served."""

    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("what is a lifespan?")

    async def returns(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    applications = Applications()
    async with applications.running([backend(raises), backend(returns)]):
        assert applications.state_of(backend(raises)) == {}
        assert applications.state_of(backend(returns)) == {}


async def test_a_slow_start_holds_nobody_up(clock: VirtualClock) -> None:
    """After the time given the others are served; the slow one when it has started."""
    may_start = asyncio.Event()

    @asynccontextmanager
    async def slow(app: Starlette) -> AsyncIterator[dict[str, str]]:
        await may_start.wait()
        yield {"name": "slow"}

    late = backend(Starlette(lifespan=slow))
    applications = Applications(start_seconds=10)
    following = asyncio.ensure_future(applications.follow([late]))
    await clock.advance(9)
    assert not following.done()
    await clock.advance(2)
    await following
    with pytest.raises(UpstreamUnreachable, match="not started yet"):
        applications.state_of(late)
    may_start.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert applications.state_of(late) == {"name": "slow"}
    await applications.follow(())


async def test_one_that_never_starts_or_stops_is_cancelled(clock: VirtualClock) -> None:
    """Stopping takes at most the time given."""

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()

    applications = Applications(start_seconds=1, stop_seconds=5)
    following = asyncio.ensure_future(applications.follow([backend(hangs), backend(stubborn)]))
    await clock.advance(2)
    await following
    with capture_logs() as logs:
        stopping = asyncio.ensure_future(applications.follow(()))
        await clock.advance(6)
        await stopping
    assert {log["event"] for log in logs} == {"application did not stop in time"}


async def test_follow_starts_the_new_and_stops_the_gone() -> None:
    """What stays is left alone."""
    log: list[str] = []
    one, two, three = (backend(application(log, name)) for name in ("one", "two", "three"))
    applications = Applications()
    await applications.follow([one, two])
    log.clear()
    await applications.follow([two, three])
    assert sorted(log) == ["one stops", "three starts"]
    await applications.follow(())


async def test_contexts_nest() -> None:
    """A front proxy may be opened twice, by a lifespan and by hand: applications stop with the last one."""
    log: list[str] = []
    one = backend(application(log, "one"))
    applications = Applications()
    async with applications.running([one]):
        async with applications.running([one]):
            pass
        assert log == ["one starts"]
    assert log == ["one starts", "one stops"]
