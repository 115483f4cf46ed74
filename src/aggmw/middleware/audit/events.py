"""Events: `audit.k8s.io/v1 Event` objects of one request, made from what the stages found out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from aggmw.asgi.headers import first, values
from aggmw.asgi.types import Headers, Scope
from aggmw.contracts.audit import AuditEvent, AuditRecord
from aggmw.contracts.authorization import Verdict
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.audit.bodies import Kept
from aggmw.middleware.audit.policy import Recorded
from aggmw.middleware.audit.redaction import redacted_uri

__all__ = ["Record", "attempted", "source_addresses"]

_USER_AGENT = 1024
_FORWARDED = 32
_SLOW = 0.5  # seconds, from which Kubernetes tells how long a request took
_DECISION = "authorization.k8s.io/decision"
_REASON = "authorization.k8s.io/reason"
_LATENCY = "apiserver.latency.k8s.io/total"
_ASKED_BY = "audit.aggmw/asked-by"


class Record(AuditRecord):
    """The record of one request: its part of an event that stays, and what comes to it.

    Args:
        exchange: as the audit stage sees it.
        recorded: what the policy says.
        identity: who asks; None for somebody whom authentication refused.
        info: what is asked for.
        received: seconds since the epoch.

    Attributes:
        request, response: their bodies, where they are recorded.
        message: of the response status, where there is something to say.
    """

    __slots__ = ("_base", "_received", "message", "omit_managed_fields", "omitted", "request", "response")

    def __init__(
        self, exchange: Exchange, recorded: Recorded, identity: Identity | None, info: RequestInfo, received: float
    ) -> None:
        super().__init__(recorded.level)
        self.omitted = recorded.omitted
        self.omit_managed_fields = recorded.omit_managed_fields
        self.request: Kept | None = None
        self.response: Kept | None = None
        self.message = ""
        self._received = received
        base: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": recorded.level.word,
            "auditID": exchange.request_id,
            "stage": "",
            "requestURI": redacted_uri(info.target),
            "verb": info.verb,
            "user": {} if identity is None else identity.user_info,
            "sourceIPs": source_addresses(exchange.headers, _peer(exchange)),
        }
        if (agent := first(exchange.headers, b"user-agent")) is not None:
            base["userAgent"] = _shortened(agent.decode("utf-8", "replace"))
        if info.is_resource:
            base["objectRef"] = _object(info)
        base["requestReceivedTimestamp"] = _timestamp(received)
        self._base = base
        if exchange.asked_by:
            self.annotate(_ASKED_BY, exchange.asked_by)

    def event(self, stage: str, now: float, exchange: Exchange, status: int | None = None) -> AuditEvent:
        """The event of a stage.

        Args:
            stage: such as "ResponseComplete".
            now: seconds since the epoch.
            exchange: as it is by now.
            status: what was answered; None before that, 0 when the client left without an answer.
        """
        event = {**self._base, "stage": stage}
        if exchange.impersonator is not None and exchange.identity is not None:
            event["impersonatedUser"] = exchange.identity.user_info
            if exchange.impersonation:
                event["authenticationMetadata"] = {"impersonationConstraint": exchange.impersonation}
        annotations = dict(self.annotations)
        if status is not None:
            event["responseStatus"] = self._status(status)
            _annotate_verdict(annotations, exchange.verdict)
            if now - self._received > _SLOW:
                annotations[_LATENCY] = f"{now - self._received:.6f}s"
        for key, kept in (("requestObject", self.request), ("responseObject", self.response)):
            if kept is not None and (key == "requestObject" or status is not None):
                self._add_body(event, annotations, key, kept)
        event["stageTimestamp"] = _timestamp(now)
        if annotations:
            event["annotations"] = annotations
        return event

    def _status(self, status: int) -> dict[str, Any]:
        found: dict[str, Any] = {"metadata": {}}
        if status >= 400:
            found["status"] = "Failure"
        if message := self.message or ("" if status else "the client left before an answer"):
            found["message"] = message
        if status:
            found["code"] = status
        return found

    def _add_body(self, event: dict[str, Any], annotations: dict[str, str], key: str, kept: Kept) -> None:
        value, why_not = kept.value(without_managed_fields=self.omit_managed_fields)
        if why_not:
            annotations[f"audit.aggmw/{key}-left-out"] = why_not
        elif value is not None:
            event[key] = value


def attempted(headers: Headers, chain: Sequence[bytes]) -> str:
    """What a caller whom authentication refused has presented, in Kubernetes' words."""
    methods = []
    for value in values(headers, b"authorization"):
        scheme = value.strip().partition(b" ")[0].lower()
        if scheme in (b"basic", b"bearer"):
            methods.append(scheme.decode())
    if chain:
        methods.append("x509")
    if not methods:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {', '.join(methods)}"


def source_addresses(headers: Headers, peer: str) -> list[str]:
    """The addresses that a request came over: what `X-Forwarded-For` claims, then the socket's other end."""
    found: list[str] = []
    claimed = first(headers, b"x-forwarded-for")
    if claimed is not None:
        for entry in claimed.decode("latin-1").split(",")[-_FORWARDED:]:
            try:
                found.append(str(ip_address(entry.strip())))
            except ValueError:
                continue
    if peer and found[-1:] != [peer]:
        found.append(peer)
    return found


def _peer(exchange: Exchange) -> str:
    peer = exchange.connection.peer or _client(exchange.scope)
    return peer[0] if peer else ""


def _client(scope: Scope) -> tuple[str, int] | None:
    return scope.get("client")


def _object(info: RequestInfo) -> dict[str, str]:
    fields = {
        "resource": info.resource,
        "namespace": info.namespace,
        "name": info.name,
        "apiGroup": info.api_group,
        "apiVersion": info.api_version,
        "subresource": info.subresource,
    }
    return {key: value for key, value in fields.items() if value}


def _annotate_verdict(annotations: dict[str, str], verdict: Verdict | None) -> None:
    if verdict is not None:
        annotations.setdefault(_DECISION, "allow" if verdict.allowed else "forbid")
        annotations.setdefault(_REASON, verdict.reason)


def _shortened(text: str) -> str:
    return text if len(text) <= _USER_AGENT else f"{text[:_USER_AGENT]}...TRUNCATED"


@lru_cache(4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _timestamp(seconds: float) -> str:
    """RFC 3339 with microseconds, as `metav1.MicroTime`."""
    whole, part = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{part:06}Z"
