"""The state machine behind httptools (http-facts §5), from lists of bytes: each row is a rule and a test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy.transports.connection import Connection
from aggmw.middleware.proxy.transports.framing import examine

NOT_HTTP = "its answer is not HTTP/1.1"
UNASKED = "it answered more than it was asked"
UNCLEAR = "the length of its answer is unclear"
CUT = "it closed the connection in the middle of its answer"
OK = b"HTTP/1.1 200 OK\r\n"


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__({"ssl_object": object()} if tls else {})
        self.written = b""
        self.aborted = False
        self.paused = False
        self.unsent = 0
        self.limits: list[int | None] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits.append(high)

    set_read_buffer_limits = set_write_buffer_limits

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Wire:
    """A connection and its far end."""

    def __init__(self, *, tls: bool = False, uvloop: bool = False) -> None:
        self.lost: list[Connection] = []
        self.transport = FakeTransport(tls=tls)
        self.connection = Connection(asyncio.get_running_loop(), self.lost.append)
        self.connection.connection_made(self.transport)
        self.connection._look = _Nothing()  # type: ignore[assignment]  # there is no socket to ask
        self.connection._uvloop = uvloop

    def ask(self, *, head_only: bool = False) -> None:
        self.connection.begin(head_only, None, b"GET /a HTTP/1.1\r\n\r\n")

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.transport.aborted:
                self.connection.data_received(piece)

    def end(self, error: Exception | None = None, *, eof: bool = True) -> None:
        if eof and error is None:
            self.connection.eof_received()
        self.connection.connection_lost(error)

    async def answer(self) -> tuple[int, bytes]:
        body = b""
        async with asyncio.timeout(60):
            await self.connection.head()
            while piece := await self.connection.read(None):
                body += piece
        return self.connection.status, body


class _Nothing:
    def poll(self, timeout: int) -> list[Any]:
        return []


async def refused(wire: Wire, text: str) -> None:
    """The exchange fails with this text, and the connection is closed."""
    with pytest.raises(UpstreamBroken) as caught:
        await wire.answer()
    assert str(caught.value) == text
    assert wire.transport.aborted
    assert not wire.connection.release()


async def test_answer_and_again() -> None:
    """A whole answer leaves a connection for the next exchange, on the same parser."""
    wire = Wire()
    for body in (b"hello", b"world"):
        wire.ask()
        wire.feed(OK + b"Content-Length: 5\r\nX-A: \t b \t\r\n\r\n" + body)
        assert await wire.answer() == (200, body)
        assert wire.connection.headers == ((b"content-length", b"5"), (b"x-a", b"b"))
        assert wire.connection.release()
        assert wire.connection.usable


HEADS = [
    b"Content-Length: 5\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"\r\n",
]


@pytest.mark.parametrize("head", HEADS)
async def test_head_is_complete_at_its_head(head: bytes) -> None:
    """http-facts §5: the answer to HEAD has no body, whatever its head says; the next answer is not eaten by it."""
    wire = Wire()
    wire.ask(head_only=True)
    wire.feed(OK + head)
    assert await wire.answer() == (200, b"")
    assert wire.connection.release()
    wire.ask()
    wire.feed(OK + b"Content-Length: 5\r\n\r\nother")
    assert await wire.answer() == (200, b"other")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_bodiless_statuses(status: bytes) -> None:
    """204 and 304 have no body, also with a Content-Length; the connection goes on."""
    wire = Wire()
    wire.ask()
    wire.feed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    assert (await wire.answer())[1] == b""
    assert wire.connection.release()
    wire.ask()
    wire.feed(OK + b"Content-Length: 2\r\n\r\nok")
    assert await wire.answer() == (200, b"ok")


@pytest.mark.parametrize("head_only", [False, True])
@pytest.mark.parametrize("more", [b"x", b"\r\n", OK + b"Content-Length: 0\r\n\r\n", b"hello"])
async def test_bytes_after_the_answer_close(more: bytes, head_only: bool) -> None:
    """http-facts §5: bytes behind a complete answer are nobody's; the answer stands, the connection does not."""
    first = OK + b"Content-Length: 5\r\n\r\n" + (b"" if head_only else b"hello")
    for pieces in ([first + more], [first, more]):
        wire = Wire()
        wire.ask(head_only=head_only)
        wire.feed(*pieces)
        assert await wire.answer() == (200, b"" if head_only else b"hello")
        if more == b"\r\n" and len(pieces) == 1 and not head_only:
            continue  # the parser skips line breaks between messages, as RFC 9112 §2.2 lets it
        assert wire.transport.aborted
        assert not wire.connection.release()


