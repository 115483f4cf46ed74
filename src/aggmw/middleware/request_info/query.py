"""Queries: refused where parsers differ, and the few keys that the request path itself understands.

Go drops a pair with a raw `;` or a broken escape, others split at it or keep it; of a repeated key some take the first
value, some the last. On resource paths authorization may depend on such a key (wire contract §12.2).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from aggmw.middleware.request_info.durations import seconds_of
from aggmw.middleware.request_info.refusals import bad_request
from aggmw.objects.selectors import exact_name, is_label_selector

__all__ = ["Pairs", "check", "demanded_name", "is_watch", "pairs", "resource_pairs", "text", "timeout_of"]

_UNFIT = re.compile(rb"[\x00-\x20\x7f-\xff#]").search
_FIT_ON_RESOURCES = re.compile(rb"(?:[^\x00-\x20\x7f-\xff#%;]++|%[0-9A-Fa-f]{2})*+").fullmatch
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}").fullmatch

_ONCE = frozenset({b"watch", b"fieldSelector", b"labelSelector", b"resourceVersion", b"continue", b"limit"})
_WANTED = _ONCE | {b"timeout", b"timeoutSeconds"}

Pairs = dict[bytes, bytes]


def check(query: bytes) -> None:
    """Refuse what no query may hold, on whatever path.

    Raises:
        StatusError: 400 for control bytes, spaces, bytes outside ASCII, and `#`.
    """
    if _UNFIT(query):
        raise bad_request("the query holds a character that must be percent-encoded")


def resource_pairs(query: bytes) -> Pairs:
    """The keys that matter on a resource path, after refusing what two parsers could read differently.

    Raises:
        StatusError: 400 for what `check` and `pairs` refuse, a raw `;`, and a broken escape.
    """
    if not _FIT_ON_RESOURCES(query):
        check(query)
        if b";" in query:
            raise bad_request("the query holds a raw semicolon")
        raise bad_request("the query holds a % that no two hexadecimal digits follow")
    return pairs(query)


def pairs(query: bytes, *, once: bool = True) -> Pairs:
    """The keys that matter here, decoded, with their raw values: the first of each.

    Args:
        query: the raw query.
        once: refuse a repeated key; only on resource paths, where the keys mean what Kubernetes means by them.

    Raises:
        StatusError: 400 when one that authorization or paging depends on is given twice, in whatever encoding.
    """
    found: Pairs = {}
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if b"%" in key:
            key = unquote_to_bytes(key)
        if key in _WANTED:
            if key not in found:
                found[key] = value
            elif once and key in _ONCE:
                raise bad_request(f"the query holds {key.decode('ascii')} more than once")
    return found


def text(found: Pairs, key: bytes) -> str:
    """A value, decoded; "" when it is not given.

    Raises:
        StatusError: 400 when it is not UTF-8.
    """
    value = found.get(key, b"")
    if b"+" in value:
        value = value.replace(b"+", b" ")
    if b"%" in value:
        value = unquote_to_bytes(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_request(f"{key.decode('ascii')} in the query is not UTF-8") from None


def is_watch(found: Pairs) -> bool:
    """Whether `watch` is given and neither "false" nor "0" (`Convert_Slice_string_To_bool`).

    Raises:
        StatusError: 400 when it is not ASCII.
    """
    if b"watch" not in found:
        return False
    value = text(found, b"watch")
    if not value.isascii():
        raise bad_request("watch in the query is neither true nor false")  # Go folds more letters than Python does
    return value.lower() not in ("false", "0")


def demanded_name(found: Pairs, field_selector: str, label_selector: str) -> str:
    """The name that a list or watch is confined to; "" where the list options do not parse."""
    for key in (b"limit", b"timeoutSeconds"):
        if key in found and not _INTEGER(text(found, key)):
            return ""
    if not is_label_selector(label_selector):
        return ""
    return exact_name(field_selector)


def timeout_of(found: Pairs, longest: float) -> float:
    """The seconds that a request may take: what it asks for, at most `longest`; zero or less asks for nothing.

    Raises:
        StatusError: 400 when `timeout` is not a Go duration.
    """
    if not found.get(b"timeout"):
        return longest
    try:
        seconds = seconds_of(text(found, b"timeout"))
    except ValueError as error:
        raise bad_request(f"invalid timeout specified in the request URL - {error}") from None
    return seconds if 0 < seconds < longest else longest
