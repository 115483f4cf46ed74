"""What a request is counted under: verb, dry run, names and scope, spelled as Kubernetes does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.backends import PathService
from aggmw.contracts.exchange import Exchange
from aggmw.errors import StatusError
from aggmw.middleware.metrics.labels import (
    SUBRESOURCES,
    VERBS,
    Labels,
    is_read_only,
    labels_of,
    tell_of_long_running,
)
from aggmw.middleware.request_info.parse import parse

PODS = "/api/v1/namespaces/dev/pods"
FLUNDERS = "/apis/wardle.example.com/v1alpha1/flunders"
CORE = ("", "v1", "pods")


def exchange_of(method: str, target: str, content_type: str = "", kind: str = "http") -> Exchange:
    """A request as the stages in front leave it; without request info where they refuse it."""
    path, _, query = target.partition("?")
    headers = ((b"content-type", content_type.encode()),) if content_type else ()
    scope: dict[str, Any] = {"type": kind, "method": method, "path": path, "headers": headers}
    exchange = Exchange(scope, headers)
    with suppress(StatusError):
        exchange.request_info = parse(method, path.encode(), query.encode())
    return exchange


def labels(method: str, target: str, content_type: str = "", kind: str = "http") -> Labels:
    exchange = exchange_of(method, target, content_type, kind)
    return labels_of(exchange, exchange.request_info)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", f"{PODS}/a", ("GET", "", *CORE, "", "resource")),
        ("HEAD", f"{PODS}/a", ("GET", "", *CORE, "", "resource")),
        ("GET", PODS, ("LIST", "", *CORE, "", "namespace")),
        ("GET", "/api/v1/pods", ("LIST", "", *CORE, "", "cluster")),
        ("GET", f"{PODS}?watch=1", ("WATCH", "", *CORE, "", "namespace")),
        ("GET", "/api/v1/watch/pods", ("WATCH", "", *CORE, "", "cluster")),
        ("POST", PODS, ("POST", "", *CORE, "", "resource")),
        ("PUT", f"{PODS}/a/status", ("PUT", "", *CORE, "status", "resource")),
        ("PATCH", f"{PODS}/a", ("PATCH", "", *CORE, "", "resource")),
        ("DELETE", f"{PODS}/a", ("DELETE", "", *CORE, "", "resource")),
        ("DELETE", PODS, ("DELETECOLLECTION", "", *CORE, "", "namespace")),
        ("GET", f"{PODS}/a/log?follow=true", ("CONNECT", "", *CORE, "log", "resource")),
        ("POST", f"{PODS}/a/exec?command=ls", ("CONNECT", "", *CORE, "exec", "resource")),
        (
            "GET",
            "/api/v1/namespaces/dev/services/a/proxy/x",
            ("CONNECT", "", "", "v1", "services", "proxy", "resource"),
        ),
        ("GET", FLUNDERS, ("LIST", "", "wardle.example.com", "v1alpha1", "flunders", "", "cluster")),
        ("GET", "/healthz", ("GET", "", "", "", "", "/healthz", "")),
        ("HEAD", "/readyz/ping", ("GET", "", "", "", "", "/readyz", "")),
        ("GET", "/openapi/v3/apis/wardle.example.com/v1alpha1", ("GET", "", "", "", "", "/openapi", "")),
        ("GET", "/apis/wardle.example.com/v1alpha1", ("GET", "", "", "", "", "/apis", "")),
        ("GET", "/debug/pprof/profile", ("GET", "", "", "", "", "/debug/pprof", "")),
        ("GET", "/x/y", ("GET", "", "", "", "", "", "")),
        ("POST", "/x", ("POST", "", "", "", "", "", "")),
        ("BREW", "/x", ("other", "", "", "", "", "", "")),
        ("GET", "/a/../b", ("GET", "", "", "", "", "", "")),  # refused: nobody knows what it asks for
    ],
)
def test_labels(method: str, target: str, expected: Labels) -> None:
    """The verbs, scopes and subresources of Kubernetes' own metrics (wire contract §10.7)."""
    assert labels(method, target) == expected


@pytest.mark.parametrize(
    ("content_type", "verb"),
    [
        ("application/apply-patch+yaml", "APPLY"),
        ("Application/Apply-Patch+YAML; charset=utf-8", "APPLY"),
        ("application/apply-patch+cbor", "APPLY"),
        ("application/merge-patch+json", "PATCH"),
        ("", "PATCH"),
    ],
)
def test_apply_is_a_verb(content_type: str, verb: str) -> None:
    """Server-side apply is told from other patches by its media type."""
    assert labels("PATCH", f"{PODS}/a", content_type)[0] == verb


