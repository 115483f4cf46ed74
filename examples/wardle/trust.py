"""Whom this server believes: a caller is who the front proxy says, and only the front proxy may say so.

The front proxy shows a client certificate of the front-proxy CA. Everybody else gets a 401, also a user with a valid
certificate of another authority, or with the right name from the wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggmw.contracts.connection import Connection
from aggmw.pki.read import certificate_details, pem_certificates

from .objects import Refused

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
_EXTRA = b"x-remote-extra-"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, in the front proxy's words."""

    user: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)


class FrontProxyOnly:
    """Lets the front proxy's requests through and leaves `scope["wardle.caller"]`; writes one line about each request.

    Args:
        app: what is protected.
        authority: the front-proxy CA, PEM.
        allowed_names: common names that its client certificate may have.
        log: gets method, path, query, caller, the certificate's common name and the status, as one JSON line.
    """

    def __init__(
        self, app: ASGIApp, *, authority: bytes, allowed_names: Sequence[str], log: Callable[[str], object]
    ) -> None:
        self._app = app
        self._roots = frozenset(pem_certificates(authority))
        self._allowed = frozenset(allowed_names)
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        common_name = self._front_proxy((scope.get("state") or {}).get("aggmw.connection"))
        caller = _caller(scope["headers"]) if common_name else Caller()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, caller, common_name, message["status"])
            await send(message)

        if caller.user or scope["path"] in OPEN_PATHS:
            await self._app({**scope, "wardle.caller": caller}, receive, noted)
        else:
            refused = Refused(401, "Unauthorized", "Unauthorized")
            await JSONResponse(refused.status, refused.code)(scope, receive, noted)

    def _front_proxy(self, connection: object) -> str:
        """The common name of the front proxy's certificate; "" for anybody else."""
        if not isinstance(connection, Connection) or not connection.chain or not connection.trailers_apart:
            return ""
        leaf = certificate_details(connection.chain[0])
        purposes_fit = not leaf.purposes or "clientAuth" in leaf.purposes
        in_time = leaf.not_before <= datetime.now(UTC) <= leaf.not_after
        if connection.chain[-1] in self._roots and purposes_fit and in_time and leaf.common_name in self._allowed:
            return leaf.common_name
        return ""

    def _note(self, scope: Scope, caller: Caller, certificate: str, status: int) -> None:
        line: dict[str, Any] = {"method": scope["method"], "path": scope["path"]}
        line |= {"query": scope["query_string"].decode("latin-1"), "status": status}
        line |= {**asdict(caller), "certificate": certificate}
        self._log(json.dumps(line))


def _caller(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """From the headers that the front proxy has set; it has removed whatever its own client sent."""
    fields = [(name.lower(), value.decode("utf-8", "replace")) for name, value in headers]
    extra: dict[str, list[str]] = {}
    for name, value in fields:
        if name.startswith(_EXTRA):
            extra.setdefault(unquote(name[len(_EXTRA) :].decode("latin-1")), []).append(value)
    return Caller(
        user=next((value for name, value in fields if name == b"x-remote-user"), ""),
        uid=next((value for name, value in fields if name == b"x-remote-uid"), ""),
        groups=tuple(value for name, value in fields if name == b"x-remote-group" and value),
        extra=extra,
    )