async def test_bytes_while_idle_close() -> None:
    """http-facts §5: a byte while nobody asked closes the connection: it would be the next user's answer."""
    wire = Wire()
    wire.feed(OK + b"Content-Length: 5\r\n\r\nother")
    assert wire.transport.aborted
    assert not wire.connection.usable


async def test_unread_bytes_make_it_unusable() -> None:
    """What the socket holds and nobody has read yet is seen before a next request is written."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Content-Length: 0\r\n\r\n")
    assert wire.connection.release()
    assert wire.connection.usable
    wire.connection._look = type("Something", (), {"poll": lambda self, timeout: [(0, 1)]})()
    assert not wire.connection.usable


TRAILERS = [b"Set-Cookie: a=b", b"X-Remote-User: eve", b"Location: /x", b"Content-Length: 99", b"Connection: close"]


@pytest.mark.parametrize("trailer", TRAILERS)
async def test_trailers_are_not_headers(trailer: bytes) -> None:
    """http-facts §5: trailers change nothing, neither the list given away nor what is read from it later."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    await wire.connection.head()
    before = wire.connection.headers
    wire.feed(b"0\r\n" + trailer + b"\r\n\r\n")
    if trailer.startswith(b"Content-Length"):
        assert await wire.connection.read(None) == b"ok"  # the parser refuses this one: broken, never misread
        await refused(wire, NOT_HTTP)
    else:
        assert await wire.answer() == (200, b"ok")
    assert wire.connection.headers is before
    assert before == ((b"transfer-encoding", b"chunked"),)


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
async def test_interim_answers_are_skipped(interim: bytes) -> None:
    """http-facts §5: 1xx is not the answer, and its fields are not the answer's."""
    wire = Wire()
    wire.ask()
    wire.feed(b"HTTP/1.1 " + interim + b"\r\nLink: </x>\r\n\r\n")
    assert wire.connection.status == 0
    wire.feed(OK + b"Content-Length: 2\r\n\r\nok")
    assert wire.connection.headers == ((b"content-length", b"2"),)
    assert await wire.answer() == (200, b"ok")