@pytest.mark.parametrize(
    ("method", "target", "dry_run"),
    [
        ("POST", f"{PODS}?dryRun=All", "All"),
        ("POST", f"{PODS}?dryRun=All&dryRun=All&fieldManager=x", "All"),
        ("PATCH", f"{PODS}/a?fieldManager=x&dryRun=All", "All"),
        ("DELETE", f"{PODS}/a?dryRun=None", "invalid"),
        ("PUT", f"{PODS}/a?dryRun=", "invalid"),
        ("PUT", f"{PODS}/a?xdryRun=All", ""),
        ("PUT", f"{PODS}/dryRun", ""),
        ("PUT", f"{PODS}/a", ""),
        ("GET", f"{PODS}/a?dryRun=All", ""),  # what only reads has no label for it
        ("POST", f"{PODS}/a/exec?dryRun=All", ""),
        ("POST", "/x?dryRun=All", ""),
    ],
)
def test_dry_run(method: str, target: str, dry_run: str) -> None:
    """ "All" or "invalid", whatever was written, for what changes something."""
    assert labels(method, target)[1] == dry_run


def test_websocket_is_connect() -> None:
    """A WebSocket is a stream, with or without a resource; a watch over one is a watch."""
    assert labels("GET", "/ws", kind="websocket")[0] == "CONNECT"
    assert labels("GET", f"{PODS}/a", kind="websocket")[0] == "CONNECT"
    assert labels("GET", f"{PODS}?watch=1", kind="websocket")[0] == "WATCH"


def test_path_service_is_named() -> None:
    """A path service is the subresource: its path is configured, not chosen by a caller."""
    exchange = exchange_of("GET", "/billing/2026/x")
    exchange.path_service = PathService("/billing", "http://127.0.0.1:1")
    assert labels_of(exchange, exchange.request_info) == ("GET", "", "", "", "", "/billing/", "")


def test_without_request_info() -> None:
    """Nothing is known of a request that nobody parsed, but its method."""
    exchange = exchange_of("DELETE", "/x")
    assert labels_of(replace(exchange, request_info=None), None) == ("DELETE", "", "", "", "", "", "")


@pytest.mark.parametrize(
    ("method", "target", "read_only"),
    [
        ("GET", PODS, True),
        ("HEAD", "/x", True),
        ("GET", f"{PODS}?watch=1", True),
        ("OPTIONS", "/x", True),
        ("POST", PODS, False),
        ("DELETE", PODS, False),
        ("PATCH", "/x", False),
        ("BREW", "/x", False),
    ],
)
def test_read_only(method: str, target: str, read_only: bool) -> None:
    """Read-only is what asks to change nothing."""
    exchange = exchange_of(method, target)
    assert is_read_only(exchange, exchange.request_info) is read_only
    assert is_read_only(exchange, None) is (method in ("GET", "HEAD", "OPTIONS"))


SEGMENT = st.sampled_from(
    ["api", "apis", "v1", "g.example.com", "namespaces", "dev", "pods", "a", "log", "exec", "watch", "debug", "pprof"]
) | st.text("abc%/.2eF", max_size=4)
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "get", ""])
QUERY = st.sampled_from(["", "?watch=true", "?dryRun=All", "?dryRun=x", "?watch=1&dryRun=All", "?timeout=1s"])


@given(
    METHOD,
    st.lists(SEGMENT, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    QUERY,
    st.sampled_from(["", "application/apply-patch+yaml"]),
    st.sampled_from(["http", "websocket"]),
)
def test_fixed_words(method: str, path: str, query: str, content_type: str, kind: str) -> None:
    """Whatever is asked for: verb, dry run and scope are of a fixed set, so is the subresource where there is no
    resource; and labels never mix long-running requests with others."""
    exchange = exchange_of(method, path + query, content_type, kind)
    info = exchange.request_info
    found = labels_of(exchange, info)
    verb, dry_run, group, version, resource, subresource, scope = found
    assert verb in VERBS
    assert dry_run in ("", "All", "invalid")
    assert scope in ("", "cluster", "namespace", "resource")
    if not resource:
        assert (group, version) == ("", "")
        assert subresource == "" or subresource in SUBRESOURCES
    assert tell_of_long_running(found) is (kind == "websocket" or (info is not None and info.long_running))
    assert not (dry_run and (tell_of_long_running(found) or verb in ("GET", "LIST")))
