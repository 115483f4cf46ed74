"""Messages of a WebSocket both ways, and the one end that both sides get."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import ALICE, Before, backend_of, core, proxied, relayed

from aggmw.asgi.exchanges import Stages
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Credential
from aggmw.contracts.websockets import Close
from aggmw.middleware.proxy import Http1Transport, ProxyMiddleware
from aggmw.middleware.proxy.closing import to_backend, to_client
from aggmw.net.websocket import travels
from aggmw.testing import (
    BackendConnection,
    Client,
    Hold,
    IncompleteResponse,
    Reset,
    ScriptedBackend,
    VirtualClock,
    WebSocketClosed,
)
from aggmw.testing import Close as CloseConnection
from aggmw.testing.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    AcceptWebSocket,
    EndWebSocket,
    ReadFrame,
    close_frame,
    frame,
    read_frame,
)


async def ended(socket: Any) -> tuple[int, str]:
    """How the client's side was closed."""
    with pytest.raises(WebSocketClosed) as closed:
        await socket.receive()
    return closed.value.code, closed.value.reason


async def echo(connection: BackendConnection) -> None:
    """A backend that sends back what it gets, and closes when it is asked to."""
    while (received := await read_frame(connection)).opcode != CLOSE:
        assert received.masked
        await connection.send(frame(received.opcode, received.payload))
    await connection.send(frame(CLOSE, received.payload))
    connection.close()


# Messages


async def test_messages_both_ways(transport: Http1Transport) -> None:
    """Text stays text and bytes stay bytes, empty ones too; a client's frames are masked towards the backend."""
    async with relayed(transport, AcceptWebSocket(), echo) as (_, socket):
        for message in ("héllo", b"\x00\xff", "", b"", "x" * 200_000):
            await socket.send(message)
            assert await socket.receive() == message


async def test_channels_of_kubernetes(transport: Http1Transport) -> None:
    """§11.13: v5.channel.k8s.io: binary frames with the channel in front, closed by the backend with 1000."""
    script = [
        AcceptWebSocket("v5.channel.k8s.io"),
        frame(BINARY, b"\x01hello\n"),
        *[frame(BINARY, b'\x03{"metadata":{},"status":"Success"}'), close_frame(1000)],
        EndWebSocket(answer=False),
    ]
    async with relayed(transport, *script, subprotocols=["v5.channel.k8s.io"]) as (_, socket):
        assert await socket.receive() == b"\x01hello\n"
        assert await socket.receive() == b'\x03{"metadata":{},"status":"Success"}'
        assert await ended(socket) == (1000, "")


async def test_fragments_become_one_message(transport: Http1Transport) -> None:
    """ASGI knows whole messages only."""
    pieces = [frame(TEXT, b"h\xc3", fin=False), frame(PING), frame(CONTINUATION, b"\xa9", fin=False)]
    script = [AcceptWebSocket(), *pieces, frame(CONTINUATION, b"!"), close_frame(1000), EndWebSocket(answer=False)]
    async with relayed(transport, *script) as (_, socket):
        assert await socket.receive() == "hé!"


async def test_pings_are_answered_here(transport: Http1Transport) -> None:
    """Each hop answers its own pings: a backend's is no message, and gets its payload back at once."""
    answers = ReadFrame()
    script = [AcceptWebSocket(), frame(PING, b"are you there"), answers, close_frame(1000), EndWebSocket(answer=False)]
    async with relayed(transport, *script) as (_, socket):
        assert await ended(socket) == (1000, "")
    (pong,) = answers.frames
    assert (pong.opcode, pong.payload, pong.masked) == (PONG, b"are you there", True)


async def test_a_client_that_takes_nothing_stops_the_backend(transport: Http1Transport) -> None:
    """No more is read from the backend than the buffers hold."""
    sent = 0

    async def flood(connection: BackendConnection) -> None:
        nonlocal sent
        for _ in range(1_000):
            await connection.send(frame(BINARY, b"x" * 65_000))
            sent += 1
        await connection.send(close_frame(1000))
        await EndWebSocket(answer=False).run(connection)

    async with relayed(transport, AcceptWebSocket(), flood) as (_, socket):
        before = -1
        while sent != before:
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sent < 300  # most of it in the sockets of the kernel
        for _ in range(1_000):
            assert len(await socket.receive()) == 65_000
        assert await ended(socket) == (1000, "")


