"""What a request asks for: the one parse of method, path and query that everybody uses.

Follows `k8s.io/apiserver/pkg/endpoints/request.RequestInfo`; produced only by `aggmw.middleware.request_info`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RequestInfo"]


class RequestInfo(NamedTuple):
    """One parsed request. Authorization and forwarding use only this.

    Attributes:
        is_resource: whether the path names a Kubernetes resource (`/api/V/…`, `/apis/G/V/…`).
        verb: get, list, watch, create, update, patch, delete, deletecollection, proxy; for other paths the HTTP
            method in lower case.
        method: the HTTP method as sent; GET for a WebSocket handshake.
        path: the path below the mount, percent-decoded once.
        target: the exact bytes below the mount that were parsed, query included: these are forwarded.
        api_prefix: "api", "apis" or "".
        api_group: "" for the core group.
        api_version, namespace, resource, subresource, name: "" where the path does not say.
        parts: resource, name, subresource and what follows, decoded.
        field_selector, label_selector: raw, for list, watch and deletecollection.
        long_running: no deadline applies: watch, proxy, and attach, exec, proxy, log, portforward.
        timeout: the deadline in seconds, complete: what the query allows (`timeout=`), at most the maximum of the
            request_info stage, 5 for `/apis/G/V`; None for what is long-running.
    """

    is_resource: bool
    verb: str
    method: str
    path: str
    target: bytes
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    field_selector: str = ""
    label_selector: str = ""
    long_running: bool = False
    timeout: float | None = None
