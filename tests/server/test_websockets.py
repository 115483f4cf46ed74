"""The door's own WebSockets: what the application sees and may say, and what a client may do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import PATIENCE, Wire, write_pair

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.server.limits import DoorLimits
from aggmw.server.tls import DoorTLS
from aggmw.testing.frames import BINARY, PING, PONG, TEXT, close_frame, frame

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
MASK = b"\x01\x02\x03\x04"


def handshake(*fields: bytes, target: bytes = b"/a%20b?c") -> bytes:
    head = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    return head + b"".join(fields or (KEY, VERSION)) + b"\r\n"


def with_subprotocols(*values: bytes) -> bytes:
    return handshake(KEY, VERSION, *[b"Sec-WebSocket-Protocol: " + value + b"\r\n" for value in values])


def opened(wire: Wire, request: bytes | None = None) -> bytes:
    """The head of the answer."""
    wire.send(handshake() if request is None else request)
    return wire.until(b"\r\n\r\n")


def exactly(wire: Wire, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = wire.read()
        assert piece, f"the connection ended after {data!r}"
        data += piece
    wire.buffer = data[size:] + wire.buffer
    return data[:size]


def accepting(log: Any, *, subprotocol: str | None = None, headers: Any = ()) -> Any:
    """Accepts, echoes, and tells how it ended."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope)
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        log((message["code"], message["reason"]))

    return app


def saying(log: Any, *messages: Any) -> Any:
    """Says all of this, and tells what `send` raised."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            log(str(error))
            raise
        log("said")
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return app


ACCEPT = {"type": "websocket.accept"}


# The handshake


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ((VERSION,), 400, b"needs one Sec-WebSocket-Key"),
        ((b"Sec-WebSocket-Key: x\r\n", VERSION), 400, b"needs one Sec-WebSocket-Key"),
        ((b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZmc=\r\n", VERSION), 400, b"needs one Sec-WebSocket-Key"),
        ((KEY, KEY, VERSION), 400, b"needs one Sec-WebSocket-Key"),
        ((KEY,), 426, b"only version 13"),
        ((KEY, b"Sec-WebSocket-Version: 8\r\n"), 426, b"only version 13"),
        ((KEY, VERSION, VERSION), 426, b"only version 13"),
        ((KEY, VERSION, b"Sec-WebSocket-Protocol: a b\r\n"), 400, b"is not a token"),
        ((KEY, VERSION, b"Sec-WebSocket-Protocol: a,,b\r\n"), 400, b"is not a token"),
        ((KEY, VERSION, b"Sec-WebSocket-Protocol: a, b\r\n", b"Sec-WebSocket-Protocol: a\r\n"), 400, b"offered twice"),
    ],
)
def test_wrong_handshakes(serve: Callable[..., Any], log: Any, fields: Any, status: int, words: bytes) -> None:
    """RFC 6455 §4.2.1: each is refused in words, and what follows it is nobody's."""
    wire = serve(accepting(log)).connect()
    wire.send(handshake(*fields) + b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
    found, headers, body = wire.response()
    assert (found, words in body) == (status, True)
    if status == 426:
        assert (headers[b"sec-websocket-version"], headers[b"upgrade"]) == (b"13", b"websocket")
    assert wire.rest() == b""
    assert log.empty()


def test_accepted(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """The digest, the chosen subprotocol and the application's fields, and no extension."""
    app = accepting(log, subprotocol="b", headers=[(b"X-Own", b"1")])
    wire = serve(app, loop=loop).connect()
    offering = with_subprotocols(b"a, b", b"c")
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    head = opened(wire, offering.replace(VERSION, VERSION + extension))
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: b\r\nx-own: 1\r\n\r\n"
    )
    scope = log.next()
    assert scope["subprotocols"] == ["a", "b", "c"]
    assert (scope["scheme"], scope["path"], scope["raw_path"], scope["query_string"]) == ("ws", "/a b", b"/a%20b", b"c")
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert (scope["client"][0], scope["server"][0]) == ("127.0.0.1", "127.0.0.1")
    assert "method" not in scope


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_client_certificate(
    serve: Callable[..., Any], log: Any, loop_name: str, certificate: Any, authority: KeyPair, tmp_path: Path
) -> None:
    """The verified chain is in the scope of a WebSocket as in any other, and every frame goes through TLS."""
    clients = make_ca("clients")
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[clients.certificate])
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    context.load_cert_chain(*write_pair(tmp_path, issue_client(clients, "alice")))
    wire = serve(accepting(log), loop=loop_name, tls=tls).connect(context)
    opened(wire)
    scope = log.next()
    connection = scope["state"]["aggmw.connection"]
    assert (scope["scheme"], connection.tls, len(connection.chain)) == ("wss", True, 2)
    large = b"x" * 300_000
    wire.send(frame(BINARY, large, mask=MASK))
    expected = frame(BINARY, large)
    assert exactly(wire, len(expected)) == expected
    wire.send(close_frame(1000, "bye", mask=MASK))
    assert wire.rest() == close_frame(1000, "bye")
    assert log.next() == (1000, "bye")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({**ACCEPT, "subprotocol": "b"}, "a subprotocol that the client did not offer"),
        ({**ACCEPT, "headers": [(b"Sec-WebSocket-Protocol", b"a")]}, "is not the application's to say"),
        ({**ACCEPT, "headers": [(b"Sec-WebSocket-Extensions", b"a")]}, "is not the application's to say"),
        ({**ACCEPT, "headers": [(b"Content-Length", b"1")]}, "is not the application's to say"),
        ({**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}, "a header value holds a control character"),
        ({"type": "websocket.send", "text": "x"}, "expected 'websocket.accept', got 'websocket.send'"),
        ({"type": "websocket.http.response.body", "body": b""}, "expected 'http.response.start'"),
    ],
)
def test_what_an_application_may_not_say_first(serve: Callable[..., Any], log: Any, message: Any, words: str) -> None:
    """It learns why, and the client gets a 500."""
    wire = serve(saying(log, message)).connect()
    wire.send(with_subprotocols(b"a"))
    assert wire.response()[0] == 500
    assert words in log.next()
    assert wire.rest() == b""


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([ACCEPT, ACCEPT], "expected 'websocket.send' or 'websocket.close'"),
        ([ACCEPT, {"type": "websocket.close", "code": 1015}], "cannot be closed with the code 1015"),
        ([ACCEPT, {"type": "websocket.close", "code": 1006}], "cannot be closed with the code 1006"),
        ([ACCEPT, {"type": "websocket.close", "reason": "x" * 124}], "longer than 123 bytes"),
    ],
)
def test_what_an_application_may_not_say_later(serve: Callable[..., Any], log: Any, messages: Any, words: str) -> None:
    """It learns why, and the client gets 1011, whatever codes must not be on the wire."""
    wire = serve(saying(log, *messages)).connect()
    opened(wire)
    assert wire.until(b"\x03\xf3") == close_frame(1011)
    assert words in log.next()


