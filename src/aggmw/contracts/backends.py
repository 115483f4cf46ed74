"""Where API groups live: backends, the services that name them, and the seams for finding and reaching them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from aggmw.asgi.types import ASGIApp
from aggmw.contracts.addresses import parse_backend_url
from aggmw.contracts.balancing import Balancing
from aggmw.contracts.identity import Identity
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.options import check_application, check_type
from aggmw.errors import ConfigurationError, Problem

__all__ = [
    "RESERVED",
    "APIService",
    "AnyBackend",
    "Backend",
    "BackendResolver",
    "BalancedBackend",
    "LocalBackend",
    "PathService",
    "RouteSource",
    "Routes",
    "UpstreamRequest",
    "UpstreamResponse",
    "UpstreamTransport",
]

RESERVED = frozenset({"api", "apis", "openapi", "version", "healthz", "livez", "readyz", "metrics"})
"""First segments of the paths that are the front proxy's own: no path service is ever asked for them."""

_PREFIX = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,=:@-]+/)*")


@dataclass(frozen=True, slots=True)
class Backend:
    """One server that requests are forwarded to. Two equal backends share their connections.

    Args:
        name: who asks for it in error messages: the APIService's name, such as "v1alpha1.wardle.example.com", or the
            path of a path service.
        host, port: what is dialled; a host name is resolved at each dial.
        tls: whether to speak TLS. Plain HTTP is for loopback, tests and terminators.
        server_name: SNI and the name to verify; `<service>.<namespace>.svc` for a service, else the host.
        ca: PEM bundle to trust; empty means the system's roots.
        insecure_skip_tls_verify: do not verify the backend's certificate.
        unix: path of a Unix socket that is dialled instead of host and port.
        shows_certificate: whether it is shown the front proxy's client certificate, if it asks for one. Not where the
            front proxy is known by a token: many servers end a handshake with a certificate that they do not know.
    """

    name: str
    host: str
    port: int
    tls: bool = True
    server_name: str = ""
    ca: bytes = field(default=b"", repr=False)
    insecure_skip_tls_verify: bool = False
    unix: str = ""
    shows_certificate: bool = field(default=True, repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Found anew for every request that is forwarded, otherwise.
        values = (self.name, self.host, self.port, self.tls, self.server_name, self.ca, self.insecure_skip_tls_verify)
        object.__setattr__(self, "_hash", hash((*values, self.unix, self.shows_certificate)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def at(
        cls, url: str, *, name: str = "", ca: bytes = b"", server_name: str = "", insecure_skip_tls_verify: bool = False
    ) -> Backend:
        """The server at `https://host[:port]`, at `http://host[:port]`, or behind a Unix socket, `unix:/path`.

        Raises:
            ConfigurationError: a URL with more than scheme, host and port, or a path that names no socket.
        """
        try:
            host, port, tls, unix = parse_backend_url(url)
        except ValueError as error:
            raise ConfigurationError([Problem(f"{name}: url" if name else "url", str(error))]) from None
        return cls(name, host, port, tls, server_name or host, ca, insecure_skip_tls_verify, unix)

    @property
    def address(self) -> str:
        """Where it is: `host:port`, or `unix:/path`."""
        return f"unix:{self.unix}" if self.unix else self.authority

    @property
    def authority(self) -> str:
        """`host:port` for the Host header, an IPv6 address in brackets; only the host behind a Unix socket."""
        if self.unix:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """An ASGI application in this process that requests are handed to, as if it were a server of its own.

    It gets a new scope with nothing of ours in it but the caller's `Identity`; its lifespan is run by `FrontProxy`.

    Args:
        name: as for `Backend`.
        app: the application.
    """

    name: str
    app: ASGIApp = field(hash=False)

    def __repr__(self) -> str:
        return f"LocalBackend({self.name!r}, {getattr(self.app, '__qualname__', type(self.app).__name__)})"


@dataclass(frozen=True, slots=True)
class BalancedBackend:
    """Several servers that do the same, behind one name; each request goes to one of them.

    Args:
        name: as for `Backend`.
        endpoints: the servers, each of which has to be at another address. Their own names are dropped.
        balancing: how they are chosen.

    Raises:
        ConfigurationError: no endpoint, or an address twice.
    """

    name: str
    endpoints: tuple[Backend, ...]
    balancing: Balancing = field(default_factory=Balancing)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        endpoints = tuple(replace(each, name="") for each in self.endpoints)
        where = f"{self.name}: url" if self.name else "url"
        if not endpoints:
            raise ConfigurationError([Problem(where, "needs at least one address")])
        addresses = [each.address for each in endpoints]
        if twice := sorted({each for each in addresses if addresses.count(each) > 1}):
            raise ConfigurationError([Problem(where, f"{each} is named twice") for each in twice])
        object.__setattr__(self, "endpoints", endpoints)
        object.__setattr__(self, "_hash", hash((self.name, endpoints, self.balancing)))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        addresses = ", ".join(each.address for each in self.endpoints)
        return f"BalancedBackend({self.name!r}, [{addresses}], {self.balancing!r})"

    @classmethod
    def at(
        cls,
        urls: Iterable[str],
        *,
        name: str = "",
        balancing: Balancing | None = None,
        ca: bytes = b"",
        server_name: str = "",
        insecure_skip_tls_verify: bool = False,
    ) -> BalancedBackend:
        """The servers at these URLs, each as for `Backend.at`.

        Raises:
            ConfigurationError: every URL that cannot be used, an address twice, or no URL at all.
        """
        where = f"{name}: url" if name else "url"
        endpoints: list[Backend] = []
        problems: list[Problem] = []
        for number, url in enumerate(urls):
            try:
                endpoint = Backend.at(
                    url, ca=ca, server_name=server_name, insecure_skip_tls_verify=insecure_skip_tls_verify
                )
            except ConfigurationError as error:
                problems += [Problem(f"{where}[{number}]", each.message) for each in error.problems]
            else:
                endpoints.append(endpoint)
        if problems:
            raise ConfigurationError(problems)
        return cls(name, tuple(endpoints), balancing or Balancing())

    @property
    def authority(self) -> str:
        """`host:port` of the first one."""
        return self.endpoints[0].authority


AnyBackend: TypeAlias = Backend | LocalBackend | BalancedBackend
_Remote: TypeAlias = Backend | BalancedBackend


@dataclass(frozen=True, slots=True)
class APIService:
    """One API group version and where it is served (`apiregistration.k8s.io/v1 APIService`).

    Args:
        group, version: "" is the core group.
        backend: None for one that the application around which the front proxy stands serves itself.
        group_priority_minimum: 1…20000; the higher, the earlier the group is listed.
        version_priority: 1…1000, within the group.
        impersonation: the server is a Kubernetes API server that does not know the front proxy as one: it is told who
            asks by `Impersonate-*`, and asked for its discovery by the front proxy as itself.

    Raises:
        ConfigurationError: a server that no token may be sent to.
        TypeError: a `backend` of another type, or `impersonation` for what is served in this process.
    """

    group: str
    version: str
    backend: AnyBackend | None = None
    group_priority_minimum: int = 1000
    version_priority: int = 15
    impersonation: Impersonate | None = None

    def __post_init__(self) -> None:
        if self.backend is not None:
            check_type(f"{self.name}: backend", self.backend, Backend, LocalBackend, BalancedBackend)
        if self.impersonation is not None:
            check_type(f"{self.name}: impersonation", self.impersonation, Impersonate)
            if not isinstance(self.backend, Backend | BalancedBackend):
                raise TypeError(f"{self.name}: what is served in this process is told who asks as it is")
            object.__setattr__(self, "backend", impersonated(self.backend, self.impersonation, self.name))

    @classmethod
    def remote(
        cls,
        group: str,
        version: str,
        url: str | Iterable[str],
        *,
        ca: bytes = b"",
        server_name: str = "",
        insecure_skip_tls_verify: bool = False,
        balancing: Balancing | None = None,
        group_priority_minimum: int = 1000,
        version_priority: int = 15,
        impersonation: Impersonate | None = None,
    ) -> APIService:
        """A group version that a server at `url` serves, or each of several servers.

        Args:
            group, version: "" is the core group.
            url: `https://host:port`, `http://host:port` or `unix:/path`; or several of them, for servers that do the
                same.
            ca: PEM bundle to trust; empty means the system's roots.
            server_name: SNI and the name to verify; by default the URL's host.
            insecure_skip_tls_verify: do not verify the server's certificate.
            balancing: how the requests are shared out among several servers.
            group_priority_minimum, version_priority: the place in discovery (wire contract §1.9).
            impersonation: as in the constructor.

        Raises:
            ConfigurationError: a URL with more than scheme, host and port, or a path that names no socket; the same
                address twice; a server that no token may be sent to.
        """
        backend = _remote(f"{version}.{group}", url, balancing, ca, server_name, insecure_skip_tls_verify)
        return cls(group, version, backend, group_priority_minimum, version_priority, impersonation)

    @classmethod
    def local(
        cls,
        group: str,
        version: str,
        *,
        app: ASGIApp | None = None,
        group_priority_minimum: int = 1000,
        version_priority: int = 15,
    ) -> APIService:
        """A group version that is served in this process.

        Args:
            group, version: "" is the core group.
            app: an ASGI application of its own for it: asked for `/apis/G/V` and all below, and for its discovery, as
                a server would be. None: the application around which the front proxy stands serves it.
            group_priority_minimum, version_priority: the place in discovery (wire contract §1.9).

        Raises:
            TypeError: an `app` that is no ASGI application.
        """
        name = f"{version}.{group}"
        if app is not None:
            check_application(f"{name}: app", app)
        backend = None if app is None else LocalBackend(name, app)
        return cls(group, version, backend, group_priority_minimum, version_priority)

    @property
    def name(self) -> str:
        return f"{self.version}.{self.group}"


@dataclass(frozen=True, slots=True, init=False)
class PathService:
    """A plain web service behind a path: no API group, no discovery. Authorised as a non-resource path.

    Everything at and below the path is forwarded, byte for byte unless `strip_prefix` says otherwise.

    Args:
        path: such as "/billing/"; with or without the last slash it stands for "/billing" and all below it. "/" takes
            whatever nobody else does, and never a path of the front proxy's own (`/api`, `/apis`, `/openapi`, …).
        url: `https://host:port`, `http://host:port` or `unix:/path`, or several of them, for servers that do the same;
            or leave it out and give `app`.
        app: an ASGI application in this process.
        ca, server_name, insecure_skip_tls_verify: as for `Backend`.
        balancing: how the requests are shared out among several servers.
        strip_prefix: forward what is below the path only, and say the path in `X-Forwarded-Prefix`.
        redirects: pass the service's redirects on to the client, those to itself as paths; otherwise they are 502.
        impersonation: the servers are Kubernetes API servers, which are told who asks by `Impersonate-*`.

    Raises:
        ConfigurationError: a path of the front proxy's own, one that is no plain path, a bad URL, or a server that no
            token may be sent to.
        TypeError: neither a URL nor an application, or both; an `app` that is no ASGI application, or
            `impersonation` beside it.
    """

    path: str
    backend: AnyBackend
    strip_prefix: bool
    redirects: bool
    impersonation: Impersonate | None

    def __init__(
        self,
        path: str,
        url: str | Iterable[str] | None = None,
        *,
        app: ASGIApp | None = None,
        ca: bytes = b"",
        server_name: str = "",
        insecure_skip_tls_verify: bool = False,
        balancing: Balancing | None = None,
        strip_prefix: bool = False,
        redirects: bool = True,
        impersonation: Impersonate | None = None,
    ) -> None:
        prefix = _prefix(path)
        if (url is None) == (app is None):
            raise TypeError(f"PathService({path!r}) needs either a URL or app=…")
        if app is not None:
            check_application(f"PathService({path!r}): app", app)
        if app is not None and impersonation is not None:
            raise TypeError(f"PathService({path!r}): an application in this process is told who asks as it is")
        backend: AnyBackend
        if url is not None:
            backend = _remote(path, url, balancing, ca, server_name, insecure_skip_tls_verify)
            if impersonation is not None:
                backend = impersonated(backend, impersonation, f"path service {path!r}")
        elif app is not None:
            backend = LocalBackend(path, app)
        object.__setattr__(self, "path", prefix)
        object.__setattr__(self, "backend", backend)
        object.__setattr__(self, "strip_prefix", strip_prefix)
        object.__setattr__(self, "redirects", redirects)
        object.__setattr__(self, "impersonation", impersonation)


def impersonated(backend: _Remote, impersonation: Impersonate, where: str) -> _Remote:
    """The same server, fit to be told who asks by `Impersonate-*`: a token takes the place of the certificate.

    Raises:
        ConfigurationError: a server that no token may be sent to.
    """
    endpoints = backend.endpoints if isinstance(backend, BalancedBackend) else (backend,)
    for each in endpoints:
        if complaint := impersonation.complaint(each):
            raise ConfigurationError([Problem(where, complaint)])
    shows = impersonation.token_file is None
    if isinstance(backend, BalancedBackend):
        return replace(backend, endpoints=tuple([replace(each, shows_certificate=shows) for each in endpoints]))
    return replace(backend, shows_certificate=shows)


def _remote(
    name: str,
    url: str | Iterable[str],
    balancing: Balancing | None,
    ca: bytes,
    server_name: str,
    insecure_skip_tls_verify: bool,
) -> _Remote:
    """One server, unless there are several, or one that is to be treated like several."""
    urls = tuple(url) if isinstance(url, Iterable) and not isinstance(url, str | bytes) else (url,)
    for each in urls:
        if not isinstance(each, str):
            raise TypeError(f"{name}: url takes a text or several, not {type(each).__name__}")
    if balancing is not None:
        check_type(f"{name}: balancing", balancing, Balancing)
    if len(urls) == 1 and balancing is None:
        return Backend.at(
            urls[0],
            name=name,
            ca=ca,
            server_name=server_name,
            insecure_skip_tls_verify=insecure_skip_tls_verify,
        )
    return BalancedBackend.at(
        urls,
        name=name,
        balancing=balancing,
        ca=ca,
        server_name=server_name,
        insecure_skip_tls_verify=insecure_skip_tls_verify,
    )


def _prefix(path: str) -> str:
    """The path with a slash at both ends.

    Raises:
        ConfigurationError: not a plain path, or the front proxy's own.
    """
    prefix = path if path.endswith("/") else f"{path}/"
    segments = prefix.split("/")[1:-1]
    where = f"path service {path!r}"
    if not path or not _PREFIX.fullmatch(prefix) or not {".", ".."}.isdisjoint(segments):
        raise ConfigurationError(
            [Problem(where, 'must be a plain path such as "/billing/": no escapes, dot segments or empty segments')]
        )
    if segments and segments[0] in RESERVED:
        raise ConfigurationError([Problem(where, f"/{segments[0]} is the front proxy's own; take another path")])
    return prefix


@dataclass(frozen=True, slots=True)
class Routes:
    """An immutable snapshot of what is registered; a controller swaps a whole new one in.

    Attributes:
        services: in the order of wire contract §1.9: groups by priority, versions by priority and kube-aware order.
        by_group_version: (group, version) → service.
        by_path: the path services by their path, with a slash at both ends.
    """

    services: tuple[APIService, ...] = ()
    by_group_version: Mapping[tuple[str, str], APIService] = field(default_factory=lambda: MappingProxyType({}))
    by_path: Mapping[str, PathService] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def local(self) -> tuple[LocalBackend, ...]:
        """The applications in this process, in no particular order; one that serves several things comes repeatedly."""
        backends = [*(each.backend for each in self.services), *(each.backend for each in self.by_path.values())]
        return tuple(each for each in backends if isinstance(each, LocalBackend))


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


@dataclass(slots=True, eq=False)
class UpstreamRequest:
    """One request as it goes on the wire. Nobody changes it once it was handed to a transport.

    Args:
        method: as sent by the client.
        target: the exact request target: path and query.
        headers: end-to-end fields in order, identity included, without Host and without framing.
        content: the whole body, when it is at hand.
        body: chunks of the body, when it is not; None otherwise.
        content_length: the body's length when known; None with a `body` means chunked.
        long_running: no deadline for the first byte of the answer or between bytes.
        timeout: seconds until the head of the answer must have come, the wait for a connection included.
        identity: the caller, for an application in this process; a server is told in `headers`.
        client: address and port of the client, and `host`, its Host field: for an application in this process.
    """

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    content: bytes = field(default=b"", repr=False)
    body: AsyncIterator[bytes] | None = field(default=None, repr=False)
    content_length: int | None = None
    long_running: bool = False
    timeout: float | None = 60.0
    identity: Identity | None = None
    client: tuple[str, int] | None = None
    host: bytes = b""


class UpstreamResponse(Protocol):
    """An answer whose head has come. Every response ends with `aclose`, whole or not."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """End-to-end and hop-by-hop fields as received, names in lower case; never trailers."""
        ...

    @property
    def content(self) -> bytes | None:
        """The whole body, when it came with the head; None when it has to be read. `read` gives it all the same."""
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

    def send(self, backend: AnyBackend, request: UpstreamRequest) -> Coroutine[Any, Any, UpstreamResponse]:
        """Send the request and wait for the head of the answer: an `async def`, or what hands on another's.

        Raises:
            UpstreamUnreachable: nothing was sent.
            UpstreamBroken, UpstreamTimeout: sent, without a usable answer.
            StatusError: the request itself cannot be sent.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
