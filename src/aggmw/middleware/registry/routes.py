"""Routes: the immutable snapshot of what is registered, in the order that clients are told (wire contract §1.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType

from aggmw.contracts.backends import APIService, PathService, Routes
from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.names import is_group, is_version

__all__ = ["StaticRoutes", "make_routes", "version_order"]

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


def make_routes(services: Iterable[APIService | PathService]) -> Routes:
    """A snapshot of `services`.

    Groups stand by the highest priority of their versions, then by name of that APIService; versions by priority, then
    by `version_order`. The versions of a group stand together.

    Raises:
        ConfigurationError: a group version or a path that is registered twice, or a group version that has names which
            no path may hold.
        TypeError: something that is no service.
    """
    problems: list[Problem] = []
    known: dict[tuple[str, str], APIService] = {}
    paths: dict[str, PathService] = {}
    for service in services:
        if isinstance(service, PathService):
            if service.path in paths:
                problems.append(Problem(f"path service {service.path!r}", "registered twice"))
            paths[service.path] = service
            continue
        if not isinstance(service, APIService):
            raise TypeError(f"services must hold APIService and PathService values, not {type(service).__name__}")
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
    for service in sorted(known.values(), key=lambda each: (-each.group_priority_minimum, each.name)):
        groups.setdefault(service.group, []).append(service)
    ordered = tuple(
        service
        for versions in groups.values()
        for service in sorted(versions, key=lambda each: (-each.version_priority, version_order(each.version)))
    )
    by_group_version = {(each.group, each.version): each for each in ordered}
    return Routes(ordered, MappingProxyType(by_group_version), MappingProxyType(paths))


class StaticRoutes:
    """A `RouteSource` that holds what it was given until it is given something else."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Routes | None = None) -> None:
        self._routes = routes or Routes()

    def __repr__(self) -> str:
        names = [*(service.name for service in self._routes.services), *self._routes.by_path]
        return f"StaticRoutes({', '.join(names)})"

    @property
    def routes(self) -> Routes:
        return self._routes

    def swap(self, routes: Routes) -> None:
        """Every request that begins from now on sees `routes`."""
        self._routes = routes
