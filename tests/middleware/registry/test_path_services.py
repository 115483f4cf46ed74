"""Path services in the registry: the longest path wins, and the front proxy's own paths are nobody's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.backends import RESERVED, APIService, PathService
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import ConfigurationError
from aggmw.middleware.registry import Registry, StaticRoutes, make_routes

URL = "http://127.0.0.1:9000"
BILLING, DEEP, ALL = (PathService(path, URL) for path in ("/billing/", "/billing/api/v2", "/"))


async def found(path: str, *services: PathService | APIService, resource: bool = False) -> PathService | None:
    """The path service that a request is left to."""
    info = RequestInfo(resource, "get", "GET", path, path.encode())
    exchange = Exchange({"type": "http"}, (), request_info=info)
    assert await Registry(StaticRoutes(make_routes(services))).decide(exchange) is None
    service = exchange.path_service
    assert exchange.backend is (None if service is None else service.backend)
    return service


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/billing", BILLING),
        ("/billing/", BILLING),
        ("/billing/x", BILLING),
        ("/billing/api", BILLING),
        ("/billing/api/v2", DEEP),
        ("/billing/api/v2/x/y", DEEP),
        ("/billing/api/v22", BILLING),
        ("/billings", None),
        ("/", None),
        ("/x/billing/", None),
    ],
)
async def test_longest_path_wins(path: str, service: PathService | None) -> None:
    """At a path, below it, and only at a slash."""
    assert await found(path, BILLING, DEEP) is service


async def test_root_takes_what_is_left() -> None:
    """A service at "/" is asked for everything that nobody else has."""
    assert await found("/x", BILLING, ALL) is ALL
    assert await found("/", BILLING, ALL) is ALL
    assert await found("/billing/x", BILLING, ALL) is BILLING


@pytest.mark.parametrize("segment", sorted(RESERVED))
@pytest.mark.parametrize("below", ["", "/", "/x", "/x/y/z"])
async def test_own_paths_are_nobodys(segment: str, below: str) -> None:
    """Never shadowed: not even a service at "/" sees an unknown API path or a health check."""
    assert await found(f"/{segment}{below}", ALL) is None


async def test_resources_are_never_a_path_service_s() -> None:
    """What was authorised as a resource is not forwarded as a path."""
    assert await found("/x/v1/pods", ALL, resource=True) is None


def test_registered_twice() -> None:
    """Two services at one path, with and without the last slash, are a mistake."""
    with pytest.raises(ConfigurationError, match="path service '/billing/': registered twice"):
        make_routes([BILLING, PathService("/billing", URL)])


def test_nothing_else_is_a_service() -> None:
    """A dict is no service: the error says what is."""
    with pytest.raises(TypeError, match="services must hold APIService and PathService values, not dict"):
        make_routes([{"path": "/x"}])  # type: ignore[list-item]


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "c"]), max_size=4)


@given(SEGMENTS, st.lists(SEGMENTS, max_size=4, unique_by=tuple), st.booleans())
async def test_as_a_slow_search_would(segments: list[str], services: list[list[str]], slash: bool) -> None:
    """The look-up finds what comparing every service by segments finds."""
    path = "/" + "/".join(segments) + ("/" if slash and segments else "")
    made = [PathService("/" + "".join(f"{each}/" for each in service), URL) for service in services]
    matching = [service for service, names in zip(made, services, strict=True) if segments[: len(names)] == names]
    longest = max(matching, key=lambda service: len(service.path), default=None)
    assert await found(path, *made) is longest
