"""An exchange that is over is gone: it leaves no cycle for the collector, which servers let run seldom.

What an exchange holds (buffers, sockets, contexts of TLS) is much more than what the collector counts.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import structlog
import uvloop

from aggmw import APIService, FrontProxy, PathService
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.net.websocket import accept_of
from aggmw.server.serving import make_server
from aggmw.server.sockets import reset_on_close
from aggmw.testing import respond
from aggmw.testing.frames import TEXT, close_frame, frame

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
THINGS = b"/apis/garbage.example.com/v1/things"
LARGE = bytes(8 << 20)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OPEN = (
    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
HELLO = frame(TEXT, "hello", mask=b"abcd")

SCENES = {
    "answered": GET % (THINGS + b"/a"),
    "refused": GET % b"/apis/garbage.example.com/v1/../x",
    "waiting": GET % (THINGS + b"/silent"),
    "streaming": GET % (THINGS + b"/stream"),
    "uploading": POST % (THINGS + b"/silent", 100) + b"x",
    "upload taken by nobody": POST % (THINGS + b"/deaf", len(LARGE) + 9) + LARGE,
    "upload of a wrong length": b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz"
    % (THINGS + b"/silent"),
    "cut answer": GET % (THINGS + b"/cut"),
    "no answer": POST % (THINGS + b"/gone", 1) + b"x",
    "nonsense": GET % (THINGS + b"/nonsense"),
    "WebSocket": OPEN % (THINGS + b"/socket") + HELLO,
    "WebSocket that the client closes": OPEN % (THINGS + b"/socket") + HELLO + close_frame(1000, mask=b"abcd"),
    "WebSocket that the client breaks": OPEN % (THINGS + b"/socket") + HELLO + frame(TEXT, "not masked"),
    "WebSocket that the backend closes": OPEN % (THINGS + b"/socket-closed"),
    "WebSocket that the backend cuts": OPEN % (THINGS + b"/socket-cut"),
    "WebSocket that the backend breaks": OPEN % (THINGS + b"/socket-broken"),
    "WebSocket that is refused": OPEN % (THINGS + b"/a"),
    "WebSocket that waits for its handshake": OPEN % (THINGS + b"/silent"),
    "WebSocket in this process": OPEN % b"/local/socket" + HELLO,
    "WebSocket in this process, failing": OPEN % b"/local/fails",
    "several servers": GET % b"/several/a",
    "several servers, waiting": GET % b"/several/silent",
    "several servers, cut answer": GET % b"/several/cut",
    "several servers, no answer": GET % b"/several/gone",
    "several servers, uploading": b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    % b"/several/silent",
    "several servers, WebSocket": OPEN % b"/several/socket" + HELLO,
    "in this process": GET % b"/local/a",
    "in this process, waiting": GET % b"/local/silent",
    "in this process, uploading": POST % (b"/local/silent", 100) + b"x",
    "in this process, failing": GET % b"/local/fails",
    "in this process, failing in the middle": GET % b"/local/breaks",
}


async def backend(over: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers in every way, or never."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split()[1].rpartition(b"/")[2]
            if target.startswith(b"socket"):
                await websocket(head, target, reader, writer)
                return
            if target in (b"deaf", b"silent"):
                if target == b"deaf":
                    writer.transport.pause_reading()
                await over.wait()
                return
            if target == b"stream":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            elif target == b"cut":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
                await writer.drain()
                return
            elif target == b"gone":
                return
            elif target == b"nonsense":
                writer.write(b"nonsense\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


async def websocket(head: bytes, target: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and ends in every way, or when it is ended."""
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_of(key).decode())]
    writer.write(respond(101, fields) + frame(TEXT, "hello"))
    if target == b"socket-cut":
        await writer.drain()
        return
    if target == b"socket-broken":
        writer.write(frame(TEXT, b"\xff"))
    elif target == b"socket-closed":
        writer.write(close_frame(1000))
    while (data := await reader.read(9_999)) and b"\x88" not in data:  # a close frame
        pass


async def local(scope: Any, receive: Any, send: Any) -> None:
    """An application in this process."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path.endswith("fails"):
        raise ValueError
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if path.endswith("silent"):
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path.endswith("breaks"):
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        raise ValueError
    await send({"type": "http.response.body", "body": b"hello"})


async def visit(port: int, request: bytes) -> None:
    """Send it, take what comes within a moment, and leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(0.1):
            await reader.read()
    except (TimeoutError, ConnectionError):
        pass
    reset_on_close(writer.transport)
    writer.transport.abort()


@contextmanager
def collecting(found: list[str]) -> Iterator[None]:
    """What only the collector can free of ours and came meanwhile, by class."""
    gc.collect()
    gc.disable()
    # What was there before is none of this: another test's things may be let go of at any moment.
    gc.freeze()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("aggmw.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def scene(request: bytes, loop: str) -> list[str]:
    """One exchange between a front proxy's start and its end; what it leaves to the collector."""
    found: list[str] = []
    over = asyncio.Event()
    upstream = await asyncio.start_server(partial(backend, over), "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    proxy = FrontProxy(
        anonymous=Anonymous.everywhere(),
        authorization=AllowAll(),
        services=[
            APIService.remote("garbage.example.com", "v1", f"http://127.0.0.1:{port}"),
            PathService("/several/", [f"http://127.0.0.1:{port}", "http://127.0.0.1:1"]),
            PathService("/local/", app=local),
        ],
    )
    server = make_server(proxy, port=0, drain=proxy.drain, grace=1, loop=loop, signals=False)
    serving = asyncio.create_task(server.serve())
    await server.up.wait()
    await visit(server.port, GET % (THINGS + b"/a"))
    state = server.server_state
    with collecting(found):
        await visit(server.port, request)
        async with asyncio.timeout(60):
            while state.tasks or state.connections:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    server.stop()
    await serving
    upstream.close()
    over.set()
    await asyncio.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Most of these scenes are failures, which are logged, some with what failed."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def _aside() -> Iterator[None]:
    """What other tests have left would take a collection a second, in which the loop is blocked."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nothing_for_the_collector(name: str, loop: str) -> None:
    """Whatever becomes of an exchange, nothing of ours waits for the collector when it is over."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        assert runner.run(scene(SCENES[name], loop)) == []
