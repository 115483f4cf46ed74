"""uvicorn, started, told to stop, and stopped: signals, the drain, and an end within the grace time."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any
from weakref import WeakSet

import structlog
import uvicorn
from uvicorn.config import Config
from uvicorn.server import ServerState

from aggmw.asgi.types import ASGIApp
from aggmw.contracts.drain import Drain
from aggmw.contracts.reloading import Reload
from aggmw.contracts.threads import in_thread
from aggmw.errors import AggmwError
from aggmw.server.door import Door
from aggmw.server.limits import DoorLimits
from aggmw.server.reloading import Reloading
from aggmw.server.sockets import BACKLOG, address_of, bind, bind_path
from aggmw.server.tls import DoorTLS
from aggmw.server.websocket import ServerWebSocket

__all__ = ["Server", "StartFailed", "bind", "make_server", "run", "run_on_loop", "settle_memory"]

_log = structlog.get_logger("aggmw.server")

_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
_RELOAD = getattr(signal, "SIGHUP", None)
_POLL = 0.005  # seconds between looks at what is still running, while stopping
_HANDSHAKE_SECONDS = 10.0
_TLS_GOODBYE_SECONDS = 2.0
_KEEP_ALIVE_SECONDS = 90  # as kube-apiserver
_LEAST = 0.5  # seconds for what comes after the connections, however short the grace
_ARRIVING = 2.0  # seconds that a TLS handshake has after the server no longer listens


class StartFailed(AggmwError):
    """The application's lifespan did not start; why is in the log."""


class _State(ServerState):
    """What connections share: the doors ask `drain` whether they are to close."""

    def __init__(self, drain: Drain) -> None:
        super().__init__()
        self.drain = drain


