"""An honest API server in a process of its own: each answer says who asked, to which request it is, and checksums.

Run as a script, it prints its port and serves until it is told to stop. It believes the front proxy alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import zlib
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

import httptools
import uvloop
from tests.soak.hostile import expected

__all__ = ["VERSION"]

VERSION = "v1"


class _Connection(asyncio.Protocol):
    """One connection; the parser calls it back."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._parser = None

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = b""
        self._users: list[str] = []
        self._checksum = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-remote-user":
            self._users.append(value.decode())

    def on_body(self, body: bytes) -> None:
        self._checksum = zlib.crc32(body, self._checksum)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode().partition("?")
        asked = dict(parse_qsl(query))
        if "n" not in asked:
            self._discovery(path)
            return
        user, number, size = asked["u"], int(asked["n"]), int(asked["s"])
        if self._users != [user]:
            self._say(500, f"request {number} of {user} came as {self._users}".encode())
            return
        body = expected(user, number, f"{self._checksum:08x}", size)
        kind = asked["k"]
        if kind == "watch":
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._event(b"%x\r\n%b\r\n" % (len(body), body))
        elif kind == "slow":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            self._slowly(body, len(body) // random.randint(2, 10) + 1)
        elif kind == "chunks":
            half = random.randrange(1, len(body))
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece)
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
        else:
            self._say(200, b"" if kind == "head" else body, length=len(body))

    def _discovery(self, path: str) -> None:
        if path != f"/apis/{self._group}/{VERSION}":
            self._say(404, b"{}")
            return
        verbs = ["get", "list", "watch", "create"]
        things = {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "verbs": verbs}
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{self._group}/{VERSION}"}
        self._say(200, json.dumps({**listed, "resources": [things]}).encode())

    def _say(self, status: int, body: bytes, *, length: int | None = None) -> None:
        head = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body) if length is None else length) + body)

    def _event(self, line: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(line)
            self._timer = self._loop.call_later(random.random() * 0.1, self._event, line)

    def _slowly(self, rest: bytes, size: int) -> None:
        self._transport.write(rest[:size])
        if rest[size:]:
            self._timer = self._loop.call_later(random.random() * 0.03, self._slowly, rest[size:], size)


async def _serve(options: argparse.Namespace) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    context.load_verify_locations(options.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(options.group), "127.0.0.1", options.port, ssl=context, reuse_address=True, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--client-ca", type=Path, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
