"""The door: our HTTP protocol class for uvicorn, which lets in only what every parser behind it reads alike.

    uvicorn --http aggmw.server.door:Door backend:app

Beside what uvicorn's own class does:

- request trailers never become header fields, and the list that the application got is never changed afterwards;
- heads are bounded in bytes, fields and seconds; bodies must make progress; see `DoorLimits`;
- what several parsers read differently is refused (`aggmw.server.head`), always as a `Status`;
- what arrives behind a request that is not answered yet is thrown away and the connection ends with the answer, so the
  connection is read all the time and the application learns in every phase that its client went;
- a client that closes its sending side is gone, also when it would still listen;
- `scope["state"]["aggmw.connection"]` holds the socket's peer and the verified client certificate, also for WebSockets.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from aggmw.asgi.responses import respond
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.contracts.exchange import Answer
from aggmw.net.buffers import bound_buffers
from aggmw.server.cycle import Cycle
from aggmw.server.head import BAD_REQUEST, HEAD_TOO_LARGE, OVERLOADED, TIMED_OUT, Head, bad_request, examine, rendered
from aggmw.server.limits import DoorLimits
from aggmw.server.pace import Pace
from aggmw.server.porter import Porter
from aggmw.server.sockets import descriptor, reset_on_close, unsent
from aggmw.server.tls import verified_chain
from aggmw.server.websocket import Entering, ServerWebSocket, refusal

__all__ = ["Door", "DoorLimits"]

_log = structlog.get_logger("aggmw.server")

# What the next byte belongs to.
_IDLE = 0  # the next request
_HEAD = 1  # a head
_BODY = 2  # a request's body, or its trailers
_ANSWERING = 3  # nothing: the request is complete and its answer is not
_UPGRADE = 4  # the WebSocket that the head asks for
_DEAF = 5  # nothing any more: read and thrown away until the connection ends

_CHUNK_ALLOWANCE = 16  # bytes of framing that a chunk may need without counting as padding


class _Refused(Exception):
    """Ends the parser's run; the answer is already known."""


