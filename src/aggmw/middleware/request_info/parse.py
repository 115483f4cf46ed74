"""Method, path and query → `RequestInfo`: what a request asks for, parsed once for everybody.

Follows `k8s.io/apiserver/pkg/endpoints/request.RequestInfoFactory` (wire contract §5). Beyond it, what could be read
differently by authorization and by a backend is refused, never repaired (§12.1, §12.2).
"""

from __future__ import annotations

import re

from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import StatusError
from aggmw.middleware.request_info import paths
from aggmw.middleware.request_info import query as queries
from aggmw.middleware.request_info.refusals import bad_request, method_not_allowed, method_not_supported

__all__ = ["DISCOVERY_TIMEOUT", "REQUEST_TIMEOUT", "parse"]

REQUEST_TIMEOUT = 60.0
"""Seconds that a request may take unless it is long-running: kube-apiserver's default."""

DISCOVERY_TIMEOUT = 5.0
"""Seconds for `/apis/G/V` (wire contract §2.8)."""

_METHOD = re.compile(r"[A-Z]{1,20}").fullmatch
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WATCHING = ("GET", "HEAD")
_NEVER_TAKEN = frozenset({"CONNECT", "TRACE"})
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_LONG_RUNNING_VERBS = frozenset({"watch", "proxy"})
_LONG_RUNNING_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
_NOTHING: queries.Pairs = {}
_SELECTING = frozenset({"list", "watch", "deletecollection"})


def parse(
    method: str,
    raw_path: bytes,
    query: bytes,
    *,
    allow_proxy_prefix: bool = False,
    request_timeout: float = REQUEST_TIMEOUT,
) -> RequestInfo:
    """Parse one request.

    Args:
        method: as sent; GET for a WebSocket handshake.
        raw_path: the bytes of the path below the mount, without the query.
        query: the bytes behind the question mark.
        allow_proxy_prefix: take the deprecated `/api/V/proxy/…` paths, as verb "proxy".
        request_timeout: the most seconds for what is not long-running.

    Raises:
        StatusError: 400 for an ambiguous path or query, an invalid method, or an unparsable `timeout`; 405 for
            CONNECT and TRACE, and for other methods than GET, HEAD, POST, PUT, PATCH, DELETE on a resource path; 404
            for the `proxy` prefix unless allowed.
    """
    if method not in _VERBS:
        if not _METHOD(method):
            raise bad_request("the request method is not 1 to 20 capital letters")
        if method in _NEVER_TAKEN:
            raise method_not_allowed(method)
    slash = semicolon = paths.NEVER
    if paths.plain(raw_path):
        path = raw_path.decode("ascii")
        segments = path.split("/")
    else:
        path, segments, slash, semicolon = paths.decode(raw_path)
    if segments[-1] == "":
        segments.pop()  # a trailing slash stays in path and target; "/" leaves the empty first segment alone
    target = raw_path + b"?" + query if query else raw_path
    count = len(segments)
    if count > 3 and (segments[1] == "api" or (segments[1] == "apis" and count > 4)):
        unclear = min(slash, semicolon)
        return _resource(method, path, target, segments, unclear, query, allow_proxy_prefix, request_timeout)
    if slash != paths.NEVER:
        raise _unclear()
    return _other(method, path, target, segments, query, request_timeout)


def _resource(
    method: str,
    path: str,
    target: bytes,
    segments: list[str],
    unclear: int,
    query: bytes,
    allow_proxy_prefix: bool,
    longest: float,
) -> RequestInfo:
    """`/api/V/…` or `/apis/G/V/…`. `unclear` is the index of the first segment that may not be decided upon."""
    group, at = ("", 2) if segments[1] == "api" else (segments[2], 3)
    version = segments[at]
    at += 1
    prefixed = segments[at] in _LONG_RUNNING_VERBS
    if prefixed:
        verb = segments[at]
        at += 1
        _check_prefix(verb, len(segments) > at, allow_proxy_prefix)
    else:
        verb = _VERBS.get(method, "")  # no verb: refused below, when the resource is known
    namespace = ""
    if segments[at] == "namespaces" and len(segments) > at + 1:
        namespace = segments[at + 1]
        if len(segments) > at + 2 and segments[at + 2] not in _NAMESPACE_SUBRESOURCES:
            at += 2
    parts = tuple(segments[at:])
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    decided = 2 if verb == "proxy" else 3
    subresource = parts[2] if len(parts) > 2 and decided == 3 else ""
    if unclear < at + decided:
        raise _unclear()
    if method not in _VERBS:
        raise method_not_supported(method, resource, group)
    if verb == "watch" and method not in _WATCHING:
        raise method_not_supported(method, resource, group, _WATCHING)

    found = queries.resource_pairs(query) if query else _NOTHING
    field_selector = label_selector = ""
    if not name and not prefixed:
        verb, name, field_selector, label_selector = _collection(verb, found)
    long_running = verb in _LONG_RUNNING_VERBS or subresource in _LONG_RUNNING_SUBRESOURCES
    timeout = None if long_running else queries.timeout_of(found, longest)
    return RequestInfo(
        True,
        verb,
        method,
        path,
        target,
        segments[1],
        group,
        version,
        namespace,
        resource,
        subresource,
        name,
        parts,
        field_selector,
        label_selector,
        long_running,
        timeout,
    )


def _collection(verb: str, found: queries.Pairs) -> tuple[str, str, str, str]:
    """Verb, name and both selectors of a request that names no object in its path."""
    if verb == "get":
        verb = "watch" if queries.is_watch(found) else "list"
    elif verb == "delete":
        verb = "deletecollection"
    if not found or verb not in _SELECTING:
        return verb, "", "", ""
    field_selector = queries.text(found, b"fieldSelector")
    label_selector = queries.text(found, b"labelSelector")
    name = ""
    if field_selector and verb != "deletecollection":
        name = queries.demanded_name(found, field_selector, label_selector)
    return verb, name, field_selector, label_selector


def _check_prefix(verb: str, followed: bool, allow_proxy_prefix: bool) -> None:
    """The deprecated verbs in paths, `/api/V/watch/…` and `/api/V/proxy/…`."""
    if verb == "proxy" and not allow_proxy_prefix:
        raise StatusError(404, "NotFound", "the server could not find the requested resource")
    if not followed:
        raise bad_request(f"the request path names no resource after {verb}")


def _other(method: str, path: str, target: bytes, segments: list[str], query: bytes, longest: float) -> RequestInfo:
    """A path that names no resource: the verb is the method."""
    long_running = path.startswith("/debug/pprof/")
    discovery = len(segments) == 4 and segments[1] == "apis"
    if query:
        queries.check(query)
        if not long_running and (b"timeout" in query or b"%" in query):
            longest = queries.timeout_of(queries.pairs(query, once=False), longest)
    if discovery:
        longest = min(longest, DISCOVERY_TIMEOUT)
    return RequestInfo(
        False,
        method.lower(),
        method,
        path,
        target,
        "apis" if discovery else "",
        long_running=long_running,
        timeout=None if long_running else longest,
    )


def _unclear() -> StatusError:
    return bad_request(
        "the request path holds an encoded slash, backslash or percent sign, or a semicolon, "
        "where it says what is asked for"
    )