@pytest.mark.parametrize("pieces", [[b"no"], [b"n", b"o"], [b"no", b""]])
@pytest.mark.parametrize("length", [True, False])
def test_refused_with_an_answer(serve: Callable[..., Any], log: Any, pieces: Any, length: bool) -> None:
    """`websocket.http.response`: streamed as any answer, and the connection ends with it."""
    headers = [(b"content-length", b"2"), (b"x-own", b"1")] if length else [(b"x-own", b"1")]
    bodies = [
        {"type": "websocket.http.response.body", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    start = {"type": "websocket.http.response.start", "status": 401, "headers": headers}
    wire = serve(saying(log, start, *bodies)).connect()
    head = opened(wire)
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"x-own: 1\r\n" in head
    assert b"connection: close\r\n" in head
    assert b"websocket" not in head
    rest = wire.rest()
    assert (rest == b"no") if length else (rest.endswith(b"0\r\n\r\n") and rest.count(b"\r\n") > 2)
    assert log.next() == "said"


def test_refused_by_a_close(serve: Callable[..., Any], log: Any) -> None:
    """403, as every server does it."""
    wire = serve(saying(log, {"type": "websocket.close", "code": 1008})).connect()
    wire.send(handshake())
    assert wire.response()[0] == 403
    assert wire.rest() == b""


def test_a_refusal_that_breaks_off(serve: Callable[..., Any], log: Any) -> None:
    """Nobody takes it for a whole one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"9")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"half", "more_body": True})

    wire = serve(app).connect()
    assert b"content-length: 9" in opened(wire)
    assert wire.rest() == b"half"


@pytest.mark.parametrize("behind", [b"", b"x" * 100, b"x" * 1_000_000])
def test_cve_2018_1002105_bytes_behind_a_refusal(serve: Callable[..., Any], log: Any, behind: bytes) -> None:
    """C1, CVE-2018-1002105: what a client sends behind a handshake that failed is thrown away, the answer is not."""
    wire = serve(saying(log, {"type": "websocket.close"}), limits=DoorLimits(linger_seconds=0.2)).connect()
    wire.send(handshake())
    with suppress(ConnectionError):
        wire.send(behind)
    assert wire.response()[0] == 403


def test_an_application_that_says_nothing(serve: Callable[..., Any], log: Any) -> None:
    """500, and 1011 once it has accepted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/accept":
            await send(ACCEPT)

    served = serve(app)
    wire = served.connect()
    wire.send(handshake())
    assert wire.response()[0] == 500
    wire = served.connect()
    opened(wire, handshake(target=b"/accept"))
    assert wire.until(b"\x03\xf3") == close_frame(1011)


def test_the_client_leaves_before_it_is_answered(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """`receive` says so, 1006, and what the application still says is nobody's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        log("waiting")
        message = await receive()
        await send({"type": "websocket.close"})
        await send(ACCEPT)
        log((message["type"], message["code"]))

    wire = serve(app, loop=loop).connect()
    wire.send(handshake())
    assert log.next() == "waiting"
    wire.close()
    assert log.next() == ("websocket.disconnect", 1006)


# Its end


@pytest.mark.parametrize("sent", [(1000, "bye"), (None, ""), (4000, "")])
def test_the_client_closes(serve: Callable[..., Any], log: Any, loop: str, sent: Any) -> None:
    """Its close frame is echoed, the application learns code and reason, and this side ends the connection."""
    wire = serve(accepting(log), loop=loop).connect()
    opened(wire)
    log.next()
    wire.send(close_frame(*sent, mask=MASK))
    assert wire.rest() == close_frame(*sent)
    assert log.next() == (sent[0] or 1005, sent[1])


@pytest.mark.parametrize("how", ["closed", "half", "reset"])
def test_the_client_is_gone(serve: Callable[..., Any], log: Any, loop: str, how: str) -> None:
    """Without a close frame that is 1006, not 1005: no code was left out, there was no frame."""
    wire = serve(accepting(log), loop=loop).connect()
    opened(wire)
    log.next()
    if how == "half":
        wire.sock.shutdown(1)
        assert wire.rest() == b""
    else:
        wire.close()
    assert log.next() == (1006, "")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, "unmasked"), 1002),
        (frame(TEXT, b"\xff", mask=MASK), 1007),
        (b"\x82\xff" + (16 * 2**20 + 1).to_bytes(8, "big") + MASK, 1009),
    ],
)
def test_wrong_frames(serve: Callable[..., Any], log: Any, loop: str, data: bytes, code: int) -> None:
    """The client is told by a close frame, also while it goes on sending; for the application it is gone: 1006."""
    wire = serve(accepting(log), loop=loop, limits=DoorLimits(linger_seconds=PATIENCE)).connect()
    opened(wire)
    log.next()
    wire.send(data + frame(BINARY, b"x" * 1_000, mask=MASK) * 100)
    assert wire.until(code.to_bytes(2, "big"))[0] == 0x88
    assert log.next() == (1006, "")


def test_the_application_closes(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """A client that does not answer is not waited for."""
    message = {"type": "websocket.close", "code": 3000, "reason": "done"}
    limits = DoorLimits(linger_seconds=0.1)
    wire = serve(saying(log, ACCEPT, message), loop=loop, limits=limits).connect()
    opened(wire)
    assert wire.rest() == close_frame(3000, "done")


def test_the_application_closes_without_a_code(serve: Callable[..., Any], log: Any) -> None:
    """1005 is the frame that has none."""
    wire = serve(saying(log, ACCEPT, {"type": "websocket.close", "code": 1005})).connect()
    opened(wire)
    wire.send(close_frame(mask=MASK))
    assert wire.rest() == close_frame()


def test_sending_to_a_client_that_is_gone(serve: Callable[..., Any], log: Any) -> None:
    """ASGI 2.4: it raises an OSError, and who lets that out has not failed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            log(type(error).__name__)
        await send({"type": "websocket.close"})
        log("ended")

    wire = serve(app).connect()
    opened(wire)
    wire.close()
    assert [log.next(), log.next()] == ["ClientGone", "ended"]


@pytest.mark.parametrize("accepts", [True, False])
def test_the_server_stops(serve: Callable[..., Any], log: Any, accepts: bool) -> None:
    """An application that does not end it gets a disconnect; the client 1012, or 503 where it was not accepted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accepts:
            await send(ACCEPT)
        log("open")
        log((await receive())["type"])

    served = serve(app, grace=0.6)
    wire = served.connect()
    wire.send(handshake())
    assert log.next() == "open"
    served.server.stop()
    if accepts:
        wire.until(b"\r\n\r\n")
        assert wire.until(b"\x03\xf4") == close_frame(1012)
        wire.close()
    else:
        assert wire.response()[0] == 503
    assert log.next() == "websocket.disconnect"
    served.join()


# What a client may cost


def test_pings(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """They are answered, whatever the application does, and it does not see them."""
    wire = serve(accepting(log), loop=loop).connect()
    opened(wire)
    wire.send(frame(PING, b"1", mask=MASK) + frame(PONG, b"unasked", mask=MASK) + frame(TEXT, "x", mask=MASK))
    assert wire.until(b"x") == frame(PONG, b"1") + frame(TEXT, "x")


def test_pings_of_a_client_that_does_not_read(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """They stop being read: the client's own sending blocks, and its pongs do not fill the memory."""
    wire = serve(accepting(log), loop=loop, limits=DoorLimits(write_seconds=0.3)).connect()
    opened(wire)
    wire.sock.settimeout(1)
    pings = frame(PING, b"x" * 100, mask=MASK) * 1_000
    sent = 0
    with suppress(OSError):  # full, or cut because nothing is taken
        while sent < 200_000_000:
            sent += wire.sock.send(pings)
    assert sent < 50_000_000


@pytest.mark.parametrize("secure", [False, True])
def test_thousands_of_small_messages(
    serve: Callable[..., Any], log: Any, loop: str, secure: bool, certificate: Any, authority: KeyPair
) -> None:
    """All of them arrive, in turns with other connections', and the close frame right behind them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        number = 0
        while (message := await receive())["type"] == "websocket.receive":
            number += 1
        log((number, message["code"]))

    tls = DoorTLS(certificate=certificate[0], key=certificate[1]) if secure else None
    context = ssl.create_default_context(cadata=authority.certificate.decode()) if secure else None
    wire = serve(app, loop=loop, tls=tls).connect(context)
    opened(wire)
    wire.send(frame(BINARY, b"x", mask=MASK) * 5_000 + close_frame(3000, mask=MASK))
    assert wire.rest() == close_frame(3000)
    assert log.next() == (5_000, 3000)


def test_a_client_that_takes_nothing(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """It is cut when it leaves a full buffer untouched for too long; the application learns it from `send`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 100_000})
        except OSError:
            log("gone")

    wire = serve(app, loop=loop, limits=DoorLimits(write_seconds=0.2)).connect()
    wire.send(handshake())
    assert log.next() == "gone"


def test_a_client_that_leaves_unread(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """It is noticed while the application reads nothing: who asked to be told is."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()
        await send(ACCEPT)
        scope["state"]["aggmw.connection"].when_gone(gone.set)
        log("open")
        await gone.wait()
        log("gone")

    wire = serve(app, loop=loop).connect()
    opened(wire)
    assert log.next() == "open"
    wire.send(frame(BINARY, b"x" * 65_000, mask=MASK) * 3)
    wire.close()
    assert log.next() == "gone"


def test_frames_before_it_is_accepted(serve: Callable[..., Any], log: Any, loop: str) -> None:
    """They wait, within bounds."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(asyncio.get_running_loop())
        await go.wait()
        await send(ACCEPT)
        size = 0
        while (message := await receive())["type"] != "websocket.disconnect":
            size += len(message.get("bytes") or b"")
        log(size)

    wire = serve(app, loop=loop).connect()
    wire.send(handshake())
    running = log.next()
    wire.sock.settimeout(0.5)
    data = frame(BINARY, b"x" * 65_000, mask=MASK) * 200
    sent = 0
    with suppress(TimeoutError):
        while sent < len(data):
            sent += wire.sock.send(data[sent:])
    assert sent < len(data)
    running.call_soon_threadsafe(go.set)
    wire.sock.settimeout(PATIENCE)
    wire.sock.sendall(data[sent:] + close_frame(1000, mask=MASK))
    assert log.next() == 200 * 65_000
