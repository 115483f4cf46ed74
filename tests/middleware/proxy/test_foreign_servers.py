"""Scopes as other ASGI servers than ours make them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.middleware.proxy.proxying import ALICE, Before, core

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import LocalBackend
from aggmw.middleware.proxy import AsgiTransport, ProxyMiddleware
from aggmw.testing import Client


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (("192.0.2.7", "40123"), ("192.0.2.7", 40123)),  # granian
        (("192.0.2.7", 40123), ("192.0.2.7", 40123)),
        (("", None), ("", 0)),  # a Unix socket, with some
        (None, None),
    ],
)
async def test_client_of_an_application_has_a_numeric_port(given: Any, seen: tuple[str, int] | None) -> None:
    """An application in this process gets host and port as ASGI says, a text and a number, or None."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = AsgiTransport()
    backend = LocalBackend("v1.notes.example.com", app)
    async with transport.applications.running([backend]):
        proxy = Stages(ProxyMiddleware(core, transport=transport), Before(backend, ALICE, "id-1"))
        await Client(proxy, client=given).request("GET", "/")
        await transport.aclose()
    assert [scope["client"] for scope in scopes if scope["type"] == "http"] == [seen]
