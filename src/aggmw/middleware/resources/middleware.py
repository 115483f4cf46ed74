"""ResourcesMiddleware: answers for the kinds that the front proxy serves itself, and passes everything else on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aggmw.asgi.exchanges import entered, inside, misuse
from aggmw.asgi.headers import values
from aggmw.asgi.responses import respond
from aggmw.asgi.stacking import shown, stand
from aggmw.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import VirtualKind
from aggmw.contracts.options import check_lookup
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import CompositionError, MissingInput, StatusError
from aggmw.middleware.resources.virtual import VirtualKinds
from aggmw.objects.bodies import MAX_BYTES, TOO_LARGE
from aggmw.objects.status import answer_of

__all__ = ["ResourcesMiddleware"]


class ResourcesMiddleware:
    """Serves virtual kinds: `POST /apis/G/V/RESOURCE` is answered with the object, completed (201), and not stored.

    Objects come and go as JSON, YAML or protobuf. A request must have been authorised, like everything else.

    Args:
        app: gets every request that is for none of the kinds.
        kinds: what is served, such as `TokenReviews` and `SelfSubjectReviews`.
        request_info: replaces what the request_info stage leaves.
        identity: who asks, in place of what the authentication stage left.
        verdict: what was decided, in place of what the authorization stage left.

    Raises:
        TypeError: something that is no kind.
        ValueError: two kinds of one resource.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        kinds: Iterable[VirtualKind] | VirtualKinds,
        request_info: Callable[[Exchange], RequestInfo] | None = None,
        identity: Callable[[Exchange], Identity | None] | None = None,
        verdict: Callable[[Exchange], Verdict | None] | None = None,
    ) -> None:
        needs = {"request_info": request_info, "authentication": identity, "authorization": verdict}
        for option, look_up in (("request_info", request_info), ("identity", identity), ("verdict", verdict)):
            check_lookup(option, look_up)
        self.aggmw_stages = stand("resources", app, needs=[name for name, given in needs.items() if given is None])
        self._app = app
        self._inside = inside(app)
        self._kinds = kinds if isinstance(kinds, VirtualKinds) else VirtualKinds(kinds)
        self._request_info = request_info
        self._identity = identity
        self._verdict = verdict

    def __repr__(self) -> str:
        return f"ResourcesMiddleware({self._kinds!r}) → {shown(self._app)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (exchange := await entered(scope, send)) is not None:
            await self.aggmw_take(exchange, receive, send)

    async def aggmw_take(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """As when called, with the exchange at hand."""
        try:
            answer = await self._answer(exchange, receive) if exchange.scope["type"] == "http" else None
        except StatusError as error:
            answer = answer_of(error)
        except CompositionError as error:
            answer = misuse(error, exchange.request_id)
        except _Gone:
            return
        if answer is None:
            await self._inside(exchange, receive, send)
        else:
            await respond(exchange.scope, send, answer)

    async def _answer(self, exchange: Exchange, receive: Receive) -> Answer | None:
        info = exchange.request_info if self._request_info is None else self._request_info(exchange)
        if info is None:
            raise MissingInput("resources", "the request info", "request_info")
        kind = self._kinds.find(info)
        if kind is None or isinstance(kind, Answer):
            return kind
        # Whoever was judged is who is answered: an impersonated caller goes before a look-up of the host's.
        look_up = None if exchange.impersonator is not None else self._identity
        identity = exchange.identity if look_up is None else look_up(exchange)
        if identity is None:
            raise MissingInput("resources", "an identity", "authentication")
        verdict = exchange.verdict if self._verdict is None else self._verdict(exchange)
        if verdict is None or verdict.outcome is not Outcome.ALLOW:
            raise MissingInput("resources", "a verdict that allows", "authorization")
        headers = exchange.headers
        try:
            async with asyncio.timeout(info.timeout):
                return await self._kinds.create(
                    kind,
                    info,
                    identity,
                    exchange.warnings,
                    content_type=_joined(headers, b"content-type"),
                    accept=_joined(headers, b"accept"),
                    body=await _body(headers, receive),
                )
        except TimeoutError:
            raise StatusError(504, "Timeout", "the request did not complete within its time") from None


class _Gone(Exception):
    """The client left while it was still sending."""


async def _body(headers: Headers, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        StatusError: 413, before more of it is read; 415 when it is compressed.
    """
    if any(each.strip().lower() != b"identity" for each in values(headers, b"content-encoding")):
        raise StatusError(415, "UnsupportedMediaType", "the body of the request must not be compressed")
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BYTES:
            raise TOO_LARGE
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _joined(headers: Headers, name: bytes) -> str | None:
    found = list(values(headers, name))
    return b",".join(found).decode("latin-1") if found else None
