"""A backend that answers each request with who asked and what was sent, and behaves as badly as it can beside that.

It writes down what it did with each exchange, so that what came out at the other end can be judged. What it never does
is what nobody could notice: end a body without a length early by a proper end of the connection, or send bytes that
nobody asked for when the next request is already on its way.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qsl

import httptools

from aggmw.server.sockets import reset_on_close

__all__ = ["EARLY", "Hostile", "Plan", "expected", "hostile"]

EARLY = "--------"
"""In place of the checksum of a request's body that was not waited for."""

_POISON = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "nobody"\r\n\r\npoison'
_WHOLE = frozenset({"whole"})
_ERROR = frozenset({"error"})
_CUT = frozenset({"cut"})


def expected(user: str, number: int, checksum: str, size: int) -> bytes:
    """The body of an answer: whose it is, to which request, the checksum of that one's body, and its own checksum."""
    said = f"{user} {number} {checksum} {size}\n".encode()
    said += (b"%b:%d;" % (user.encode(), number) * (size // 8 + 1))[:size]
    return said + b"%08x" % zlib.crc32(said)


@dataclass(slots=True)
class Plan:
    """What is done with one exchange.

    Attributes:
        name: in a word.
        allowed: what may come out: "whole", "cut" or "error".
        status: of the answer.
        checksum: of the request's body, as the answer says it.
        bodiless: the answer has none.
    """

    name: str
    allowed: frozenset[str] = _WHOLE
    status: int = 200
    checksum: str = EARLY
    bodiless: bool = False


@dataclass
class Hostile:
    """What the connections of the backend share, and what it saw.

    Attributes:
        plans: by the exchange's number; the latest attempt's.
        done: how often it behaved how.
        swapped: everything that must never be, in words.
        switches: requests that came on the connection that another user's request had come on before.
        connections: how many there have been.
        late: whether it may send bytes long after an answer; only where event loops write at once can it be sure that
            no request is on its way.
    """

    chance: random.Random
    late: bool
    plans: dict[int, Plan] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    swapped: list[str] = field(default_factory=list)
    switches: int = 0
    connections: int = 0
    port: int = 0
    open: set[_Connection] = field(default_factory=set)


class _Connection(asyncio.Protocol):
    """One connection; the parser calls it back."""

    def __init__(self, site: Hostile) -> None:
        self._site = site
        self._chance = site.chance
        self._loop = asyncio.get_running_loop()
        self._user = ""  # whose request came last
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        site.connections += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._busy = False
        self._look = select.poll()
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._look.register(self._descriptor, select.POLLIN)
        self._site.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._site.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._site.swapped.append(f"not a request: {error}: {data[:200]!r}")
            self._transport.abort()

    # The parser calls

    def on_message_begin(self) -> None:
        if self._busy:
            self._site.swapped.append("a request came before the answer to the one before")
        self._busy = True
        self._users: list[bytes] = []
        self._url = b""
        self._checksum = 0
        self._answered = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-remote-user":
            self._users.append(value)

    def on_headers_complete(self) -> None:
        site = self._site
        asked = dict(parse_qsl(self._url.partition(b"?")[2].decode()))
        self._number, self._size, self._sent = int(asked["n"]), int(asked["s"]), asked["c"]
        user = asked["u"]
        if self._users != [user.encode()]:
            site.swapped.append(f"request {self._number} of {user} came as {self._users}")
        if self._user and self._user != user:
            site.switches += 1
        self._user = user
        method = self._parser.get_method()
        self._head_only = method == b"HEAD"
        self._watch = "watch" in asked
        if method in (b"POST", b"PUT") and self._chance.random() < 0.06:
            self._answer_early()

    def on_body(self, body: bytes) -> None:
        self._checksum = zlib.crc32(body, self._checksum)

    def on_message_complete(self) -> None:
        found = f"{self._checksum:08x}"
        if found != self._sent:
            self._site.swapped.append(f"the body of request {self._number} is {found}, was {self._sent}")
        if self._answered:
            self._next()
        elif not self._over:
            self._answer(found)

    # Answering

    def _plan(self, name: str, allowed: frozenset[str] = _WHOLE, status: int = 200, checksum: str = EARLY) -> Plan:
        bodiless = self._head_only or status in (204, 304)
        plan = Plan(name, allowed, status, checksum, bodiless)
        self._site.plans[self._number] = plan
        self._site.done[name] += 1
        return plan

    def _head(self, plan: Plan, *fields: bytes) -> bytes:
        tag = b'ETag: "%b-%d"' % (self._user.encode(), self._number)
        return b"\r\n".join([b"HTTP/1.1 %d Said" % plan.status, tag, *fields, b"", b""])

    def _body(self, checksum: str) -> bytes:
        return expected(self._user, self._number, checksum, self._size)

    def _answer(self, checksum: str) -> None:
        if self._watch:
            self._events(self._plan("watch", checksum=checksum))
            return
        ways = _OF_HEAD if self._head_only else _WAYS
        way = self._chance.choices(*ways)[0]
        way(self, checksum)

    def _answer_early(self) -> None:
        """While the body still comes; and then break off, or listen to the rest."""
        self._answered = True
        breaks = self._chance.random() < 0.5
        plan = self._plan("early, then a reset" if breaks else "early", _WHOLE | _ERROR | _CUT if breaks else _WHOLE)
        body = self._body(EARLY)
        self._transport.write(self._head(plan, b"Content-Length: %d" % len(body)) + body)
        if breaks:
            self._reset()

    def _whole(self, checksum: str, name: str = "whole") -> None:
        plan = self._plan(name, checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)), b"" if self._head_only else body)
        self._next()

    def _in_chunks(self, checksum: str) -> None:
        plan = self._plan("in chunks", checksum=checksum)
        self._write(self._head(plan, b"Transfer-Encoding: chunked"), self._chunks(checksum), b"0\r\n\r\n")
        self._next()

    def _with_trailers(self, checksum: str) -> None:
        """Trailers that look like header fields. The parser refuses those that look like framing: a cut answer."""
        framing = self._chance.random() < 0.1
        plan = self._plan("with trailers", _CUT if framing else _WHOLE, checksum=checksum)
        trailers = b'0\r\nETag: "nobody"\r\nX-Remote-User: root\r\n%b\r\n' % (b"Content-Length: 5\r\n" * framing)
        self._write(self._head(plan, b"Transfer-Encoding: chunked"), self._chunks(checksum), trailers)
        self._next()

    def _after_others(self, checksum: str) -> None:
        """1xx before the answer."""
        plan = self._plan("after 1xx", checksum=checksum)
        body = self._body(checksum)
        first = self._chance.choice([b"100 Continue", b"102 Processing", b'103 Early Hints\r\nETag: "nobody"'])
        informational = b"HTTP/1.1 %b\r\n\r\n" % first
        head = self._head(plan, b"Content-Length: %d" % len(body))
        self._write(informational, informational + head, b"" if self._head_only else body)
        self._next()

    def _without_body(self, checksum: str) -> None:
        plan = self._plan("204 or 304", status=self._chance.choice([204, 304]), checksum=checksum)
        length = [b"Content-Length: 5"] if plan.status == 304 and self._chance.random() < 0.5 else []
        self._write(self._head(plan, *length))
        self._next()

    def _and_close(self, checksum: str) -> None:
        plan = self._plan("and close", checksum=checksum)
        body = self._body(checksum)
        says = [b"Connection: close"] if self._chance.random() < 0.7 else []
        self._write(self._head(plan, b"Content-Length: %d" % len(body), *says), b"" if self._head_only else body)
        self._end()

    def _until_close(self, checksum: str) -> None:
        plan = self._plan("until the end", checksum=checksum)
        self._write(self._head(plan), self._body(checksum))
        self._end()

    def _with_poison(self, checksum: str) -> None:
        """A second answer right behind the first, which nobody asked for."""
        plan = self._plan("unsolicited", checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)), (b"" if self._head_only else body) + _POISON)
        self._next()

    def _with_late_poison(self, checksum: str) -> None:
        """The same some time later, when the connection rests."""
        if not self._site.late:
            self._with_poison(checksum)
            return
        plan = self._plan("unsolicited, later", checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)), b"" if self._head_only else body)
        self._next()
        self._later(self._poison)

    def _poison(self) -> None:
        if not self._busy and not self._over and not self._look.poll(0):
            os.write(self._descriptor, _POISON)

    def _more_than_it_says(self, checksum: str) -> None:
        plan = self._plan("longer than said", checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)), body + b"and more")
        self._next()

    def _head_with_body(self, checksum: str) -> None:
        plan = self._plan("HEAD with a body", checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)) + body)
        self._next()

    def _less_than_it_says(self, checksum: str) -> None:
        plan = self._plan("shorter than said", _CUT, checksum=checksum)
        body = self._body(checksum)
        self._write(self._head(plan, b"Content-Length: %d" % len(body)), body[: self._chance.randrange(len(body))])
        self._end()

    def _cut(self, checksum: str) -> None:
        """A reset in the middle. What was sent before it may be lost with it, head and all."""
        plan = self._plan("reset in the body", _CUT | _ERROR, checksum=checksum)
        framing, body = self._chance.choice(
            [
                (b"Transfer-Encoding: chunked", self._chunks(checksum)),
                (b"X-Length: none", self._body(checksum)),
                (b"Content-Length: 999999", self._body(checksum)),
            ]
        )
        self._write(self._head(plan, framing), body)
        self._reset()

    def _no_answer(self, checksum: str) -> None:
        self._plan("no answer", _ERROR)
        if self._chance.random() < 0.5:
            self._end()
        else:
            self._reset()

    def _nonsense(self, checksum: str) -> None:
        self._plan("nonsense", _ERROR)
        nonsense = self._chance.choice(_NONSENSE)
        self._transport.write(nonsense)
        if not nonsense.endswith(b"\n") or self._chance.random() < 0.5:
            self._end()

    def _rests(self, checksum: str) -> None:
        """Answer, and close the resting connection some time later."""
        self._whole(checksum, "and close later")
        self._later(self._end_if_resting)

    def _events(self, plan: Plan) -> None:
        """Lines for ever, until the client has enough."""
        self._transport.write(self._head(plan, b"Transfer-Encoding: chunked"))
        self._event()

    def _event(self) -> None:
        if not self._over:
            line = self._body(self._sent)
            self._transport.write(b"%x\r\n%b\r\n" % (len(line), line))
            self._timer = self._loop.call_later(0.0005, self._event)

    # Bytes

    def _chunks(self, checksum: str) -> bytes:
        """The body in chunks of any size, with extensions now and then."""
        body = self._body(checksum)
        most = max(1, self._chance.choice([len(body), len(body) // 2, 4000]))
        pieces, at = [], 0
        while at < len(body):
            piece = body[at : at + self._chance.randint(1, most)]
            at += len(piece)
            extension = b";a=b" if self._chance.random() < 0.1 else b""
            pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
        return b"".join(pieces)

    def _write(self, *pieces: bytes) -> None:
        """In one packet, or in several."""
        if self._chance.random() < 0.5:
            self._transport.write(b"".join(pieces))
        else:
            for piece in pieces:
                self._transport.write(piece)

    def _next(self) -> None:
        self._busy = False

    def _later(self, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._chance.random() * 0.003, call)

    def _end_if_resting(self) -> None:
        if not self._busy and not self._look.poll(0):
            self._end()

    def _end(self) -> None:
        self._over = True
        self._transport.close()

    def _reset(self) -> None:
        self._over = True
        reset_on_close(self._transport)
        self._transport.abort()


_NONSENSE = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 20",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
]
_Way = Callable[[_Connection, str], None]
_WAYS: tuple[list[_Way], list[int]] = (
    [
        _Connection._whole,
        _Connection._in_chunks,
        _Connection._with_trailers,
        _Connection._after_others,
        _Connection._without_body,
        _Connection._and_close,
        _Connection._until_close,
        _Connection._with_poison,
        _Connection._with_late_poison,
        _Connection._more_than_it_says,
        _Connection._less_than_it_says,
        _Connection._cut,
        _Connection._no_answer,
        _Connection._nonsense,
        _Connection._rests,
    ],
    [45, 16, 6, 6, 6, 3, 2, 2, 2, 2, 1, 2, 1, 1, 5],
)
_OF_HEAD: tuple[list[_Way], list[int]] = (
    [
        _Connection._whole,
        _Connection._after_others,
        _Connection._without_body,
        _Connection._and_close,
        _Connection._with_poison,
        _Connection._with_late_poison,
        _Connection._head_with_body,
        _Connection._no_answer,
        _Connection._nonsense,
        _Connection._rests,
    ],
    [60, 6, 6, 4, 4, 4, 8, 2, 2, 4],
)


@asynccontextmanager
async def hostile(chance: random.Random, *, late: bool) -> AsyncIterator[Hostile]:
    """One that listens."""
    site = Hostile(chance, late)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(site), "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        while site.open:
            for connection in tuple(site.open):
                connection.close()
            await asyncio.sleep(0.01)
        await server.wait_closed()
