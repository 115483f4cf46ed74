"""However the bytes of a request are cut into packets, the door reads the same."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from aggmw.server.door import Door
from aggmw.server.limits import DoorLimits

FIELDS = st.sampled_from(
    [
        b"Host: x",
        b"Host: y/z",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Upgrade: h2c",
        b"Connection: upgrade",
        b"Connection: close",
        b"X-Remote-User:  root \t",
        b"X: " + b"y" * 300,
        b"X Y: z",
        b"X: \x01",
    ]
)
TARGETS = st.sampled_from([b"/", b"/a?b=%2F", b"//a", b"/a#b", b"*", b"http://x/a", b"/\xff"])
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX-Remote-User: root\r\n\r\n", b"zz\r\n"]
)


class Pipe(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is sent."""

    def pause_reading(self) -> None:
        """Nothing reads."""

    resume_reading = pause_reading


class Still(Door):
    """Starts no application: keeps what one would have seen."""

    limits = DoorLimits(head_bytes=500, head_fields=6)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scopes: list[Any] = []

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.scopes.append((cycle.scope, list(cycle.scope["headers"])))


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


CONFIG = Config(nothing, http=Still, log_config=None, interface="asgi3", proxy_headers=False, lifespan="off", ws="none")
CONFIG.load()


def read(packets: list[bytes]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        door, pipe = Still(CONFIG, ServerState(), {}, loop), Pipe()
        door.connection_made(pipe)
        for packet in packets:
            door.data_received(packet)
        seen = []
        for scope, before in door.scopes:
            assert scope["headers"] == before
            seen.append((scope["method"], scope["raw_path"], scope["query_string"], tuple(before)))
        cycle = door._current
        body = None if cycle is None else (cycle._body, cycle.more_body, cycle.disconnected)
        result = (seen, body, pipe.written.split(b"\r\n")[0])
        door.connection_lost(None)
        return result
    finally:
        loop.close()


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([b"GET", b"POST", b"get", b"TRACE"]),
    TARGETS,
    st.sampled_from([b"1.1", b"1.0", b"2.0"]),
    st.lists(FIELDS, max_size=6),
    BODIES,
    st.lists(st.integers(1, 400), max_size=8),
)
def test_splits(
    method: bytes, target: bytes, version: bytes, fields: list[bytes], body: bytes, cuts: list[int]
) -> None:
    """C5 1: one packet, a few, or byte by byte: the same request, or the same refusal, and no trailer among headers."""
    head = b" ".join([method, target, b"HTTP/" + version])
    request = b"\r\n".join([head, b"Host: x", *fields, b"", b""]) + body
    whole = read([request])
    edges = sorted({0, *[cut for cut in cuts if cut < len(request)], len(request)})
    few = read([request[start:end] for start, end in pairwise(edges)])
    single = read([request[position : position + 1] for position in range(len(request))])
    assert whole == few == single
    for _, _, _, headers in whole[0]:
        assert dict(headers).get(b"x-remote-user") in (
            {None, b"root"} if b"X-Remote-User:  root \t" in fields else {None}
        )