async def test_a_backend_that_takes_nothing_stops_the_client(transport: Http1Transport) -> None:
    """No more is asked of the client than the buffers hold, and everything arrives when the backend goes on."""
    go = asyncio.Event()

    async def slow(connection: BackendConnection) -> None:
        await go.wait()
        await EndWebSocket(frames=frames).run(connection)

    frames: list[Any] = []
    async with relayed(transport, AcceptWebSocket(), slow) as (_, socket):
        for _ in range(1_000):
            await socket.send(b"x" * 65_000)
        pending = -1
        while socket.pending != pending:
            pending = socket.pending
            for _ in range(200):
                await asyncio.sleep(0)
        assert pending > 700
        go.set()
        await socket.close(1000)
    assert len(frames) == 1_001


# Its end


CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]


@pytest.mark.parametrize("code", CODES)
async def test_the_client_closes(transport: Http1Transport, code: int) -> None:
    """Its code and reason reach the backend, behind all that it sent."""
    end = EndWebSocket()
    async with relayed(transport, AcceptWebSocket(), end) as (_, socket):
        await socket.send("last")
        await socket.close(code, "why")
    assert [each.payload for each in end.frames[:-1]] == [b"last"]
    assert end.frames[-1].close == (code, "why")


@pytest.mark.parametrize("code", [0, 999, 1004, 1016, 2999, 5000])
async def test_codes_that_no_client_may_send(transport: Http1Transport, code: int) -> None:
    """Whatever a server makes of it, it is never sent on: the backend is told of a protocol error."""
    end = EndWebSocket()
    async with relayed(transport, AcceptWebSocket(), end) as (_, socket):
        await socket.close(code)
    assert end.frames[-1].close[0] == (1002 if code else None)


async def test_the_client_closes_without_a_code(transport: Http1Transport) -> None:
    """1005 is never on the wire: the backend gets a close frame without a code, too."""
    end = EndWebSocket()
    async with relayed(transport, AcceptWebSocket(), end) as (_, socket):
        await socket.close(1005)
    assert end.frames[-1].close == (None, "")


@pytest.mark.parametrize("code", [1006, 1015])
async def test_the_client_is_gone(transport: Http1Transport, code: int) -> None:
    """1006 and 1015 are never on the wire: the backend's connection ends without a close frame, as the client's did."""
    async with relayed(transport, AcceptWebSocket(), Hold()) as (backend, socket):
        await socket.disconnect(code)
        await socket.finished()
        connection = await backend.connected()
        await connection.gone()
    assert bytes(connection.received).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("code", CODES)
async def test_the_backend_closes(transport: Http1Transport, code: int) -> None:
    """Its code and reason reach the client, behind all that it sent, and it gets its echo."""
    end = EndWebSocket(answer=False)
    script = [AcceptWebSocket(), frame(TEXT, "last"), close_frame(code, "why"), end]
    async with relayed(transport, *script) as (_, socket):
        assert await socket.receive() == "last"
        assert await ended(socket) == (code, "why")
    assert end.frames[-1].close == (code, "why")


async def test_the_backend_closes_without_a_code(transport: Http1Transport) -> None:
    """ASGI cannot say so: it is 1000 for the client."""
    async with relayed(transport, AcceptWebSocket(), close_frame(), EndWebSocket(answer=False)) as (_, socket):
        assert await ended(socket) == (1000, "")


