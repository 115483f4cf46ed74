"""Asking one backend for its discovery and its OpenAPI index, as the aggregator itself (wire contract §3.4, §4.3).

A backend is another party: what it sends is limited in size and time and read defensively.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aggmw.asgi.remote_headers import write_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import AnyBackend, APIService, UpstreamRequest, UpstreamResponse, UpstreamTransport
from aggmw.contracts.catalog import APIResource, APIVersion
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity
from aggmw.contracts.impersonation import Impersonate
from aggmw.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from aggmw.middleware.discovery.aggregated import parse_group_discovery_list
from aggmw.middleware.discovery.documents import parse_resource_list
from aggmw.middleware.discovery.encoding import decode
from aggmw.middleware.discovery.limits import MAX_BYTES, Offload, check_size
from aggmw.middleware.discovery.names import BadDocument, TooMuch
from aggmw.middleware.discovery.openapi_v3 import parse_index
from aggmw.net.token_file import TokenFile
from aggmw.objects.negotiation import AGGREGATED_TYPE, is_aggregated, parse_media_type

__all__ = ["GroupVersion", "IndexReader", "Origin", "ResourcesReader", "get"]

GroupVersion = tuple[str, str]

_AGGREGATOR = Identity("system:kube-aggregator")
_MASTER = Identity("system:kube-aggregator", groups=(SYSTEM_MASTERS,))
_OPENAPI = Identity("system:aggregator")
_JSON = b"application/json"
_HOST = b"aggregator.invalid"  # for an application in this process; a server is told its own


@dataclass(frozen=True, slots=True)
class Origin:
    """One server, and the APIServices that it serves below one prefix: they share one document.

    Args:
        endpoint: where, without a name.
        core: whether this is about `/api` instead of `/apis`.
        services: in a stable order.
    """

    endpoint: AnyBackend
    core: bool
    services: tuple[APIService, ...]

    @property
    def backend(self) -> AnyBackend:
        """The backend to name in errors that concern all of them."""
        return self.services[0].backend or self.endpoint

    @property
    def impersonation(self) -> Impersonate | None:
        """How it is told who asks, where not by what a front proxy says."""
        return self.services[0].impersonation

    @property
    def owned(self) -> tuple[GroupVersion, ...]:
        return tuple((service.group, service.version) for service in self.services)


class Asker:
    """Says who asks: the aggregator, or, to a server that takes us for a client, nobody but us.

    Args:
        impersonation: how the server is told who asks; None: as by a front proxy.
        clock: seconds, of a clock that nobody sets.
    """

    def __init__(
        self, impersonation: Impersonate | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = impersonation is not None
        path = None if impersonation is None else impersonation.token_file
        self._file = None if path is None else TokenFile(path)
        self._clock = clock

    def fields(self, identity: Identity) -> Headers:
        """Header fields.

        Raises:
            UpstreamUnreachable: we have no token for the server.
        """
        if not self._own:
            return write_identity(identity)
        if self._file is None:
            return ()  # our certificate says it
        token = self._file.value(self._clock())
        if not token:
            raise UpstreamUnreachable("the front proxy has no token for this service")
        return ((b"Authorization", b"Bearer " + token),)


_AS_AGGREGATOR = Asker()


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    content_type: str
    etag: bytes
    body: bytes


async def get(
    transport: UpstreamTransport,
    backend: AnyBackend,
    target: str,
    identity: Identity,
    headers: Headers,
    *,
    timeout: float,
    asker: Asker = _AS_AGGREGATOR,
) -> Reply:
    """One GET in the name of `identity`; the whole of it takes at most `timeout` seconds.

    Raises:
        UpstreamError: no whole answer came, or it was larger than `MAX_BYTES`, or encoded without being asked for.
    """
    fields = (*asker.fields(identity), *headers)
    request = UpstreamRequest(b"GET", target.encode("ascii"), fields, timeout=timeout, identity=identity, host=_HOST)
    try:
        async with asyncio.timeout(timeout):
            response = await transport.send(backend, request)
            try:
                return await _read(response)
            finally:
                await response.aclose()
    except TimeoutError:
        raise UpstreamTimeout(f"no answer within {timeout:g} seconds") from None


async def _read(response: UpstreamResponse) -> Reply:
    fields = dict(response.headers)
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise UpstreamBroken("its answer is encoded, which nobody asked for")
    body = bytearray()
    while chunk := await response.read():
        body += chunk
        if len(body) > MAX_BYTES:
            raise UpstreamBroken(f"its answer is larger than {MAX_BYTES} bytes")
    etag = fields.get(b"etag", b"")
    content_type = fields.get(b"content-type", b"").decode("latin-1")
    return Reply(response.status, content_type, etag if len(etag) <= 1024 else b"", bytes(body))


def _parse_aggregated(body: bytes, owned: frozenset[GroupVersion]) -> dict[GroupVersion, APIVersion | str]:
    return parse_group_discovery_list(decode(body), owned)


def _parse_list(body: bytes, group: str, version: str) -> tuple[APIResource, ...]:
    return parse_resource_list(decode(body), group, version)


def _parse_index(body: bytes, owned: tuple[GroupVersion, ...]) -> Mapping[GroupVersion, str]:
    return parse_index(decode(body), owned)


class ResourcesReader:
    """The resources of one origin's group versions: aggregated where the server can, else list by list."""

    def __init__(self, transport: UpstreamTransport, origin: Origin, *, timeout: float, offload: Offload) -> None:
        self._transport = transport
        self._offload = offload
        self._origin = origin
        self._asker = Asker(origin.impersonation)
        self._timeout = timeout
        self._tag = b""
        self._held: Mapping[GroupVersion, APIVersion | str] = {}

    async def read(self) -> dict[GroupVersion, APIVersion | str]:
        """Each group version as the server lists it, or, as a text that is safe to show, why it is not known."""
        try:
            found = await self._aggregated()
        except UpstreamError as error:
            return dict.fromkeys(self._origin.owned, str(error))
        if found is not None:
            return {key: found.get(key) or APIVersion(key[1]) for key in self._origin.owned}
        self._tag, self._held = b"", {}
        return {(each.group, each.version): await self._legacy(each) for each in self._origin.services}

    async def _aggregated(self) -> Mapping[GroupVersion, APIVersion | str] | None:
        """The group versions in the aggregated document; None when the server has none that can be used."""
        conditional = ((b"if-none-match", self._tag),) if self._tag else ()
        reply = await get(
            self._transport,
            self._origin.backend,
            "/api" if self._origin.core else "/apis",
            _MASTER,
            ((b"accept", AGGREGATED_TYPE), *conditional),
            timeout=self._timeout,
            asker=self._asker,
        )
        if reply.status == 304 and self._tag:
            return self._held
        if reply.status == 503:
            raise UpstreamBroken("its discovery was answered with status 503")
        if reply.status != 200 or not is_aggregated(parse_media_type(reply.content_type)):
            return None
        try:
            check_size(reply.body)
            owned = frozenset(self._origin.owned)
            self._held = await self._offload(len(reply.body), _parse_aggregated, reply.body, owned)
        except BadDocument:
            return None
        self._tag = reply.etag
        return self._held

    async def _legacy(self, service: APIService) -> APIVersion | str:
        group, version = service.group, service.version
        target = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            reply = await get(
                self._transport,
                service.backend or self._origin.backend,
                target,
                _AGGREGATOR,
                ((b"accept", _JSON),),
                timeout=self._timeout,
                asker=self._asker,
            )
            if reply.status != 200:
                return f"its discovery was answered with status {reply.status}"
            check_size(reply.body)
            resources = await self._offload(len(reply.body), _parse_list, reply.body, group, version)
            return APIVersion(version, resources)
        except (UpstreamError, TooMuch) as error:
            return str(error)
        except BadDocument as error:
            return f"its discovery answer is {error}"


