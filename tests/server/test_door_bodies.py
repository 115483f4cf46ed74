"""Request bodies: trailers, chunk extensions, pace, and what nobody reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.server.limits import DoorLimits

CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the headers before and after the body was read, and the body."""
    before, same = list(scope["headers"]), scope["headers"]
    body = await read(receive)
    seen = {
        "before": [[name.decode(), value.decode()] for name, value in before],
        "after": [[name.decode(), value.decode()] for name, value in same],
        "body": body.decode(),
    }
    answer = json.dumps(seen).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


async def answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


HEADERS = [["host", "x"], ["transfer-encoding", "chunked"]]


@pytest.mark.parametrize("way", ["one packet", "two packets", "byte by byte"])
@pytest.mark.parametrize(
    "trailer",
    [
        b"X-Remote-User: root",
        b"X-Remote-Group: system:masters",
        b"x_remote_user: root",
        b"Authorization: Bearer t",
        b"Client-Cert: :abc:",
        b"Impersonate-User: root",
        b"Connection: close",
        b"Connection: x-remote-user",
        b"Connection: upgrade\r\nUpgrade: websocket",
        b"Host: y",
        b"Cookie: a=b",
        b"Expect: 100-continue",
        b"Transfer_Encoding: x",
    ],
)
def test_trailers(serve: Callable[..., Any], loop: str, trailer: bytes, way: str) -> None:
    """C5 1, http-facts §1: a trailer, whatever its name, never becomes a header and changes nothing afterwards."""
    wire = serve(echo, loop=loop).connect()
    end = b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"
    for _ in range(2):
        if way == "two packets":
            wire.send(CHUNKED)
            wire.send(end)
        else:
            wire.send(CHUNKED + end, split=way == "byte by byte")
        status, headers, body = wire.response()
        assert status == 200
        assert b"connection" not in headers
        assert json.loads(body) == {"before": HEADERS, "after": HEADERS, "body": "hello"}


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"])
@pytest.mark.parametrize("split", [False, True])
def test_framing_trailers(serve: Callable[..., Any], trailer: bytes, split: bool) -> None:
    """C5 1: a trailer that speaks of framing is 400, and the application never sees the request as complete."""
    wire = serve(echo).connect()
    wire.send(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailer[:-1], split=split)
    wire.send(trailer[-1:] + b"\r\n\r\n")
    status, headers, _ = wire.response()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert wire.rest() == b""


LIMITS = DoorLimits(
    head_bytes=1_000,
    head_fields=10,
    body_seconds=PATIENCE,
    body_bytes=100,
    linger_seconds=PATIENCE,
    surplus_bytes=5_000,
)
HASTY = replace(LIMITS, body_seconds=0.2, linger_seconds=0.2)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "trailers", [b"T: t\r\n" * 11 + b"\r\n", b"T: " + b"t" * 1_100 + b"\r\n\r\n", b"T: " + b"t" * 2_100]
)
def test_trailers_are_bounded(serve: Callable[..., Any], trailers: bytes, split: bool) -> None:
    """Trailers are held to the same bytes and fields as a head."""
    wire = serve(echo, limits=LIMITS).connect()
    wire.send(CHUNKED + b"5\r\nhello\r\n")
    wire.send(b"0\r\n" + trailers, split=split)
    assert wire.response()[0] == 431
    assert wire.rest() == b""


def test_chunk_extensions_are_bounded(serve: Callable[..., Any]) -> None:
    """Chunk extensions that outweigh what they are attached to are refused, one long or many short."""
    served = serve(echo, limits=LIMITS)
    long = served.connect()
    long.send(CHUNKED)
    long.send(b"5;a=" + b"b" * 2_000)
    assert long.response()[0] == 431
    many = served.connect()
    many.send(CHUNKED)
    many.send(b"".join(b"1;a=%s\r\nx\r\n" % (b"b" * 90) for _ in range(20)))
    assert many.response()[0] == 431


def test_small_chunks_are_fine(serve: Callable[..., Any]) -> None:
    """Framing that small chunks need is no padding."""
    wire = serve(echo, limits=LIMITS).connect()
    wire.send(CHUNKED)
    for _ in range(20):
        wire.send(b"1\r\nx\r\n" * 50)
    wire.send(b"0\r\n\r\n")
    assert json.loads(wire.response()[2])["body"] == "x" * 1_000


