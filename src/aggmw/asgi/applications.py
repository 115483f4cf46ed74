"""Applications in this process and their lifespans, each in a task of its own: one's failure is nobody else's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from aggmw.asgi.types import ASGIApp, Message, Scope
from aggmw.contracts.backends import LocalBackend
from aggmw.errors import MisplacedStage, UpstreamUnreachable, fault

__all__ = ["Applications"]

_log = structlog.get_logger("aggmw.applications")

_NEVER_STARTED = "the lifespan of its application is not run"
_STARTING = "its application has not started yet"
_FAILED = "its application did not start"
_STOPPED = "its application was stopped"
_IN_ITSELF = (
    "the application opens the front proxy that starts it. Put FrontProxy around it and leave app= out, or let another"
    " application serve this"
)


class Applications:
    """Runs the lifespan of every application it is told to follow.

    One that fails, or that has not started in time, is unavailable: no other, and nobody's start, waits for it. An
    application that knows no lifespan is started at once.

    Args:
        start_seconds: so long `follow` waits for those that start.
        stop_seconds: so long an application may take to stop before it is cancelled.
    """

    def __init__(self, *, start_seconds: float = 10.0, stop_seconds: float = 5.0) -> None:
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._running: dict[int, _Lifespan] = {}
        self._holders = 0

    def __repr__(self) -> str:
        return f"Applications({', '.join(repr(each) for each in self._running.values())})"

    def state_of(self, backend: LocalBackend) -> dict[str, Any]:
        """What the application's lifespan left for its requests: a copy, as servers give one.

        Raises:
            UpstreamUnreachable: it is not started.
        """
        running = self._running.get(id(backend.app))
        if running is None:
            raise UpstreamUnreachable(_NEVER_STARTED)
        if running.unavailable:
            raise UpstreamUnreachable(running.unavailable)
        return running.state.copy()

    async def follow(self, backends: Iterable[LocalBackend]) -> None:
        """Start who is new, stop who is gone; an application behind several backends is started once.

        Returns when all of them have started or failed, or after `start_seconds`.
        """
        wanted = {id(backend.app): backend for backend in backends}
        gone = [self._running.pop(key) for key in self._running.keys() - wanted.keys()]
        new = {key: _Lifespan(wanted[key]) for key in wanted.keys() - self._running.keys()}
        self._running |= new
        await asyncio.gather(
            _at_most(self._start_seconds, [each.start() for each in new.values()]),
            *(each.stop(self._stop_seconds) for each in gone),
        )

    @asynccontextmanager
    async def running(self, backends: Iterable[LocalBackend]) -> AsyncIterator[None]:
        """Follow these for as long as the context is open; contexts may nest.

        Raises:
            MisplacedStage: one of them opens it, in its own lifespan: neither could stop before the other.
        """
        for each in self._running.values():
            if each.runs_here:
                _log.error("an application in this process opens the front proxy that starts it", service=each.name)
                raise MisplacedStage(f"{each.name}: {_IN_ITSELF}")
        self._holders += 1
        try:
            await self.follow(backends)
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                await self.follow(())


async def _at_most(seconds: float, starts: list[asyncio.Future[None]]) -> None:
    if starts:
        await asyncio.wait(starts, timeout=seconds)


class _Lifespan:
    """The lifespan of one application.

    Attributes:
        name: its service's.
        state: what the application puts there; its requests see a copy.
        unavailable: why it cannot be asked; "" when it can.
    """

    def __init__(self, backend: LocalBackend) -> None:
        self.name = backend.name
        self._app: ASGIApp = backend.app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.state: dict[str, Any] = {}
        self.unavailable = _STARTING

    def __repr__(self) -> str:
        return f"{self.name}: {self.unavailable or 'started'}"

    @property
    def runs_here(self) -> bool:
        """Whether it is the one that is asking."""
        return self._task is not None and self._task is asyncio.current_task()

    def start(self) -> asyncio.Future[None]:
        """Begin; the future is done when it has started or failed."""
        self._messages.put_nowait({"type": "lifespan.startup"})
        # An empty context: nothing that was bound where we are opened leaks into the application's own background work.
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"lifespan of {self.name}", context=contextvars.Context()
        )
        return self._started

    async def stop(self, seconds: float) -> None:
        """Let it shut down, and cancel it when that takes too long."""
        task = self._task
        if task is None:
            return
        self._stopping = True
        if not self.unavailable or not self._started.done():
            self._messages.put_nowait({"type": "lifespan.shutdown"})
        self.unavailable = _STOPPED
        if not task.done():
            done, _ = await asyncio.wait([task], timeout=seconds if self._started.done() else 0)
            if not done:
                _log.warning("application did not stop in time", service=self.name)
                task.cancel()
                await asyncio.wait([task], timeout=1)

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._messages.get, self._send)
        except asyncio.CancelledError:
            self._fail()
            raise
        except BaseException as error:  # noqa: BLE001  also `sys.exit` in a start-up is that application's own end
            if self._started.done() or not isinstance(error, Exception):
                self._fail()
                _log.error("lifespan of an application failed", service=self.name, **fault(error))
            else:
                self._start()  # it knows no lifespan, and the specification says to go on
        else:
            if self.unavailable == _FAILED:
                _log.error("application did not start", service=self.name)
            self._start()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._start()
        elif kind == "lifespan.startup.failed":
            self._fail()
        elif kind == "lifespan.shutdown.failed":
            _log.error("application did not stop well", service=self.name)

    def _start(self) -> None:
        if not self._started.done():
            self._started.set_result(None)
        if self.unavailable == _STARTING:
            self.unavailable = ""

    def _fail(self) -> None:
        if not self._started.done():
            self.unavailable = _FAILED
            self._started.set_result(None)
