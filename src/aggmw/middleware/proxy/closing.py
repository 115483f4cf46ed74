"""What the end of a WebSocket on one side is on the other (RFC 6455 §7.4)."""

from __future__ import annotations

from aggmw.contracts.websockets import Close
from aggmw.middleware.proxy.lifetimes import End
from aggmw.net.websocket import REASON_BYTES, travels

__all__ = ["BROKEN", "ENDS", "to_backend", "to_client"]

_NO_CODE = 1005
_CUT = frozenset({1006, 1015})  # no close frame came: the connection broke, or its TLS

ENDS = {
    End.STOPPING: Close(1001, End.STOPPING.value),
    End.EXPIRED: Close(1008, End.EXPIRED.value),
    End.REVOKED: Close(1008, End.REVOKED.value),
    End.AGED: Close(1001, End.AGED.value),
}
"""Told to both sides when a lifetime is over."""

BROKEN = Close(1011, "the backend ended the connection")
"""For the client. 1014, "bad gateway", would say it better; but kubectl's library takes that for no code at all."""

_MISUSED = Close(1002, "the other side closed with a code that may not be sent")


def to_backend(code: int, reason: str) -> Close | None:
    """What the backend is told when the client has closed; None: nothing, its connection is cut as the client's was.

    Args:
        code, reason: as in ASGI's `websocket.disconnect`, from whatever server.
    """
    if code in _CUT:
        return None
    if code == _NO_CODE:
        return Close(_NO_CODE)
    return Close(code, shortened(reason)) if travels(code) else _MISUSED


def to_client(close: Close) -> Close:
    """What the client is told when the backend has closed.

    ASGI has no close frame without a code, so that is 1000. An application cannot end a connection without a close
    frame either: a backend that did so has failed.
    """
    if close.code in _CUT:
        return BROKEN
    if close.code == _NO_CODE:
        return Close(1000)
    return Close(close.code, shortened(close.reason)) if travels(close.code) else _MISUSED


def shortened(reason: str) -> str:
    """As much of a reason as a close frame has room for, in whole characters."""
    return reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