class IndexReader:
    """The OpenAPI v3 index of one origin."""

    def __init__(self, transport: UpstreamTransport, origin: Origin, *, timeout: float, offload: Offload) -> None:
        self._offload = offload
        self._transport = transport
        self._origin = origin
        self._asker = Asker(origin.impersonation)
        self._timeout = timeout
        self._tag = b""
        self._held: Mapping[GroupVersion, str] = {}

    async def read(self) -> Mapping[GroupVersion, str] | None:
        """The hashes of the documents that the server has for its group versions; None when it could not be asked.

        A server without OpenAPI v3, or one that does not let us read it, has none.
        """
        conditional = ((b"if-none-match", self._tag),) if self._tag else ()
        try:
            reply = await get(
                self._transport,
                self._origin.backend,
                "/openapi/v3",
                _OPENAPI,
                ((b"accept", _JSON), *conditional),
                timeout=self._timeout,
                asker=self._asker,
            )
            if reply.status == 304 and self._tag:
                return self._held
            if reply.status == 200:
                check_size(reply.body)
                self._held = await self._offload(len(reply.body), _parse_index, reply.body, self._origin.owned)
                self._tag = reply.etag
                return self._held
        except (UpstreamError, BadDocument):
            return None
        self._tag, self._held = b"", {}
        return self._held if 300 <= reply.status < 500 else None
