"""Every transport passes the suites of `aggmw.testing.transports`; what one cannot do is declared and in the docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.conformance.http2_server import http2_served
from tests.middleware.proxy.proxying import dead_port

from aggmw.backend import WsgiApplication
from aggmw.contracts.backends import (
    AnyBackend,
    Backend,
    BalancedBackend,
    LocalBackend,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTransport,
)
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.proxy import AsgiTransport, BalancedTransport, Http1Transport, HttpxTransport, TransportLimits
from aggmw.testing.model import ModelBackend
from aggmw.testing.served import served
from aggmw.testing.transports import CAPABILITIES, TransportSuite
from aggmw.testing.wire import WireSuite

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


@pytest.mark.allows("errors")  # hypercorn does not expect connections that are closed with something on its way
class TestHttp2(TransportSuite):
    """`HttpxTransport` with HTTP/2, in front of hypercorn."""

    cannot: ClassVar = {"early_answers": "httpx reads the answer when it has sent the whole request"}
    most_held: ClassVar = 40 * 2**20

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        async with http2_served(model.asgi, self.directory) as backend:
            transport = HttpxTransport(http2=True, limits=limits)
            yield transport, backend
            await transport.aclose()


class TestBalanced(TransportSuite):
    """`BalancedTransport`, where a service has one endpoint: all that the transport below it can, and nothing more."""

    @asynccontextmanager
    async def serving(
        self, model: ModelBackend, limits: TransportLimits
    ) -> AsyncIterator[tuple[UpstreamTransport, AnyBackend]]:
        async with served(model.asgi) as server:
            transport = BalancedTransport(Http1Transport(limits=limits))
            yield transport, BalancedBackend.at([server.url], name=NAME)
            assert sum(balance.in_flight for balance in transport.balances) == 0
            await transport.aclose()


COLUMNS = (TestLane, TestHttpx, TestHttp2, TestAsgi, TestWsgi)


def test_the_page_says_what_each_can() -> None:
    """`docs/reference/transports.md` has every capability, and every reason why a transport does not have it."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "transports.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    found = {row[0]: row[1:] for row in rows}
    expected = {text: [each.cannot.get(name, "yes") for each in COLUMNS] for name, text in CAPABILITIES.items()}
    assert {text: found.get(text) for text in expected} == expected


class TestLaneOnTheWire(WireSuite):
    """`Http1Transport`."""

    @asynccontextmanager
    async def reaching(self, limits: TransportLimits) -> AsyncIterator[UpstreamTransport]:
        transport = Http1Transport(limits=limits)
        yield transport
        await transport.aclose()


class TestBalancedOnTheWire(WireSuite):
    """`BalancedTransport`, where a service has one endpoint."""

    @asynccontextmanager
    async def reaching(self, limits: TransportLimits) -> AsyncIterator[UpstreamTransport]:
        transport = OneOfOne(Http1Transport(limits=limits))
        yield transport
        assert sum(balance.in_flight for balance in transport.balances) == 0
        await transport.aclose()


class OneOfOne(BalancedTransport):
    """Takes a server for a service with one endpoint."""

    def send(self, backend: AnyBackend, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamResponse]:
        assert isinstance(backend, Backend)
        return super().send(BalancedBackend(backend.name, (backend,)), request)


class TestHttpxOnTheWire(WireSuite):
    """`HttpxTransport` with HTTP/1.1."""

    accepts: ClassVar = {"one length twice": "h11 takes two equal lengths for one"}

    @asynccontextmanager
    async def reaching(self, limits: TransportLimits) -> AsyncIterator[UpstreamTransport]:
        transport = HttpxTransport(limits=limits)
        yield transport
        await transport.aclose()


@pytest.mark.parametrize("kind", [Http1Transport, HttpxTransport])
async def test_why_nobody_can_be_reached(kind: type[Http1Transport] | type[HttpxTransport]) -> None:
    """In the same words, whichever transport it is."""
    transport = kind()
    for host, words in (("127.0.0.1", "connection refused"), ("nowhere.invalid", "its name does not resolve")):
        backend = Backend(NAME, host, await dead_port(), tls=False)
        with pytest.raises(UpstreamUnreachable) as caught:
            await transport.send(backend, UpstreamRequest(b"GET", b"/a"))
        assert str(caught.value) == words
    await transport.aclose()