class Server(uvicorn.Server):
    """One server process.

    The first SIGINT or SIGTERM begins the drain: readiness fails, streams end, connections close with their response.
    When `grace` is nearly over, what is left is cancelled; a further signal does so at once. Then the application's
    lifespan ends. SIGHUP reads the TLS files again.

    Signals are not raised again afterwards, so a process may exit with 0 after a clean stop.

    Args:
        config: uvicorn's.
        drain: begun when the server is told to stop.
        grace: seconds from there to the end.
        tls: reloaded on SIGHUP.
        sockets: listening already; closed when the server ends.
        signals: whether to listen for signals; only possible in the main thread.

    Attributes:
        up: set when the application is started and connections are accepted.
        reloads: what SIGHUP reads again, by name: the certificates of `tls`, and whatever else is put here. Functions,
            coroutine functions too: a `contracts.reloading.Reload` each.
        before_accepting: awaited when the application is started, and before connections are accepted; returns when the
            drain begins.
    """

    def __init__(
        self,
        config: Config,
        *,
        drain: Drain,
        grace: float = 10.0,
        tls: DoorTLS | None = None,
        sockets: Sequence[socket.socket] = (),
        signals: bool = True,
    ) -> None:
        self.up = asyncio.Event()
        self._exit = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(config)
        self.server_state = _State(drain)
        self.drain = drain
        self.grace = grace
        self.reloads: dict[str, Reload] = {} if tls is None else {"certificates": partial(in_thread, tls.reload)}
        self._reloading = Reloading(self.reloads)
        self.before_accepting: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.sockets = tuple(sockets)
        self._signals = signals
        self._stopped_at = 0.0
        self._accepted: WeakSet[Door] = WeakSet()
        self.servers = []

    # Where it listens

    @property
    def address(self) -> str:
        """`host:port` with the port that was really taken, or the path of a Unix socket."""
        return address_of(self.sockets[0]) if self.sockets else ""

    @property
    def port(self) -> int:
        """The port that was really taken; 0 for a Unix socket."""
        name = self.sockets[0].getsockname() if self.sockets else ""
        return int(name[1]) if isinstance(name, tuple) else 0

    # Being told to stop

    @property
    def should_exit(self) -> bool:
        """Whether the server was told to stop. Setting it stops the server, from any thread."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value and self._loop is None:
            self._exit.set()
        elif value:
            self._on_loop(self._exit.set)

    def stop(self) -> None:
        """Begin to stop, or, when that has begun, stop waiting. From any thread, and from a signal handler."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._on_loop(self._stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM came."""
        self.stop()

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            self._begin_drain()
            self.should_exit = True

    def _begin_drain(self) -> None:
        if self._stopped_at == 0.0:
            self._stopped_at = asyncio.get_running_loop().time()
        self.drain.begin()

    def reload(self) -> None:
        """Begin to read everything in `reloads` again, in order; what cannot be used leaves its part as it was."""
        self._reloading.begin()

    def _on_loop(self, call: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed: it is over
            loop.call_soon_threadsafe(call)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Our handlers for the time of serving, then the former ones."""
        if not self._signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP}
        if _RELOAD is not None:
            before[_RELOAD] = signal.signal(_RELOAD, lambda *_: self._on_loop(self.reload))
        try:
            with listening_for_reload():
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Serving

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Raises:
            StartFailed: the application's lifespan did not start.
        """
        self._loop = asyncio.get_running_loop()
        self.sockets = tuple(sockets or self.sockets)
        with self.capture_signals():
            try:
                await self._serve(list(self.sockets))
            finally:
                await self._reloading.end()
                self._loop = None
                for listener in self.sockets:
                    listener.close()

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        if not self.config.loaded:
            self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        if hasattr(self.lifespan, "logger"):
            self.lifespan.logger = _lifespan_log  # uvicorn's would print a trace
        if not await self._started(sockets):
            return
        try:
            await self._accept(sockets)
            await self.on_tick(0)
            await self._exit.wait()
        finally:
            await self.shutdown(sockets)

    async def _started(self, sockets: list[socket.socket] | None) -> bool:
        """Start; False when told to stop before that was done."""
        starting = asyncio.ensure_future(self.startup(sockets))
        told = asyncio.ensure_future(self._exit.wait())
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            if not starting.done():
                starting.cancel()
        if not starting.done():
            return False
        starting.result()
        return True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise StartFailed("the application did not start")

    async def _accept(self, sockets: list[socket.socket] | None = None) -> None:
        if self.before_accepting is not None:
            await self.before_accepting()
        if self._exit.is_set():
            return
        self.servers = [await self.listen(sock) for sock in sockets or self.sockets]
        self.started = True
        self.up.set()

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Accept connections from one more socket, which belongs to the server from now on."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"backlog": BACKLOG}
        if self.config.ssl is not None:
            options |= {
                "ssl": self.config.ssl,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _TLS_GOODBYE_SECONDS,
            }
        return await loop.create_server(self._door, sock=listener, **options)

    def _door(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        door: Door = protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        self._accepted.add(door)
        return door

    # Stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End everything, in the order that loses least: listening, idle connections, streams, the lifespan."""
        self._begin_drain()
        for server in self.servers:
            server.close()
        for connection in self._doors():
            connection.shutdown()
        waits = max(0.0, self.grace - max(_LEAST, self.grace / 10))
        # A WebSocket that its application does not end by itself is ended half-way, with 1012.
        if not await self._over(waits / 2):
            for other in list(self.server_state.connections):
                other.shutdown()
            if not await self._over(waits):
                await self._cancel()
        rest = self.grace - (asyncio.get_running_loop().time() - self._stopped_at)
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), max(_LEAST, rest))
        except TimeoutError:
            _log.warning("the application did not shut down in time")

    def _doors(self) -> list[Door]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Door)]

    async def _over(self, seconds: float) -> bool:
        """Whether all connections and requests ended, `seconds` after the stop began."""
        loop = asyncio.get_running_loop()
        state = self.server_state
        while state.connections or state.tasks or self._arriving:
            if self.force_exit or loop.time() - self._stopped_at >= seconds:
                return False
            await asyncio.sleep(_POLL)
        return True

    @property
    def _arriving(self) -> bool:
        """Whether connections that were accepted are still in their handshake, for as long as that is waited for."""
        if asyncio.get_running_loop().time() - self._stopped_at >= _ARRIVING:
            return False
        return any(door.transport is None for door in self._accepted)

    async def _cancel(self) -> None:
        tasks = list(self.server_state.tasks)
        _log.warning("grace time is over", requests=len(tasks), connections=len(self.server_state.connections))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LEAST / 2)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


class _LifespanLog:
    """What uvicorn's lifespan says, as lines without traces."""

    def info(self, message: str) -> None:
        """Progress: of no interest."""

    def error(self, message: str, *, exc_info: BaseException | None = None) -> None:
        """A failure, or the application's own words for one."""
        if exc_info is None:
            _log.error("lifespan failed", message=message)
            return
        if isinstance(exc_info, asyncio.CancelledError):
            return  # told to stop before it had started
        if logging.getLogger("uvicorn.error").isEnabledFor(logging.DEBUG):
            _log.debug("lifespan failed", exc_info=exc_info)
        words = {"message": str(exc_info)} if isinstance(exc_info, AggmwError) else {}
        _log.error("lifespan failed", error=type(exc_info).__name__, **words)


