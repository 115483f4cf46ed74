"""What a server must do for a front proxy, each tried on a real connection against a scripted service.

Each function gets the server's port and the port that the service is to listen on, and says in words what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aggmw.testing import (
    Hold,
    ReadHead,
    ReadRequest,
    ReceivedRequest,
    Reset,
    ScriptedBackend,
    Send,
    Wait,
    respond,
)

__all__ = ["BEHAVIOURS", "Behaviour"]

Behaviour = Callable[[int, int], Awaitable[str]]

SECONDS = 60.0  # for what has to come
NOTICE_SECONDS = 2.0  # for what may never come
WATCH = b"GET /things/a?watch=true HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = respond(headers={"Transfer-Encoding": "chunked"})
LARGE = 64 << 20


class Wire:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until(self, mark: bytes, seconds: float = SECONDS) -> bytes | None:
        """What came up to and with the mark; None when it did not come in time, or never will."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.readuntil(mark)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return None

    async def rest(self) -> bytes:
        """Everything to the end of the connection, whichever."""
        received = b""
        try:
            async with asyncio.timeout(SECONDS):
                while piece := await self._reader.read(65_536):
                    received += piece
        except (TimeoutError, ConnectionError):
            pass
        return received

    def leave(self) -> None:
        self._writer.close()

    def drop(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        wire.drop()


async def watch_as_it_comes(port: int, things: int) -> str:
    """The head of a watch and each of its events arrive while the service is silent behind them."""
    first, second = asyncio.Event(), asyncio.Event()
    script = [
        ReadHead(),
        Send(CHUNKED),
        Wait(first),
        Send(b"4\r\none\n\r\n"),
        Wait(second),
        Send(b"4\r\ntwo\n\r\n"),
        Hold(),
    ]
    async with ScriptedBackend(script, port=things), connected(port) as wire:
        await wire.send(WATCH)
        if await wire.until(b"\r\n\r\n", NOTICE_SECONDS) is None:
            return "the head is held back"
        first.set()
        if await wire.until(b"one\n", NOTICE_SECONDS) is None:
            return "events are held back"
        second.set()
        return "at once" if await wire.until(b"two\n", NOTICE_SECONDS) else "events are held back"


async def departure(port: int, things: int) -> str:
    """The service's connection ends when the client leaves in the middle of a watch."""
    return await _departure(port, things, Send(CHUNKED + b"4\r\none\n\r\n"), b"")


async def departure_before_the_answer(port: int, things: int) -> str:
    """The same while the service has not answered yet."""
    return await _departure(port, things, None, b"")


async def departure_with_a_request_behind(port: int, things: int) -> str:
    """The same in the middle of a watch, when the client has sent a next request before it left."""
    return await _departure(port, things, Send(CHUNKED + b"4\r\none\n\r\n"), WATCH)


async def _departure(port: int, things: int, begun: Send | None, behind: bytes) -> str:
    script = [ReadHead(), *([] if begun is None else [begun]), Hold()]
    async with ScriptedBackend(script, port=things) as service, connected(port) as wire:
        await wire.send(WATCH)
        connection = await service.connected()
        if begun is not None:
            await wire.until(b"one\n")
        else:
            await connection.received_at_least(1)
        if behind:
            await wire.send(behind)
        wire.leave()
        try:
            async with asyncio.timeout(NOTICE_SECONDS):
                await connection.gone()
        except TimeoutError:
            return "never noticed"
        return "noticed"


async def upload(port: int, things: int) -> str:
    """A body goes on while it comes, and no faster than the service takes it."""
    taken = asyncio.Event()

    async def slowly(connection: Any) -> None:
        await connection.read_until(b"\r\n\r\n")
        await taken.wait()
        for _ in range(LARGE >> 20):
            await connection.read_exactly(1 << 20)
        await connection.send(respond(body=b"ok"))
        await connection.gone()

    async with ScriptedBackend([slowly], port=things) as service, connected(port) as wire:
        sent = 0

        async def send() -> None:
            nonlocal sent
            await wire.send(b"POST /things/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE)
            while sent < LARGE:
                await wire.send(bytes(1 << 18))
                sent += 1 << 18

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout(NOTICE_SECONDS):
                await (await service.connected()).received_at_least(100)
            before = -1
            while before != sent:  # until nobody takes any more
                before = sent
                await asyncio.sleep(0.1)
            taken.set()
            answered = await wire.until(b"\r\n\r\nok")
        except TimeoutError:
            return "only when it is whole"
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if answered is None:
            return "not answered"
        return "at the service's pace" if before < LARGE else "buffered without a bound"


async def early_answer(port: int, things: int) -> str:
    """An answer that the service gives before it read the body reaches a client that is still sending.

    The client is a bare socket: a server that closes at once resets the connection, upon which asyncio's streams
    forget what had arrived before; a socket still has it.
    """
    loop = asyncio.get_running_loop()
    script = [ReadHead(), Send(respond(413, body=b"too much")), Hold()]
    async with ScriptedBackend(script, port=things):
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))

            async def send() -> None:
                with contextlib.suppress(ConnectionError):
                    await loop.sock_sendall(
                        client, b"POST /things/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE
                    )
                    for _ in range(LARGE >> 18):
                        await loop.sock_sendall(client, bytes(1 << 18))

            sending = asyncio.create_task(send())
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(SECONDS):
                    while piece := await loop.sock_recv(client, 65_536):
                        answer += piece
                        if answer.endswith(b"too much"):
                            break
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    early = answer.startswith(b"HTTP/1.1 413 ") and answer.endswith(b"too much")
    return "seen" if early else f"not seen: {answer!r}"


