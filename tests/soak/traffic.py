"""Clients of every temper, and what each exchange came to."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.soak.hostile import expected

from aggmw.server.sockets import reset_on_close

__all__ = ["Broken", "Conditions", "Connection", "Reply", "Traffic"]

PATIENCE = 60.0  # only what hangs takes so long, however busy the machine is
GROUPS = ("calm.soak.example.com", "shaken.soak.example.com")
"""One server that stays, and one that is ended and started again."""

_KINDS = {
    "get": 30,
    "head": 4,
    "chunks": 8,
    "large": 3,
    "slow": 6,
    "slow reader": 3,
    "create": 12,
    "large upload": 3,
    "slow upload": 4,
    "watch": 6,
    "behind": 2,
}


class Broken(Exception):
    """The connection ended in the middle of a response, or without one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response, or the beginning of one that was left."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


class Connection:
    """One client connection over TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        return cls(reader, writer)

    def leave(self, *, politely: bool) -> None:
        """Close, or reset."""
        if politely:
            self.writer.close()
        else:
            reset_on_close(self.writer.transport)
            self.writer.transport.abort()

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status and fields of the next response.

        Raises:
            Broken: there is none.
        """
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Broken("no answer") from error
        line, *lines = head[:-4].split(b"\r\n")
        fields = dict(each.lower().split(b": ", 1) for each in lines)
        return int(line.split()[1]), fields

    async def body(self, fields: dict[bytes, bytes], *, slowly: Callable[[], float] | None = None) -> bytes:
        """The whole body.

        Args:
            fields: of its head.
            slowly: seconds to wait before each read.

        Raises:
            Broken: it was cut.
        """
        pieces: list[bytes] = []
        try:
            if b"transfer-encoding" in fields:
                while piece := await self.chunk():
                    pieces.append(piece)
                return b"".join(pieces)
            left = int(fields[b"content-length"])
            while left:
                if slowly is not None:
                    await asyncio.sleep(slowly())
                piece = await self._reader.read(min(left, 16_384))
                if not piece:
                    raise Broken("a cut body")
                pieces.append(piece)
                left -= len(piece)
        except OSError as error:
            raise Broken("a reset body") from error
        return b"".join(pieces)

    async def chunk(self) -> bytes:
        """One chunk; b"" is the end.

        Raises:
            Broken: it was cut.
        """
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Broken("a cut stream") from error

    async def get(self, target: str, token: str) -> Reply:
        """A whole exchange."""
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        status, fields = await self.head()
        return Reply(status, fields, await self.body(fields))


@dataclass
class Conditions:
    """What the outside world is like, and was.

    Attributes:
        outages: when the shaken server was not to be relied on: from, until.
        carol: since when carol may, or may not, and which.
        recovers: seconds that it may take until a server that is back is used as before, since it was first.
    """

    recovers: float = 1.0
    outages: list[list[float]] = field(default_factory=list)
    carol: tuple[float, bool] = (0.0, True)

    def shaken(self, since: float, until: float) -> bool:
        """Whether anything happened in this time."""
        return any(since <= end + self.recovers and until >= begin for begin, end in self.outages)

    def may(self, user: str, since: float) -> set[bool]:
        """Whether a user may, of an exchange that began then; both, where that was just changed."""
        if user != "carol":
            return {True}
        changed, may = self.carol
        return {may} if since > changed else {True, False}


