"""What one request carries through the stages, and what a stage may answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aggmw.asgi.types import Headers, Scope
from aggmw.contracts.authorization import Verdict
from aggmw.contracts.backends import Backend
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo

__all__ = ["Answer", "Exchange", "Stage"]


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
        target: what goes upstream instead of `request_info.target`; set only by discovery, for OpenAPI documents
            that are asked for without their hash.
        warnings: texts for `Warning: 299` response headers.
    """

    scope: Scope = field(repr=False)
    headers: Headers = field(repr=False)
    request_id: str = ""
    connection: Connection = UNKNOWN
    request_info: RequestInfo | None = None
    identity: Identity | None = None
    verdict: Verdict | None = None
    backend: Backend | None = None
    target: bytes | None = None
    subprotocols: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


class Stage(Protocol):
    """A stage that only decides. `FrontProxy` calls neighbouring ones from one coroutine."""

    async def decide(self, exchange: Exchange) -> Answer | None:
        """Answer the request, or leave something on the exchange and return None to go on.

        Raises:
            StatusError: becomes an answer, as if it had been returned.
        """
        ...
