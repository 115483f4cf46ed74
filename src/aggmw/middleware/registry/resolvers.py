"""Where a Kubernetes service is: a static map, or DNS names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aggmw.contracts.addresses import parse_host_port
from aggmw.contracts.backends import BackendResolver
from aggmw.errors import ConfigurationError, Problem

__all__ = ["DnsResolver", "StaticResolver"]


class StaticResolver:
    """A fixed map from services to addresses.

    Args:
        addresses: `{"namespace/name": "host:port"}`, or `"namespace/name:port"` for one port of a service only, which
            is looked up first. An IPv6 address stands in brackets.
        otherwise: asked for the services that are not in the map.

    Raises:
        ConfigurationError: all entries that cannot be read.
    """

    def __init__(self, addresses: Mapping[str, str], *, otherwise: BackendResolver | None = None) -> None:
        problems: list[Problem] = []
        known: dict[str, tuple[str, int]] = {}
        for service, address in addresses.items():
            try:
                _check_service(service)
                known[service] = parse_host_port(address)
            except ValueError as error:
                problems.append(Problem(repr(service), f"{address!r}: {error}"))
        if problems:
            raise ConfigurationError(problems)
        self._known = MappingProxyType(known)
        self._otherwise = otherwise

    def __repr__(self) -> str:
        return f"StaticResolver({len(self._known)} services)"

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        """The address of `namespace/name:port`, else of `namespace/name`, else what the other resolver says."""
        service = f"{namespace}/{name}"
        address = self._known.get(f"{service}:{port}") or self._known.get(service)
        if address is None and self._otherwise is not None:
            return self._otherwise.resolve(namespace, name, port)
        return address


def _check_service(service: str) -> None:
    namespace, slash, name = service.partition("/")
    name, colon, port = name.partition(":")
    if not (namespace and slash and name) or "/" in name or (colon and not port.isdecimal()):
        raise ValueError('the service must be "namespace/name" or "namespace/name:port"')


class DnsResolver:
    """Services by their cluster DNS name, `<name>.<namespace>.svc`, on the port they declare.

    Args:
        suffix: what follows the namespace: "svc", or "svc.cluster.local" where the resolver's search list lacks it.
    """

    def __init__(self, suffix: str = "svc") -> None:
        self._suffix = suffix.strip(".")

    def __repr__(self) -> str:
        return f"DnsResolver({self._suffix!r})"

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        """A host name; it is looked up at each dial."""
        return f"{name}.{namespace}.{self._suffix}", port
