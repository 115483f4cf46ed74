"""Events as JSON that every reader takes for JSON, whatever a caller sent."""

from __future__ import annotations

import json

from aggmw.contracts.audit import AuditEvent

__all__ = ["encoded"]

_BODIES = ("requestObject", "responseObject")
_WHY_NOT = "it cannot be written as JSON"


def encoded(event: AuditEvent) -> bytes:
    """One line. Of an event whose bodies cannot be written, because of a number that JSON does not know or for their
    depth, all but the bodies: one such event must not keep those beside it from being written.
    """
    try:
        return _encoded(event)
    except (ValueError, RecursionError):
        annotations = dict(event.get("annotations", {}))
        annotations |= {f"audit.aggmw/{key}-left-out": _WHY_NOT for key in _BODIES if key in event}
        return _encoded(
            {key: value for key, value in event.items() if key not in _BODIES} | {"annotations": annotations}
        )


def _encoded(event: AuditEvent) -> bytes:
    # ASCII: what a caller wrote as half a surrogate pair in JSON could not be encoded otherwise.
    return json.dumps(event, separators=(",", ":"), allow_nan=False).encode("ascii")
