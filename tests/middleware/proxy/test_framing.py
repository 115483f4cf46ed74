"""What the head of an answer says, and the heads that are refused (http-facts §5, security cases C5 16)."""

from __future__ import annotations

import pytest

from aggmw.asgi.types import Headers
from aggmw.errors import UpstreamBroken
from aggmw.middleware.proxy.transports.framing import Framing, examine

LENGTH = (b"content-length", b"5")
CHUNKED = (b"transfer-encoding", b"chunked")
UNCLEAR = "the length of its answer is unclear"
CODING = "its answer has a transfer coding other than chunked"
NOT_HTTP = "its answer is not HTTP/1.1"


@pytest.mark.parametrize(
    ("version", "headers", "framing"),
    [
        ("1.1", (LENGTH,), Framing(delimited=True, keep_alive=True)),
        ("1.1", (CHUNKED,), Framing(delimited=True, keep_alive=True)),
        ("1.1", (), Framing(delimited=False, keep_alive=True)),
        ("1.0", (LENGTH,), Framing(delimited=True, keep_alive=False)),
        ("1.0", (LENGTH, (b"connection", b"Keep-Alive")), Framing(delimited=True, keep_alive=True)),
        ("1.1", (LENGTH, (b"connection", b"x, CLOSE")), Framing(delimited=True, keep_alive=False)),
        ("1.1", (LENGTH, (b"connection", b"close"), (b"connection", b"keep-alive")), Framing(True, False)),
    ],
)
def test_framing(version: str, headers: Headers, framing: Framing) -> None:
    """Where the body ends, and whether the connection goes on: `close` wins however often it is taken back."""
    assert examine(200, version, headers, large=False) == framing


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim(status: int) -> None:
    """1xx is not the answer."""
    assert examine(status, "1.1", (), large=False) is None


@pytest.mark.parametrize(
    ("status", "version", "headers", "text"),
    [
        (99, "1.1", (LENGTH,), NOT_HTTP),
        (0, "1.1", (LENGTH,), NOT_HTTP),
        (600, "1.1", (LENGTH,), NOT_HTTP),
        (999, "1.1", (LENGTH,), NOT_HTTP),
        (200, "2.0", (LENGTH,), NOT_HTTP),
        (200, "0.9", (), NOT_HTTP),
        (200, "1.0", (CHUNKED,), CODING),
        (200, "1.1", ((b"transfer-encoding", b"chunked, gzip"),), CODING),
        (200, "1.1", ((b"transfer-encoding", b"gzip, chunked"),), CODING),
        (200, "1.1", (CHUNKED, CHUNKED), CODING),
        (200, "1.1", (CHUNKED, LENGTH), UNCLEAR),
        (200, "1.1", (LENGTH, LENGTH), UNCLEAR),
        (200, "1.1", ((b"content-length", b"0" * 5000),), UNCLEAR),
        (200, "1.1", ((b"content-length", b"5, 5"),), UNCLEAR),
        (101, "1.1", (), "it switched protocols unasked"),
    ],
)
def test_refused(status: int, version: str, headers: Headers, text: str) -> None:
    """What recipients may read differently, what no server of ours could send on, and what nobody asked for."""
    with pytest.raises(UpstreamBroken) as caught:
        examine(status, version, headers, large=False)
    assert str(caught.value) == text
