"""The audit stage: a record of who did what, for every request that the policy names; and its ASGI shell."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from aggmw.asgi.exchanges import entered, inside, misuse
from aggmw.asgi.lifespan import serve_lifespan
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.tally import Tally
from aggmw.asgi.types import ASGIApp, Headers, Message, Receive, Scope, Send
from aggmw.contracts.audit import NO_RECORD, AuditLevel, AuditSink
from aggmw.contracts.background import Background
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.metrics import Sample, Source
from aggmw.contracts.options import check_lookup, check_type, checked_seams
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import CompositionError, MissingInput, StatusError
from aggmw.middleware.audit.bodies import Kept
from aggmw.middleware.audit.events import Record, attempted
from aggmw.middleware.audit.policy import COMPLETE, PANIC, RECEIVED, STARTED, AuditPolicy
from aggmw.middleware.audit.redaction import without_secrets
from aggmw.objects.status import status_answer

__all__ = ["Audit", "AuditMiddleware"]

_NOT_RECORDED = status_answer(
    500, "InternalError", "Internal error occurred: the request cannot be recorded in the audit log, so it is refused"
)
_MAX_BODY = 131_072
_NONE = AuditLevel.NONE  # looked up on the enumeration each time otherwise
_METADATA = AuditLevel.METADATA
_EVERYTHING = AuditLevel.REQUEST_RESPONSE


class Audit:
    """What is recorded, and where it goes: the policy and the sinks of an audit stage. Also an `Observer`.

    As an observer of the outermost stage (`RecoveryMiddleware(observers=[audit])`; `FrontProxy` does that) it records
    the requests that come no further than authentication: nobody else could, because the audit stage stands behind it.

    Args:
        policy: which requests, and how much of them.
        sinks: where the events go, such as `AuditLog`; run by the lifespan of whoever has this stage.
        required: no audit, no service: a request waits until its `RequestReceived` event is written, and is refused
            with a 500 when that fails. A request whose policy omits that event is refused while writing fails.
        max_body: bytes of a body that is recorded; larger ones are left out, and an annotation says so.
        clock: seconds since the epoch.

    Raises:
        TypeError: an option that is not what it should be.
    """

    def __init__(
        self,
        policy: AuditPolicy,
        sinks: Sequence[AuditSink],
        *,
        required: bool = False,
        max_body: int = _MAX_BODY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_type("policy", policy, AuditPolicy)
        self.sinks = checked_seams("sinks", sinks, "run")
        self.required = required
        self.max_body = max_body
        self._policy = policy
        self._clock = clock
        self._levels = [0] * len(AuditLevel)
        self._events = 0
        self._rejected = 0
        self._background = Background(self.sinks)

    def __repr__(self) -> str:
        return f"Audit({self._policy!r}, [{', '.join(map(shown, self.sinks))}])"

    def reload(self, policy: AuditPolicy) -> None:
        """Record by this policy from now on; a request that is going on keeps what it began with."""
        self._policy = policy

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The sinks write, for as long as the context is open; contexts may nest."""
        async with self._background:
            yield

    def open(self, exchange: Exchange, identity: Identity | None, info: RequestInfo) -> Record | None:
        """Begin the record of a request, and leave it on the exchange; None when it is not recorded."""
        recorded = without_secrets(self._policy.recorded(identity, info), info)
        self._levels[recorded.level] += 1
        if recorded.level is _NONE:
            return None
        record = Record(exchange, recorded, identity, info, self._clock())
        exchange.audit = record
        return record

    def write(self, record: Record, stage: str, exchange: Exchange, status: int | None = None) -> None:
        """Make the event of a stage, unless the policy omits it, and hand it to every sink."""
        if stage in record.omitted:
            return
        event = record.event(stage, self._clock(), exchange, status)
        self._events += 1
        for sink in self.sinks:
            sink.put(event)

    async def admit(self) -> bool:
        """Whether a request that is recorded may go on; waits until every sink has room, or has written."""
        for sink in self.sinks:
            if not self.required:
                if sink.full:
                    await sink.room()
            elif not await sink.written():  # never waits for room that a failing sink will not have
                self._rejected += 1
                return False
        return True

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        """A request is over: one that authentication refused is recorded here."""
        info = exchange.request_info
        if info is None or not exchange.identified or exchange.identity is not None or exchange.audit is not NO_RECORD:
            return
        record = self.open(exchange, None, info)
        if record is not None:
            if status == 401:
                record.message = attempted(exchange.headers, exchange.connection.chain)
            self.write(record, COMPLETE, exchange, status)

    def samples(self) -> Iterable[Sample]:
        """What was recorded, and what became of it."""
        text = "Audit events that were made and handed to the sinks."
        yield Sample("apiserver_audit_event_total", text, "counter", (), self._events)
        for level in AuditLevel:
            text = "Requests by the level at which the audit policy records them."
            yield Sample("apiserver_audit_level_total", text, "counter", (("level", level.word),), self._levels[level])
        text = "Requests that were refused because they could not be recorded."
        yield Sample("apiserver_audit_requests_rejected_total", text, "counter", (), self._rejected)
        for sink in self.sinks:
            if isinstance(sink, Source):
                yield from sink.samples()


