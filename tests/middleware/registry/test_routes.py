"""Routes: the order that clients are told, and snapshots that are swapped whole."""

from __future__ import annotations

import re
from functools import cmp_to_key

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.backends import APIService, Backend, Routes
from aggmw.errors import ConfigurationError
from aggmw.middleware.registry import StaticRoutes, make_routes
from aggmw.middleware.registry.routes import version_order

EXAMPLE = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]


def reference(left: str, right: str) -> int:
    """The rule as it is told: negative when `left` is listed first."""
    pattern = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$", re.ASCII)
    a, b = pattern.match(left), pattern.match(right)
    if not a and not b:
        return (left > right) - (left < right)
    if not a or not b:
        return -1 if a else 1
    for index, weigh in ((2, ["alpha", "beta", None].index), (1, int), (3, lambda text: int(text or 0))):
        x, y = weigh(a.group(index)), weigh(b.group(index))
        if x != y:
            return -1 if x > y else 1
    return 0


LEGAL = st.from_regex(r"[a-z][a-z0-9]{0,3}((alpha|beta)[0-9]{1,2})?", fullmatch=True)
VERSIONS = st.one_of(
    st.from_regex(r"v[0-9]{1,3}((alpha|beta)[0-9]{1,2})?", fullmatch=True),
    st.sampled_from([*EXAMPLE, "v", "valpha1", "v1gamma1", "v1alpha", "1", "V1", "v1beta1x"]),
    st.text("va1b", min_size=1, max_size=5),
)


def test_example_of_the_contract() -> None:
    """§1.9: the example, from any order."""
    assert sorted({*EXAMPLE}, key=version_order) == EXAMPLE


@settings(deadline=None)
@given(st.lists(VERSIONS, max_size=12))
def test_order_is_kube_aware(versions: list[str]) -> None:
    """The sort key agrees with the comparison for every list of versions."""
    assert sorted(versions, key=version_order) == sorted(versions, key=cmp_to_key(reference))


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            APIService,
            st.sampled_from(["a.io", "b.io", "c.io"]),
            LEGAL,
            st.none(),
            st.integers(1, 3),
            st.integers(1, 2),
        ),
        max_size=10,
        unique_by=lambda each: (each.group, each.version),
    )
)
def test_groups_stand_together(services: list[APIService]) -> None:
    """§1.9: a group ranks by its highest version, then by that APIService's name; its versions by their priority."""
    routes = make_routes(services)
    assert sorted(routes.services, key=repr) == sorted(services, key=repr)
    groups = list(dict.fromkeys(each.group for each in routes.services))
    assert [each.group for each in routes.services] == [
        each.group for group in groups for each in routes.services if each.group == group
    ]
    first = {
        group: min((-each.group_priority_minimum, each.name) for each in services if each.group == group)
        for group in groups
    }
    assert groups == sorted(groups, key=first.__getitem__)
    for group in groups:
        priorities = [each.version_priority for each in routes.services if each.group == group]
        assert priorities == sorted(priorities, reverse=True)
    assert all(routes.by_group_version[each.group, each.version] is each for each in services)


def test_group_version_twice() -> None:
    """One group version has one home."""
    with pytest.raises(ConfigurationError, match=r"^v1\.a\.io: registered twice$"):
        make_routes([APIService("a.io", "v1"), APIService("a.io", "v1")])


@pytest.mark.parametrize(
    ("group", "version"), [("a.io", "v 1"), ("a.io", "V1"), ("a/../b", "v1"), ("a\r\nb", "v1"), ("", "v2")]
)
def test_names_that_are_none(group: str, version: str) -> None:
    """Names stand in paths that backends are asked for, so they are checked also when they come from Python."""
    with pytest.raises(ConfigurationError) as caught:
        make_routes([APIService(group, version)])
    assert len(str(caught.value).splitlines()) == 1


def test_snapshot_is_immutable() -> None:
    """What a request has read does not change under it."""
    routes = make_routes([APIService("a.io", "v1")])
    with pytest.raises(TypeError):
        routes.by_group_version["b.io", "v1"] = APIService("b.io", "v1")  # type: ignore[index]  # the point


def test_swap() -> None:
    """A swap replaces the whole snapshot."""
    source = StaticRoutes()
    assert source.routes == Routes()
    routes = make_routes([APIService("a.io", "v1")])
    source.swap(routes)
    assert source.routes is routes


def test_remote_service() -> None:
    """From Python: an address and, by default, that host's name to verify."""
    service = APIService.remote("a.io", "v1", "https://api.a.io", ca=b"PEM", version_priority=7)
    assert service == APIService(
        "a.io", "v1", Backend("v1.a.io", "api.a.io", 443, server_name="api.a.io", ca=b"PEM"), 1000, 7
    )
    plain = APIService.remote("a.io", "v1", "http://127.0.0.1:8080/", server_name="x.y.svc")
    assert plain.backend == Backend("v1.a.io", "127.0.0.1", 8080, tls=False, server_name="x.y.svc")


@pytest.mark.parametrize(
    "url", ["", "a.io:443", "https://", "https://a.io/x", "https://u@a.io", "https://a.io:x", "https://a.io\n"]
)
def test_remote_service_refuses_urls(url: str) -> None:
    """An address with anything else in it is a mistake of the program's, said at once."""
    with pytest.raises(ConfigurationError, match=r"^v1\.a\.io: url: must "):
        APIService.remote("a.io", "v1", url)
