"""What the client is told when a backend fails: a `Status` that names the APIService and the cause, in safe words.

Clients repeat any 5xx that carries `Retry-After`, whatever the method. So only the one has it that comes of waiting for
a connection in vain: nobody got the request, and room is expected.
"""

from __future__ import annotations

from aggmw.contracts.backends import AnyBackend
from aggmw.contracts.exchange import Answer
from aggmw.errors import UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.proxy.lifetimes import End
from aggmw.objects.status import UNAUTHORIZED, status_answer

__all__ = ["ENDED", "NO_HANDSHAKE", "REDIRECTED", "STOPPING", "USE_WEBSOCKET", "WRONG_LENGTH", "failure"]

USE_WEBSOCKET = status_answer(
    400,
    "BadRequest",
    "this upgrade is not supported; use a WebSocket, as kubectl does by default since 1.31",
    headers=((b"connection", b"close"),),  # what follows is in the protocol that was asked for, never a request
)
NO_HANDSHAKE = status_answer(
    400,
    "BadRequest",
    "this did not come as a WebSocket: the handshake is a GET of HTTP/1.1 with one Upgrade: websocket and with"
    " Connection: Upgrade, which a proxy on the way may have changed; and the server must speak WebSocket",
    headers=((b"connection", b"close"),),
)
REDIRECTED = status_answer(
    502, "InternalError", "the backend attempted to redirect this request, which is not permitted"
)
STOPPING = status_answer(503, "ServiceUnavailable", "the front proxy is shutting down")
ENDED = {
    End.STOPPING: STOPPING,
    End.EXPIRED: UNAUTHORIZED,
    End.REVOKED: UNAUTHORIZED,
    End.AGED: status_answer(504, "Timeout", "no answer came for as long as a stream may take"),
}
"""What a long-running request is answered whose lifetime is over before anything came back."""

WRONG_LENGTH = status_answer(400, "BadRequest", "the request's body is not as long as its Content-Length says")


def failure(backend: AnyBackend, error: UpstreamError) -> Answer:
    """503 when nothing was sent, 504 when no answer came, 502 when the answer was none."""
    if isinstance(error, UpstreamUnreachable):
        code, reason, what = 503, "ServiceUnavailable", "cannot be reached"
    elif isinstance(error, UpstreamTimeout):
        code, reason, what = 504, "Timeout", "timed out"
    else:
        code, reason, what = 502, "InternalError", "failed"
    details = {"retryAfterSeconds": 1} if isinstance(error, UpstreamBusy) else None
    return status_answer(code, reason, f"{_who(backend.name)} {what}: {error}", details)


def _who(name: str) -> str:
    if not name:
        return "the backend"
    return f"the server of {'path service' if name.startswith('/') else 'APIService'} {name}"
