"""The backend for streams: swallows uploads; holds watches and WebSockets open, and sends each an event on SIGUSR1."""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, cast

from aggmw.net.websocket import accept_of
from benchmarks.workspace import STREAMS, Workspace, resource_list

__all__ = ["serve"]

_WATCH = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
_LINE = (
    b'{"type":"MODIFIED","object":{"kind":"Blob","apiVersion":"stream.example.com/v1","metadata":{"name":"large"}}}\n'
)
_EVENT = b"%x\r\n%b\r\n" % (len(_LINE), _LINE)
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n\r\n"
)
_FRAME = b"\x81%c%b" % (len(_LINE), _LINE)


class _Connection(asyncio.BufferedProtocol):
    """One connection: heads are read into memory, bodies counted and forgotten."""

    watches: ClassVar[dict[_Connection, bytes]] = {}
    _buffer: ClassVar[bytearray] = bytearray(1 << 18)  # one for all: it is filled and read without a pause between

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def connection_lost(self, exc: Exception | None) -> None:
        self.watches.pop(self, None)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            self._left -= nbytes
            if self._left == 0:
                self._answer(200, "application/json", b'{"kind":"Status","status":"Success"}')
            return
        self._head += self._buffer[:nbytes]
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._head = b""
            self._request(head, len(rest))

    def _request(self, head: bytes, body: int) -> None:
        line, *fields = head.split(b"\r\n")
        length = 0
        key = b""
        for field in fields:
            name, _, value = field.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"sec-websocket-key":
                key = value.strip()
        self._left = length - body
        if self._left > 0:
            return
        self._left = 0
        target = line.split()[1]
        if b"watch=" in target:
            self.transport.write(_SWITCH % accept_of(key) if key else _WATCH)
            self.watches[self] = _FRAME if key else _EVENT
        elif target == f"/apis/{STREAMS}/v1".encode():
            self._answer(200, "application/json", resource_list(STREAMS, "blobs", "Blob").encode())
        else:
            self._answer(200 if length else 404, "text/plain", b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    @classmethod
    def event(cls) -> None:
        """One event to every watch, as a chunk or as a frame."""
        for each, event in cls.watches.items():
            each.transport.write(event)


async def serve(workspace: Workspace) -> None:
    """Serve plain HTTP and TLS; print both ports."""
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(workspace.certificate("back"), workspace.key("back"))
    context.load_verify_locations(workspace.certificate("front-proxy-ca"))
    context.verify_mode = ssl.CERT_OPTIONAL
    servers = [await loop.create_server(_Connection, "127.0.0.1", 0, ssl=tls, backlog=4096) for tls in (None, context)]
    loop.add_signal_handler(signal.SIGUSR1, _Connection.event)
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace(parser.parse_args().workspace)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(workspace))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
