"""URLs: Kubernetes' `url`, `isURL` and their parts."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library

__all__ = ["library"]

library = Library()
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNFIT = re.compile(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})")


def _cost(text: str) -> int:
    return len(text) // 10


def _parse(text: str) -> SplitResult | None:
    """An absolute URL, or an absolute path; as Go's `url.ParseRequestURI`."""
    if _UNFIT.search(text) or not (text.startswith("/") or _SCHEME.match(text)):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts if text.startswith("/") or parts.netloc or parts.path.startswith("/") else None


@library.overload("isURL(string) -> bool", cost=_cost)
def _is_url(text: str) -> bool:
    return _parse(text) is not None


@library.overload("url(string) -> url", cost=_cost)
def _url(text: str) -> SplitResult:
    found = _parse(text)
    if found is None:
        raise CelEvaluationError("URL parse error during conversion from string")
    return found


library.add("url.getScheme() -> string", lambda url: url.scheme)


def _authority(url: SplitResult) -> str:
    """Host and port, without the user."""
    return url.netloc.rpartition("@")[2]


@library.overload("url.getHost() -> string")
def _host(url: SplitResult) -> str:
    return _authority(url)


@library.overload("url.getHostname() -> string")
def _hostname(url: SplitResult) -> str:
    host = _authority(url)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@library.overload("url.getPort() -> string")
def _port(url: SplitResult) -> str:
    return "" if url.port is None else str(url.port)


@library.overload("url.getEscapedPath() -> string")
def _path(url: SplitResult) -> str:
    return quote(url.path, safe="/%:@!$&'()*+,;=~-._")


@library.overload("url.getQuery() -> map(string, list(string))")
def _query(url: SplitResult) -> dict[str, list[str]]:
    try:
        return parse_qs(url.query, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise CelEvaluationError("the query of the URL has too many fields") from None
