"""Which names are served: what bounds the labels of metrics (CVE-2020-8552)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from tests.middleware.discovery.fakes import FLUNDERS, GROUP, VERSION, FakeTransport, Running, json_answer, remote

from aggmw.contracts.backends import APIService
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.discovery import Discovery, Timing
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.objects.discovery import api_resource_list
from aggmw.testing import VirtualClock

Run = Callable[[Discovery], AbstractAsyncContextManager[Running]]
LIST = api_resource_list(GROUP, VERSION, (FLUNDERS,))


class Swapped:
    """Routes that a test swaps."""

    def __init__(self, *services: APIService) -> None:
        self.routes = make_routes(services)


def serving(transport: FakeTransport, source: StaticRoutes | Swapped) -> Discovery:
    transport.backends[1] = lambda request: json_answer(LIST)
    return Discovery(source, transport, timing=Timing(refresh=10.0))


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (("flunders", ""), True),
        (("flunders", "status"), True),
        (("flunders", "exec"), False),
        (("fischers", ""), False),
        (("", ""), True),
    ],
)
async def test_names_of_a_server(transport: FakeTransport, running: Run, names: tuple[str, str], known: bool) -> None:
    """Known is what its server lists, resource by resource and subresource by subresource."""
    discovery = serving(transport, StaticRoutes(make_routes([remote()])))
    assert not discovery.knows(GROUP, VERSION, "flunders")
    assert discovery.knows(GROUP, VERSION)
    async with running(discovery):
        assert discovery.knows(GROUP, VERSION, *names) is known
        assert not discovery.knows(GROUP, "v2", *names)
        assert not discovery.knows("wardle", VERSION, *names)


async def test_local_group_version(transport: FakeTransport, running: Run) -> None:
    """Only the wrapped application knows the resources of its group version."""
    discovery = serving(transport, StaticRoutes(make_routes([remote(), APIService("local.example.com", "v1")])))
    async with running(discovery):
        assert discovery.knows("local.example.com", "v1")
        assert not discovery.knows("local.example.com", "v1", "things")


async def test_last_good_answer_stays_known(transport: FakeTransport, running: Run, clock: VirtualClock) -> None:
    """A server that fails keeps its names; one that is no longer registered loses them."""
    source = Swapped(remote())
    discovery = serving(transport, source)
    async with running(discovery):
        transport.backends[1] = lambda request: UpstreamUnreachable("connection refused")
        await clock.advance(30.0)
        assert discovery.knows(GROUP, VERSION, "flunders")
        source.routes = make_routes([])
        await clock.advance(2.0)
        assert not discovery.knows(GROUP, VERSION)
