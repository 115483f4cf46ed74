"""Connections that have asked nothing yet when the server is told to stop: nobody repeats a request on a new one."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import pytest
from tests.server.conftest import PATIENCE, Served
from tests.server.test_door_pipelining import time_for_reading

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits
from aggmw.server.tls import DoorTLS

GRACE = 10 * PATIENCE
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


def wait_for_drain(served: Served) -> None:
    """Until the server no longer listens."""
    served.server.stop()
    until = time.monotonic() + PATIENCE
    while not served.server.drain.begun or any(server.sockets for server in served.server.servers):
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.parametrize("kind", ["plain", "tls", "handshake"])
def test_answered(
    serve: Callable[..., Served], loop: str, kind: str, door_tls: DoorTLS, trusting: ssl.SSLContext
) -> None:
    """What was connected before, or is in the middle of the handshake, gets the answer to its request, and its end."""
    limits = DoorLimits(linger_seconds=GRACE)
    served = serve(app, loop=loop, tls=None if kind == "plain" else door_tls, grace=GRACE, limits=limits)
    wire = served.connect(trusting if kind == "tls" else None)
    time_for_reading(served)  # accepted
    wait_for_drain(served)
    if kind == "handshake":
        wire.sock = trusting.wrap_socket(wire.sock, server_hostname="localhost")
    wire.send(REQUEST)
    status, headers, body = wire.response()
    assert (status, headers[b"connection"], body) == (200, b"close", b"ok")
    assert wire.rest() == b""
    served.join()


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_silent(
    serve: Callable[..., Served], loop: str, kind: str, door_tls: DoorTLS, trusting: ssl.SSLContext
) -> None:
    """One that asks nothing does not keep the server for long."""
    limits = DoorLimits(linger_seconds=0.2)
    served = serve(app, loop=loop, tls=None if kind == "plain" else door_tls, grace=GRACE, limits=limits)
    wire = served.connect(trusting if kind == "tls" else None)
    time_for_reading(served)
    served.stop()
    assert wire.rest() == b""


def test_handshake_that_never_ends(serve: Callable[..., Served], loop: str, door_tls: DoorTLS) -> None:
    """Nor does one that goes away in the middle of its handshake."""
    served = serve(app, loop=loop, tls=door_tls, grace=GRACE, limits=DoorLimits(linger_seconds=GRACE))
    wire = served.connect()
    time_for_reading(served)
    wait_for_drain(served)
    wire.close()
    served.join()


def test_idle(serve: Callable[..., Served], loop: str) -> None:
    """One that was answered before is closed at once."""
    served = serve(app, loop=loop, grace=GRACE, limits=DoorLimits(linger_seconds=GRACE))
    wire = served.connect()
    wire.send(REQUEST)
    assert wire.response()[0] == 200
    served.stop()
    assert wire.rest() == b""
