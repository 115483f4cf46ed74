"""Where API groups live: backends, the services that name them, and the seams for finding and reaching them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

__all__ = [
    "APIService",
    "Backend",
    "BackendResolver",
    "RouteSource",
    "Routes",
    "UpstreamRequest",
    "UpstreamResponse",
    "UpstreamTransport",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """One place requests are forwarded to. Two equal backends share their connections.

    Args:
        name: who asks for it in error messages: the APIService's name, such as "v1alpha1.wardle.example.com".
        host, port: what is dialled; a host name is resolved at each dial.
        tls: whether to speak TLS. Plain HTTP is for loopback, tests and terminators.
        server_name: SNI and the name to verify; `<service>.<namespace>.svc` for a service, else the host.
        ca: PEM bundle to trust; empty means the system's roots.
        insecure_skip_tls_verify: do not verify the backend's certificate.
    """

    name: str
    host: str
    port: int
    tls: bool = True
    server_name: str = ""
    ca: bytes = field(default=b"", repr=False)
    insecure_skip_tls_verify: bool = False

    @property
    def authority(self) -> str:
        """`host:port` for the Host header, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class APIService:
    """One API group version and where it is served (`apiregistration.k8s.io/v1 APIService`).

    Args:
        group, version: "" is the core group.
        backend: None for a local one, served by what the front proxy wraps.
        group_priority_minimum: 1…20000; the higher, the earlier the group is listed.
        version_priority: 1…1000, within the group.
    """

    group: str
    version: str
    backend: Backend | None = None
    group_priority_minimum: int = 1000
    version_priority: int = 15

    @property
    def name(self) -> str:
        return f"{self.version}.{self.group}"


@dataclass(frozen=True, slots=True)
class Routes:
    """An immutable snapshot of what is registered; a controller swaps a whole new one in.

    Attributes:
        services: in the order of wire contract §1.9: groups by priority, versions by priority and kube-aware order.
        by_group_version: (group, version) → service.
    """

    services: tuple[APIService, ...] = ()
    by_group_version: Mapping[tuple[str, str], APIService] = field(default_factory=lambda: MappingProxyType({}))


class RouteSource(Protocol):
    """Who holds the current routes: the registry."""

    @property
    def routes(self) -> Routes:
        """The snapshot of this moment; read it once per request."""
        ...


class BackendResolver(Protocol):
    """`spec.service` → where to dial. Does no I/O: a host name in the answer is resolved at each dial."""

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        """Host and port, or None when this resolver does not know the service."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request as it goes on the wire.

    Args:
        method: as sent by the client.
        target: the exact request target: path and query.
        headers: end-to-end fields in order, identity included, without Host and without framing.
        content: the whole body, when it is at hand.
        body: chunks of the body, when it is not; None otherwise.
        content_length: the body's length when known; None with a `body` means chunked.
        long_running: no deadline for the first byte of the answer or between bytes.
        timeout: seconds until the head of the answer must have come, the wait for a connection included.
    """

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content: bytes = b""
    body: AsyncIterator[bytes] | None = None
    content_length: int | None = None
    long_running: bool = False
    timeout: float | None = 60.0


class UpstreamResponse(Protocol):
    """An answer whose head has come. Every response ends with `aclose`, whole or not."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """End-to-end and hop-by-hop fields as received, names in lower case; never trailers."""
        ...

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its proper end.

        Raises:
            UpstreamBroken: the body ended before its end.
            UpstreamTimeout: the deadline passed.
        """
        ...

    def end(self) -> None:
        """From now on `read` gives b"": a stream without an end of its own ends properly here."""
        ...

    async def aclose(self) -> None:
        """Give the connection back after a whole answer, close it otherwise. Never raises."""
        ...


class UpstreamTransport(Protocol):
    """One exchange with one backend: streaming both ways, exact target bytes, no redirects, no cookies, no retries
    of anything that was sent."""

    async def send(self, backend: Backend, request: UpstreamRequest) -> UpstreamResponse:
        """Send the request and wait for the head of the answer.

        Raises:
            UpstreamUnreachable: nothing was sent.
            UpstreamBroken, UpstreamTimeout: sent, without a usable answer.
            StatusError: the request itself cannot be sent.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
