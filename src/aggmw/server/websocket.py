"""A client's WebSocket: the handshake that the door has read, and the application's side of what follows.

Compression is not offered: for each connection it holds memory, and lets a small frame become a large message. Nor are
pings sent: the kernel notices a client whose machine is gone, and who needs traffic against an idle limit in between
sends it. How much a client may leave unread, and for how long, is as for any answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from aggmw.asgi.headers import first, unfit, values
from aggmw.asgi.types import ASGIApp, Headers, Message, Scope
from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Answer
from aggmw.contracts.websockets import Close
from aggmw.errors import fault
from aggmw.net.websocket import WebSocket, accept_of
from aggmw.objects.status import status_answer
from aggmw.server.cycle import Cycle
from aggmw.server.head import FAILED, Head, bad_request, rendered
from aggmw.server.limits import DoorLimits
from aggmw.server.porter import Porter
from aggmw.server.sockets import descriptor, reset_on_close, unsent

__all__ = ["ClientGone", "Entering", "ServerWebSocket", "refusal"]

_log = structlog.get_logger("aggmw.server")
_levels = logging.getLogger("uvicorn.error")

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_OUR_OWN = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"sec-websocket-protocol"})
_ABNORMAL = 1006
_FAILED = Close(1011)
_RESTARTING = Close(1012)
_OTHER_VERSION = status_answer(
    426,
    "BadRequest",
    "only version 13 of the WebSocket protocol is spoken here",
    headers=((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")),
)
_REFUSED = status_answer(403, "Forbidden", "the WebSocket was refused")
_STOPPING = status_answer(503, "ServiceUnavailable", "the server is shutting down")


class ClientGone(OSError):
    """What `send` raises once the client is gone (ASGI 2.4)."""


def refusal(headers: Sequence[tuple[bytes, bytes]]) -> Answer | None:
    """Why this is no handshake that can be answered with a WebSocket (RFC 6455 §4.2.1); None when it is one.

    Args:
        headers: of a request that asks for an upgrade to a WebSocket, examined already.
    """
    if values(headers, b"sec-websocket-version") != [b"13"]:
        return _OTHER_VERSION
    keys = values(headers, b"sec-websocket-key")
    try:
        fits = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        fits = False
    if not fits:
        return bad_request("the WebSocket handshake needs one Sec-WebSocket-Key: 16 bytes in base64")
    offered = _subprotocols(headers)
    if any(not each or each.translate(None, _TOKEN) for each in offered):
        return bad_request("a subprotocol in Sec-WebSocket-Protocol is not a token")
    if len(set(offered)) < len(offered):
        return bad_request("a subprotocol in Sec-WebSocket-Protocol is offered twice")
    return None


def _subprotocols(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    offered = values(headers, b"sec-websocket-protocol")
    return [entry.strip(b" \t") for value in offered for entry in value.split(b",")]


class Entering:
    """What a door knows of the connection that it gives away.

    Args:
        app: what is served.
        state: of the server.
        transport: of the connection.
        porter: looks after it.
        address: what it is counted under; None when it is not.
        limits: the door's.
    """

    __slots__ = ("address", "app", "limits", "porter", "state", "transport")

    def __init__(
        self,
        app: Any,
        state: ServerState,
        transport: asyncio.Transport,
        porter: Porter,
        address: str | None,
        limits: DoorLimits,
    ) -> None:
        self.app: ASGIApp = app
        self.state = state
        self.transport = transport
        self.porter = porter
        self.address = address
        self.limits = limits


class ServerWebSocket(WebSocket):
    """One client's WebSocket from its handshake on, under the porter as the door was.

    Args:
        entering: the connection.
        scope: of the handshake as a plain request; it becomes that of a WebSocket.
    """

    __slots__ = (
        "_accepted",
        "_buffered",
        "_connect",
        "_deaf",
        "_denial",
        "_discarded",
        "_early",
        "_flow_control",
        "_key",
        "_on_gone",
        "_tls",
        "deadline",
        "entering",
        "scope",
        "write_deadline",
    )

    def __init__(self, entering: Entering, scope: Scope) -> None:
        super().__init__(server=True)
        self.entering = entering
        self.transport = entering.transport
        headers = scope["headers"]
        self._key = first(headers, b"sec-websocket-key") or b""
        self._tls = scope["scheme"] == "https"
        self.scope = _websocket_scope(scope, self._when_gone)
        self.deadline = inf
        self.write_deadline = inf
        self._connect = True
        self._accepted = False
        self._denial: Cycle | None = None
        self._flow_control: FlowControl | None = None
        self._early = bytearray()
        self._deaf = False
        self._discarded = 0
        self._buffered = 0
        self._on_gone: Callable[[], None] | None = None

    def enter(self, early: bytes) -> None:
        """Take over the connection and start the application.

        Args:
            early: what came behind the head.
        """
        entering = self.entering
        entering.state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes
        entering.porter.add(self)
        self.transport.set_protocol(self)
        task = self._loop.create_task(self._run(entering.app))
        entering.state.tasks.add(task)
        task.add_done_callback(entering.state.tasks.discard)
        if early:
            self.data_received(early)

    # The application's side

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self._receive, self._send)
        except (asyncio.CancelledError, GeneratorExit):
            self._over(_RESTARTING, _STOPPING)
            raise
        except ClientGone:
            self._over(_FAILED, FAILED)
        except BaseException as error:  # noqa: BLE001  also `sys.exit` in a handler ends its WebSocket, not the server
            _log.error("application failed", **fault(error))
            if _levels.isEnabledFor(logging.DEBUG):
                _log.debug("application failed", exc_info=error)
            self._over(_FAILED, FAILED)
        else:
            if self.ended is None and not self._deaf:
                _log.warning("application returned without closing its WebSocket")
            self._over(_FAILED, FAILED)

    def _over(self, close: Close, answer: Answer) -> None:
        """The application says no more."""
        if self._accepted:
            self.begin_close(close)
        elif self._denial is not None and self._denial.started:
            self._denial.break_off()
        else:
            self._refuse(answer)

    async def _receive(self) -> Message:
        """`websocket.connect`, then `websocket.receive`, and `websocket.disconnect` when either side has ended it."""
        if self._connect:
            self._connect = False
            return {"type": "websocket.connect"}
        message = await self.receive()
        if isinstance(message, Close):
            return {"type": "websocket.disconnect", "code": message.code, "reason": message.reason}
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def _send(self, message: Message) -> None:
        """Accept or refuse, then messages, then a close.

        Raises:
            ClientGone: a message to a client that is gone.
            RuntimeError: a message out of order, or one that may not be sent.
        """
        kind = message["type"]
        if self._accepted:
            await self._send_open(kind, message)
        elif self.gone:
            pass
        elif self._deaf and self._denial is None:
            raise RuntimeError(f"'{kind}' after the WebSocket was refused")
        elif self.ended is not None and self._denial is None:
            pass  # the client left before it was answered
        elif kind.startswith("websocket.http.response."):
            await self._deny(message)
        elif self._denial is not None:
            raise RuntimeError(f"'{kind}' in the middle of a refusal")
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._refuse(_REFUSED)
        else:
            raise RuntimeError(f"expected 'websocket.accept', got '{kind}'")

    async def _send_open(self, kind: str, message: Message) -> None:
        if kind == "websocket.close":
            try:
                self.begin_close(Close(message.get("code", 1000), message.get("reason") or ""))
            except ValueError as error:
                raise RuntimeError(str(error)) from None
        elif kind != "websocket.send":
            raise RuntimeError(f"expected 'websocket.send' or 'websocket.close', got '{kind}'")
        elif self.ended is not None:
            raise ClientGone("the client is gone")
        else:
            data = message.get("bytes")
            await self.send(message["text"] if data is None else data)

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise RuntimeError("a subprotocol that the client did not offer")
        fields = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_of(self._key)),
        ]
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        given = _fields(message)
        if reason := unfit(given):
            raise RuntimeError(reason)
        if own := [name for name, _ in given if name in _OUR_OWN or name.startswith(b"sec-websocket-")]:
            raise RuntimeError(f"{own[0].decode()} is not the application's to say")
        head = [b"%b: %b\r\n" % field for field in (*fields, *self.entering.state.default_headers, *given)]
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(head) + b"\r\n")
        self._accepted = True
        early, self._early = bytes(self._early), bytearray()
        self.begin(self.transport, early)

    async def _deny(self, message: Message) -> None:
        """A refusal is an answer like any other, and the last one on its connection."""
        if self._denial is None:
            self._flow_control = FlowControl(self.transport)
            scope = {"method": "GET", "http_version": "1.1"}
            defaults = self.entering.state.default_headers
            self._denial = Cycle(
                self, scope, self.transport, self._flow_control, Head(), keep_alive=False, defaults=defaults
            )
            self._denial.more_body = False
        await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})

    def _refuse(self, answer: Answer) -> None:
        if self._deaf or self.transport.is_closing():
            return
        self.transport.write(rendered(answer))
        self._linger()

    # A cycle's keeper, while a refusal is sent

    draining = True
    overlong = False

    def waiting(self) -> None:
        """Never: a handshake has no body."""

    def answered(self) -> None:
        """The refusal is written."""
        self._linger()

    def soon(self, call: Callable[[], None]) -> None:
        """Call in the next round of the event loop."""
        self._loop.call_soon(call)

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of a refusal."""
        if reset:
            self._drop()
        else:
            self.transport.close()

    # The connection

    def data_received(self, data: bytes) -> None:
        """Frames; before the application has accepted they wait, and behind a refusal they are thrown away."""
        if self._deaf:
            self._discarded += len(data)
            if self._discarded > self.entering.limits.surplus_bytes:
                self.transport.pause_reading()  # a reset now could overtake what was said last
        elif not self._accepted:
            self._early += data
            if len(self._early) > self.entering.limits.surplus_bytes:
                self._reading_paused = True
                self.transport.pause_reading()
        else:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """A client that stops sending is gone."""
        if self._accepted and not self._deaf:
            return super().eof_received()
        self._end(Close(_ABNORMAL))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The application learns it from `receive`, or when it asked to be told."""
        super().connection_lost(exc)
        entering = self.entering
        entering.state.connections.discard(self)
        entering.porter.remove(self)
        if entering.address is not None:
            entering.porter.leave(entering.address)
        if self._denial is not None:
            self._denial.disconnect()
        if self._flow_control is not None:
            self._flow_control.resume_writing()
        call, self._on_gone = self._on_gone, None
        if call is not None:
            call()
        # They hold on to us: no cycle for the collector.
        self.scope = {}
        self._denial = None

    def shutdown(self) -> None:
        """The server stops and the application does not end it."""
        self._over(_RESTARTING, _STOPPING)

    def finish(self) -> None:
        """Either side has closed. Who is still sending what cannot be read is given the time to see why that is it."""
        if self.fault:
            self._linger()
        else:
            self._close()

    def begin_close(self, close: Close) -> None:
        """As in general; a client that does not answer is not waited for."""
        before = self.ended
        super().begin_close(close)
        if before is None:
            self.deadline = self._loop.time() + self.entering.limits.linger_seconds

    def pause_writing(self) -> None:
        """The send buffer is full."""
        super().pause_writing()
        if self._flow_control is not None:
            self._flow_control.pause_writing()
        self._buffered = unsent(self.transport)
        self.write_deadline = self._loop.time() + self.entering.limits.write_seconds

    def resume_writing(self) -> None:
        """The send buffer is low again."""
        super().resume_writing()
        if self._flow_control is not None:
            self._flow_control.resume_writing()
        self.write_deadline = inf

    def _when_gone(self, call: Callable[[], None] | None) -> None:
        """Call this when the connection is lost; at once when it is."""
        self._on_gone = call
        if call is not None and self.gone:
            self._on_gone = None
            self._loop.call_soon(call)

    def _linger(self) -> None:
        """Close, but first give a client that is still sending the time to see what was said last."""
        self._deaf = True
        self._end(Close(_ABNORMAL))
        self._early.clear()
        self._rest = b""
        self._reading_paused = False
        self.deadline = self._loop.time() + self.entering.limits.linger_seconds
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if not self._tls and self.transport.can_write_eof():
            with suppress(OSError):  # asyncio's raises when what was written met a reset
                self.transport.write_eof()

    def _close(self) -> None:
        self._deaf = True
        if self.transport.is_closing():
            return
        self.transport.close()
        self._buffered = unsent(self.transport)
        self.deadline = self._loop.time() + self.entering.limits.linger_seconds

    def _drop(self) -> None:
        """End at once."""
        reset_on_close(self.transport)
        self.transport.abort()

    # The porter calls

    def overdue(self, now: float) -> None:
        """The time for an end is over."""
        self.deadline = inf
        if not self.transport.is_closing():
            self._close()
            return
        left = unsent(self.transport)
        if left and left < self._buffered:  # a client goes on fetching what was written before
            self._buffered = left
            self.deadline = now + self.entering.limits.write_seconds
        else:
            self.transport.abort()

    def stalled(self, now: float) -> None:
        """The send buffer has been full for too long."""
        left = unsent(self.transport)
        if left < self._buffered:
            self._buffered = left
            self.write_deadline = now + self.entering.limits.write_seconds
        else:
            self.write_deadline = inf
            self._drop()

    def unread_socket(self) -> int | None:
        """The descriptor, while what the client sends waits for the application."""
        return descriptor(self.transport) if self._reading_paused and not self._rest else None

    def hung_up(self) -> None:
        """The client left while the application was not reading."""
        self._drop()


def _websocket_scope(scope: Scope, when_gone: Callable[[Callable[[], None] | None], None]) -> Scope:
    headers: Headers = scope["headers"]
    state = dict(scope["state"])
    connection = state.get("aggmw.connection")
    if isinstance(connection, Connection):
        state["aggmw.connection"] = replace(connection, when_gone=when_gone)
    return {
        "type": "websocket",
        "asgi": {**scope["asgi"], "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if scope["scheme"] == "https" else "ws",
        **{key: scope[key] for key in ("path", "raw_path", "query_string", "root_path", "client", "server")},
        "headers": headers,
        "subprotocols": [entry.decode("ascii") for entry in _subprotocols(headers)],
        "state": state,
        "extensions": {"websocket.http.response": {}},
    }


def _fields(message: Message) -> Headers:
    return tuple((bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ())