class Traffic:
    """Clients that go on until they are told to stop.

    Attributes:
        done: how many exchanges of each kind.
        outcomes: how many ended how.
        wrong: what must never be, in words; the first hundred.
    """

    def __init__(self, port: int, context: ssl.SSLContext, conditions: Conditions, chance: random.Random) -> None:
        self._port = port
        self._context = context
        self._conditions = conditions
        self._chance = chance
        self._number = 0
        self._stopped = False
        self.done: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    async def client(self) -> None:
        """One client after the other, each with a few exchanges on its connection."""
        chance = self._chance
        while not self._stopped:
            connection = await Connection.open(self._port, self._context)
            try:
                for _ in range(chance.choice([1, 1, 2, 5, 20])):
                    if self._stopped or not await self._exchange(connection):
                        break
            finally:
                connection.leave(politely=chance.random() < 0.5)

    async def _exchange(self, connection: Connection) -> bool:
        """One exchange; whether the connection can have another."""
        chance = self._chance
        self._number += 1
        number = self._number
        user = chance.choices(["alice", "bob", "carol"], [4, 4, 1])[0]
        group = chance.choice(GROUPS)
        kind = chance.choices(list(_KINDS), list(_KINDS.values()))[0]
        began = time.monotonic()
        impatient = chance.random() < 0.08
        patience = chance.random() * 0.2 if impatient else PATIENCE
        self.done[kind] += 1
        what = f"{number}, {kind} of {user} at {group}"
        try:
            async with asyncio.timeout(patience):
                goes_on = await self._ask(connection, kind, user, group, number, what, began)
        except TimeoutError:
            self.outcomes["left"] += 1
            if not impatient:
                self._say(f"{what}: nothing for {PATIENCE:.0f} seconds")
            return False
        except Broken as error:
            self._failed(what, group, began, f"{error}")
            return False
        return goes_on

    async def _ask(
        self, connection: Connection, kind: str, user: str, group: str, number: int, what: str, began: float
    ) -> bool:
        chance = self._chance
        large = kind in ("large", "slow reader")
        size = chance.randint(0, 3_000_000 if large else 2_000)
        upload = chance.randbytes(self._length(kind)) if kind in ("create", "large upload", "slow upload") else b""
        server = {"head": "head", "chunks": "chunks", "slow": "slow", "watch": "watch"}.get(kind, "whole")
        target = f"/apis/{group}/v1/namespaces/dev/things"
        if kind == "watch":
            target += "?watch=true&"
        else:
            target += "?" if upload else f"/t{number}?"
        target += f"n={number}&u={user}&s={size}&k={server}"
        method = "HEAD" if kind == "head" else "POST" if upload else "GET"
        head = f"{method} {target} HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer {user}-token\r\n"
        if chance.random() < 0.1:
            head += "X-Remote-User: root\r\nX-Remote-Group: system:masters\r\n"
        await self._send(connection, kind, head, upload)
        if kind == "behind":
            connection.writer.write(f"{head}\r\n".encode())
        status, fields = await connection.head()
        whole = expected(user, number, f"{zlib.crc32(upload):08x}", size)
        if kind == "watch" and status == 200:
            return await self._watch(connection, whole, what, group, began)
        slowly = (lambda: chance.random() * 0.03) if kind == "slow reader" and chance.random() < 0.5 else None
        body = b"" if method == "HEAD" else await connection.body(fields, slowly=slowly)
        if status == 200 and method == "HEAD":
            right = fields.get(b"content-length") == b"%d" % len(whole)
        else:
            right = body == whole
        self._judge(what, user, group, began, status, body, right=right)
        return b"connection" not in fields and kind != "behind"

    def _length(self, kind: str) -> int:
        return self._chance.randint(1, {"create": 2_000, "slow upload": 20_000, "large upload": 3_000_000}[kind])

    async def _send(self, connection: Connection, kind: str, head: str, upload: bytes) -> None:
        chance, writer = self._chance, connection.writer
        try:
            if kind == "slow upload":
                writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                step = len(upload) // 8 + 1
                for at in range(0, len(upload), step):
                    piece = upload[at : at + step]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(chance.random() * 0.03)
                writer.write(b"0\r\n\r\n")
            else:
                length = f"Content-Length: {len(upload)}\r\n" if upload else ""
                writer.write(f"{head}{length}\r\n".encode() + upload)
                await writer.drain()
        except OSError:
            pass  # an answer may have come before, and the connection have ended with it

    async def _watch(self, connection: Connection, line: bytes, what: str, group: str, began: float) -> bool:
        """Follow for a while; then leave. A stream that ends is one that was cut."""
        until = time.monotonic() + self._chance.random() * 1.5
        seen = b""  # of lines, as their borders are not those of chunks
        while time.monotonic() < until:
            piece = await connection.chunk()
            if not piece:
                self._failed(what, group, began, "the watch ended")
                return False
            seen += piece
            whole = line * (len(seen) // len(line) + 1)
            if not whole.startswith(seen):
                self._say(f"{what}: events {seen[:200]!r} instead of {line[:100]!r}")
                return False
            seen = seen[len(seen) // len(line) * len(line) :]
        self.outcomes["watched"] += 1
        return False

    def _judge(self, what: str, user: str, group: str, began: float, status: int, body: bytes, *, right: bool) -> None:
        may = self._conditions.may(user, began)
        if status == 200 and right and True in may:
            self.outcomes["right"] += 1
        elif status == 403 and False in may:
            self.outcomes["forbidden"] += 1
        elif status in (502, 503, 504):
            with suppress(ValueError):
                said = json.loads(body or b"{}").get("message", "")
                self._failed(what, group, began, f"{status} {said}")
                return
            self._say(f"{what}: {status} {body[:200]!r}")
        else:
            self._say(f"{what}: {status} {body[:200]!r}, where {user} {'may' if True in may else 'may not'}")

    def _failed(self, what: str, group: str, began: float, how: str) -> None:
        """An error, a cut answer or none: right only where the server was away meanwhile."""
        self.outcomes[f"failed in an outage: {how[:3] if how[:3].isdigit() else how}"] += 1
        if group != GROUPS[1] or not self._conditions.shaken(began, time.monotonic()):
            self._say(f"{what}: {how}, though its server was there")

    def _say(self, what: str) -> None:
        if len(self.wrong) < 100:
            self.wrong.append(what)
