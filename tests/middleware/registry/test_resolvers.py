"""Resolvers: services to addresses, without asking anybody."""

from __future__ import annotations

import pytest

from aggmw.errors import ConfigurationError
from aggmw.middleware.registry import DnsResolver, StaticResolver


def test_static_map_prefers_the_port() -> None:
    """One port of a service may live elsewhere."""
    resolver = StaticResolver({"a/b": "h1:1", "a/b:443": "h2:2", "a/c": "[::1]:3"})
    assert resolver.resolve("a", "b", 443) == ("h2", 2)
    assert resolver.resolve("a", "b", 80) == ("h1", 1)
    assert resolver.resolve("a", "c", 443) == ("::1", 3)
    assert resolver.resolve("a", "d", 443) is None


def test_static_map_asks_another() -> None:
    """What the map does not hold, the other resolver may know."""
    resolver = StaticResolver({"a/b": "h1:1"}, otherwise=DnsResolver())
    assert resolver.resolve("a", "b", 443) == ("h1", 1)
    assert resolver.resolve("a", "d", 443) == ("d.a.svc", 443)


def test_dns_suffix() -> None:
    """Where the search list does not help, the suffix is longer."""
    assert DnsResolver("svc.cluster.local").resolve("ns", "api", 8443) == ("api.ns.svc.cluster.local", 8443)


def test_all_entries_are_checked() -> None:
    """Every entry that cannot be read is named."""
    with pytest.raises(ConfigurationError) as caught:
        StaticResolver({"ab": "h:1", "a/b": "h", "a/b:x": "h:1", "a/c": "h:1"})
    assert str(caught.value).splitlines() == [
        "'ab': 'h:1': the service must be \"namespace/name\" or \"namespace/name:port\"",
        "'a/b': 'h': must be \"host:port\" with a port from 1 to 65535",
        "'a/b:x': 'h:1': the service must be \"namespace/name\" or \"namespace/name:port\"",
    ]
