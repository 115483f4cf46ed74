"""`Expect: 100-continue` from a client to a backend: the door answers it, the backend never hears of it, and what the
backend says early arrives early."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.backends import Backend
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware, TransportLimits
from aggmw.testing import ReceivedRequest, respond

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
INFO = RequestInfo(
    is_resource=True, verb="create", method="POST", path="/a", target=b"/a", long_running=False, timeout=60.0
)


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    """Listens; the test is the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def forwarding(listener: socket.socket, **limits: Any) -> ASGIApp:
    """Everything to this backend. Its connections are closed with the lifespan."""
    return ProxyMiddleware(
        nothing,
        transport=Http1Transport(limits=TransportLimits(**limits)),
        backend=Backend("v1.x", "127.0.0.1", listener.getsockname()[1], tls=False),
        request_info=lambda exchange: INFO,
        anonymous=True,
    )


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("there is a backend for everything")


def accept(listener: socket.socket) -> socket.socket:
    accepted, _ = listener.accept()
    accepted.settimeout(PATIENCE)
    return accepted


def until(accepted: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = accepted.recv(65_536)
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


@pytest.mark.parametrize(
    ("framing", "parts"),
    [
        (b"Content-Length: 10\r\n\r\n", (b"hello", b"world")),
        (b"Transfer-Encoding: chunked\r\n\r\n", (b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n")),
    ],
)
def test_the_backend_never_hears_of_it(
    serve: Callable[..., Any], backend: socket.socket, loop: str, framing: bytes, parts: tuple[bytes, ...]
) -> None:
    """The client is told to go on as soon as the proxy wants the body; the backend gets it without any expectation."""
    wire = serve(forwarding(backend), loop=loop).connect()
    wire.send(POST + framing)
    assert wire.until(b"\r\n\r\n") == CONTINUE
    for part in parts:
        wire.send(part)
    with accept(backend) as accepted:
        received = until(accepted, b"world")
        # Both parts may have come together; then they are sent on as one, of a known length.
        if b"chunked" in received and not received.endswith(b"0\r\n\r\n"):
            received += until(accepted, b"0\r\n\r\n")
        request = ReceivedRequest.of(received)
        assert request.header("expect") is None
        assert request.body == b"helloworld"
        accepted.sendall(respond(body=b"thanks"))
        status, _, body = wire.response()
        assert (status, body) == (200, b"thanks")


@pytest.mark.parametrize("status", [401, 413, 417, 201])
@pytest.mark.parametrize("end", ["stay", "close", "reset"])
def test_an_early_answer(serve: Callable[..., Any], backend: socket.socket, loop: str, status: int, end: str) -> None:
    """What the backend says before it has the body is the client's answer, with the word that the connection ends: the
    rest of the body is nobody's. A backend that breaks off behind its answer is as good as any."""
    wire = serve(forwarding(backend), loop=loop).connect()
    wire.send(POST + b"Content-Length: 10000000\r\n\r\n")
    assert wire.until(b"\r\n\r\n") == CONTINUE
    wire.send(b"x" * 1000)
    with accept(backend) as accepted:
        until(accepted, b"x")
        accepted.sendall(respond(status, body=b"enough"))
        if end != "stay":
            if end == "reset":
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            accepted.close()
        found, headers, body = wire.response()
        assert (found, body) == (status, b"enough")
        assert headers[b"connection"] == b"close"
        if end == "stay":
            while accepted.recv(65_536):  # the upload was broken off: nobody may take it for whole
                pass


def test_hints_of_the_backend_are_its_own(serve: Callable[..., Any], backend: socket.socket, loop: str) -> None:
    """A backend that says 100 though nobody asked: the client, who has its own, hears nothing of it."""
    wire = serve(forwarding(backend), loop=loop).connect()
    wire.send(POST + b"Content-Length: 5\r\n\r\n")
    assert wire.until(b"\r\n\r\n") == CONTINUE
    wire.send(b"hello")
    with accept(backend) as accepted:
        until(accepted, b"hello")
        accepted.sendall(CONTINUE + CONTINUE + respond(body=b"thanks"))
        status, _, body = wire.response()
        assert (status, body) == (200, b"thanks")


def test_who_gets_no_turn_sends_no_more(serve: Callable[..., Any], backend: socket.socket, loop: str) -> None:
    """A full queue is told in the middle of the body: 503, to be tried again, and the connection ends."""
    served = serve(forwarding(backend, connections=1, waiting=0), loop=loop)
    first, second = served.connect(), served.connect()
    first.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    with accept(backend) as accepted:
        until(accepted, b"\r\n\r\n")
        second.send(POST + b"Content-Length: 10000000\r\n\r\n")
        assert second.until(b"\r\n\r\n") == CONTINUE
        second.send(b"x" * 1000)
        status, headers, body = second.response()
        assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
        assert b"too many requests wait for it" in body
        accepted.sendall(respond(body=b"well"))
        assert first.response()[2] == b"well"
