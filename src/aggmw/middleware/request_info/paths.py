"""Paths as bytes → segments, decoded exactly once; paths that two readers could read differently are refused.

What Kubernetes, proxies and frameworks disagree on is not repaired but refused (security cases C2 and C5.6:
CVE-2022-3162 and the path-confusion class): the bytes that are forwarded later are those that came in.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from aggmw.middleware.request_info.refusals import bad_request

__all__ = ["NEVER", "Decoded", "decode", "plain"]

plain = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,=:@]+)+/?|/").fullmatch
"""Matches a path with nothing unusual in it: its segments are the decoded ones already."""

NEVER = 1 << 30
"""An index behind every segment."""

_RAW = re.compile(rb"[\x00-\x20\x7f-\xff#?\\]")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SLASHES = re.compile(r"[/\\%]")
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\;]|\Z)")
_ROUNDS = 3


class Decoded(NamedTuple):
    """A path that needed a closer look.

    Attributes:
        path: the whole path, decoded once.
        segments: what is between the slashes, decoded once; the first is always empty.
        slash: the index of the first segment with an encoded slash, backslash or percent sign, else `NEVER`.
        semicolon: the index of the first segment with a semicolon, raw or encoded, else `NEVER`.
    """

    path: str
    segments: list[str]
    slash: int
    semicolon: int


def decode(raw: bytes) -> Decoded:
    """Decode a path that is not `plain`.

    Whether an encoded slash or a semicolon is tolerable depends on what its segment means; that is left to the caller.

    Raises:
        StatusError: 400 for what is never tolerable: no leading slash, empty segments before the last, dot segments
            raw or encoded however often, control characters raw or encoded, `#`, `?`, backslashes, raw bytes
            outside ASCII, broken escapes, escapes that are not UTF-8.
    """
    if not raw.startswith(b"/"):
        raise bad_request("the request path does not begin with a slash")
    if _RAW.search(raw):
        raise bad_request("the request path holds a character that must be percent-encoded")
    if _BAD_ESCAPE.search(raw):
        raise bad_request("the request path holds a % that no two hexadecimal digits follow")
    if b"//" in raw:
        raise bad_request("the request path holds an empty segment")
    segments = [_segment(segment) for segment in raw.split(b"/")]
    path = "/".join(segments)
    if _CONTROL.search(path):
        raise bad_request("the request path holds a control character")
    return Decoded(
        path,
        segments,
        next((index for index, segment in enumerate(segments) if _SLASHES.search(segment)), NEVER),
        next((index for index, segment in enumerate(segments) if ";" in segment), NEVER),
    )


def _segment(raw: bytes) -> str:
    """One segment, decoded once, and not a dot segment for a reader who decodes more often."""
    try:
        segment = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_request("the request path is not UTF-8 when it is decoded") from None
    seen, rounds = segment, 0
    while True:
        if _DOTS.search(seen):
            raise bad_request("the request path holds a dot segment")
        if "%" not in seen or (again := unquote(seen)) == seen:
            return segment
        rounds += 1
        if rounds > _ROUNDS:  # bounded: each round of a hostile path peels off two characters only
            raise bad_request("the request path is percent-encoded too often")
        seen = again