@pytest.mark.parametrize("end", [CloseConnection(), Reset()])
async def test_the_backend_ends_the_connection(transport: Http1Transport, end: Any) -> None:
    """Without a close frame it has failed: the client gets 1011, and the log a line."""
    with capture_logs() as logs:
        async with relayed(transport, AcceptWebSocket(), frame(TEXT, "last"), ReadFrame(), end) as (_, socket):
            assert await socket.receive() == "last"
            await socket.send("go")
            assert await ended(socket) == (1011, "the backend ended the connection")
    assert [entry["event"] for entry in logs] == ["backend broke off"]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (frame(TEXT, "x", mask=b"abcd"), "incorrect masking"),
        (frame(TEXT, "x", reserved=4), "reserved bits must be 0"),
        (frame(5), "invalid opcode"),
        (frame(CONTINUATION, "x"), "unexpected continuation frame"),
        (frame(TEXT, b"\xff"), "text that is not UTF-8"),
        (frame(PING, b"x" * 126), "control frame too long"),
        (close_frame(1005), "invalid status code"),
        (close_frame(1006), "invalid status code"),
        (close_frame(1015), "invalid status code"),
        (close_frame(999), "invalid status code"),
        (frame(CLOSE, b"x"), "close frame too short"),
        (b"\x82\x7f" + (16 * 2**20 + 1).to_bytes(8, "big"), "a message that is too large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99, "reserved bits must be 0"),
    ],
)
async def test_a_backend_whose_frames_are_wrong(transport: Http1Transport, data: bytes, cause: str) -> None:
    """The client gets what was whole, then 1011; the backend learns by a close frame what it did; the log says it."""
    end = EndWebSocket(answer=False)
    with capture_logs() as logs:
        async with relayed(transport, AcceptWebSocket(), frame(TEXT, "whole"), data, end) as (_, socket):
            assert await socket.receive() == "whole"
            assert await ended(socket) == (1011, "the backend ended the connection")
    assert end.frames[-1].close[0] in (1002, 1007, 1009)
    assert [(entry["event"], entry["cause"]) for entry in logs] == [("backend broke off", cause)]


async def test_the_largest_message(transport: Http1Transport) -> None:
    """§11.13: 16 MiB pass, both ways."""
    large = b"x" * (16 * 2**20)
    async with relayed(transport, AcceptWebSocket(), echo) as (_, socket):
        await socket.send(large)
        assert await socket.receive() == large


async def test_a_backend_that_does_not_answer_a_close(transport: Http1Transport, clock: VirtualClock) -> None:
    """It is waited for, but not for ever."""
    async with ScriptedBackend([AcceptWebSocket(), Hold()]) as backend:
        socket = await proxied(transport, backend_of(backend)).websocket("/a")
        closing = asyncio.ensure_future(socket.close(1000))
        await backend.connections[0].received_at_least(len(backend.requests[0]) + 8)
        await clock.advance(1)
        assert not closing.done()
        await clock.advance(2)
        await closing
        await backend.connections[0].gone()


@given(st.integers(-1, 70_000), st.text(max_size=200))
def test_no_code_is_sent_that_may_not_travel(code: int, reason: str) -> None:
    """RFC 6455 §7.4: whatever one side says, what the other is told can be put into a close frame."""
    told = to_backend(code, reason)
    assert told is None or travels(told.code) or told == Close(1005)
    assert (told is None) == (code in (1006, 1015))
    for close in (told, to_client(Close(code, reason))):
        if close is not None:
            assert len(close.reason.encode()) <= 123
    assert travels(to_client(Close(code, reason)).code)
    if travels(code):
        assert to_client(Close(code, reason)).code == code
        assert reason.encode().startswith(to_client(Close(code, reason)).reason.encode())


async def test_the_client_closes_while_it_is_sent_to(transport: Http1Transport) -> None:
    """A server whose `send` says first that the client is gone: what it sent last, and its code, still arrive."""
    end = EndWebSocket()
    gone = asyncio.Event()
    last: list[Any] = [
        {"type": "websocket.disconnect", "code": 4001, "reason": "bye"},
        {"type": "websocket.receive", "text": "last"},
    ]
    first: list[Any] = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if first:
            return first.pop()
        await gone.wait()
        await asyncio.sleep(0)
        return last.pop()

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            gone.set()
            raise ConnectionError("the client is gone")

    async with ScriptedBackend([AcceptWebSocket(), frame(TEXT, "hello"), end]) as backend:
        app = Stages(ProxyMiddleware(core, transport=transport), Before(backend_of(backend), ALICE, ""))
        scope = {"type": "websocket", "path": "/a", "raw_path": b"/a", "query_string": b"", "headers": []}
        await app(scope, receive, send)
    assert [each.payload for each in end.frames[:-1]] == [b"last"]
    assert end.frames[-1].close == (4001, "bye")


# Ends from here


async def test_it_stops(transport: Http1Transport) -> None:
    """http-facts §3: both sides get 1001 when the front proxy stops."""
    drain = Drain()
    end = EndWebSocket()
    async with relayed(transport, AcceptWebSocket(), end, drain=drain) as (_, socket):
        drain.begin()
        assert await ended(socket) == (1001, "the front proxy is shutting down")
        await socket.finished()
    assert end.frames[-1].close == (1001, "the front proxy is shutting down")


