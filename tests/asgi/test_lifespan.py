"""Lifespans: ours around the application's, and an answer for one that has none (architecture rule 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from aggmw.asgi.lifespan import serve_lifespan
from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send

SHUTDOWN_ALLOWED = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


def opened(log: list[str]) -> Callable[[], AbstractAsyncContextManager[None]]:
    """A context that writes down when it is entered and left."""

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        log.append("open")
        try:
            yield
        finally:
            log.append("close")

    return context


async def run(app: ASGIApp, log: list[str]) -> list[str]:
    """What is sent to the server over a whole lifespan, with ours opened into `log`."""
    incoming = iter(SHUTDOWN_ALLOWED)
    sent: list[str] = []

    async def receive() -> Message:
        message = next(incoming)
        log.append(message["type"].removeprefix("lifespan."))
        return message

    async def send(message: Message) -> None:
        sent.append(message["type"].removeprefix("lifespan."))

    await asyncio.wait_for(serve_lifespan(app, opened(log), {"type": "lifespan"}, receive, send), 60)
    return sent


async def test_around_the_applications_own() -> None:
    """Ours opens before the application starts and closes after it has stopped."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        log.append("app start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        log.append("app stop")
        await send({"type": "lifespan.shutdown.complete"})

    assert await run(app, log) == ["startup.complete", "shutdown.complete"]
    assert log == ["startup", "open", "app start", "shutdown", "app stop", "close"]


@pytest.mark.parametrize("receives", [True, False])
@pytest.mark.parametrize("raises", [True, False])
async def test_application_without_lifespan_is_answered_for(receives: bool, raises: bool) -> None:
    """One that raises or returns before startup.complete, having received or not, does not keep ours from running."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if receives:
            await receive()
        if raises:
            raise RuntimeError("no lifespan here")

    assert await run(app, log) == ["startup.complete", "shutdown.complete"]
    assert log == ["startup", "open", "shutdown", "close"]


async def test_failed_start_is_believed() -> None:
    """startup.failed passes on, after ours was closed again."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    assert await run(app, log) == ["startup.failed"]
    assert log == ["startup", "open", "close"]


async def test_our_own_failure_is_startup_failed() -> None:
    """When ours cannot open, the server hears why and the application is not started."""
    sent: list[Message] = []

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise OSError("port taken")
        yield

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        pytest.fail("the application was started")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(OSError, match="port taken"):
        await serve_lifespan(app, broken, {"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "port taken"}]


async def test_state_is_the_servers() -> None:
    """The application's lifespan gets the server's own state, so what it leaves there reaches its requests."""
    state: dict[str, Any] = {}
    incoming = iter(SHUTDOWN_ALLOWED)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["database"] = "open"

    async def receive() -> Message:
        return next(incoming)

    async def send(message: Message) -> None:
        pass

    await serve_lifespan(app, opened([]), {"type": "lifespan", "state": state}, receive, send)
    assert state == {"database": "open"}
