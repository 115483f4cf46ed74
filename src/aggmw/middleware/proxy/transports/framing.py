"""What the head of an answer says about its body and its connection, and the heads that are refused."""

from __future__ import annotations

from typing import NamedTuple

from aggmw.asgi.headers import unfit
from aggmw.asgi.types import Headers
from aggmw.errors import UpstreamBroken

__all__ = ["HEAD_BYTES", "HEAD_FIELDS", "NOT_HTTP", "UNASKED", "UPGRADED", "Framing", "examine"]

HEAD_BYTES = 65_536
"""Of a head, all 1xx before it included, and of what may come without bringing a byte of body: trailers, extensions."""

HEAD_FIELDS = 200

NOT_HTTP = "its answer is not HTTP/1.1"
UNASKED = "it answered more than it was asked"
UPGRADED = "it switched protocols unasked"
_DIGITS = 18  # more are no length, and leading zeros are nobody's honest work
_UNCLEAR = "the length of its answer is unclear"


class Framing(NamedTuple):
    """What follows a head.

    Attributes:
        delimited: the body's end is in the bytes; else it is the connection's end.
        keep_alive: the backend would take another request on this connection.
    """

    delimited: bool
    keep_alive: bool


def examine(status: int, version: str, headers: Headers, *, large: bool, upgrading: bool = False) -> Framing | None:
    """What the head of a final answer says; None for one to be skipped (1xx).

    Args:
        status, version, headers: names in lower case.
        large: whether the head may be larger than `HEAD_BYTES`.
        upgrading: whether 101 is a final answer, too.

    Raises:
        UpstreamBroken: what recipients may read differently, or what nobody asked for.
    """
    if version not in ("1.1", "1.0") or not 100 <= status <= 599:
        raise UpstreamBroken(NOT_HTTP)
    if status == 101 and not (upgrading and version == "1.1"):
        raise UpstreamBroken(UPGRADED)
    if large and sum([len(name) + len(value) + 4 for name, value in headers]) > HEAD_BYTES:
        raise UpstreamBroken("the head of its answer is too long")
    if status < 200 and status != 101:
        return None
    if unfit(headers):
        raise UpstreamBroken("its answer has a malformed header field")
    if status == 101:
        return _SWITCHED
    length: bytes | None = None
    chunked = False
    keep_alive, closing = version == "1.1", False
    for name, value in headers:
        if name not in _TELLING:
            continue
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > _DIGITS:
                raise UpstreamBroken(_UNCLEAR)
            length = value
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or version != "1.1":
                raise UpstreamBroken("its answer has a transfer coding other than chunked")
            chunked = True
        else:
            value = value.lower()
            if value != b"keep-alive":
                options = [option.strip() for option in value.split(b",")]
                closing = closing or b"close" in options
                keep_alive = keep_alive or b"keep-alive" in options
            else:
                keep_alive = True
    if chunked and length is not None:
        raise UpstreamBroken(_UNCLEAR)
    return (
        _USUAL
        if keep_alive and not closing and (chunked or length is not None)
        else Framing(chunked or length is not None, keep_alive and not closing)
    )


_TELLING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_USUAL = Framing(delimited=True, keep_alive=True)
_SWITCHED = Framing(delimited=True, keep_alive=False)
