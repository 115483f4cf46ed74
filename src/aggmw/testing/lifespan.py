"""The lifespan of an ASGI application under test."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

from aggmw.asgi.types import ASGIApp, Message
from aggmw.testing._exchange import AppTask

__all__ = ["Lifespan", "LifespanFailed"]


class LifespanFailed(Exception):
    """The application answered `startup.failed` or `shutdown.failed`, or left without an answer."""


class Lifespan:
    """`async with Lifespan(app, state):` starts the application up, and shuts it down at the end.

    Args:
        app: the application.
        state: the scope's `state`: what the application puts in is there for whoever made it.
        limit: seconds of real time that each phase may take; None for no limit.

    Raises:
        LifespanFailed: a phase failed. An exception that leaves the application is raised as it is.
    """

    def __init__(self, app: ASGIApp, state: dict[str, Any], *, limit: float | None) -> None:
        self._app = app
        self._state = state
        self._task = AppTask(limit=limit)
        self._inbound: deque[Message] = deque()
        self._answers: dict[str, Message] = {}

    async def __aenter__(self) -> dict[str, Any]:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._task.start(self._app(scope, self._receive, self._send))
        await self._phase("startup")
        return self._state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._phase("shutdown")
        await self._task.end()
        self._task.check(raise_app_exceptions=True)

    async def _phase(self, phase: str) -> None:
        self._inbound.append({"type": f"lifespan.{phase}"})
        self._task.changed.notify()
        try:
            await self._task.changed.until(
                lambda: phase in self._answers or self._task.ended,
                limit=self._task.limit,
                waiting_for=f"the application's {phase}",
            )
        except AssertionError:
            await self._task.end()
            raise
        answer = self._answers.get(phase)
        if answer is not None and answer["type"].endswith("complete"):
            return
        await self._task.end()
        self._task.check(raise_app_exceptions=True)
        if answer is None:
            raise LifespanFailed(f"the application left before its {phase} was complete")
        raise LifespanFailed(answer.get("message", ""))

    async def _receive(self) -> Message:
        await self._task.changed.until(lambda: self._inbound, limit=None, waiting_for="a lifespan message")
        return self._inbound.popleft()

    async def _send(self, message: Message) -> None:
        self._answers[message["type"].split(".")[1]] = message
        self._task.changed.notify()
