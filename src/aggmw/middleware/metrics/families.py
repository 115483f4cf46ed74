"""Every metric of requests: its name, type, labels and help. Names, labels and bounds are Kubernetes' where it has one.

Follows `k8s.io/apiserver/pkg/endpoints/metrics` (wire contract §10.7).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = [
    "ABORTS",
    "DURATION",
    "FAMILIES",
    "FOLDED",
    "IN_FLIGHT",
    "LONG_RUNNING",
    "REQUESTS",
    "RESPONSE_SIZES",
    "SLI_DURATION",
    "Family",
]


class Family(NamedTuple):
    """One metric. The name of a counter ends in "_total"."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_NAMES = ("group", "version", "resource", "subresource", "scope")

REQUESTS = Family(
    "apiserver_request_total",
    "counter",
    ("verb", "dry_run", *_NAMES, "component", "code"),
    "Requests that were answered, by what was asked for and the status code.",
)
DURATION = Family(
    "apiserver_request_duration_seconds",
    "histogram",
    ("verb", "dry_run", *_NAMES, "component"),
    "Time from a request's arrival to the end of its answer.",
)
SLI_DURATION = Family(
    "apiserver_request_sli_duration_seconds",
    "histogram",
    ("verb", *_NAMES, "component"),
    "The same without long-running requests and dry runs.",
)
RESPONSE_SIZES = Family(
    "apiserver_response_sizes",
    "histogram",
    ("verb", *_NAMES, "component"),
    "Bytes of the bodies of answers to GET and LIST.",
)
IN_FLIGHT = Family(
    "apiserver_current_inflight_requests",
    "gauge",
    ("request_kind",),
    "Authorised requests that are being worked on, long-running ones left out.",
)
LONG_RUNNING = Family(
    "apiserver_longrunning_requests",
    "gauge",
    ("verb", *_NAMES, "component"),
    "Authorised watches, streams and WebSockets that go on.",
)
ABORTS = Family(
    "apiserver_request_aborts_total",
    "counter",
    ("verb", *_NAMES),
    "Requests that ended without an answer, mostly because the client left.",
)
FOLDED = Family(
    "aggmw_metrics_folded_requests_total",
    "counter",
    (),
    'Requests counted under "other", because there were too many label sets.',
)

FAMILIES = (REQUESTS, DURATION, SLI_DURATION, RESPONSE_SIZES, IN_FLIGHT, LONG_RUNNING, ABORTS, FOLDED)
