"""A streaming ASGI client: requests an application exactly as a server would, and hides nothing that happens.

::

    client = Client(app)
    response = await client.request("GET", "/apis")
    assert response.status == 200

    async with client.stream("GET", "/api/v1/pods?watch=1") as response:
        async for chunk in response:
            ...

Nothing is buffered: each chunk the application sends waits until the test has read it, so a test that does not read is
a slow client. Every exchange goes through `aggmw.testing.lint`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aggmw.asgi.types import ASGIApp, Headers
from aggmw.contracts.connection import Connection
from aggmw.testing._exchange import HTTPExchange, IncompleteResponse
from aggmw.testing._scopes import HeaderInput, ScopeMaker
from aggmw.testing._waiting import DEFAULT_LIMIT
from aggmw.testing.lifespan import Lifespan
from aggmw.testing.lint import lint
from aggmw.testing.websocket import WebSocket, WebSocketExchange

__all__ = ["Client", "Response", "StreamedResponse"]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response.

    Args:
        status: the status code.
        headers: the fields in order, names in lower case.
        body: the whole body; empty for HEAD.
        trailers: fields that came after the body.
    """

    status: int
    headers: Headers
    body: bytes = b""
    trailers: Headers = ()

    def header(self, name: bytes | str) -> bytes | None:
        """The value of a field (the first, if there are several), or None."""
        return _header(self.headers, name)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class StreamedResponse:
    """A response whose body is read as it comes: iterate over it, `read()` it, or leave it."""

    __slots__ = ("_exchange", "_raise_app_exceptions", "headers", "status")

    def __init__(self, exchange: HTTPExchange, status: int, headers: Headers, *, raise_app_exceptions: bool) -> None:
        self._exchange = exchange
        self._raise_app_exceptions = raise_app_exceptions
        self.status = status
        self.headers = headers

    def header(self, name: bytes | str) -> bytes | None:
        """The value of a field (the first, if there are several), or None."""
        return _header(self.headers, name)

    @property
    def trailers(self) -> Headers:
        """The fields that came after the body, as far as they have come."""
        return self._exchange.trailers

    @property
    def complete(self) -> bool:
        """Whether the application has sent its last message; what it sent may still wait to be read."""
        return self._exchange.complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk, as the application sent it; never an empty one.

        Raises:
            IncompleteResponse: the application ended without completing the response.
            AssertionError: nothing came within the client's limit.
        """
        try:
            chunk = await self._exchange.next_chunk()
        except IncompleteResponse:
            self._exchange.check(raise_app_exceptions=self._raise_app_exceptions)
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def read(self) -> bytes:
        """The rest of the body. Raises as iterating does."""
        return b"".join([chunk async for chunk in self])

    async def disconnect(self) -> None:
        """The client goes away: the application's `receive` gives `http.disconnect`, what it sends is dropped.

        Returns at once; `finished()` waits for the application.
        """
        self._exchange.disconnect()

    async def finished(self) -> None:
        """Wait until the application has returned.

        Raises:
            AssertionError: it did not within the client's limit; it has been cancelled.
        """
        await self._exchange.end()
        self._exchange.check(raise_app_exceptions=self._raise_app_exceptions)


class Client:
    """A client of one ASGI application, with no socket between.

    The client fills scopes as uvicorn does: `path` is the percent-decoded `raw_path`, both begin with `root_path`,
    header names are in lower case, `state` is copied for every request. It adds what a client sends on the wire unless
    the test gives it: `Host`, and `Content-Length` or `Transfer-Encoding: chunked` for a body.

    Args:
        app: the application.
        root_path: the path the application is mounted under; targets are given without it.
        state: what the lifespan left, copied into each scope's `state`.
        connection: what is put in `state["aggmw.connection"]`.
        extensions: the ASGI extensions that scopes offer; WebSockets always offer `websocket.http.response`.
        http_version: as in the scope; chunked bodies are declared for "1.1" only.
        scheme: "http" or "https"; WebSockets get "ws" or "wss".
        client: address and port of this client; None for unknown.
        server: address and port of the server.
        host: the default Host field; None sends none.
        raise_app_exceptions: whether an exception that leaves the application is raised in the test. Otherwise it is
            what a server makes of it: a 500, or a broken response where one had begun.
        strict_head: whether an application that sends a body in answer to HEAD is an error; it is discarded else.
        limit: seconds of real time that any one wait may take; None for no limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        root_path: str = "",
        state: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
        extensions: Mapping[str, Mapping[str, Any]] | None = None,
        http_version: str = "1.1",
        scheme: str = "http",
        client: tuple[str, int] | None = ("127.0.0.1", 50000),
        server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
        host: bytes | None = b"aggmw.test",
        raise_app_exceptions: bool = True,
        strict_head: bool = False,
        limit: float | None = DEFAULT_LIMIT,
    ) -> None:
        self.state: dict[str, Any] = dict(state or {})
        self._app = lint(app, strict_head=strict_head)
        self._scopes = ScopeMaker(
            root_path, self.state, connection, extensions or {}, http_version, scheme, client, server, host
        )
        self._raise = raise_app_exceptions
        self._limit = limit

    async def request(
        self, method: str, target: str | bytes, headers: HeaderInput = (), body: bytes | AsyncIterable[bytes] = b""
    ) -> Response:
        """One exchange, whole; returns when the application has returned.

        Args:
            method: the method, in upper case.
            target: raw path and query as on the wire; nothing is quoted or normalised.
            headers: fields in order; text is latin-1.
            body: the whole body, or its chunks; each chunk is one `http.request` message.

        Raises:
            IncompleteResponse: the application ended without completing the response.
            AssertionError: a message out of order, or nothing happened within the limit.
        """
        async with self.stream(method, target, headers, body) as response:
            content = await response.read()
            await response.finished()
        return Response(response.status, response.headers, content, response.trailers)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str | bytes,
        headers: HeaderInput = (),
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        """One exchange, as it happens: gives the response as soon as it has started.

        Leaving disconnects and waits for the application to return. See `request` for the arguments.

        Raises:
            IncompleteResponse: the application ended without starting a response.
            AssertionError: a message out of order, or the application did not end after the client was gone.
        """
        exchange = HTTPExchange(body, head=method == "HEAD", limit=self._limit)
        scope = self._scopes.http(method, target, tuple(self._request_fields(method, headers, body)))
        exchange.run(self._app, scope)
        try:
            yield await self._response(exchange)
        except BaseException:
            await exchange.close()
            raise
        await exchange.close()
        exchange.check(raise_app_exceptions=self._raise)

    def websocket(self, target: str | bytes, headers: HeaderInput = (), subprotocols: Iterable[str] = ()) -> WebSocket:
        """Open a WebSocket: `await` it and close it yourself, or use it as `async with`.

        Args:
            target: raw path and query as on the wire.
            headers: fields in order; those of the handshake itself are added.
            subprotocols: the offer, in order of preference.

        Raises:
            AssertionError: a message out of order, or no answer within the limit.
        """
        offer = tuple(subprotocols)
        handshake = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
        handshake.append((b"sec-websocket-key", b"MDEyMzQ1Njc4OWFiY2RlZg=="))
        if offer:
            handshake.append((b"sec-websocket-protocol", ", ".join(offer).encode()))
        given = self._scopes.headers(headers)
        names = {name for name, _ in given}
        given.extend(field for field in handshake if field[0] not in names)
        exchange = WebSocketExchange(limit=self._limit)
        scope = self._scopes.websocket(target, tuple(given), offer)
        return WebSocket(exchange, self._app, scope, raise_app_exceptions=self._raise)

    def lifespan(self) -> Lifespan:
        """`async with client.lifespan():` runs the application's lifespan; its `state` is then in every scope."""
        return Lifespan(self._app, self.state, limit=self._limit)

    def _request_fields(
        self, method: str, headers: HeaderInput, body: bytes | AsyncIterable[bytes] | None
    ) -> list[tuple[bytes, bytes]]:
        given = self._scopes.headers(headers)
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in given):
            return given
        if isinstance(body, bytes):
            if body or method in ("POST", "PUT", "PATCH"):
                given.append((b"content-length", str(len(body)).encode()))
        elif body is not None and self._scopes.http_version == "1.1":
            given.append((b"transfer-encoding", b"chunked"))
        return given

    async def _response(self, exchange: HTTPExchange) -> StreamedResponse:
        start = await exchange.started()
        if start is not None:
            headers = tuple((bytes(name), bytes(value)) for name, value in start.get("headers", ()))
            return StreamedResponse(exchange, start["status"], headers, raise_app_exceptions=self._raise)
        exchange.check(raise_app_exceptions=self._raise)
        if exchange.failure() is None:
            raise IncompleteResponse("the application ended without starting a response")
        exchange.complete = True  # a server answers for an application that raised
        return StreamedResponse(exchange, 500, (), raise_app_exceptions=False)


def _header(headers: Headers, name: bytes | str) -> bytes | None:
    wanted = (name.encode() if isinstance(name, str) else name).lower()
    return next((value for key, value in headers if key == wanted), None)