class Door(HttpToolsProtocol):
    """One client connection. Made by uvicorn; `Door.limited(…)` is the same door with other limits."""

    limits: ClassVar[DoorLimits] = DoorLimits()
    alpn_protocols: ClassVar[list[str]] = ["http/1.1"]  # read by uvicorn where it makes the TLS context itself

    @classmethod
    def limited(cls, limits: DoorLimits) -> type[Door]:
        """This door with other limits."""
        return type(cls.__name__, (cls,), {"limits": limits})

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.deadline = inf
        self.write_deadline = inf
        self._now = self.loop.time
        self._porter = Porter.of(server_state, self.loop, self.limits.tick)
        self._phase = _IDLE
        self._most_fields = self.limits.head_fields
        self._most_bytes = self.limits.head_bytes
        self._current: Cycle | None = None
        self._on_gone: Callable[[], None] | None = None
        self._closing = False  # the server stops
        self._drain: Drain | None = getattr(server_state, "drain", None)  # only our own server has one
        self._address: str | None = None  # what the connection is counted under
        self._buffered = 0  # unsent bytes when they were last looked at
        self._stale = True  # the parser is to be replaced before it is used
        # About the current message
        self._answer: Answer | None = None
        self._framing = Head()
        self._fed = self._body_bytes = self._discarded = 0
        self._trailers = self._trailer_bytes = self._excess = self._chunks = 0
        self._lingering = False
        self._pace = Pace(self.limits)

    def _restart(self) -> None:
        self._stale = False
        self.parser = httptools.HttpRequestParser(self)
        # Else the parser goes silent after `Connection: close`, and what follows would not be seen as a second request.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    @property
    def draining(self) -> bool:
        """Whether connections end with the response they are in."""
        return self._closing or (self._drain is not None and self._drain.begun)

    @property
    def overlong(self) -> bool:
        """Whether more of the request's body is to come than is read and thrown away, or nobody knows how much."""
        if self._phase != _BODY:
            return False
        return self._framing.chunked or self._framing.length - self._body_bytes > self.limits.surplus_bytes

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Find out who is at the other end, once for all requests."""
        super().connection_made(transport)
        bound_buffers(transport, tls=self.scheme == "https")
        if not self._admitted():
            self._phase = _DEAF
            transport.abort()
            return
        connection = Connection(
            peer=self.client,
            tls=self.scheme == "https",
            chain=verified_chain(transport),
            trailers_apart=True,
            when_gone=self._when_gone,
        )
        self.app_state = {**self.app_state, "aggmw.connection": connection}
        self.deadline = self._now() + (self.limits.linger_seconds if self.draining else self.limits.head_seconds)
        self._porter.add(self)

    def _admitted(self) -> bool:
        """Whether there is room for one more connection, in all and from its address."""
        most = self.limits.connections
        if most and len(self.connections) > most:  # this one is among them
            self._porter.turned_away(most)
            return False
        most = self.limits.connections_per_peer
        if most and self.client is not None:
            if not self._porter.enter(self.client[0], most):
                _log.debug("too many connections from one address")
                return False
            self._address = self.client[0]
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The application learns it from `receive`, whatever it is doing."""
        self.connections.discard(self)
        self._forget()
        self._disconnect()
        self.flow.resume_writing()
        self._phase = _DEAF
        # They hold on to us: no cycle for the collector.
        self.parser = None  # type: ignore[assignment]
        self._current = None
        self.app_state = {}

    def eof_received(self) -> None:
        """A client that stops sending is gone: Kubernetes' clients never close one side only."""
        current = self._current
        if current is None or current.answered:
            return  # the transport closes itself, after what is left to send
        self._disconnect()
        self.soon(self.transport.abort)  # asyncio's TLS, which may be reading out what was paused, would trip over it

    def shutdown(self) -> None:
        """The server stops: who idles is closed now, others with their response; a new one has time for a request."""
        self._closing = True
        if self._current is not None and not self._current.answered:
            self._current.keep_alive = False
        elif self._phase == _IDLE and self._current is not None:
            self._close()
        elif self._phase <= _HEAD:
            self.deadline = min(self.deadline, self._now() + self.limits.linger_seconds)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        super().pause_writing()
        self._buffered = unsent(self.transport)
        self.write_deadline = self._now() + self.limits.write_seconds

    def resume_writing(self) -> None:
        """The send buffer is low again."""
        super().resume_writing()
        self.write_deadline = inf

    def _forget(self) -> None:
        self._porter.remove(self)
        if self._address is not None:
            self._porter.leave(self._address)
            self._address = None

    def _when_gone(self, call: Callable[[], None] | None) -> None:
        """Call this when the client leaves the current request; at once when it has."""
        self._on_gone = call
        if call is not None and (self._current is None or self._current.disconnected):
            self.soon(self._disconnect)

    def _disconnect(self) -> None:
        """Tell the application, whether it awaits `receive` or not."""
        if self._current is not None:
            self._current.disconnect()
        call, self._on_gone = self._on_gone, None
        if call is not None:
            call()

    # Bytes come in

    def data_received(self, data: bytes) -> None:
        """Feed the parser as long as the bytes belong to one request at a time."""
        phase = self._phase
        size = len(data)
        if phase >= _ANSWERING:
            self._behind(data)
        elif phase == _BODY:
            before = self._body_bytes
            self._fed = size
            self._feed(data)
            if self._phase == _IDLE:
                self._fed = 0
            elif self._phase == _HEAD:  # begun in this packet, behind the rest of the body
                self._fed = size - (self._body_bytes - before)
        elif self._fed + size > self._most_bytes:
            self._fill(data)
        else:
            self._fed += size
            self._feed(data)

    def _behind(self, data: bytes) -> None:
        """Bytes that belong to no request."""
        if self._phase == _UPGRADE:
            protocol: Any = self.transport.get_protocol()
            protocol.data_received(data)
        elif self._phase == _DEAF or data.strip(b"\r\n"):
            self._throw_away(len(data))

    def _fill(self, data: bytes) -> None:
        """Read a head up to the limit exactly, so that it does not depend on the packets what is too large."""
        room = max(0, self._most_bytes - self._fed)
        self._fed += room
        if room:
            self._feed(data[:room])
        if self._phase <= _HEAD:
            self._refuse(HEAD_TOO_LARGE)
        else:
            self.data_received(data[room:])

    def _feed(self, data: bytes) -> None:
        if self._stale:
            self._restart()
        phase, current = self._phase, self._current
        brought = self._body_bytes if phase == _BODY else 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._phase != _DEAF:
                self._refuse(self._answer or BAD_REQUEST)
        else:
            # Not in the packet that holds the rest of the last body too: one, and no larger than what is read at once.
            if self._phase == _BODY and self._framing.chunked and (phase != _BODY or self._current is current):
                size = len(data) if phase == _BODY else self._fed - self._head_size()
                self._count_framing(size, self._body_bytes - brought)

    def _count_framing(self, size: int, body: int) -> None:
        """Chunk extensions and trailers are bounded: what is neither body nor the framing it needs adds up."""
        self._excess = max(0, self._excess + size - 3 * body - _CHUNK_ALLOWANCE * self._chunks)
        self._chunks = 0
        if self._excess > self.limits.head_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def _throw_away(self, size: int) -> None:
        if self._phase == _ANSWERING:
            self._surplus()
        self._discarded += size
        if self._discarded <= self.limits.surplus_bytes:
            return
        if self._lingering:
            self.flow.pause_reading()  # a reset now could overtake the answer
        else:
            self._drop()

    def _surplus(self) -> None:
        """A next request came before the answer to this one: the connection ends with the answer."""
        self._phase = _DEAF
        if self._current is not None:
            self._current.keep_alive = False

    # The parser calls

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        if self._phase != _IDLE:
            self._surplus()
            raise _Refused
        if self._current is not None and not self._current.finished:
            self._current.retire()
        self._phase = _HEAD
        self.deadline = self._now() + self.limits.head_seconds
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field; after the head a trailer, which is counted and forgotten."""
        if self._phase != _HEAD:
            self._trailers += 1
            self._trailer_bytes += len(name) + len(value) + 4
            if self._trailers > self.limits.head_fields or self._trailer_bytes > self.limits.head_bytes:
                self._answer = HEAD_TOO_LARGE
                raise _Refused
            return
        headers = self.headers
        if len(headers) >= self._most_fields:
            self._answer = HEAD_TOO_LARGE
            raise _Refused
        headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Examine the head and start the application."""
        method: bytes = self.parser.get_method()
        version: str = self.parser.get_http_version()
        head = examine(method, self.url, version, self.headers)
        if isinstance(head, Answer):
            self._answer = head
            raise _Refused
        self._framing = head
        self.deadline = inf
        upgrading: bool = self.parser.should_upgrade()
        if upgrading and self._examine_upgrade(method, version, head):
            self._phase = _UPGRADE
            return
        self._begin(method, version, head, keep_alive=version == "1.1" and not upgrading)

    def _head_size(self) -> int:
        return len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])

    def _begin(self, method: bytes, version: str, head: Head, *, keep_alive: bool) -> None:
        self._phase = _BODY
        self._trailers = self._trailer_bytes = self._excess = self._chunks = self._discarded = self._body_bytes = 0
        if head.has_body:
            self._pace.begin()
        self._current = cycle = Cycle(
            self,
            self._scope_of(method, version),
            self.transport,
            self.flow,
            head,
            keep_alive=keep_alive and self.parser.should_keep_alive(),
            defaults=self.server_state.default_headers,
        )
        app: Any = self.app
        if self.limit_concurrency is not None and (
            len(self.connections) >= self.limit_concurrency or len(self.tasks) >= self.limit_concurrency
        ):
            app = _overloaded
        self._start_asgi_task(cycle, app)  # type: ignore[arg-type]  # uvicorn only calls `run_asgi`

    def _scope_of(self, method: bytes, version: str) -> Scope:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        root_path = self.root_path
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": self.scheme,
            "path": root_path + path if root_path else path,
            "raw_path": root_path.encode() + raw_path if root_path else raw_path,
            "query_string": query,
            "root_path": root_path,
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }

    def on_body(self, body: bytes) -> None:
        """A part of the request's body."""
        cycle = self._current
        size = len(body)
        self._body_bytes += size
        if cycle is None or cycle.disconnected:
            return
        if cycle.answered:
            self._discarded += size
            if self._discarded > self.limits.surplus_bytes:
                self._linger()
                raise _Refused
            if cycle.finished:
                return
        elif cycle.waits:
            self.deadline = inf
            self._pace.bring(self._now(), size)
        cycle.feed(body)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunks += 1

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._phase != _BODY:
            return
        self.deadline = inf
        cycle = self._current
        if cycle is None:
            return
        self._phase = _ANSWERING
        # A trailer named Connection leaves the parser deaf: whatever they were, the next request gets a new one.
        self._stale = self._trailers > 0
        if cycle.answered:
            cycle.keep_alive = cycle.keep_alive and not self._stale
            self._next()
        cycle.complete()

    # The application's side, told by the cycle

    def waiting(self) -> None:
        """The application waits for the body: from here its time counts."""
        self.deadline = self._pace.wait(self._now())

    def answered(self) -> None:
        """The response is written: go on to the next request, or end."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._phase == _ANSWERING:
            self._fed = 0
            self._next()
        elif self._phase == _BODY and self._current is not None and self._current.keep_alive:
            # The rest of the body is still to come: bounded in size by `on_body`, in time here.
            self.deadline = self._now() + self.limits.linger_seconds
        else:
            self._linger()

    def soon(self, call: Callable[[], None]) -> None:
        """Call in the next round of the event loop."""
        self.loop.call_soon(call)

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of a response."""
        if reset:
            self._drop()
        else:
            self._close()

    def _next(self) -> None:
        if self._current is None or not self._current.keep_alive or self.draining:
            self._close()
            return
        self._phase = _IDLE
        self.deadline = self._now() + self.timeout_keep_alive

    # Refusing and ending

    def _refuse(self, answer: Answer) -> None:
        """Answer in the application's place and end; in the middle of a response only end."""
        cycle = self._current if self._phase >= _BODY else None
        if cycle is not None and not cycle.answered:
            started, closing = cycle.started, cycle.disconnected
            self._disconnect()
            if started or closing:
                self._drop()
                return
        elif cycle is not None:
            self._linger()
            return
        if not self.transport.is_closing():
            # Without a parsed method nobody knows whether this answers a HEAD; the connection ends either way.
            self.transport.write(rendered(answer))
            self._linger()

    def _linger(self) -> None:
        """Close, but first give a client that is still sending the time to see its answer."""
        self._phase = _DEAF
        self._lingering = True
        self._discarded = 0
        self.deadline = self._now() + self.limits.linger_seconds
        self.flow.resume_reading()
        if self.scheme == "http" and self.transport.can_write_eof() and not self.transport.is_closing():
            with suppress(OSError):  # asyncio's raises when what was written met a reset
                self.transport.write_eof()

    def _close(self) -> None:
        self._phase = _DEAF
        if self.transport.is_closing():
            return  # asyncio's TLS transport forgets its protocol when it is closed twice, and can then not be aborted
        self.transport.close()
        self._buffered = unsent(self.transport)
        self.deadline = self._now() + self.limits.linger_seconds

    def _drop(self) -> None:
        """End at once, in a way that cannot be taken for the end of a body."""
        self._phase = _DEAF
        reset_on_close(self.transport)
        self._disconnect()
        self.transport.abort()

    # The porter calls

    def overdue(self, now: float) -> None:
        """The deadline of the current phase is past."""
        self.deadline = inf
        if self.transport.is_closing():
            self._insist(now)
        elif self._phase == _HEAD:
            self._refuse(TIMED_OUT)
        elif self._phase == _BODY and self._current is not None and not self._current.answered:
            if self._current.waits:
                self._refuse(TIMED_OUT)
        elif self._phase == _BODY:
            self._linger()
        else:
            self._close()

    def _insist(self, now: float) -> None:
        """A closed connection goes on for as long as the client still fetches what was written before."""
        left = unsent(self.transport)
        if left and left < self._buffered:
            self._buffered = left
            self.deadline = now + self.limits.write_seconds
        else:
            self.transport.abort()

    def stalled(self, now: float) -> None:
        """The send buffer has been full for too long."""
        left = unsent(self.transport)
        if left < self._buffered:
            self._buffered = left
            self.write_deadline = now + self.limits.write_seconds
        else:
            self.write_deadline = inf
            self._drop()

    def unread_socket(self) -> int | None:
        """The descriptor, while the body waits for the application."""
        return descriptor(self.transport) if self.flow.read_paused else None

    def hung_up(self) -> None:
        """The client left while the application was not reading."""
        self._drop()

    # Upgrades

    def _examine_upgrade(self, method: bytes, version: str, head: Head) -> bool:
        """Whether this becomes a WebSocket. Any other upgrade is ignored, as RFC 9110 §7.8 allows."""
        if head.has_body:
            # The parser takes everything behind this head for the new protocol: the body would be lost.
            self._answer = bad_request("a request for an upgrade cannot have a body")
            raise _Refused
        if head.upgrade != b"websocket" or method != b"GET" or version != "1.1" or self.ws_protocol_class is None:
            return False
        self._answer = refusal(self.headers)
        if self._answer is not None:
            raise _Refused
        return True

    def _upgrade(self, rest: bytes) -> None:
        if self._phase == _UPGRADE:
            self._hand_over(rest)
        elif self._phase == _ANSWERING:
            self._surplus()
            self._throw_away(len(rest))

    def _hand_over(self, rest: bytes) -> None:
        """Give the connection away; it stays counted for its address until it ends."""
        self.connections.discard(self)
        self._porter.remove(self)
        entering = Entering(self.app, self.server_state, self.transport, self._porter, self._address, self.limits)
        ServerWebSocket(entering, self._scope_of(b"GET", "1.1")).enter(rest)
        self.parser = None  # type: ignore[assignment]  # as when it is lost
        self.app_state = {}


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(scope, send, OVERLOADED)
