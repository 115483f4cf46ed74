"""Routes: the immutable snapshot of what is registered, in the order that clients are told (wire contract §1.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType

from aggmw.contracts.backends import APIService, Backend, Routes
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.registry.addresses import parse_backend_url
from aggmw.middleware.registry.names import is_group, is_version

__all__ = ["StaticRoutes", "make_routes", "remote_service", "version_order"]

_KUBE_LIKE = re.compile(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?")
_MATURITY = {None: 0, "beta": 1, "alpha": 2}


def version_order(version: str) -> tuple[int, int, int, int, str]:
    """A sort key: v10, v2, v1, v11beta2, v10beta3, v3beta1, v12alpha1, v11alpha2, foo1, foo10.

    General availability before beta before alpha, the newest first; other names after, by letter
    (`k8s.io/apimachinery/pkg/version.CompareKubeAwareVersionStrings`).
    """
    match = _KUBE_LIKE.fullmatch(version)
    if match is None:
        return (1, 0, 0, 0, version)
    major, maturity, minor = match.groups()
    return (0, _MATURITY[maturity], -int(major), -int(minor or 0), "")


def make_routes(services: Iterable[APIService]) -> Routes:
    """A snapshot of `services`.

    Groups stand by the highest priority of their versions, then by name of that APIService; versions by priority, then
    by `version_order`. The versions of a group stand together.

    Raises:
        ConfigurationError: a group version that is registered twice, or that has names which no path may hold.
    """
    services = tuple(services)
    known: dict[tuple[str, str], APIService] = {}
    problems: list[Problem] = []
    for service in services:
        if (service.group, service.version) in known:
            problems.append(Problem(service.name, "registered twice"))
        if not is_version(service.version) or not (
            is_group(service.group) or (service.group, service.version) == ("", "v1")
        ):
            problems.append(
                Problem(repr(service.name), "the group must be a DNS-1123 subdomain and the version a DNS-1035 label")
            )
        known[service.group, service.version] = service
    if problems:
        raise ConfigurationError(problems)
    groups: dict[str, list[APIService]] = {}
    for service in sorted(services, key=lambda each: (-each.group_priority_minimum, each.name)):
        groups.setdefault(service.group, []).append(service)
    ordered = tuple(
        service
        for versions in groups.values()
        for service in sorted(versions, key=lambda each: (-each.version_priority, version_order(each.version)))
    )
    return Routes(ordered, MappingProxyType({(each.group, each.version): each for each in ordered}))


class StaticRoutes:
    """A `RouteSource` that holds what it was given until it is given something else."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Routes | None = None) -> None:
        self._routes = routes or Routes()

    def __repr__(self) -> str:
        return f"StaticRoutes({', '.join(service.name for service in self._routes.services)})"

    @property
    def routes(self) -> Routes:
        return self._routes

    def swap(self, routes: Routes) -> None:
        """Every request that begins from now on sees `routes`."""
        self._routes = routes


def remote_service(
    group: str,
    version: str,
    url: str,
    *,
    ca: bytes = b"",
    server_name: str = "",
    insecure_skip_tls_verify: bool = False,
    group_priority_minimum: int = 1000,
    version_priority: int = 15,
) -> APIService:
    """An API group version that a server at `url` serves.

    Args:
        group, version: "" is the core group.
        url: `https://host:port` or `http://host:port`.
        ca: PEM bundle to trust; empty means the system's roots.
        server_name: SNI and the name to verify; by default the URL's host.
        insecure_skip_tls_verify: do not verify the server's certificate.
        group_priority_minimum, version_priority: the place in discovery (wire contract §1.9).

    Raises:
        ConfigurationError: a URL with more than scheme, host and port.
    """
    name = f"{version}.{group}"
    try:
        host, port, tls = parse_backend_url(url)
    except ValueError as error:
        raise ConfigurationError([Problem(f"{name}: url", str(error))]) from None
    backend = Backend(
        name,
        host,
        port,
        tls=tls,
        server_name=server_name or host,
        ca=ca,
        insecure_skip_tls_verify=insecure_skip_tls_verify,
    )
    return APIService(group, version, backend, group_priority_minimum, version_priority)
