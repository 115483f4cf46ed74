"""A whole front proxy on a real socket in front of a backend that keeps every byte it receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from aggmw import APIService, Backend, FrontProxy, Identity
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Presented
from aggmw.middleware.authentication import Anonymous
from aggmw.server.serving import make_server
from aggmw.testing import ReceivedRequest, ScriptedBackend, respond

ALICE = Identity("alice", "uid-1", ("dev",), {"scopes": ("read",)})
GROUP_VERSION = ("wardle.example.com", "v1alpha1")


class BearerIsAlice:
    """Believes one token."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return ALICE if b"Bearer alice" in presented.header(b"authorization") else None


@dataclass
class AllowAndRemember:
    """Allows everything and keeps what it was asked."""

    asked: list[Attributes] = field(default_factory=list)

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        return Verdict(Outcome.ALLOW)


@dataclass
class Front:
    """The running whole.

    Attributes:
        proxy: the application, for requests without a socket.
        backend: what it forwards to.
        authorizer: what was decided on.
        core: what reached the wrapped application: its headers.
        arrived: every request that the backend received, in order of arrival.
        port: where the door listens, plain HTTP on loopback.
    """

    proxy: FrontProxy
    backend: ScriptedBackend
    authorizer: AllowAndRemember
    core: list[tuple[tuple[bytes, bytes], ...]]
    arrived: list[bytes]
    port: int = 0

    def received(self) -> list[ReceivedRequest]:
        """Every request the backend got, besides those of discovery."""
        return [
            request
            for raw in self.arrived
            if (request := ReceivedRequest.of(raw)).header(b"x-remote-user")
            not in (b"system:kube-aggregator", b"system:aggregator")
        ]

    async def exchange(self, *packets: bytes) -> bytes:
        """Send packets on a connection of its own, one write each, and read until the other end closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for packet in packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 60)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    """A front proxy for one group version, everybody allowed, anonymous on two paths, on a free port."""
    core: list[tuple[tuple[bytes, bytes], ...]] = []

    async def application(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        core.append(tuple(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    arrived: list[bytes] = []

    def answer(request: bytes) -> bytes:
        arrived.append(bytes(request))
        return respond(200, body=b"{}")

    async with ScriptedBackend(answer) as backend:
        authorizer = AllowAndRemember()
        upstream = Backend("v1alpha1.wardle.example.com", backend.host, backend.port, tls=False)
        proxy = FrontProxy(
            application,
            authentication=[BearerIsAlice()],
            anonymous=Anonymous(paths=["/healthz", "/open"]),
            authorization=authorizer,
            services=[APIService(*GROUP_VERSION, upstream)],
        )
        server = make_server(proxy, port=0, drain=proxy.drain, grace=2, loop="asyncio", signals=False)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield Front(proxy, backend, authorizer, core, arrived, server.port)
        finally:
            server.should_exit = True
            await task