@pytest.mark.parametrize("fields", [b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b""])
async def test_101_unasked_is_refused(fields: bytes) -> None:
    """http-facts §5, CVE-2018-1002105: a backend that switches protocols unasked gets no pipe."""
    wire = Wire()
    wire.ask()
    wire.feed(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\nraw bytes")
    await refused(wire, "it switched protocols unasked")


async def test_body_until_the_end() -> None:
    """http-facts §5: without a length a body ends with the connection, which is used up then."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"\r\nhe", b"llo")
    wire.end()
    assert await wire.answer() == (200, b"hello")
    assert not wire.connection.release()


async def test_body_until_a_reset_is_broken() -> None:
    """A reset is no end."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"\r\nhe")
    wire.end(ConnectionResetError())
    with pytest.raises(UpstreamBroken, match=CUT):
        await wire.answer()


@pytest.mark.parametrize(
    ("uvloop", "eof", "whole"), [(True, True, True), (True, False, False), (False, True, False), (False, False, False)]
)
async def test_cut_tls_stream_is_no_end(uvloop: bool, eof: bool, whole: bool) -> None:
    """http-facts §5: over TLS only close_notify ends a body, and only uvloop tells; else the answer is broken."""
    wire = Wire(tls=True, uvloop=uvloop)
    wire.ask()
    wire.feed(OK + b"\r\nhello")
    wire.end(eof=eof)
    if whole:
        assert await wire.answer() == (200, b"hello")
    else:
        with pytest.raises(UpstreamBroken, match=CUT):
            await wire.answer()


MALFORMED = {
    "gzip, chunked": (
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        "its answer has a transfer coding other than chunked",
    ),
    "chunked, gzip": (
        b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        "its answer has a transfer coding other than chunked",
    ),
    "xchunked": (b"Transfer-Encoding: xchunked\r\n\r\n", "its answer has a transfer coding other than chunked"),
    "chunked twice": (
        b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n",
        "its answer has a transfer coding other than chunked",
    ),
    "length and coding": (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", NOT_HTTP),
    "coding and length": (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", NOT_HTTP),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", NOT_HTTP),
    "the same length twice": (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n", NOT_HTTP),
    "a list of lengths": (b"Content-Length: 2, 2\r\n\r\n", NOT_HTTP),
    "a negative length": (b"Content-Length: -2\r\n\r\n", NOT_HTTP),
    "a signed length": (b"Content-Length: +2\r\n\r\n", NOT_HTTP),
    "an endless length": (b"Content-Length: 99999999999999999999\r\n\r\n", NOT_HTTP),
    "folding": (b"X-A: b\r\n c\r\n\r\n", NOT_HTTP),
    "NUL": (b"X-A: b\0c\r\n\r\n", NOT_HTTP),
    "control": (b"X-A: b\x01c\r\n\r\n", NOT_HTTP),
    "bare LF": (b"X-A: b\n\r\n", NOT_HTTP),
    "bare CR": (b"X-A: b\rc\r\n\r\n", NOT_HTTP),
    "blank before the colon": (b"X-A : b\r\n\r\n", NOT_HTTP),
    "no colon": (b"X-A\r\n\r\n", NOT_HTTP),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_heads(case: str) -> None:
    """http-facts §5: what recipients read differently is refused, and the parser never used again."""
    head, text = MALFORMED[case]
    wire = Wire()
    wire.ask()
    wire.feed(OK + head + b"ok")
    await refused(wire, text)


@pytest.mark.parametrize("field", [(b"x-a", b"b\x7fc"), (b"x-a", b"b\x01"), (b"x a", b"b"), (b"", b"b")])
def test_malformed_fields_that_a_parser_lets_through(field: tuple[bytes, bytes]) -> None:
    """C5 16: what our own server would refuse to send on is refused here, whatever the parser thinks of it."""
    with pytest.raises(UpstreamBroken, match="its answer has a malformed header field"):
        examine(200, "1.1", (field,), large=False)


@pytest.mark.parametrize(
    "start",
    [b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.2 200 OK", b"SSH-2.0-OpenSSH", b"ICY 200 OK", b"\x16\x03"],
)
async def test_other_protocols(start: bytes) -> None:
    """http-facts §5: HTTP/1.0 and HTTP/1.1, nothing else."""
    wire = Wire()
    wire.ask()
    wire.feed(start + b"\r\nContent-Length: 2\r\n\r\nok")
    await refused(wire, NOT_HTTP)


@pytest.mark.parametrize(
    "broken", [b"zz\r\n", b"2\nok\r\n", b"2\r\nokay\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"-2\r\nok\r\n"]
)
async def test_broken_chunks(broken: bytes) -> None:
    """A body whose chunks do not add up is broken, not short."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + broken)
    await refused(wire, NOT_HTTP)


@pytest.mark.parametrize("whole", [True, False])
async def test_heads_are_bounded(whole: bool) -> None:
    """A head has at most 64 KiB, in one piece or without an end, and at most 200 fields."""
    wire = Wire()
    wire.ask()
    line = b"X-A: " + b"a" * 10_000 + b"\r\n"
    wire.feed(*([OK + line * 7 + b"\r\n"] if whole else [OK, *[line] * 7]))
    await refused(wire, "the head of its answer is too long")
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"X-A: b\r\n" * 202 + (b"\r\n" if whole else b""))
    await refused(wire, "its answer has too many header fields")


async def test_one_endless_field() -> None:
    """A single field without an end is bounded, too."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"X-A: ", *[b"a" * 30_000] * 3)
    await refused(wire, "the head of its answer is too long")


async def test_endless_interim_answers() -> None:
    """1xx after 1xx is a head without an end."""
    wire = Wire()
    wire.ask()
    wire.feed(*[b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 1000 + b"\r\n\r\n"] * 70)
    await refused(wire, "the head of its answer is too long")


async def test_large_first_body_is_not_a_long_head() -> None:
    """A small head that comes with much body in one piece is fine."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000)
    assert await wire.answer() == (200, b"a" * 200_000)


@pytest.mark.parametrize("what", [b"0\r\nX-T: ", b"0\r\n", b"5;ext="])
async def test_endless_trailers(what: bytes) -> None:
    """Trailers and chunk extensions are bounded by what they bring: nothing."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + what)
    await wire.connection.head()
    wire.feed(*[b"X-T: a\r\n" * 100 if what == b"0\r\n" else b"a" * 800] * 90)
    with pytest.raises(UpstreamBroken, match="the trailers of its answer are too long"):
        await wire.answer()


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, CLOSE\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
@pytest.mark.parametrize("head_only", [True, False])
async def test_keeping_alive(head: bytes, kept: bool, head_only: bool) -> None:
    """A connection is kept when the backend would take another request."""
    wire = Wire()
    wire.ask(head_only=head_only)
    wire.feed(head + b"Content-Length: 2\r\n\r\n" + (b"" if head_only else b"ok"))
    await wire.answer()
    assert wire.connection.release() is kept


async def test_end_without_an_answer() -> None:
    """A connection that closes instead of answering is broken; stale only if it had answered somebody before."""
    wire = Wire()
    wire.ask()
    wire.end()
    with pytest.raises(UpstreamBroken, match="it closed the connection without an answer"):
        await wire.answer()
    assert not wire.connection.stale
    assert wire.lost == [wire.connection]
    for pieces, stale in (((), True), ((b"H",), False)):
        wire = Wire()
        wire.ask()
        wire.feed(OK + b"Content-Length: 0\r\n\r\n")
        wire.connection.release()
        wire.ask()
        wire.feed(*pieces)
        wire.end()
        assert wire.connection.stale is stale


async def test_closed_by_us_is_never_stale() -> None:
    """Only what the backend gave up may be tried again: not a time-out, not our own closing."""
    for close in (Connection.timed_out, Connection.abort):
        wire = Wire()
        wire.ask()
        wire.feed(OK + b"Content-Length: 0\r\n\r\n")
        wire.connection.release()
        wire.ask()
        close(wire.connection)
        wire.end()
        with pytest.raises((UpstreamBroken, UpstreamTimeout)):
            await wire.answer()
        assert not wire.connection.stale


async def test_short_body_is_broken() -> None:
    """A body that ends before its length: what came is read, then it is broken."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Content-Length: 5\r\n\r\nhe")
    wire.end()
    await wire.connection.head()
    assert await wire.connection.read(None) == b"he"
    with pytest.raises(UpstreamBroken, match=CUT):
        await wire.connection.read(None)


async def test_reading_stops_when_nobody_reads() -> None:
    """More than 64 KiB unread stop the backend; reading goes on when they were taken."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Content-Length: 200000\r\n\r\n" + b"a" * 65_536)
    assert not wire.transport.paused
    wire.feed(b"a")
    assert wire.transport.paused
    await wire.connection.head()
    assert len(await wire.connection.read(None)) == 65_537
    assert not wire.transport.paused


async def test_stopped_connections_are_not_kept() -> None:
    """While reading is stopped nobody sees what comes behind the answer, so the connection is not used again."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Content-Length: 70000\r\n\r\n" + b"a" * 70_000)
    assert not wire.connection.release()


async def test_unsent_requests_are_not_followed() -> None:
    """An answer that came before the request was gone leaves a connection in the middle of a request."""
    wire = Wire()
    wire.ask()
    wire.transport.unsent = 1
    wire.feed(OK + b"Content-Length: 0\r\n\r\n")
    assert await wire.answer() == (200, b"")
    assert not wire.connection.release()


async def test_closed_before_the_request() -> None:
    """A connection that is closed already takes no request: nothing was sent."""
    wire = Wire()
    wire.end()
    with pytest.raises(UpstreamUnreachable, match="it closed the connection at once"):
        wire.ask()


async def test_ended_on_our_side() -> None:
    """A stream that is ended here ends properly for whoever reads, after what has come; the connection is used up."""
    wire = Wire()
    wire.ask()
    wire.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    wire.connection.end()
    assert await wire.answer() == (200, b"ok")
    assert not wire.connection.release()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
async def test_splits_make_no_difference(data: st.DataObject) -> None:
    """However the bytes come in pieces, the answer is the same."""
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\nX-A: c\r\n\r\n"
        b"5;x=y\r\nhello\r\n3\r\n, w\r\n0\r\nX-T: t\r\n\r\n"
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
    wire = Wire()
    wire.ask()
    wire.feed(*[raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)])
    assert await wire.answer() == (200, b"hello, w")
    assert wire.connection.headers == ((b"x-a", b"b"), (b"transfer-encoding", b"chunked"), (b"x-a", b"c"))
    assert wire.connection.release()


@settings(deadline=None, max_examples=200)
@given(noise=st.lists(st.binary(max_size=60), max_size=6), start=st.sampled_from([b"", OK, b"HTTP/1.1 2"]))
async def test_noise_is_an_answer_or_an_error(noise: list[bytes], start: bytes) -> None:
    """Whatever a backend sends: an answer, or `UpstreamBroken`, and never a connection kept in the middle of one."""
    wire = Wire()
    wire.ask()
    wire.feed(start, *noise)
    wire.end()
    try:
        await wire.answer()
    except UpstreamBroken:
        assert not wire.connection.release()
