"""The order of messages in one HTTP exchange, and the length of its response."""

from __future__ import annotations

from aggmw.asgi.types import Message, Scope
from aggmw.testing._lint_shapes import check_headers, check_message, require

__all__ = ["HTTPRules", "ResponseRules"]

_PREFIX = "http.response."
_EXTENSIONS = ("push", "pathsend", "zerocopysend", "early_hint", "debug", "trailers")


class ResponseRules:
    """One response, start to last body: `http.response.*`, and the refusal of a WebSocket.

    Args:
        prefix: of the message types.
        head: whether the request is HEAD, so that no body is sent on.
        strict_head: whether even then the application must not send one.
    """

    def __init__(self, prefix: str, *, head: bool = False, strict_head: bool = False) -> None:
        self._prefix = prefix
        self._head = head
        self._strict_head = strict_head
        self._status = 0
        self._declared: int | None = None
        self._length = 0
        self._trailers = False
        self.started = False
        self.complete = False

    def start(self, message: Message) -> None:
        name = f"{self._prefix}start"
        require(not self.started, f"{name!r} was sent twice")
        check_message(message, {"status": int, "trailers": bool})
        status = message.get("status")
        require(isinstance(status, int) and 200 <= status <= 999, f"{name!r}: status {status!r}")
        headers = check_headers(message.get("headers", ()), repr(name))
        lengths = [value for key, value in headers if key == b"content-length"]
        require(len(lengths) <= 1, f"{name!r}: more than one content-length")
        if lengths:
            require(lengths[0].isdigit(), f"{name!r}: content-length {lengths[0]!r}")
            self._declared = int(lengths[0])
        self._status = message["status"]
        self._trailers = bool(message.get("trailers"))
        self.started = True

    def body(self, message: Message) -> None:
        name = f"{self._prefix}body"
        require(self.started, f"{name!r} was sent before '{self._prefix}start'")
        require(not self.complete, f"{name!r} was sent after the response was complete")
        check_message(message, {"body": bytes, "more_body": bool})
        require(message.get("body", b"") is not None, f"{name!r}: 'body' is None")
        self._grow(len(message.get("body", b"")), name)
        if not message.get("more_body", False):
            self._end(name)

    def trailers(self, message: Message) -> None:
        name = f"{self._prefix}trailers"
        require(self._trailers, f"{name!r} was sent although the response start did not announce it")
        check_headers(message.get("headers"), repr(name))
        self._trailers = bool(message.get("more_trailers", False))

    def _grow(self, length: int, name: str) -> None:
        self._length += length
        if self._status in (204, 304):
            require(self._length == 0, f"{name!r}: a {self._status} has no body")
        if self._head and self._strict_head:
            require(self._length == 0, f"{name!r}: the answer to HEAD has no body")
        if self._declared is not None:
            require(
                self._length <= self._declared, f"{name!r}: the body is longer than its content-length {self._declared}"
            )

    def _end(self, name: str) -> None:
        if self._declared is not None and not self._head and self._status not in (204, 304):
            require(
                self._length == self._declared,
                f"{name!r}: the body ends after {self._length} bytes, its content-length is {self._declared}",
            )
        self.complete = True


class HTTPRules:
    """What may be received and sent in one HTTP exchange."""

    def __init__(self, scope: Scope, *, strict_head: bool = False) -> None:
        self._extensions = scope.get("extensions") or {}
        self._response = ResponseRules(_PREFIX, head=scope["method"] == "HEAD", strict_head=strict_head)
        self._request_ended = False
        self._disconnected = False

    def received(self, message: Message) -> None:
        match message.get("type"):
            case "http.request":
                require(not self._request_ended, "'http.request' was received after the request was complete")
                require(not self._disconnected, "'http.request' was received after 'http.disconnect'")
                check_message(message, {"body": bytes, "more_body": bool})
                self._request_ended = not message.get("more_body", False)
            case "http.disconnect":
                self._disconnected = True
            case other:
                require(False, f"{other!r} was received on an HTTP request")

    def sent(self, message: Message) -> None:
        match message.get("type"):
            case "http.response.start":
                self._response.start(message)
            case "http.response.body":
                self._response.body(message)
            case str() as other if other.startswith(_PREFIX) and other.removeprefix(_PREFIX) in _EXTENSIONS:
                self._extension(other, message)
            case other:
                require(False, f"{other!r} was sent on an HTTP request")

    def _extension(self, kind: str, message: Message) -> None:
        require(kind in self._extensions, f"{kind!r} was sent although the scope does not offer it")
        if kind == "http.response.trailers":
            require(self._response.complete, f"{kind!r} was sent before the body was complete")
            self._response.trailers(message)
            return
        require(not self._response.complete, f"{kind!r} was sent after the response was complete")
        if kind in ("http.response.pathsend", "http.response.zerocopysend"):
            require(self._response.started, f"{kind!r} was sent before 'http.response.start'")
            self._response.complete = kind.endswith("pathsend") or not message.get("more_body", False)