async def test_it_stops_while_the_client_takes_nothing(transport: Http1Transport, clock: VirtualClock) -> None:
    """A client that does not read is not waited for: the backend gets its 1001, and the rest is the server's affair."""
    drain = Drain()

    async def flood(connection: BackendConnection) -> None:
        await connection.send(frame(BINARY, b"x" * 1_000) * 200)
        await EndWebSocket(frames=frames).run(connection)

    frames: list[Any] = []
    going = asyncio.Event()
    messages: list[Any] = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def stuck(message: Any) -> None:
        if message["type"] != "websocket.accept":
            going.set()
            await asyncio.Event().wait()

    async with ScriptedBackend([AcceptWebSocket(), flood]) as backend:
        proxy = ProxyMiddleware(core, transport=transport, drain=drain)
        app = Stages(proxy, Before(backend_of(backend), ALICE, ""))
        scope = {"type": "websocket", "path": "/a", "raw_path": b"/a", "query_string": b"", "headers": []}
        task = asyncio.ensure_future(app(scope, receive, stuck))
        await going.wait()
        drain.begin()
        for _ in range(10):
            await clock.advance(1)
        await task
    assert [each.close[0] for each in frames if each.opcode == CLOSE] == [1001]


async def test_c5_11_its_time_is_over(transport: Http1Transport, clock: VirtualClock) -> None:
    """C5.11: a WebSocket does not outlive the credential that opened it."""
    async with ScriptedBackend([AcceptWebSocket(), EndWebSocket()]) as backend:
        identity = ALICE.known_by(Credential(expires=time.time() + 30))
        socket = await proxied(transport, backend_of(backend), identity=identity).websocket("/a")
        await clock.advance(28)
        assert transport.taken == 1
        await clock.advance(3)
        assert await ended(socket) == (1008, "the credential has expired")
        await socket.finished()


# A client that leaves while nobody asks


class Leaving:
    """A server that tells of a departure by itself."""

    def __init__(self) -> None:
        self.call: Any = None
        self.connection = Connection(when_gone=self._when_gone)

    def _when_gone(self, call: Any) -> None:
        self.call = call


async def test_the_client_leaves_while_the_backend_takes_nothing(
    transport: Http1Transport, clock: VirtualClock
) -> None:
    """`receive` waits for the backend then, so the server is asked to tell; what was sent has five seconds to go."""
    server = Leaving()
    async with ScriptedBackend([AcceptWebSocket(), _wait_until_gone]) as backend:
        client = proxied(transport, backend_of(backend), connection=server.connection)
        socket = await client.websocket("/a")
        for _ in range(300):
            await socket.send(b"x" * 65_000)
        pending = -1
        while socket.pending != pending:
            pending = socket.pending
            for _ in range(200):
                await asyncio.sleep(0)
        assert pending > 0
        server.call()
        await clock.advance(4)
        assert transport.taken == 1
        await clock.advance(2)
        await socket.finished()
        assert server.call is None


async def _wait_until_gone(connection: BackendConnection) -> None:
    await connection.closed.wait()


# Cancelled


@pytest.mark.parametrize("steps", range(25))
@pytest.mark.parametrize("script", ["echo", "refusal", "silent"])
async def test_cancelled_at_any_step(transport: Http1Transport, script: str, steps: int) -> None:
    """A server that cancels the application at any of its steps leaves no task, no socket and no pool slot."""
    scripts: dict[str, list[Any]] = {
        "echo": [AcceptWebSocket(), frame(TEXT, "hello"), echo],
        "refusal": [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno", Hold()],
        "silent": [Hold()],
    }
    task: asyncio.Task[None] | None = None

    async with ScriptedBackend(scripts[script]) as backend:
        inner = proxied(transport, backend_of(backend))

        async def told(scope: Any, receive: Any, send: Any) -> None:
            nonlocal task
            task = asyncio.current_task()
            await inner._app(scope, receive, send)

        socket = Client(told, raise_app_exceptions=False).websocket("/a")
        opening = asyncio.ensure_future(socket._open())
        for _ in range(steps):
            await asyncio.sleep(0)
        if task is not None:
            task.cancel()
        else:
            opening.cancel()
        try:
            await opening
            await socket.disconnect()
            await socket.finished()
        except (asyncio.CancelledError, IncompleteResponse, AssertionError):
            pass
        assert transport.taken == 0
        for connection in backend.connections:
            await connection.gone()
