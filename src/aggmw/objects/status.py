"""`metav1.Status`: the body of every error that a client sees (wire contract §0.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aggmw.contracts.exchange import Answer
from aggmw.errors import StatusError
from aggmw.objects.encoding import encode

__all__ = ["JSON", "UNAUTHORIZED", "answer_of", "qualified", "status_answer", "status_object"]

JSON = (b"content-type", b"application/json")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_UNCACHED = (b"cache-control", b"no-cache, private")


def status_answer(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Answer:
    """A failure as a `Status` object.

    Args:
        code: the HTTP status, repeated in the body.
        reason: the machine-readable reason, such as "Forbidden"; "" when there is none.
        message: one line for people; safe to show.
        details: `StatusDetails`; a positive `retryAfterSeconds` in it is also sent as `Retry-After`.
        headers: further response headers.
    """
    head = [JSON, _UNCACHED, _NOSNIFF]
    if details is not None and (seconds := details.get("retryAfterSeconds")):
        head.append((b"retry-after", str(seconds).encode()))
    return Answer(code, (*head, *headers), encode(status_object(code, reason, message, details)))


def status_object(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `Status` alone, as the `ERROR` event of a watch carries it."""
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details is not None:
        status["details"] = dict(details)
    status["code"] = code
    return status


UNAUTHORIZED = status_answer(401, "Unauthorized", "Unauthorized")
"""Says nothing about what was wrong with the credentials (wire contract §6.9)."""


def answer_of(error: StatusError) -> Answer:
    """The answer that a raised `StatusError` stands for."""
    return status_answer(error.code, error.reason, error.message, error.details, error.headers)


def qualified(resource: str, group: str) -> str:
    """`resource.group`, or only `resource` in the core group (`schema.GroupResource`)."""
    return f"{resource}.{group}" if group else resource
