"""Bodies that end with their connection: whole only where the backend is known to have ended them itself (§5)."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from tests.middleware.proxy.proxying import GET
from tests.middleware.proxy.test_lane_on_uvloop import ca, secure, serving

from aggmw.errors import UpstreamBroken
from aggmw.middleware.proxy import Http1Transport
from aggmw.pki.make import KeyPair

__all__ = ["ca", "secure"]  # fixtures

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
DELIMITED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def goodbye(writer: asyncio.StreamWriter) -> None:
    """As it should be: over TLS with close_notify."""
    writer.close()
    await writer.wait_closed()


async def cut(writer: asyncio.StreamWriter) -> None:
    """The end of the TCP stream, and nothing said before that: what anybody on the way can do."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as twin:
        twin.shutdown(socket.SHUT_WR)


async def reset(writer: asyncio.StreamWriter) -> None:
    """A broken connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


ENDS = {"goodbye": goodbye, "cut": cut, "reset": reset}
WHOLE = {
    ("asyncio", "plain", "goodbye"),
    ("asyncio", "plain", "cut"),  # without TLS these two are the same
    ("uvloop", "plain", "goodbye"),
    ("uvloop", "plain", "cut"),
    ("uvloop", "tls", "goodbye"),  # asyncio does not tell a TLS stream that was ended from one that was cut
}


async def received(
    answer: bytes, end: str, ca: KeyPair | None, context: ssl.SSLContext | None, *, at_once: bool
) -> bytes:
    """The body, if it is whole. It ends once its bytes were read, or together with them."""
    read = asyncio.Event()
    if at_once:
        read.set()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0)  # uvloop writes at the end of a step
        await read.wait()
        await ENDS[end](writer)
        await reader.read()

    transport = Http1Transport()
    try:
        async with serving(answers, ca, context) as served:
            response = await transport.send(served.backend, GET)
            body = b""
            try:
                while piece := await response.read():
                    body += piece
                    read.set()
            finally:
                await response.aclose()
            return body
    finally:
        await transport.aclose()


def run(loop: str, main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main
        await asyncio.sleep(0.01)  # uvloop closes sockets in a step of its own

    factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(limited())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("layer", ["plain", "tls"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("at_once", [False, True])
def test_until_the_end(loop: str, layer: str, end: str, at_once: bool, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """A body without a length is whole when its end is known to be the backend's own word."""
    tls = (ca, secure) if layer == "tls" else (None, None)

    async def main() -> None:
        if (loop, layer, end) in WHOLE:
            assert await received(UNTIL_CLOSE, end, *tls, at_once=at_once) == b"hello"
        else:
            with pytest.raises(UpstreamBroken, match="in the middle of its answer"):
                await received(UNTIL_CLOSE, end, *tls, at_once=at_once)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("layer", ["plain", "tls"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answer", [DELIMITED, CHUNKED])
def test_ends_of_their_own(loop: str, layer: str, end: str, answer: bytes, ca: KeyPair, secure: ssl.SSLContext) -> None:
    """A body that says where it ends is whole, however the connection ends with it."""
    tls = (ca, secure) if layer == "tls" else (None, None)

    async def main() -> None:
        assert await received(answer, end, *tls, at_once=True) == b"hello"

    run(loop, main())
