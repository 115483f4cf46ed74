"""Which pages may use what browsers send by themselves (security cases C5.10): listed origins (RFC 6454), or none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

from aggmw.asgi.headers import values
from aggmw.asgi.types import Headers

__all__ = ["Origins", "says_its_server"]

_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PAGES = {"ws": "http", "wss": "https"}
_BROWSERS = (b"accept-language", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
_SHAPE = "must be an origin as browsers send it: scheme://host or scheme://host:port, and nothing behind it"


class Origins:
    """Origins that are listed. Compared whole, as browsers write them: no wildcards, no suffixes, never `null`.

    Args:
        listed: such as "https://console.example.com" or "http://localhost:3000"; upper case and the scheme's own port
            are put into the form that browsers send.

    Raises:
        ValueError: something that no browser sends as the origin of a page that can be named.
        TypeError: one string instead of several.
    """

    __slots__ = ("_listed",)

    def __init__(self, listed: Iterable[str] = ()) -> None:
        if isinstance(listed, str):
            raise TypeError("origins takes a list of origins, not one string")
        self._listed = frozenset(_canonical(each).encode("ascii") for each in listed)

    def __repr__(self) -> str:
        return repr(sorted(each.decode() for each in self._listed))

    def __bool__(self) -> bool:
        return bool(self._listed)

    def refuses(self, headers: Headers) -> str | None:
        """Whose page made a request that no page may make here: its origin, in words; None when it may be made.

        Browsers say the origin with every request that may change something and with every WebSocket handshake, and no
        page can change it. `Sec-Fetch-Site` tells a browser too, and lets nobody in. Without either it was none:
        `kubectl` sends neither.
        """
        origins = values(headers, b"origin")
        if len(origins) == 1:
            return None if origins[0] in self._listed else _shown(origins[0])
        if origins:
            return "several origins"
        return "an origin that it does not say" if values(headers, b"sec-fetch-site") else None


def says_its_server(headers: Headers, scheme: str) -> bool:
    """Whether a WebSocket handshake has the server's own origin from a library, which put it there of its own accord.

    websocket-client does, and so `kubernetes.stream` of the official Python client. A page can set no field of a
    handshake, and browsers put `Mozilla/` into `User-Agent` and say `Accept-Language`: with either it was a browser,
    whose pages need a listed origin also where it is the server's own.

    Args:
        headers: of the handshake.
        scheme: the scope's, "ws" or "wss".
    """
    if any(values(headers, name) for name in _BROWSERS):
        return False
    if any(value.lower().startswith(b"mozilla/") for value in values(headers, b"user-agent")):
        return False
    own = [f"{_PAGES.get(scheme, scheme)}://".encode() + host for host in values(headers, b"host")]
    return len(own) == 1 and values(headers, b"origin") == own


def _shown(origin: bytes) -> str:
    """The origin, where it is one; other words of a client are not repeated."""
    text = origin.decode("latin-1")
    if len(text) <= 300 and _PARTS.fullmatch(text):
        return f"the origin {text}"
    return "the origin null" if text == "null" else "an origin that cannot be read"


def _canonical(origin: str) -> str:
    """As browsers send it.

    Raises:
        ValueError: with what is wrong, and what to write.
    """
    if not isinstance(origin, str):
        raise TypeError(f"origins takes texts, not {type(origin).__name__}")
    if origin == "null":
        raise ValueError("null cannot be listed: files and sandboxed frames of any page send it")
    if "*" in origin:
        raise ValueError(f"{origin!r} has a wildcard: list each origin by itself")
    if not origin.isascii():
        raise ValueError(f"{origin!r} must be written as browsers send it: the host in ASCII (xn--…)")
    match = _PARTS.fullmatch(origin)
    if match is None:
        raise ValueError(f"{origin!r} {_SHAPE}")
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    if page := _PAGES.get(scheme):
        raise ValueError(f"{origin!r} must be the origin of the page that opens the WebSocket: {page}://…")
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1]).compressed}]"
        except AddressValueError:
            raise ValueError(f"{origin!r} {_SHAPE}") from None
    if port is None:
        return f"{scheme}://{host}"
    number = int(port)
    if not 0 < number <= 65_535:
        raise ValueError(f"{origin!r} has no valid port")
    return f"{scheme}://{host}" if number == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{number}"