class AuditMiddleware:
    """Records requests as its policy says: `audit.k8s.io/v1` events to the sinks of `audit`.

    It stands behind request_info and authentication, and in front of whatever else may refuse, so that every outcome
    is recorded. Nothing of `Authorization` is ever recorded, nor a body of Secrets, TokenReviews and token requests,
    nor the value of a query key that may be a credential.

    A lifespan that comes by runs the sinks. Where none does: `async with audit.running(): …`.

    Args:
        app: what is inside.
        audit: the policy and the sinks.
        identity: who asks, in place of what the authentication stage left.
        request_info: what is asked for, in place of what the request_info stage left.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        audit: Audit,
        identity: Callable[[Exchange], Identity | None] | None = None,
        request_info: Callable[[Exchange], RequestInfo | None] | None = None,
    ) -> None:
        check_type("audit", audit, Audit)
        check_lookup("identity", identity)
        check_lookup("request_info", request_info)
        needs = {"request_info": request_info, "authentication": identity}
        self.aggmw_stages = stand("audit", app, needs=[name for name, given in needs.items() if not given])
        self._app = app
        self._inside = inside(app)
        self._audit = audit
        self._identity = identity
        self._request_info = request_info

    def __repr__(self) -> str:
        return f"AuditMiddleware({self._audit!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self._app, self._audit.running, scope, receive, send)
        elif scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif (exchange := await entered(scope, send)) is not None:
            await self.aggmw_take(exchange, receive, send)

    async def aggmw_take(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """As when called, with the exchange at hand."""
        audit = self._audit
        try:
            identity, info = self._inputs(exchange)
        except CompositionError as error:
            await respond(exchange.scope, send, misuse(error, exchange.request_id))
            return
        record = audit.open(exchange, identity, info)
        if record is None:
            await self._inside(exchange, receive, send)
            return
        tally = Tally()
        if record.level is not _METADATA:
            receive = _keeping(record, exchange.headers, receive, audit.max_body)
        streams = info.long_running or exchange.scope["type"] == "websocket"
        if streams or record.level is _EVERYTHING:
            send = self._watching(record, exchange, streams, tally, send)
        else:
            send = _counting(tally, send)
        audit.write(record, RECEIVED, exchange)
        stage = COMPLETE
        try:
            if (audit.required or any(sink.full for sink in audit.sinks)) and not await audit.admit():
                await respond(exchange.scope, send, _NOT_RECORDED)
            else:
                await self._inside(exchange, receive, send)
        except StatusError as error:
            tally.status = tally.status or error.code
            raise
        except Exception:
            stage = PANIC
            tally.status = tally.status or 500
            raise
        finally:
            audit.write(record, stage, exchange, tally.status)

    def _inputs(self, exchange: Exchange) -> tuple[Identity, RequestInfo]:
        info = exchange.request_info if self._request_info is None else self._request_info(exchange)
        if info is None:
            raise MissingInput("audit", "the request info", "request_info")
        identity = exchange.identity if self._identity is None else self._identity(exchange)
        if identity is None:
            raise MissingInput("audit", "an identity", "authentication")
        return identity, info

    def _watching(self, record: Record, exchange: Exchange, streams: bool, tally: Tally, send: Send) -> Send:
        """Counts, writes `ResponseStarted` for what may go on for long, and keeps the body where that is asked for."""
        keeps = record.level is _EVERYTHING and not streams
        limit = self._audit.max_body

        async def watching(message: Message) -> None:
            began = tally.status
            tally.note(message)
            if keeps and message["type"] == "http.response.start":
                record.response = Kept(_lowered(message.get("headers") or ()), limit)
            elif keeps and record.response is not None and message["type"] == "http.response.body":
                record.response.add(message.get("body", b""))
            if streams and tally.status and not began:
                self._audit.write(record, STARTED, exchange, tally.status)
            await send(message)

        return watching


def _counting(tally: Tally, send: Send) -> Send:
    def counting(message: Message) -> Awaitable[None]:  # no coroutine of its own: every message comes through
        tally.note(message)
        return send(message)

    return counting


def _keeping(record: Record, headers: Headers, receive: Receive, limit: int) -> Receive:
    """Keeps the request's body while it passes."""
    kept = record.request = Kept(headers, limit)

    async def keeping() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            kept.add(message.get("body", b""))
        return message

    return keeping


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return tuple([(bytes(name).lower(), bytes(value)) for name, value in headers])
