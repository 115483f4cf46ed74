"""Which request heads come in, and how the others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits

GOOD = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the scope says."""
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
    }
    body = json.dumps(seen).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def refusal(wire: Any) -> tuple[int, str]:
    """The status and message of a refusal, after which the connection is over."""
    status, headers, body = wire.response()
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/json"
    assert wire.rest() == b""
    told = json.loads(body)
    assert (told["kind"], told["code"]) == ("Status", status)
    return status, told["message"]


@pytest.mark.parametrize("split", [False, True])
def test_good(serve: Callable[..., Any], loop: str, split: bool) -> None:
    """A plain request comes in as it was sent, in one packet or byte by byte, again and again on one connection."""
    wire = serve(echo, loop=loop).connect()
    for _ in range(2):
        wire.send(b"GET /a%20b?c=%2F HTTP/1.1\r\nHost: x\r\nX-Y:  z \t\r\n\r\n", split=split)
        status, _, body = wire.response()
        assert status == 200
        assert json.loads(body) == {
            "method": "GET",
            "path": "/a b",
            "raw_path": "/a%20b",
            "query": "c=%2F",
            "headers": [["host", "x"], ["x-y", "z"]],
        }


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x/health?\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"M-SEARCH /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://other/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET other:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a?\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX\x00: z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\x00z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\x01z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\x7fz\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n: z\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_refused(serve: Callable[..., Any], head: bytes, split: bool) -> None:
    """C2, C5 6–8: what parsers read differently is 400 before anything is derived from it."""
    wire = serve(echo).connect()
    try:
        wire.send(head, split=split)
    except (BrokenPipeError, ConnectionResetError):
        assert split  # refused before the last byte
    assert refusal(wire)[0] == 400


@pytest.mark.parametrize("line", [b"CONNECT x:443", b"TRACE /a"])
def test_methods_not_allowed(serve: Callable[..., Any], line: bytes) -> None:
    """C5 7: CONNECT and TRACE are 405."""
    wire = serve(echo).connect()
    wire.send(line + b" HTTP/1.1\r\nHost: x:443\r\n\r\n")
    assert refusal(wire)[0] == 405


def test_old_clients_need_no_host(serve: Callable[..., Any]) -> None:
    """HTTP/1.0 knows no Host header."""
    wire = serve(echo).connect()
    wire.send(b"GET /a HTTP/1.0\r\n\r\n")
    assert wire.response()[0] == 200
    assert wire.rest() == b""


LIMITS = DoorLimits(head_bytes=1_000, head_fields=10, head_seconds=PATIENCE, linger_seconds=PATIENCE)
HASTY = DoorLimits(head_seconds=0.2, linger_seconds=0.2)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000 + b"\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2_000,
        b"GET /" + b"a" * 1_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 2_000,
        b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10 + b"\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X:\r\n" * 10 + b"\r\n",
    ],
)
def test_too_large(serve: Callable[..., Any], head: bytes, split: bool) -> None:
    """http-facts §2: a head over the limit in bytes or fields, target included, is 431."""
    wire = serve(echo, limits=LIMITS).connect()
    wire.send(head, split=split)
    assert refusal(wire)[0] == 431


@pytest.mark.parametrize("split", [False, True])
def test_just_fits(serve: Callable[..., Any], split: bool) -> None:
    """A head of exactly the allowed fields comes in, and a body does not count."""
    wire = serve(echo, limits=LIMITS).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n" + b"X: y\r\n" * 8 + b"\r\n", split=split)
    wire.send(b"b" * 2_000)
    assert wire.response()[0] == 200


def test_default_limits(serve: Callable[..., Any]) -> None:
    """The documented limits are those of a door that nobody configured."""
    limits = DoorLimits()
    assert (limits.head_bytes, limits.head_fields, limits.head_seconds) == (65_536, 200, 10.0)
    served = serve(echo)
    wire = served.connect()
    wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 60_000 + b"\r\n\r\n")
    assert wire.response()[0] == 200
    wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 66_000)
    assert refusal(wire)[0] == 431


def test_limits_must_be_positive() -> None:
    """A limit of nothing would be no limit or no service."""
    with pytest.raises(ValueError, match="head_bytes must be positive"):
        DoorLimits(head_bytes=0)


def test_slow_head(serve: Callable[..., Any], loop: str) -> None:
    """C5 15: a head that is not complete in time is 408, however diligently it trickles."""
    wire = serve(echo, loop=loop, limits=HASTY).connect()
    wire.send(b"GET /a HTTP/1.1\r\n")
    assert refusal(wire)[0] == 408


def test_silent(serve: Callable[..., Any], loop: str) -> None:
    """C5 15: a connection that sends nothing is closed without a word; line ends are nothing."""
    served = serve(echo, loop=loop, limits=HASTY)
    silent, blank = served.connect(), served.connect()
    blank.send(b"\r\n\r\n")
    assert silent.rest() == b""
    assert blank.rest() == b""


def test_slow_second_head(serve: Callable[..., Any]) -> None:
    """The time for a head counts for each request of a connection, not only for the first."""
    wire = serve(echo, limits=HASTY).connect()
    wire.send(GOOD)
    assert wire.response()[0] == 200
    wire.send(GOOD[:10])
    assert refusal(wire)[0] == 408


def test_many_in_all(serve: Callable[..., Any], loop: str, capfd: Any) -> None:
    """Connections over the limit of the server are closed at once, and the log says so; one that ends makes room."""
    served = serve(echo, loop=loop, limits=DoorLimits(connections=2))
    first, second = served.connect(), served.connect()
    for wire in (first, second):
        wire.send(GOOD)
        assert wire.response()[0] == 200
    assert served.connect().rest() == b""
    assert served.connect().rest() == b""
    first.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert first.response()[0] == 200
    assert first.rest() == b""
    third = served.connect()
    third.send(GOOD)
    assert third.response()[0] == 200
    assert "".join(capfd.readouterr()).count("connections are turned away") == 1


def test_many_from_one_address(serve: Callable[..., Any], loop: str) -> None:
    """C5 15: connections over the limit per address are closed at once; one that ends makes room."""
    served = serve(echo, loop=loop, limits=DoorLimits(connections_per_peer=1))
    first = served.connect()
    first.send(GOOD)
    assert first.response()[0] == 200
    assert served.connect().rest() == b""
    first.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert first.response()[0] == 200
    assert first.rest() == b""
    third = served.connect()
    third.send(GOOD)
    assert third.response()[0] == 200
