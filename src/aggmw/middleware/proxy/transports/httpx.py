"""HttpxTransport: servers through httpx, or what has the shape of its transports: HTTP/2, outbound proxies, fakes."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, TypeAlias, cast

import httpx

from aggmw.contracts.backends import AnyBackend, Backend, UpstreamRequest, UpstreamResponse
from aggmw.contracts.drain import Drain
from aggmw.contracts.metrics import Sample
from aggmw.contracts.options import check_seam
from aggmw.errors import StatusError, UpstreamUnreachable
from aggmw.middleware.proxy.transports.flights import Flight, FlightBody, StaleLine
from aggmw.middleware.proxy.transports.http1 import only_server, repeatable, request_head
from aggmw.middleware.proxy.transports.lines import Carrier, Lines
from aggmw.middleware.proxy.transports.pool import TransportLimits
from aggmw.middleware.proxy.transports.statistics import PoolStatistics, samples_of
from aggmw.net.tls import ClientCertificate, ClientCertificatePair, upstream_context

__all__ = ["CarrierFactory", "HttpxTransport"]

_MANY = 1000
_UNSENDABLE = "the request has a target or a header field that cannot be sent"

CarrierFactory: TypeAlias = Callable[[Backend, ssl.SSLContext | None], Carrier]
"""Makes a transport for one backend, from the TLS context that reaches it; None for plain HTTP."""


class HttpxTransport:
    """Reaches servers through httpx transports: `httpx.AsyncHTTPTransport`, or anything with its two methods.

    It keeps the contract of the lane: the target goes out byte for byte, no field is added but Host and the framing,
    no redirect is followed and no cookie kept, deadlines and limits are those of `TransportLimits`, and what a client
    has left is ended. The limits count exchanges, in front of httpx: nothing waits inside its pool.

    Different from the lane, because httpx keeps its connections to itself:

    - A connection of HTTP/1.1 carries one exchange and is closed: httpx would give the next caller whatever a backend
      has answered too much. Under HTTP/2 exchanges share connections, but for those that are long-running or whose body
      comes as a stream, which have one of their own: httpx ends a stream by closing its connection only.
    - The answer is read when the whole request was sent. One that comes earlier is seen then.
    - Idle connections are not counted.

    A safe request (GET, HEAD, OPTIONS without a body) that fails without an answer, on a connection of HTTP/2 that has
    served others before, is repeated once on a new one.

    Args:
        transport: None: an `httpx.AsyncHTTPTransport` for each backend, with its CA, server name, Unix socket, and the
            client certificate. A function of the backend and its TLS context makes new ones of your own, such as
            `lambda backend, context: httpx.AsyncHTTPTransport(verify=context, proxy="http://proxy:3128")`. A transport
            is used as it is, for every backend, on the one event loop it was made for: it does not learn of a
            backend's CA, of `insecure_skip_tls_verify`, or of Unix sockets, and its connections have no maximum age.
        http2: offer HTTP/2 in the TLS handshake; for `transport=None`.
        client_certificate: shown to every backend that asks; read when it is first needed, and again by `reload`.
        limits: what one backend may cost; `connections` is the number of exchanges at a time.
        drain: once begun, no connection is kept.

    Raises:
        ImportError: `http2=True` without the package h2.
        TypeError: a `transport` of another type, or options beside it, which it would not learn of.
    """

    def __init__(
        self,
        transport: Carrier | CarrierFactory | None = None,
        *,
        http2: bool = False,
        client_certificate: ClientCertificatePair | None = None,
        limits: TransportLimits | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._given: Carrier | None = None
        self._make: CarrierFactory | None = None
        if transport is None:
            if http2 and find_spec("h2") is None:
                raise ImportError("HTTP/2 is an extra; install it with: pip install 'aggmw[http2]'")
        elif http2:
            raise TypeError("http2=True is for HttpxTransport() without a transport: give it to the transport itself")
        elif callable(transport) and not hasattr(transport, "handle_async_request"):
            self._make = transport
        else:
            check_seam("transport", transport, "handle_async_request")
            if client_certificate is not None:
                raise TypeError(
                    "client_certificate would never be shown: give it to the transport itself, or hand in a function"
                    " (backend, context) that makes transports"
                )
            self._given = cast(Carrier, transport)
        self._http2 = http2
        self._client_certificate = ClientCertificate(client_certificate)
        self._limits = limits or TransportLimits()
        self._drain = drain
        self._loops: dict[asyncio.AbstractEventLoop, dict[Backend, Lines]] = {}

    def __repr__(self) -> str:
        through = self._given or self._make
        name = "" if through is None else getattr(through, "__name__", type(through).__name__)
        options = [name] if name else []
        if self._http2:
            options.append("http2=True")
        if self._limits != TransportLimits():
            options.append(repr(self._limits))
        options += [repr(lines) for sites in self._loops.values() for lines in sites.values()]
        return f"HttpxTransport({', '.join(options)})"

    @property
    def taken(self) -> int:
        """Exchanges under way, over all backends of the running loop."""
        return sum(lines.turns.taken for lines in self._sites().values())

    @property
    def statistics(self) -> tuple[PoolStatistics, ...]:
        """The figures of the running loop, by address; `idle` is always 0."""
        found: dict[str, PoolStatistics] = {}
        for lines in self._sites().values():
            one = lines.statistics
            if (before := found.get(one.address)) is not None:
                one = before + one
            found[one.address] = one
        return tuple(found.values())

    def samples(self) -> Iterator[Sample]:
        """As `Source.samples`: exchanges, who waits, and the limits of both."""
        limits = self._limits
        return samples_of(self.statistics, connections=limits.connections, waiting=limits.waiting)

    async def send(self, backend: AnyBackend, request: UpstreamRequest) -> UpstreamResponse:
        """As `UpstreamTransport.send`. The time-out covers waiting for a turn, too."""
        lines = self._lines(backend)
        request_head(lines.authority, request)
        loop = asyncio.get_running_loop()
        deadline = None if request.timeout is None else loop.time() + request.timeout
        await lines.turns.take(deadline)
        again = repeatable(request)
        alone = request.long_running or request.body is not None
        while True:
            try:
                line = lines.take(alone=alone)
            except BaseException:
                lines.turns.give_back()
                raise
            try:
                outgoing = self._outgoing(lines, line.carrier, request)
            except BaseException:
                lines.give_back(line, whole=True)
                lines.turns.give_back()
                raise
            flight = Flight(lines, line, request, outgoing, known=self._make is None and self._given is None)
            silence = None if request.long_running else self._limits.silence_seconds
            try:
                return await flight.run(deadline, silence, again=again)
            except StaleLine:
                again = False

    def reload(self) -> None:
        """Read the client certificate again. New connections show it, no exchange begins on older ones, and none that
        runs is disturbed. Files in which there is nothing new change nothing.

        On the running event loop that is so at once, on others as soon as they have a moment.

        Raises:
            ConfigurationError: it cannot be used, and why; what was shown is still shown.
        """
        if not self._client_certificate.reload():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, sites in list(self._loops.items()):
            for lines in list(sites.values()):
                if loop is here:
                    lines.renew()
                elif not loop.is_closed():
                    loop.call_soon_threadsafe(lines.renew)

    async def aclose(self) -> None:
        """Close every connection of the running loop, and wait until they are gone; forget those of other loops."""
        sites = self._loops.pop(asyncio.get_running_loop(), {})
        self._loops.clear()
        for lines in sites.values():
            await lines.aclose()

    def _sites(self) -> dict[Backend, Lines]:
        loop = asyncio.get_running_loop()
        sites = self._loops.get(loop)
        if sites is None:
            self._loops = {other: kept for other, kept in self._loops.items() if not other.is_closed()}
            sites = self._loops[loop] = {}
        return sites

    def _lines(self, backend: AnyBackend) -> Lines:
        """The lines to a backend. Two services of one server share them: the name is for error messages only."""
        server = only_server(backend)
        sites = self._sites()
        shared = replace(server, name="")
        lines = sites.get(shared)
        if lines is None:
            if len(sites) >= _MANY:
                for unused in [each for each, kept in sites.items() if kept.unused]:
                    del sites[unused]
            make = partial(self._made, server)
            lines = sites[shared] = Lines(server, make, self._limits, self._drain, self._given)
            lines.multiplexes = self._http2 and server.tls
        return lines

    def _made(self, backend: Backend) -> Carrier:
        context = upstream_context(backend, self._client_certificate.shown()) if backend.tls else None
        if self._make is not None:
            return self._make(backend, context)
        limits = self._limits
        return httpx.AsyncHTTPTransport(
            verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            http2=self._http2,
            limits=httpx.Limits(
                max_connections=limits.connections,
                max_keepalive_connections=limits.connections,
                keepalive_expiry=limits.idle_seconds,
            ),
            uds=backend.unix or None,
        )

    def _outgoing(self, lines: Lines, carrier: Carrier, request: UpstreamRequest) -> Any:
        """The request in the words of httpx.

        Raises:
            StatusError: 400, it would not be sent as it is.
            UpstreamUnreachable: the backend's host is no name.
        """
        backend = lines.backend
        library = _library(type(carrier))
        scheme = "https" if backend.tls else "http"
        try:
            url = library.URL(f"{scheme}://{backend.authority}/")
        except (library.InvalidURL, UnicodeError) as error:
            raise UpstreamUnreachable("its name does not resolve") from error
        extensions: dict[str, Any] = {
            "timeout": {"connect": self._limits.dial_seconds, "pool": self._limits.dial_seconds}
        }
        if backend.tls:
            extensions["sni_hostname"] = backend.server_name or backend.host
        if self._given is None and self._make is None:
            extensions["target"] = request.target
        else:
            # `target` would go into the CONNECT of an outbound proxy, too, and means nothing to who is no httpcore.
            url = _exactly(library, url, request.target)
        headers = [(b"Host", lines.authority), *request.headers]
        length = request.content_length
        if request.body is None and (request.content or length is not None):
            length = len(request.content)
        if length is not None:
            headers.append((b"Content-Length", b"%d" % length))
        elif request.body is not None:
            headers.append((b"Transfer-Encoding", b"chunked"))
        body = library.ByteStream(request.content)
        if request.body is not None:
            body = _body_class(library)(request.body, length)
        # Given a stream, httpx adds no field of its own.
        return library.Request(request.method.decode("ascii"), url, headers=headers, stream=body, extensions=extensions)


def _exactly(library: Any, url: Any, target: bytes) -> Any:
    """The URL with this target, which httpx writes in a form of its own where it thinks it has to.

    Raises:
        StatusError: 400, another target would be sent.
    """
    try:
        found = url.copy_with(raw_path=target)
    except (library.InvalidURL, UnicodeError):
        found = None
    if found is None or found.raw_path != target:
        raise StatusError(400, "BadRequest", _UNSENDABLE)
    return found


@cache
def _library(kind: type) -> Any:
    """The package whose classes a transport works with: httpx, or a continuation of it under another name."""
    for base in kind.__mro__:
        if base.__name__ == "AsyncBaseTransport":
            package = sys.modules[base.__module__.partition(".")[0]]
            if hasattr(package, "AsyncByteStream"):
                return package
    return httpx


@cache
def _body_class(library: Any) -> Any:
    """Its transports insist on streams of their own class."""
    return type("Body", (FlightBody, library.AsyncByteStream), {})