_lifespan_log = _LifespanLog()


def make_server(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 6443,
    tls: DoorTLS | None = None,
    drain: Drain | None = None,
    grace: float = 10.0,
    uds: str | None = None,
    sockets: Iterable[socket.socket] = (),
    limits: DoorLimits | None = None,
    log_level: str = "warning",
    loop: str | None = None,
    signals: bool = True,
) -> Server:
    """A server that listens already and waits to be run.

    Args:
        app: what it serves; its lifespan must start.
        host: an address or name of this machine.
        port: 0 for a free one: `server.port` tells which.
        tls: None serves plain HTTP.
        drain: what streams and readiness listen to.
        grace: seconds between the signal to stop and the end of the process.
        uds: path of a Unix socket, instead of host and port.
        sockets: listening already, instead of the others.
        limits: what one client may cost.
        log_level: of uvicorn's own loggers; tracebacks of the application are logged only at "debug".
        loop: "uvloop" or "asyncio"; uvloop where it is installed.
        signals: whether SIGINT, SIGTERM and SIGHUP are listened for.

    Raises:
        ConfigurationError: cannot listen there, in one line.
    """
    listening = tuple(sockets) or (bind_path(uds) if uds is not None else bind(host, port),)
    config = Config(
        app,
        host=host,
        port=port,
        http=Door if limits is None else Door.limited(limits),
        ws=ServerWebSocket,  # what the door makes itself; uvicorn would load one of its own
        loop=loop or ("uvloop" if _installed("uvloop") else "asyncio"),
        lifespan="on",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        log_level=log_level,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace)),
        ssl_context_factory=None if tls is None else lambda config, default: tls.context,
    )
    return Server(config, drain=drain or Drain(), grace=grace, tls=tls, sockets=listening, signals=signals)


@contextmanager
def holding_back_reload() -> Generator[None, None, None]:
    """SIGHUP waits until somebody listens for it: who only starts, or is about to end, would die of it."""
    if _RELOAD is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {_RELOAD})
    try:
        yield
    finally:
        if _RELOAD in signal.sigpending() and _RELOAD not in before:
            signal.sigwait({_RELOAD})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def listening_for_reload() -> Generator[None, None, None]:
    """SIGHUP has somebody who listens meanwhile."""
    if _RELOAD is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {_RELOAD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _installed(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def run(server: Server, *, beside: Callable[[], Coroutine[Any, Any, None]] | None = None) -> int:
    """Run a server on an event loop of its own until it is told to stop.

    Args:
        server: from `make_server`.
        beside: runs while the server does, from when the application is started; cancelled when the server stops. When
            it fails, the server stops.

    Returns:
        The exit status: 0 after a stop, 1 when the application did not start.

    Raises:
        Exception: what `beside` raised.
    """
    return run_on_loop(server, _serve(server, beside))


def run_on_loop(server: Server, serving: Coroutine[Any, Any, None]) -> int:
    """Run what serves on an event loop of its own.

    Args:
        server: says which kind of loop.
        serving: awaits `server.serve()`.

    Returns:
        As `run`.
    """
    factory = server.config.get_loop_factory()
    loop = asyncio.new_event_loop() if factory is None else factory()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serving)
    except StartFailed:
        return 1
    finally:
        _finish(loop)
    return 0


async def _serve(server: Server, beside: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    if beside is None:
        await server.serve()
        return
    serving = asyncio.ensure_future(server.serve())
    companion = asyncio.ensure_future(_when_up(server, beside))
    await asyncio.wait({serving, companion}, return_when=asyncio.FIRST_COMPLETED)
    if companion.done() and companion.exception() is not None:
        server.stop()
    try:
        await serving
    finally:
        companion.cancel()
        await asyncio.wait({companion})
    if not companion.cancelled():
        companion.result()


async def _when_up(server: Server, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await server.up.wait()
    await beside()


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """As `asyncio.run` ends, but a task that refuses to be cancelled does not keep the process."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_LEAST))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def settle_memory() -> None:
    """Take what start-up left out of the garbage collector's sight, and let it run less often.

    Full collections over policies and routes take tens of milliseconds and find nothing. Call it when the server is up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
