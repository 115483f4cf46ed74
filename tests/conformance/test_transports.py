"""Every transport passes the suites of `aggmw.testing.transports`; what one cannot do is declared and in the docs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from aggmw.backend import WsgiApplication
from aggmw.contracts.backends import AnyBackend, Backend, LocalBackend, UpstreamTransport
from aggmw.middleware.proxy import AsgiTransport, Http1Transport, HttpxTransport, TransportLimits
from aggmw.testing.model import ModelBackend
from aggmw.testing.served import served
from aggmw.testing.transports import TransportSuite

NAME = "v1.model.example.com"


class TestLane(TransportSuite):
    """`Http1Transport`."""

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        async with served(model.asgi) as server:
            transport = Http1Transport(limits=limits)
            yield transport, Backend.at(server.url, name=NAME)
            await transport.aclose()


class TestHttpx(TransportSuite):
    """`HttpxTransport` with HTTP/1.1."""

    cannot: ClassVar = {"early_answers": "httpx reads the answer when it has sent the whole request"}

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        async with served(model.asgi) as server:
            transport = HttpxTransport(limits=limits)
            yield transport, Backend.at(server.url, name=NAME)
            await transport.aclose()


class TestAsgi(TransportSuite):
    """`AsgiTransport`: an application in this process."""

    cannot: ClassVar = {
        "silence": "an application in this process is trusted to end",
        "busy": "an application in this process costs no connection",
    }

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        transport = AsgiTransport()
        backend = LocalBackend(NAME, model.asgi)
        async with transport.applications.running([backend]):
            yield transport, backend
            await transport.aclose()


class TestWsgi(TransportSuite):
    """`WsgiApplication` behind `AsgiTransport`."""

    cannot: ClassVar = {
        "field_order": "WSGI joins fields of one name, and has them in no order",
        "departures": "a thread cannot be interrupted: the application sees it when it next reads or yields",
        "silence": "an application in this process is trusted to end",
        "busy": "requests wait for a thread, not for a connection",
    }

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        transport = AsgiTransport()
        backend = LocalBackend(NAME, WsgiApplication(model.wsgi, chunked=True))
        async with transport.applications.running([backend]):
            yield transport, backend
            await transport.aclose()
