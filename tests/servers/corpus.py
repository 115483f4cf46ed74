"""Raw requests whose framing or head recipients may read differently, and what becomes of each (security cases C5).

Each is one connection. What is after the head of a refused request is there to be smuggled: `/things/smuggled`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GROUPS", "Case", "Sent"]

SMUGGLED = b"GET /things/smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the service gets, besides the front proxy's own fields.

    Args:
        method, target: the request line.
        body: without framing.
        fields: the client's that go on.
    """

    method: str = "GET"
    target: bytes = b"/things/a"
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One connection's bytes, and what comes of them.

    Args:
        raw: what the client sends.
        outcome: under our door, as the client sees it: the codes of the answers, then "open" if the connection goes on;
            "closed" without an answer.
        sent: what the service gets from whoever forwards it, be it only a lenient reader.
    """

    raw: bytes
    outcome: str = "400"
    sent: Sent = Sent()


def _get(*fields: bytes, line: bytes = b"GET /things/a HTTP/1.1", rest: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: x", *fields, b"Connection: close", b"", b""]) + rest


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return _get(*fields, line=b"POST /things/a HTTP/1.1", rest=body)


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


def _open(*fields: bytes, line: bytes = b"POST /things/a HTTP/1.1", rest: bytes = b"") -> bytes:
    """A request after which the connection may go on, and another one behind it."""
    return b"\r\n".join([line, b"Host: x", *fields, b"", b""]) + rest + SMUGGLED


def _open_chunked(body: bytes) -> bytes:
    return _open(b"Transfer-Encoding: chunked", rest=body)


HELLO = Sent("POST", body=b"hello")
EMPTY = Sent("POST")
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

WELL_FORMED = {
    "a plain GET": Case(_get(), "200"),
    "a length": Case(_post(b"Content-Length: 5", body=b"hello"), "200", HELLO),
    "a length of nothing": Case(_post(b"Content-Length: 0"), "200", EMPTY),
    "a POST without a length": Case(_post(), "200", EMPTY),
    "chunks": Case(_chunked(CHUNKS), "200", HELLO),
    "chunked in capitals": Case(_post(b"TRANSFER-ENCODING: Chunked", body=CHUNKS), "200", HELLO),
    "blanks around values": Case(
        _post(b"Content-Length: \t 5 \t", b"X-A:b \t", body=b"hello"),
        "200",
        Sent("POST", body=b"hello", fields=((b"x-a", b"b"),)),
    ),
    "a GET with a body": Case(_get(b"Content-Length: 5", rest=b"hello"), "200", Sent(body=b"hello")),
    "a length with leading zeros": Case(_post(b"Content-Length: 0005", body=b"hello"), "200", HELLO),
    "chunk sizes with leading zeros": Case(_chunked(b"0005\r\nhello\r\n000\r\n\r\n"), "200", HELLO),
    "chunk extensions": Case(_chunked(b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n'), "200", HELLO),
    "trailers": Case(_chunked(b"5\r\nhello\r\n0\r\nX-Remote-User: eve\r\nX-T: t\r\n\r\n"), "200", HELLO),
    "HTTP/1.0": Case(b"GET /things/a HTTP/1.0\r\n\r\n", "200"),
    "an empty line first": Case(b"\r\n" + _get(), "200"),
    "TE": Case(_get(b"TE: trailers, chunked"), "200"),
    "fields that Connection names": Case(
        b"GET /things/a HTTP/1.1\r\nHost: x\r\nX-A: b\r\nConnection: close, x-a\r\n\r\n", "200"
    ),
    "framing in another spelling": Case(
        _post(b"Content_Length: 7", b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"hello"), "200", HELLO
    ),
    "100-continue with the body at once": Case(
        _post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"), "200", HELLO
    ),
    "repeated fields": Case(
        _get(b"X-A: 1", b"X-B: 2", b"X-A: 3"), "200", Sent(fields=((b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")))
    ),
    "Latin-1 in a value": Case(_get(b"X-A: \xe9"), "200", Sent(fields=((b"x-a", b"\xe9"),))),
}

LENGTHS = {
    f"a length of {value!r}": Case(_open(b"Content-Length: " + value, rest=b"hello"), sent=HELLO)
    for value in (
        b"+5",
        b"-5",
        b"0x5",
        b"5 5",
        b"5, 5",
        b"5_0",
        b"5.0",
        b"",
        b"5\x0b",
        b"\x0b5",
        b"five",
        b"99999999999999999999",
        b"18446744073709551621",
    )
} | {
    "a length twice": Case(_open(b"Content-Length: 5", b"Content-Length: 5", rest=b"hello"), sent=HELLO),
    "two lengths": Case(_open(b"Content-Length: 5", b"Content-Length: 66", rest=b"hello"), sent=HELLO),
    "a length and chunked": Case(
        _open(b"Content-Length: 5", b"Transfer-Encoding: chunked", rest=b"0\r\n\r\n"), sent=EMPTY
    ),
    "chunked and a length": Case(
        _open(b"Transfer-Encoding: chunked", b"Content-Length: 5", rest=b"0\r\n\r\n"), sent=EMPTY
    ),
    "chunked and a length of nothing": Case(
        _open(b"Transfer-Encoding: chunked", b"Content-Length: 0", rest=CHUNKS), sent=HELLO
    ),
}

CODINGS = {
    f"a coding of {value!r}": Case(_open(b"Transfer-Encoding: " + value, rest=CHUNKS), sent=HELLO)
    for value in (
        b"xchunked",
        b"chunked, chunked",
        b"chunked;x",
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"",
        b"\x0bchunked",
        b"chunked\x00",
        b'"chunked"',
        b"chunked,",
        b", chunked",
        b"cow",
    )
} | {
    "a coding twice": Case(
        _open(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", rest=CHUNKS), sent=HELLO
    ),
    "identity, then chunked": Case(
        _open(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", rest=CHUNKS), sent=HELLO
    ),
    "a folded coding": Case(_open(b"Transfer-Encoding:\r\n chunked", rest=CHUNKS), sent=HELLO),
    "a blank before the colon of the coding": Case(_open(b"Transfer-Encoding : chunked", rest=CHUNKS), sent=HELLO),
    "a coding in HTTP/1.0": Case(
        b"POST /things/a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + SMUGGLED,
        sent=HELLO,
    ),
}

CHUNKINGS = {
    f"a chunk size of {size!r}": Case(_open_chunked(size + b"\r\nhello\r\n0\r\n\r\n"), sent=HELLO)
    for size in (b" 5", b"0x5", b"+5", b"-5", b"5_", b"G", b"", b";a", b"5\x00", b"10000000000000005")
} | {
    "a blank behind a chunk size": Case(_open_chunked(b"5 \r\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "a chunk size that ends with LF": Case(_open_chunked(b"5\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "a chunk size that ends with CR": Case(_open_chunked(b"5\rhello\r\n0\r\n\r\n"), sent=HELLO),
    "a chunk that ends with LF": Case(_open_chunked(b"5\r\nhello\n0\r\n\r\n"), sent=HELLO),
    "a chunk longer than said": Case(_open_chunked(b"5\r\nhello world\r\n0\r\n\r\n"), sent=HELLO),
    "a chunk shorter than said": Case(_open_chunked(b"9\r\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "an extension with LF": Case(_open_chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "an extension with CR": Case(_open_chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "an extension that hides a size": Case(_open_chunked(b"5;\n66\r\nhello\r\n0\r\n\r\n"), sent=HELLO),
    "an unfinished quote in an extension": Case(_open_chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n'), sent=HELLO),
    "a last chunk that ends with LF": Case(_open_chunked(b"5\r\nhello\r\n0\n\n"), sent=HELLO),
    "a trailer that is a length": Case(_open_chunked(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"), sent=HELLO),
    "a trailer that is a coding": Case(
        _open_chunked(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), sent=HELLO
    ),
    "a folded trailer": Case(_open_chunked(b"5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\n"), sent=HELLO),
}

LINES = {
    "lines that end with LF": Case(b"GET /things/a HTTP/1.1\nHost: x\nConnection: close\n\n"),
    "a field that ends with LF": Case(
        b"GET /things/a HTTP/1.1\r\nHost: x\r\nX-A: b\nConnection: close\r\n\r\n", sent=Sent(fields=((b"x-a", b"b"),))
    ),
    "a field that ends with CR": Case(b"GET /things/a HTTP/1.1\r\nHost: x\r\nX-A: b\rConnection: close\r\n\r\n"),
    "a head that ends with LF": Case(
        b"POST /things/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\n" + b"hello" + SMUGGLED, sent=HELLO
    ),
    "CR in a value": Case(_get(b"X-A: b\rc")),
    "CR CR LF": Case(_get(b"X-A: b\r")),
    "a folded field": Case(_get(b"X-A: b\r\n\tc"), sent=Sent(fields=((b"x-a", b"b c"),))),
    "a folded first field": Case(b"GET /things/a HTTP/1.1\r\n Host: x\r\nHost: y\r\nConnection: close\r\n\r\n"),
    "a blank before the colon": Case(_get(b"X-A : b")),
    "a blank before the colon of the length": Case(_post(b"Content-Length : 5", body=b"hello")),
    "a blank in a name": Case(_get(b"X A: b")),
    "no name": Case(_get(b": b")),
    "no colon": Case(_get(b"X-A")),
    "NUL in a name": Case(_get(b"X\x00A: b")),
    "NUL in a value": Case(_get(b"X-A: b\x00c")),
    "a control in a value": Case(_get(b"X-A: b\x01c")),
    "DEL in a value": Case(_get(b"X-A: b\x7fc")),
    "a name beyond ASCII": Case(_get(b"X-\xc3\xa4: b")),
    "64 KiB of a head without an end": Case(_get(b"X-A: " + b"a" * 66_500)[:-4], "431"),
    "300 fields": Case(_get(*[b"X-A: b"] * 300), "431", Sent(fields=((b"x-a", b"b"),) * 300)),
}

REQUEST_LINES = {
    name: Case(_get(line=line) if version else line + b"\r\n\r\n")
    for name, line, version in (
        ("a method in small letters", b"get /things/a HTTP/1.1", True),
        ("a method with a digit", b"G3T /things/a HTTP/1.1", True),
        ("a method with NUL", b"G\x00T /things/a HTTP/1.1", True),
        ("a tab behind the method", b"GET\t/things/a HTTP/1.1", True),
        ("a blank behind the version", b"GET /things/a HTTP/1.1 ", True),
        ("a blank in front of the method", b" GET /things/a HTTP/1.1", True),
        ("a version in small letters", b"GET /things/a http/1.1", True),
        ("HTTP/1.10", b"GET /things/a HTTP/1.10", True),
        ("HTTP/01.1", b"GET /things/a HTTP/01.1", True),
        ("HTTP/1.2", b"GET /things/a HTTP/1.2", True),
        ("HTTP/2.0", b"GET /things/a HTTP/2.0", True),
        ("HTTP/0.9", b"GET /things/a", False),
        ("a target that is a URL", b"GET http://y/things/a HTTP/1.1", True),
        ("a target without a slash", b"GET things/a HTTP/1.1", True),
        ("a target that is an authority", b"GET y:80 HTTP/1.1", True),
        ("a target that is a star", b"OPTIONS * HTTP/1.1", True),
        ("a target that begins with two slashes", b"GET //things/a HTTP/1.1", True),
        ("a target with a fragment", b"GET /things/a#b HTTP/1.1", True),
        ("a target with a fragment behind the query", b"GET /things/a?b#c HTTP/1.1", True),
        ("a target with a blank", b"GET /things/a b HTTP/1.1", True),
        ("a target with NUL", b"GET /things/a\x00 HTTP/1.1", True),
        ("a target with a control", b"GET /things/a\x0b HTTP/1.1", True),
        ("a target beyond ASCII", b"GET /things/\xc3\xa4 HTTP/1.1", True),
        ("a target with dot segments", b"GET /things/../things/a HTTP/1.1", True),
        ("a backslash in the target", b"GET /things\\a HTTP/1.1", True),
    )
} | {
    "two blanks behind the method": Case(_get(line=b"GET  /things/a HTTP/1.1"), "200"),
    "two blanks behind the target": Case(_get(line=b"GET /things/a  HTTP/1.1"), "200"),
    "CONNECT": Case(b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nConnection: close\r\n\r\n", "405"),
    "TRACE": Case(_get(line=b"TRACE /things/a HTTP/1.1"), "405"),
    "the preface of HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "no Host": Case(b"GET /things/a HTTP/1.1\r\nConnection: close\r\n\r\n"),
    "two Hosts": Case(_get(b"Host: y")),
    "the same Host twice": Case(_get(b"Host: x")),
    "a path in Host": Case(b"GET /things/a HTTP/1.1\r\nHost: x/y?\r\nConnection: close\r\n\r\n"),
    "an upgrade to h2c": Case(
        b"GET /things/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + SMUGGLED
    ),
}

BEHIND = {
    "two requests": Case(_open(line=b"GET /things/a HTTP/1.1"), "200"),
    "a request behind a body": Case(_open(b"Content-Length: 5", rest=b"hello"), "200", HELLO),
    "a request behind chunks": Case(_open_chunked(CHUNKS), "200", HELLO),
    "a request behind trailers": Case(_open_chunked(CHUNKS[:-2] + b"X-T: t\r\n\r\n"), "200", HELLO),
    "a request behind Connection: close": Case(_get(rest=SMUGGLED), "200"),
    "a request in a body": Case(
        _post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), "200", Sent("POST", body=SMUGGLED)
    ),
    "a body longer than its length": Case(_open(b"Content-Length: 3", rest=b"hello"), "200", Sent("POST", body=b"hel")),
    "a body without a length": Case(_open(line=b"GET /things/a HTTP/1.1", rest=b"hello\r\n\r\n"), "200"),
    "a NUL behind a request": Case(_open(line=b"GET /things/a HTTP/1.1", rest=b"\x00"), "200"),
    "half a request behind a request": Case(_open(line=b"GET /things/a HTTP/1.1")[:-4], "200"),
}

GROUPS: dict[str, dict[str, Case]] = {
    "well formed": WELL_FORMED,
    "lengths": LENGTHS,
    "transfer codings": CODINGS,
    "chunks": CHUNKINGS,
    "lines and fields": LINES,
    "request lines and Host": REQUEST_LINES,
    "bytes behind a request": BEHIND,
}