async def head(port: int, things: int) -> str:
    """HEAD gets the length that the body would have and no body, and the connection goes on."""

    def answer(raw: bytes) -> bytes:
        return respond(headers={"Content-Length": "5"}, body=b"" if raw.startswith(b"HEAD") else b"hello")

    async with ScriptedBackend(answer, port=things), connected(port) as wire:
        await wire.send(b"HEAD /things/a HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await wire.until(b"\r\n\r\n")
        await wire.send(b"GET /things/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        second = await wire.rest()
    if first is None or b"content-length: 5\r\n" not in first.lower():
        return f"without the length: {first!r}"
    return "as sent" if second.startswith(b"HTTP/1.1 200 ") and second.endswith(b"\r\n\r\nhello") else "with a body"


async def not_modified(port: int, things: int) -> str:
    """304 with a Content-Length is a 304, and the connection goes on."""
    answer = respond(304, {"Content-Length": "5", "ETag": '"x"'})
    async with ScriptedBackend(lambda request: answer, port=things), connected(port) as wire:
        await wire.send(b"GET /things/a HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await wire.until(b"\r\n\r\n")
        await wire.send(b"GET /things/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        second = await wire.rest()
    passed = all(each is not None and each.startswith(b"HTTP/1.1 304 ") for each in (first, second))
    return "passed" if passed and second.endswith(b"\r\n\r\n") else f"{first!r} {second!r}"


async def broken_off(port: int, things: int) -> str:
    """A body that the service breaks off never looks whole, however it is framed."""
    for name, answer in {
        "length": respond(headers={"Content-Length": "10"}, body=b"hello"),
        "chunks": CHUNKED + b"5\r\nhello\r\n",
        "neither": b"HTTP/1.1 200 OK\r\n\r\nhello",
    }.items():
        seen = asyncio.Event()
        script = [ReadHead(), Send(answer), Wait(seen), Reset()]
        async with ScriptedBackend(script, port=things), connected(port) as wire:
            await wire.send(b"GET /things/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if await wire.until(b"hello") is None:
                return f"{name}: the beginning is lost"
            seen.set()
            if (await wire.rest()).strip(b"\r\n"):
                return f"{name}: looks whole"
    return "looks broken"


async def abandoned_upload(port: int, things: int) -> str:
    """A body that the client breaks off never looks whole to the service, however it is framed."""
    for name, begun in {
        "length": b"Content-Length: 10\r\n\r\nhello",
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    }.items():
        async with ScriptedBackend([ReadRequest()], port=things) as service:
            async with connected(port) as wire:
                await wire.send(b"POST /things/a HTTP/1.1\r\nHost: x\r\n" + begun)
                connection = await service.connected()
                await connection.received_at_least(1)
                wire.leave()
                await connection.gone()
            if connection.exchanges:
                return f"{name}: looks whole"
    return "looks broken"


async def repeated_fields(port: int, things: int) -> str:
    """Fields that are there several times stay apart and in order, both ways."""
    answer = respond(headers=[("X-A", "1"), ("Set-Cookie", "a=b"), ("X-A", "2"), ("Set-Cookie", "c=d")], body=b"ok")
    async with ScriptedBackend(lambda request: answer, port=things) as service, connected(port) as wire:
        await wire.send(b"GET /things/a HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\nConnection: close\r\n\r\n")
        received = await wire.rest()
        request = ReceivedRequest.of(service.connections[0].exchanges[0])
    there = [field for field in request.headers if field[0] in (b"x-a", b"x-b")]
    back = [line for line in received.lower().split(b"\r\n") if line.startswith((b"x-a", b"set-cookie"))]
    if sorted(back) != [b"set-cookie: a=b", b"set-cookie: c=d", b"x-a: 1", b"x-a: 2"] or len(there) != 3:
        return f"{there} {back}"
    kept = (
        there == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")],
        back == [b"x-a: 1", b"set-cookie: a=b", b"x-a: 2", b"set-cookie: c=d"],
    )
    return {
        (True, True): "kept",
        (False, True): "those of requests are grouped by name",
        (True, False): "those of answers are grouped by name",
        (False, False): "grouped by name",
    }[kept]


async def trailers(port: int, things: int) -> str:
    """A request's trailers never become fields, in one packet or in two."""
    begin = b"POST /things/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    end = b"5\r\nhello\r\n0\r\nX-T: t\r\nX-Remote-User: eve\r\n\r\n"
    found = []
    for packets in ((begin + end,), (begin, end)):
        async with (
            ScriptedBackend(lambda request: respond(body=b"ok"), port=things) as service,
            connected(port) as wire,
        ):
            for packet in packets:
                await wire.send(packet)
                if len(packets) > 1 and packet is begin:
                    await asyncio.sleep(0.05)  # nothing tells that the server has read it
            await wire.rest()
            request = ReceivedRequest.of(service.connections[0].exchanges[0])
        if request.values("x-remote-user") != [b"system:anonymous"]:
            return "become an identity"
        found.append(bool(request.values("x-t")))
    return "become fields" if any(found) else "never"


async def continued(port: int, things: int) -> str:
    """`100 Continue` comes when the body is wanted, and not in the way of an answer that needs none."""
    async with (
        ScriptedBackend([ReadRequest(), Send(respond(body=b"ok")), Hold()], port=things),
        connected(port) as wire,
    ):
        await wire.send(
            b"POST /things/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
            b"Connection: close\r\n\r\n"
        )
        interim = await wire.until(b"\r\n\r\n", NOTICE_SECONDS)
        if interim is None or not interim.startswith(b"HTTP/1.1 100 "):
            return "never"
        await wire.send(b"hello")
        answer = await wire.until(b"\r\n\r\nok")
        return "asked for" if answer is not None else "asked for, and not answered"


BEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "events of a watch": (watch_as_it_comes, "at once"),
    "a client that leaves a watch": (departure, "noticed"),
    "a client that leaves before the answer": (departure_before_the_answer, "noticed"),
    "a client that leaves a watch, a next request behind it": (departure_with_a_request_behind, "noticed"),
    "a large upload": (upload, "at the service's pace"),
    "an answer before the end of an upload": (early_answer, "seen"),
    "HEAD": (head, "as sent"),
    "304 with a Content-Length": (not_modified, "passed"),
    "an answer that the service breaks off": (broken_off, "looks broken"),
    "an upload that the client breaks off": (abandoned_upload, "looks broken"),
    "repeated fields": (repeated_fields, "kept"),
    "trailers of a request as header fields": (trailers, "never"),
    "a body after 100-continue": (continued, "asked for"),
}
"""By name: how it is tried, and what has to happen."""
