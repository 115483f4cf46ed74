"""Whether the head of a request may come in, decided on its raw bytes, and the door's own refusals as bytes.

What several parsers read differently is refused here, before anything is derived from it: `httptools.parse_url` drops
`#…` silently and hides the authority of an absolute-form target (security cases C5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from aggmw.asgi.headers import unfit_parts
from aggmw.contracts.exchange import Answer
from aggmw.objects.status import status_answer

__all__ = [
    "BAD_REQUEST",
    "FAILED",
    "HEAD_TOO_LARGE",
    "OVERLOADED",
    "TIMED_OUT",
    "Head",
    "bad_request",
    "examine",
    "rendered",
]

_TARGET = bytes(byte for byte in range(33, 127) if byte != ord("#"))
_METHOD = re.compile(rb"[A-Z]{1,20}").fullmatch
_HOST = b"!$%&'()*+,-.:;=[]_~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # as Go's net/http


_USUAL = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_ALLOW = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


def bad_request(message: str) -> Answer:
    """A 400 with the reason in words; the message never holds anything of the request."""
    return status_answer(400, "BadRequest", message)


BAD_REQUEST = bad_request("the request is not valid HTTP/1.1")
HEAD_TOO_LARGE = status_answer(431, "RequestHeaderFieldsTooLarge", "the request's header fields are too large")
TIMED_OUT = status_answer(408, "Timeout", "the client was too slow sending the request")
FAILED = status_answer(500, "InternalError", "Internal error occurred")
OVERLOADED = status_answer(
    503, "ServiceUnavailable", "the server has too many requests in progress, please try again later"
)
_NOT_ALLOWED = status_answer(405, "MethodNotAllowed", "the server does not allow this method", headers=[_ALLOW])


class Head(NamedTuple):
    """What framing needs to know of a head that may come in."""

    chunked: bool = False
    length: int = 0
    expects: bool = False
    upgrade: bytes | None = None
    has_body: bool = False


_PLAIN = Head()


def examine(method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> Head | Answer:
    """The framing of a request, or the answer that refuses it.

    Args:
        method: as sent.
        target: the request target as sent, all of its bytes.
        version: "1.1" or whatever else the client said.
        headers: names in lower case, values without white space around them.
    """
    if version not in ("1.1", "1.0"):
        return bad_request("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in _USUAL:
        if not _METHOD(method):
            return bad_request("the request method is not valid")
        if method in (b"CONNECT", b"TRACE"):
            return _NOT_ALLOWED
    if target[:1] != b"/" or target[1:2] == b"/" or target.translate(None, _TARGET):
        return bad_request(
            "the request target must be a path that begins with one slash, in ASCII and without a fragment"
        )
    expects = False
    upgrade: bytes | None = None
    hosts = codings = upgrades = 0
    length: bytes | None = None
    names = []
    values = []
    for name, value in headers:
        names.append(name)
        values.append(value)
        if name not in _TELLING:
            continue
        if name == b"host":
            hosts += 1
            if value.translate(None, _HOST):
                return bad_request("the Host header is not valid")
        elif name == b"content-length":
            if length is not None or not value.isdigit():
                return bad_request("the Content-Length header is not valid")
            length = value
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked" or codings > 1 or version != "1.1":
                return bad_request("the only transfer coding is chunked")
        elif name == b"expect":
            expects = version == "1.1" and value.lower() == b"100-continue"
        else:
            upgrades += 1
            upgrade = value.lower() if upgrades == 1 else b"several"
    if unfit_parts(names, values):
        return bad_request("a header field is not valid")
    if hosts != 1 and (hosts or version == "1.1"):
        return bad_request("the request needs exactly one Host header")
    if codings and length is not None:
        return bad_request("a request has either a Content-Length or a Transfer-Encoding")
    if length is None and not (codings or upgrades or expects):
        return _PLAIN
    return Head(codings == 1, int(length or 0), expects, upgrade, codings == 1 or int(length or 0) > 0)


_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"})


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` and its line end."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: status_line(status) for status in range(200, 600)}


def rendered(answer: Answer, *, body: bool = True) -> bytes:
    """A whole response that ends the connection."""
    fields = [
        *answer.headers,
        (b"content-length", str(len(answer.body)).encode()),
        (b"connection", b"close"),
    ]
    head = b"".join([name + b": " + value + b"\r\n" for name, value in fields])
    return STATUS_LINES[answer.status] + head + b"\r\n" + (answer.body if body else b"")
