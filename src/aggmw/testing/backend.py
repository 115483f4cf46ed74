"""A backend that does exactly what the test says, byte for byte, over TCP or TLS.

::

    script = [ReadHead(), Send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhe"), Reset()]
    async with ScriptedBackend(script) as backend:
        ...  # connect to backend.host, backend.port
    assert backend.requests[0].startswith(b"GET /healthz HTTP/1.1\\r\\n")

    async with ScriptedBackend(lambda request: respond(200, body=b"hello")) as backend:
        ...  # every request on every connection is answered
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeAlias

from aggmw.testing._connection import BackendConnection, PeerGone
from aggmw.testing._waiting import DEFAULT_LIMIT, Signal
from aggmw.testing.steps import Script, run_script

__all__ = ["Handler", "ScriptedBackend"]

Reply: TypeAlias = bytes | Script
Handler: TypeAlias = Callable[[bytes], Reply | Awaitable[Reply]]
"""Answers one raw request with raw bytes or with steps; may be a coroutine function."""


class ScriptedBackend:
    """A server on a free loopback port. `async with` listens; leaving it closes everything and waits for it.

    It can be entered again, one time after the other, and then listens on the same port: a backend that restarts.

    Args:
        behaviour: steps that every connection goes through (see `aggmw.testing.steps`), after which it is closed; or a
            function from one raw request to one raw answer, asked for every request on connections that are kept alive
            until either side says `Connection: close`.
        ssl: the TLS context of the server, or None for plain TCP. It gets an `sni_callback` if it has none, for
            `BackendConnection.server_name`.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        limit: seconds of real time for the waiting methods; None for no limit.

    Raises:
        AssertionError: (on leaving) an `Expect` was not met, or a handler or a step of the test's own raised.
    """

    def __init__(
        self,
        behaviour: Script | Handler,
        ssl: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limit: float | None = DEFAULT_LIMIT,
    ) -> None:
        self.host = host
        self.port = port
        self.connections: list[BackendConnection] = []
        """Every connection ever made, in order, the handshake of TLS done."""
        self.handshake_failures: list[Exception] = []
        """Why TLS handshakes failed, seen from here: the peer refused the certificate, or left."""
        self.failures: list[Exception] = []
        """What went wrong in scripts; `check` raises the first."""
        self._scripts: tuple[Script, ...] | None = None if callable(behaviour) else (behaviour,)
        self._handler: Handler | None = behaviour if callable(behaviour) else None
        self._ssl = ssl
        self._limit = limit
        self._changed = Signal()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def per_connection(cls, *scripts: Script, ssl: ssl.SSLContext | None = None) -> ScriptedBackend:
        """A backend whose first connection goes through the first script, and so on; the last one is repeated."""
        backend = cls(scripts[0], ssl)
        backend._scripts = scripts
        return backend

    def __repr__(self) -> str:
        return f"<ScriptedBackend {self.host}:{self.port}, {len(self.connections)} connections>"

    @property
    def requests(self) -> list[bytes]:
        """All bytes received, per connection."""
        return [bytes(connection.received) for connection in self.connections]

    @property
    def url(self) -> str:
        """`http://host:port` or `https://host:port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self._ssl is None else 'https'}://{host}:{self.port}"

    async def __aenter__(self) -> ScriptedBackend:
        if self._ssl is not None and self._ssl.sni_callback is None:
            self._ssl.sni_callback = _remember_server_name
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
        if error is None:
            self.check()

    async def close(self) -> None:
        """Stop listening, end every script, abort every connection, and wait until all is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        for connection in self.connections:
            connection.abort()
            await connection.closed.wait()

    def check(self) -> None:
        """Raise the first thing that went wrong in a script.

        Raises:
            AssertionError: saying which connection.
        """
        if self.failures:
            raise AssertionError(str(self.failures[0])) from self.failures[0]

    async def connected(self, number: int = 1) -> BackendConnection:
        """Wait until so many connections have been made in all; gives the newest of these.

        Raises:
            AssertionError: not within the limit.
        """
        await self._changed.until(
            lambda: len(self.connections) >= number, limit=self._limit, waiting_for=f"connection number {number}"
        )
        return self.connections[number - 1]

    def _protocol(self) -> asyncio.Protocol:
        return BackendConnection(self._accepted, self._ssl, limit=self._limit)

    def _accepted(self, connection: BackendConnection) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection), name="ScriptedBackend: a connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: BackendConnection) -> None:
        try:
            await connection.secure()
        except OSError as error:  # what TLS raises is one
            self.handshake_failures.append(error)
            connection.abort()
            return
        number = len(self.connections)
        self.connections.append(connection)
        self._changed.notify()
        try:
            if self._handler is not None:
                await self._answer(connection, self._handler)
            elif self._scripts:
                await run_script(self._scripts[min(number, len(self._scripts) - 1)], connection)
        except PeerGone:
            pass
        except Exception as error:  # noqa: BLE001 - raised in the test by check()
            error.add_note(f"on connection {number} of {self!r}, which had received {bytes(connection.received)!r}")
            self.failures.append(error)
        connection.close()

    async def _answer(self, connection: BackendConnection, handler: Handler) -> None:
        while True:
            request = await connection.read_request()
            reply = handler(request)
            if inspect.isawaitable(reply):
                reply = await reply
            steps: Sequence[object] = [reply] if isinstance(reply, bytes) else reply
            await run_script(steps, connection)
            head = reply.partition(b"\r\n\r\n")[0] if isinstance(reply, bytes) else b""
            if _says_close(head) or _says_close(request.partition(b"\r\n\r\n")[0]):
                return


def _says_close(head: bytes) -> bool:
    lines = (line.lower().replace(b" ", b"") for line in head.split(b"\r\n")[1:])
    return any(line == b"connection:close" for line in lines)


def _remember_server_name(stream: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    stream.aggmw_server_name = name  # type: ignore[union-attr]  # the server's side keeps the name nowhere else
