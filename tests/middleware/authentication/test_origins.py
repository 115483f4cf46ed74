"""Listed origins (security cases C5.10): what can be listed, and what is compared."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aggmw.middleware.authentication.origins import Origins

CONSOLE = "https://console.example.com"


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        (CONSOLE, CONSOLE),
        ("HTTPS://Console.Example.COM", CONSOLE),
        ("https://console.example.com:443", CONSOLE),
        ("http://console.example.com:80", "http://console.example.com"),
        ("http://console.example.com:443", "http://console.example.com:443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("https://[0:0::1]:8443", "https://[::1]:8443"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_listed(listed: str, sent: str) -> None:
    """Put into the form that browsers send."""
    assert Origins([listed]).refuses(((b"origin", sent.encode()),)) is None


@pytest.mark.parametrize(
    ("origin", "complaint"),
    [
        ("", "must be an origin as browsers send it"),
        ("console.example.com", "must be an origin as browsers send it"),
        ("https://", "must be an origin as browsers send it"),
        ("https://console.example.com/", "nothing behind it"),
        ("https://console.example.com/app", "nothing behind it"),
        ("https://console.example.com?x", "nothing behind it"),
        ("https://alice@console.example.com", "must be an origin as browsers send it"),
        (" https://console.example.com", "must be an origin as browsers send it"),
        ("https://console.example.com\n", "must be an origin as browsers send it"),
        ("https://console.example.com https://b.example", "must be an origin as browsers send it"),
        ("https://console.example.com:", "nothing behind it"),
        ("https://console.example.com:0", "has no valid port"),
        ("https://console.example.com:65536", "has no valid port"),
        ("https://[::1", "must be an origin as browsers send it"),
        ("https://[:::1]", "must be an origin as browsers send it"),
        ("https://*.example.com", "has a wildcard: list each origin by itself"),
        ("*", "has a wildcard: list each origin by itself"),
        ("null", "null cannot be listed"),
        ("https://münchen.example", "the host in ASCII (xn--…)"),
        ("wss://console.example.com", "the origin of the page that opens the WebSocket: https://…"),
        ("ws://console.example.com", "the origin of the page that opens the WebSocket: http://…"),
    ],
)
def test_what_cannot_be_listed(origin: str, complaint: str) -> None:
    """What would never be sent, or would let in more than it says, is a mistake that says what to write."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Origins([origin])


def test_one_string_is_no_list() -> None:
    """It would be a list of letters."""
    with pytest.raises(TypeError, match="origins takes a list of origins, not one string"):
        Origins(CONSOLE)
    with pytest.raises(TypeError, match="origins takes texts, not int"):
        Origins([7])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://console.example.com",
        "https://console.example.com:8443",
        "https://console.example.com.evil.example",
        "https://evil-console.example.com",
        "https://evil.example/https://console.example.com",
        "https://CONSOLE.example.com",
        "https://console.example.com.",
        "https://console.example.com/",
        "null",
        "",
    ],
)
def test_c5_10_compared_whole(origin: str) -> None:
    """C5.10: no prefix, suffix, scheme or port of a listed origin is that origin; `null` never is."""
    assert Origins([CONSOLE]).refuses(((b"origin", origin.encode()),)) is not None


def test_no_browser() -> None:
    """Without `Origin` and `Sec-Fetch-Site` it was no browser: nobody's page can have made it."""
    assert Origins().refuses(((b"host", b"a"), (b"user-agent", b"kubectl"))) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none", ""])
def test_browser_without_an_origin(site: str) -> None:
    """`Sec-Fetch-Site` shows a browser, and is no way round the list."""
    headers = ((b"sec-fetch-site", site.encode()),)
    assert Origins([CONSOLE]).refuses(headers) == "an origin that it does not say"
    assert Origins([CONSOLE]).refuses((*headers, (b"origin", CONSOLE.encode()))) is None


def test_several() -> None:
    """A second field is as good as none."""
    assert Origins([CONSOLE]).refuses(((b"origin", CONSOLE.encode()),) * 2) == "several origins"


def test_shown() -> None:
    """An origin is named; what is none is not repeated."""
    origins = Origins()
    assert origins.refuses(((b"origin", b"https://evil.example"),)) == "the origin https://evil.example"
    assert origins.refuses(((b"origin", b"null"),)) == "the origin null"
    for odd in (b"<script>", b"https://a/\xff", b"https://" + b"a" * 300):
        assert origins.refuses(((b"origin", odd),)) == "an origin that cannot be read"


def test_repr() -> None:
    """In the form that is compared."""
    assert repr(Origins(["https://B.example:443", "http://a:1"])) == "['http://a:1', 'https://b.example']"
    assert not Origins()


hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True)


@given(
    st.sampled_from(["http", "https"]),
    hosts,
    st.one_of(st.none(), st.integers(1, 65_535)),
    st.sampled_from([str, str.upper, str.title]),
)
def test_as_it_is_listed_it_is_let_in(scheme: str, host: str, port: int | None, spelt: object) -> None:
    """Whatever the spelling in the list, what a browser sends for it matches, and the other scheme does not."""
    default = {"http": 80, "https": 443}[scheme]
    sent = f"{scheme}://{host}" if port in (None, default) else f"{scheme}://{host}:{port}"
    listed = spelt(f"{scheme}://{host}") if port is None else f"{spelt(f'{scheme}://{host}')}:{port}"  # type: ignore[operator]
    origins = Origins([listed])
    assert origins.refuses(((b"origin", sent.encode()),)) is None
    other = sent.replace("http", "x", 1)
    assert origins.refuses(((b"origin", other.encode()),)) is not None


@given(st.binary(max_size=40), hosts)
@example(b"https://a.b", "a.b")
def test_c5_10_nothing_else_is_let_in(sent: bytes, host: str) -> None:
    """C5.10: for arbitrary bytes, only those of the listed origin itself pass."""
    listed = f"https://{host}"
    assert (Origins([listed]).refuses(((b"origin", sent),)) is None) == (sent == listed.encode())


@given(st.text(max_size=30))
def test_any_text_is_listed_or_refused(text: str) -> None:
    """The list takes an origin or raises ValueError; what it took is ASCII, and matches itself."""
    try:
        origins = Origins([text])
    except ValueError:
        return
    (shown,) = eval(repr(origins))
    assert origins.refuses(((b"origin", shown.encode("ascii")),)) is None
