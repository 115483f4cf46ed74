"""What one request carries through the stages, and what a stage may answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aggmw.asgi.types import Headers, Scope
from aggmw.contracts.audit import NO_RECORD, AuditRecord
from aggmw.contracts.authorization import Verdict
from aggmw.contracts.backends import AnyBackend, PathService
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.identity import Identity
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.request_info import RequestInfo

__all__ = ["Answer", "Exchange", "Observer", "Stage"]


class Answer(NamedTuple):
    """A whole response. `content-length` is added when it is sent; a HEAD request gets the head alone."""

    status: int
    headers: Headers
    body: bytes


@dataclass(slots=True, eq=False)
class Exchange:
    """The one mutable value of a request.

    Attributes:
        scope: as the server or the application outside gave it; never changed.
        headers: frozen on entry; authentication replaces them by what may go on.
        request_id: the audit id, echoed as `Audit-ID`.
        connection: the socket's peer and certificate.
        request_info, identity, verdict, backend: what the stages found out, each None until its stage ran.
        subprotocols: what a WebSocket handshake offers; authentication takes those out that carry a token.
        target: what goes upstream instead of `request_info.target`; set only by discovery, for OpenAPI documents
            that are asked for without their hash.
        path_service: set by the registry beside `backend`, for a path that is not an API.
        telling: set by the registry beside `backend`, for an API server that is told who asks by impersonation.
        routed: whether the registry ran, so that no backend means that there is none.
        identified: whether authentication has begun: nobody may ask a second time, not even meanwhile.
        host_user: whether `identity` was taken from the application outside: its `scope["user"]` is left alone.
        own_cookies: names of the cookies that tell this front proxy who asks: no service may set them.
        impersonates: whether the caller asks to act as somebody else, and no stage has decided on that yet.
        impersonator: who really asks, where `identity` is whom that caller acts as; set by the impersonation stage.
        impersonation: the right that let it, such as "impersonate:user-info"; "" for the plain one.
        asked_by: the proxy that only asks whether it may forward this request, such as "nginx"; "" where the request is
            answered here. Whether it is a WebSocket handshake is then not known for certain.
        audit: what is recorded of this request; stages behind the audit stage annotate it.
        in_flight: what the metrics stage counts this request under; None when it does not.
        warnings: texts for `Warning: 299` response headers.
    """

    scope: Scope = field(repr=False)
    headers: Headers = field(repr=False)
    request_id: str = ""
    connection: Connection = UNKNOWN
    request_info: RequestInfo | None = None
    identity: Identity | None = None
    verdict: Verdict | None = None
    backend: AnyBackend | None = None
    path_service: PathService | None = None
    telling: Impersonate | None = None
    target: bytes | None = None
    routed: bool = False
    identified: bool = False
    host_user: bool = False
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    warnings: list[str] = field(default_factory=list)
    own_cookies: frozenset[bytes] = frozenset()
    impersonates: bool = False
    impersonator: Identity | None = None
    impersonation: str = ""
    audit: AuditRecord = NO_RECORD
    in_flight: object = None
    asked_by: str = ""


class Stage(Protocol):
    """A stage that only decides. `FrontProxy` calls neighbouring ones from one coroutine."""

    async def decide(self, exchange: Exchange) -> Answer | None:
        """Answer the request, or leave something on the exchange and return None to go on.

        Raises:
            StatusError: becomes an answer, as if it had been returned.
        """
        ...


class Observer(Protocol):
    """Is told of every request when it is over. Called on the event loop: must not block, must not raise."""

    def ended(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        """A request is over.

        Args:
            exchange: what the stages found out, as far as they came.
            status: what was answered; 0 when the client left before that, 101 for a WebSocket.
            seconds: from its arrival at the outermost stage.
            size: bytes of the response's body.
        """
        ...