@pytest.mark.parametrize("split", [False, True])
def test_broken_chunk(serve: Callable[..., Any], log: Any, split: bool) -> None:
    """A body that breaks the framing is 400 while nothing was answered, and a disconnect for the application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            log(message["body"])
        log("disconnect")

    wire = serve(app).connect()
    wire.send(CHUNKED)
    wire.send(b"1\r\nx\r\n")
    assert log.next() == b"x"
    wire.send(b"nonsense\r\n"[:2] if split else b"nonsense\r\n")
    assert log.next() == "disconnect"
    assert wire.response()[0] == 400


def test_broken_chunk_in_a_response(serve: Callable[..., Any], log: Any) -> None:
    """No 400 is written into the middle of a response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        log("disconnect")

    wire = serve(app).connect()
    wire.send(CHUNKED)
    wire.until(b"part\r\n")
    wire.send(b"nonsense\r\n")
    assert log.next() == "disconnect"
    assert wire.rest() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_slow_body(serve: Callable[..., Any], log: Any, loop: str, framing: bytes) -> None:
    """C5 15: a body that brings nothing while the application waits is 408."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log((await receive())["type"])

    wire = serve(app, loop=loop, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    assert wire.response()[0] == 408
    assert log.next() == "http.disconnect"
    assert wire.rest() == b""


def test_trickling_body(serve: Callable[..., Any], log: Any) -> None:
    """C5 15: a body has to come at a minimum rate, so that a byte now and then does not hold a request for ever."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            log(message["body"])
        log(None)

    wire = serve(app, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    sent = 0
    wire.sock.settimeout(0.02)
    while True:
        try:
            wire.buffer += wire.sock.recv(1000)
            break
        except TimeoutError:
            wire.send(b"x")
            sent += 1
    wire.sock.settimeout(PATIENCE)
    assert wire.response()[0] == 408
    assert sent < LIMITS.body_bytes


def test_slow_body_in_a_response(serve: Callable[..., Any], log: Any) -> None:
    """Once the response has begun, a body that does not come ends the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        log((await receive())["type"])

    wire = serve(app, limits=HASTY).connect()
    wire.send(CHUNKED)
    assert b"0\r\n\r\n" not in wire.rest()
    assert log.next() == "http.disconnect"


def test_slow_application(serve: Callable[..., Any]) -> None:
    """Time in which the application does not ask for the body is not the client's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio

        await asyncio.sleep(0.4)
        await answer_at_once(scope, receive, send)

    wire = serve(app, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    assert wire.response()[0] == 200


def test_big_body(serve: Callable[..., Any], loop: str) -> None:
    """A body beyond the buffers arrives whole, at the application's pace."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.body", "body": b"%d" % len(body)})

    wire = serve(app, loop=loop).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
    assert wire.response()[2] == b"3000000"


def test_continue(serve: Callable[..., Any]) -> None:
    """`100 Continue` is sent when the application asks for the body."""
    wire = serve(echo).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"hello")
    assert json.loads(wire.response()[2])["body"] == "hello"


@pytest.mark.parametrize(
    ("version", "expectation", "asked"),
    [
        (b"1.1", b"100-Continue", True),
        (b"1.0", b"100-continue", False),
        (b"1.1", b"unknown", False),
        (b"1.1", b"100-continue;x", False),
    ],
)
def test_expectations(serve: Callable[..., Any], version: bytes, expectation: bytes, asked: bool) -> None:
    """`100 Continue` is for who asks for exactly that, in HTTP/1.1; nobody else gets an answer they do not know."""
    wire = serve(echo).connect()
    head = b"POST /a HTTP/%b\r\nHost: x\r\nExpect: %b\r\nContent-Length: 5\r\n\r\n" % (version, expectation)
    wire.send(head)
    if asked:
        assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"hello")
    status, _, body = wire.response()
    assert (status, json.loads(body)["body"]) == (200, "hello")


def test_body_that_was_not_asked_for(serve: Callable[..., Any]) -> None:
    """Without `100 Continue` nobody knows whether the body follows the answer, so the connection ends with it."""
    wire = serve(answer_at_once, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 60\r\n\r\n")
    status, headers, _ = wire.response()
    assert (status, headers[b"connection"]) == (200, b"close")
    wire.send(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.rest() == b""


@pytest.mark.parametrize(
    "parts",
    [
        [b"x" * 4_000, GET],
        [b"x" * 4_000 + GET],
        [b"x" * 4_000 + GET[:-5], GET[-5:]],
        [b"x" * 1_000, b"x" * 3_000 + CHUNKED + b"5\r\nhello\r\n"],
    ],
    ids=["packets", "one packet", "a part of the head", "a part of the next body"],
)
def test_early_answer(serve: Callable[..., Any], loop: str, parts: list[bytes]) -> None:
    """The rest of a body that the application did not want is read away, and the connection goes on.

    None of it counts as a part of the next head, or as framing of the next body, however they come in packets.
    """
    wire = serve(answer_at_once, loop=loop, limits=LIMITS).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
    assert wire.response()[0] == 200
    for part in parts:
        wire.send(part)
        time.sleep(0.05)  # in a thread of its own: else the packets would join
    assert wire.response()[0] == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 5001", b"Transfer-Encoding: chunked"])
def test_early_answer_to_a_big_body(serve: Callable[..., Any], loop: str, framing: bytes) -> None:
    """Reading away is bounded, and a client whose next request would be lost is told so by the answer."""
    wire = serve(answer_at_once, loop=loop, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    status, headers, _ = wire.response()
    assert (status, headers[b"connection"]) == (200, b"close")
    wire.send(b"x" * 6_000)
    assert wire.rest() == b""


def test_early_answer_to_the_rest_of_a_big_body(serve: Callable[..., Any], loop: str) -> None:
    """What has been read already does not count: the connection goes on behind what is left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer_at_once(scope, receive, send)

    wire = serve(app, loop=loop, limits=LIMITS).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5001\r\n\r\nx")
    status, headers, _ = wire.response()
    assert (status, b"connection" in headers) == (200, False)
    wire.send(b"x" * 5_000 + b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
    assert wire.response()[0] == 200


def send_for_ever(wire: Any) -> None:
    while True:
        wire.send(b"x" * 10_000)


def test_a_client_that_goes_on_sending_sees_its_answer(serve: Callable[..., Any], loop: str) -> None:
    """However much it sends, no reset overtakes the answer: the rest stays unread until the time is over."""
    wire = serve(answer_at_once, loop=loop, limits=HASTY).connect()
    began = time.monotonic()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    with pytest.raises(ConnectionError):
        send_for_ever(wire)
    assert time.monotonic() - began >= HASTY.linger_seconds


def test_early_answer_and_no_body(serve: Callable[..., Any]) -> None:
    """A body that never comes does not hold a connection whose answer is sent."""
    wire = serve(answer_at_once, limits=HASTY).connect()
    wire.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    assert wire.response()[0] == 200
    assert wire.rest() == b""
