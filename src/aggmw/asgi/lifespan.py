"""Lifespans: open what is ours around the application's own, and answer for one that has none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from aggmw.asgi.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["serve_lifespan"]


async def serve_lifespan(
    app: ASGIApp,
    opened: Callable[[], AbstractAsyncContextManager[object]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Run a `lifespan` scope: `opened()` is entered before the application starts and left after it has stopped.

    An application that raises or returns before it completed its start-up knows no lifespan: it is answered for. One
    that says `startup.failed` is believed.
    """
    phase = "new"

    async with AsyncExitStack() as stack:

        async def receive_inside() -> Message:
            nonlocal phase
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await stack.enter_async_context(opened())
                except Exception as error:
                    phase = "failed"
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
                phase = "starting"
            elif message["type"] == "lifespan.shutdown":
                phase = "stopping"
            return message

        async def send_outside(message: Message) -> None:
            nonlocal phase
            if message["type"] == "lifespan.startup.complete":
                phase = "started"
            elif message["type"] == "lifespan.startup.failed":
                phase = "failed"
                await stack.aclose()
            elif message["type"].startswith("lifespan.shutdown."):
                phase = "stopped"
                await stack.aclose()
            await send(message)

        try:
            await app(scope, receive_inside, send_outside)
        except Exception:
            if phase not in ("new", "starting"):
                raise
        if phase == "new":
            await receive_inside()
        if phase == "starting":
            await send_outside({"type": "lifespan.startup.complete"})
        if phase == "started":
            await receive_inside()
        if phase == "stopping":
            await send_outside({"type": "lifespan.shutdown.complete"})
