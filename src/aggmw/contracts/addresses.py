"""`host:port` and backend URLs, read strictly."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

__all__ = ["Address", "parse_backend_url", "parse_host_port"]

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_URL = re.compile(r"(https?)://([^/?#]*)(/?)\Z", re.IGNORECASE)
_UNIX = re.compile(r"unix:(?://(?=/))?(/.*)", re.DOTALL)
_UNIX_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=@-]+)+")
_UNIX_BYTES = 107  # of `sun_path`, which ends with a NUL


class Address(NamedTuple):
    """Where a backend URL points.

    Attributes:
        unix: the path of a Unix socket; the others then say what the server is called, and nothing is to be dialled.
    """

    host: str
    port: int
    tls: bool
    unix: str = ""


def parse_host_port(text: str) -> tuple[str, int]:
    """`host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.

    Raises:
        ValueError: with what is wrong.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError('must be "host:port" with a port from 1 to 65535')
    return _host(host), int(port)


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError("must have an IPv6 address in its brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError("must name a host or an address (an IPv6 address stands in brackets)")
    return host


def _unix_path(path: str) -> str:
    if not _UNIX_PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(
            "must name a socket by its plain absolute path: unix:/path/of/a.sock, without dot segments, escapes or what"
            " a URL has behind its path"
        )
    if len(path) > _UNIX_BYTES:
        raise ValueError(f"must have a path of at most {_UNIX_BYTES} bytes: the system takes no longer ones")
    return path


def parse_backend_url(url: str) -> Address:
    """`https://host[:port]`, `http://host[:port]` or `unix:/path`: no path of a URL, query, fragment or credentials.

    `unix:///path` is the same as `unix:/path`: plain HTTP over a Unix socket.

    Raises:
        ValueError: with what is wrong.
    """
    if unix := _UNIX.fullmatch(url):
        return Address("localhost", 0, False, _unix_path(unix[1]))
    match = _URL.match(url)
    if match is None:
        raise ValueError(
            "must be https://host:port or http://host:port, without path, query or fragment, or unix:/path/of/a.sock"
        )
    scheme, authority, _ = match.groups()
    if "@" in authority:
        raise ValueError("must not hold credentials")
    tls = scheme.lower() == "https"
    if authority.endswith("]") or ":" not in authority:
        return Address(_host(authority), 443 if tls else 80, tls)
    return Address(*parse_host_port(authority), tls)
