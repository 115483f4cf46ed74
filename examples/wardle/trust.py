"""Whom this server believes, `aggmw.backend`'s to say, and one line about each request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggmw import Identity
from aggmw.backend import RequestHeaderAuthentication
from aggmw.contracts.connection import Connection
from aggmw.pki.read import certificate_details

OPEN_PATHS = ("/healthz", "/livez", "/readyz")


class FrontProxyOnly:
    """Lets the front proxy's requests through, and those for health; writes one line about each.

    Args:
        app: what is protected.
        authority: the front-proxy CA, PEM.
        allowed_names: common names that its client certificate may have.
        log: gets method, path, query, status, caller and the front proxy's common name, as one JSON line.
    """

    def __init__(
        self, app: ASGIApp, *, authority: bytes, allowed_names: Sequence[str], log: Callable[[str], object]
    ) -> None:
        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            scope["wardle.callers"].append(scope["aggmw.identity"])
            await app(scope, receive, send)

        self._app = RequestHeaderAuthentication(
            known, ca=authority, allowed_names=allowed_names, anonymous_paths=OPEN_PATHS
        )
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        callers: list[Identity] = []

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._log(json.dumps(_line(scope, callers, message["status"])))
            await send(message)

        await self._app({**scope, "wardle.callers": callers}, receive, noted)


def _line(scope: Scope, callers: list[Identity], status: int) -> dict[str, Any]:
    line: dict[str, Any] = {"method": scope["method"], "path": scope["path"]}
    line |= {"query": scope["query_string"].decode("latin-1"), "status": status}
    if not callers:
        return line | {"user": "", "uid": "", "groups": [], "extra": {}, "certificate": ""}
    (caller,) = callers
    line |= {"user": caller.user, "uid": caller.uid, "groups": caller.groups, "extra": dict(caller.extra)}
    connection: Connection = scope["state"]["aggmw.connection"]
    names = [certificate_details(leaf).common_name for leaf in connection.chain[:1]]
    return line | {"certificate": "".join(names)}
