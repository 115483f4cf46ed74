"""The order of messages on a WebSocket and in a lifespan."""

from __future__ import annotations

from aggmw.asgi.types import Message, Scope
from aggmw.testing._lint_http import ResponseRules
from aggmw.testing._lint_shapes import check_headers, check_message, require

__all__ = ["LifespanRules", "WebSocketRules"]

_DENIAL = "websocket.http.response"


class WebSocketRules:
    """What may be received and sent on one WebSocket, its handshake included."""

    def __init__(self, scope: Scope) -> None:
        self._offered = tuple(scope.get("subprotocols") or ())
        self._deniable = _DENIAL in (scope.get("extensions") or {})
        self._denial = ResponseRules(f"{_DENIAL}.")
        self._connected = self._accepted = self._closed = self._disconnected = False

    def received(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "websocket.connect":
            require(not self._connected, "'websocket.connect' was received twice")
            self._connected = True
        elif kind == "websocket.receive":
            require(self._accepted, "'websocket.receive' was received before the socket was accepted")
            require(not self._disconnected, "'websocket.receive' was received after 'websocket.disconnect'")
            _check_payload(message)
        elif kind == "websocket.disconnect":
            check_message(message, {"code": int, "reason": str})
            self._disconnected = True
        else:
            require(False, f"{kind!r} was received on a WebSocket")

    def sent(self, message: Message) -> None:
        kind = message.get("type")
        require(not self._closed, f"{kind!r} was sent after the WebSocket was closed")
        if kind == f"{_DENIAL}.start":
            require(self._deniable, f"{kind!r} was sent although the scope does not offer it")
            require(not self._accepted, f"{kind!r} was sent after the socket was accepted")
            self._denial.start(message)
        elif kind == f"{_DENIAL}.body":
            self._denial.body(message)
            self._closed = self._denial.complete
        else:
            require(not self._denial.started, f"{kind!r} was sent in the middle of a refusal")
            self._sent_frame(kind, message)

    def _sent_frame(self, kind: object, message: Message) -> None:
        match kind:
            case "websocket.accept":
                self._accept(message)
            case "websocket.send":
                require(self._accepted, "'websocket.send' was sent before the socket was accepted")
                _check_payload(message)
            case "websocket.close":
                check_message(message, {"code": int, "reason": str})
                reason = message.get("reason") or ""
                require(len(reason.encode()) <= 123, "'websocket.close': the reason is longer than 123 bytes")
                self._closed = True
            case other:
                require(False, f"{other!r} was sent on a WebSocket")

    def _accept(self, message: Message) -> None:
        require(not self._accepted, "'websocket.accept' was sent twice")
        subprotocol = message.get("subprotocol")
        require(
            subprotocol is None or subprotocol in self._offered,
            f"'websocket.accept': the client did not offer the subprotocol {subprotocol!r}",
        )
        headers = check_headers(message.get("headers", ()), "'websocket.accept'")
        require(
            all(name != b"sec-websocket-protocol" for name, _ in headers),
            "'websocket.accept': the subprotocol belongs into 'subprotocol', not into the headers",
        )
        self._accepted = True


class LifespanRules:
    """What may be received and sent in a lifespan: each phase is answered once, after it was asked for."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._answered: set[str] = set()

    def received(self, message: Message) -> None:
        kind = message.get("type")
        require(kind in ("lifespan.startup", "lifespan.shutdown"), f"{kind!r} was received in a lifespan")
        phase = str(kind).removeprefix("lifespan.")
        require(phase not in self._asked, f"{kind!r} was received twice")
        if phase == "shutdown":
            require("startup" in self._answered, "'lifespan.shutdown' was received before the start-up was complete")
        self._asked.add(phase)

    def sent(self, message: Message) -> None:
        kind = message.get("type")
        phase, _, outcome = str(kind).removeprefix("lifespan.").partition(".")
        require(
            phase in ("startup", "shutdown") and outcome in ("complete", "failed"), f"{kind!r} was sent in a lifespan"
        )
        require(phase in self._asked, f"{kind!r} was sent before 'lifespan.{phase}' was received")
        require(phase not in self._answered, f"{kind!r} was sent after the {phase} had been answered")
        check_message(message, {"message": str})
        self._answered.add(phase)


def _check_payload(message: Message) -> None:
    check_message(message, {"bytes": bytes, "text": str})
    payloads = [message.get("bytes"), message.get("text")]
    require(sum(p is not None for p in payloads) == 1, f"{message['type']!r}: exactly one of 'bytes' and 'text'")
