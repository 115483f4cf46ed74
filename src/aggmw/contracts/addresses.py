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


class Address(NamedTuple):
    """Where a backend URL points."""

    host: str
    port: int
    tls: bool


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


def parse_backend_url(url: str) -> Address:
    """`https://host[:port]` or `http://host[:port]`, and nothing more: no path, query, fragment or credentials.

    Raises:
        ValueError: with what is wrong.
    """
    match = _URL.match(url)
    if match is None:
        raise ValueError("must be https://host:port or http://host:port, without path, query or fragment")
    scheme, authority, _ = match.groups()
    if "@" in authority:
        raise ValueError("must not hold credentials")
    tls = scheme.lower() == "https"
    if authority.endswith("]") or ":" not in authority:
        return Address(_host(authority), 443 if tls else 80, tls)
    return Address(*parse_host_port(authority), tls)
