"""Request → label values, spelled as Kubernetes does (`k8s.io/apiserver/pkg/endpoints/metrics`).

A caller chooses paths, methods and queries; here only verbs, dry run and scope become words of a fixed set. Whether the
names of a resource may become labels is decided in `book.py`.
"""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import parse_qs

from aggmw.asgi.headers import first
from aggmw.contracts.backends import RESERVED
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo

__all__ = [
    "SUBRESOURCES",
    "VERBS",
    "Labels",
    "blank",
    "is_long_running",
    "is_read_only",
    "labels_of",
    "tell_of_long_running",
]

Labels: TypeAlias = tuple[str, str, str, str, str, str, str]
"""verb, dry_run, group, version, resource, subresource, scope."""

_VERBS = {
    "get": "GET",
    "head": "GET",
    "list": "LIST",
    "create": "POST",
    "post": "POST",
    "update": "PUT",
    "put": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
}
_OTHER_VERB = "other"
_LONG_RUNNING = frozenset({"WATCH", "CONNECT"})
VERBS = frozenset({*_VERBS.values(), "APPLY", *_LONG_RUNNING, _OTHER_VERB})
"""All values of `verb`."""

_READ_ONLY = frozenset({"get", "head", "options", "list", "watch"})
_APPLY_TYPES = frozenset({b"application/apply-patch+yaml", b"application/apply-patch+cbor"})

_PROFILES = "/debug/pprof"
_PATHS = {name: f"/{name}" for name in RESERVED}
SUBRESOURCES = frozenset({*_PATHS.values(), _PROFILES})
"""The values of `subresource` for paths that name no resource, besides "" and the paths of path services."""


def is_long_running(exchange: Exchange, info: RequestInfo | None) -> bool:
    """Whether no deadline applies: a watch, a stream, a WebSocket."""
    return (info is not None and info.long_running) or exchange.scope["type"] == "websocket"


def is_read_only(exchange: Exchange, info: RequestInfo | None) -> bool:
    """Whether the request changes nothing, by its verb."""
    return (exchange.scope.get("method", "GET").lower() if info is None else info.verb) in _READ_ONLY


def labels_of(exchange: Exchange, info: RequestInfo | None) -> Labels:
    """The labels of a request, the names of a resource as the path says them.

    Args:
        info: what is asked for; None when nobody found out, as for an ambiguous path.
    """
    if info is None:
        return _verb(exchange, exchange.scope.get("method", "GET").lower()), "", "", "", "", "", ""
    if not info.is_resource:
        return _verb(exchange, info.verb), "", "", "", "", _path(exchange, info), ""
    verb = info.verb
    scope = "resource" if info.name or verb == "create" else "namespace" if info.namespace else "cluster"
    if info.long_running or exchange.scope["type"] == "websocket":
        label = "WATCH" if verb == "watch" and not info.subresource else "CONNECT"
        return label, "", info.api_group, info.api_version, info.resource, info.subresource, scope
    label = _VERBS.get(verb, _OTHER_VERB)
    dry_run = ""
    if label == "PATCH" and _is_apply(exchange):
        label = "APPLY"
    if b"dryRun" in info.target and label not in ("GET", "LIST"):
        dry_run = _dry_run(info.target)
    return label, dry_run, info.api_group, info.api_version, info.resource, info.subresource, scope


def tell_of_long_running(labels: Labels) -> bool:
    """Whether the requests with these labels are long-running: all of them are, or none."""
    return labels[0] in _LONG_RUNNING or labels[5] == _PROFILES


def blank(labels: Labels) -> Labels:
    """The same without the names of a resource."""
    return labels[0], labels[1], "", "", "", "", labels[6]


def _verb(exchange: Exchange, method: str) -> str:
    return "CONNECT" if exchange.scope["type"] == "websocket" else _VERBS.get(method, _OTHER_VERB)


def _path(exchange: Exchange, info: RequestInfo) -> str:
    """What stands for a path that names no resource: its path service, or one of the front proxy's own paths."""
    if info.long_running:
        return _PROFILES  # first: what is long-running shares no labels with what is not
    if exchange.path_service is not None:
        return exchange.path_service.path
    return _PATHS.get(info.path[1:].partition("/")[0], "")


def _is_apply(exchange: Exchange) -> bool:
    return (first(exchange.headers, b"content-type") or b"").partition(b";")[0].strip().lower() in _APPLY_TYPES


def _dry_run(target: bytes) -> str:
    """ "All", "" without the parameter, "invalid" for what no API server takes."""
    given = parse_qs(target.partition(b"?")[2], keep_blank_values=True).get(b"dryRun", [])
    return "" if not given else "All" if set(given) == {b"All"} else "invalid"
