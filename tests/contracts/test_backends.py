"""Services as values: what may be registered, and what is refused when it is made."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import RESERVED, APIService, Backend, BalancedBackend, LocalBackend, PathService
from aggmw.contracts.balancing import Balancing
from aggmw.errors import ConfigurationError

HOSTS = (("a.io", 443), ("b.io", 7443))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application."""


def test_remote() -> None:
    """A URL becomes a backend that is named like the APIService."""
    service = APIService.remote("a.io", "v1", "https://api.a.io", ca=b"PEM", version_priority=7)
    assert service == APIService(
        "a.io", "v1", Backend("v1.a.io", "api.a.io", 443, server_name="api.a.io", ca=b"PEM"), version_priority=7
    )


def test_several() -> None:
    """Several URLs become one backend with several servers; one alone is a server, unless it is to be balanced."""
    urls = ["https://a.io", "https://b.io:7443"]
    service = APIService.remote("a.io", "v1", urls, ca=b"PEM", server_name="api", balancing=Balancing(retries=1))
    backend = service.backend
    assert isinstance(backend, BalancedBackend)
    assert (backend.name, backend.balancing, backend.authority) == ("v1.a.io", Balancing(retries=1), "a.io:443")
    assert backend.endpoints == tuple(Backend("", host, port, server_name="api", ca=b"PEM") for host, port in HOSTS)
    assert backend == replace(backend)
    assert hash(backend) == hash(replace(backend))
    assert backend != replace(backend, balancing=Balancing())
    assert "PEM" not in repr(service)
    assert isinstance(PathService("/x/", iter(urls)).backend, BalancedBackend)
    assert isinstance(PathService("/x/", ["http://a"]).backend, Backend)
    assert isinstance(PathService("/x/", "http://a", balancing=Balancing(requests=9)).backend, BalancedBackend)


@pytest.mark.parametrize(
    ("urls", "messages"),
    [
        ([], ["needs at least one address"]),
        (["http://a:1", "http://b", "https://a:1"], ["a:1 is named twice"]),
        (["http://a/x", "http://b", "b"], ["[0]: must be https", "[2]: must be https"]),
    ],
)
def test_several_that_are_not(urls: list[str], messages: list[str]) -> None:
    """Every mistake, with the service and the place in the list."""
    with pytest.raises(ConfigurationError) as caught:
        PathService("/billing/", urls)
    problems = [str(each) for each in caught.value.problems]
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert problem.startswith("/billing/: url")
        assert message in problem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": 7}, "/x/: url takes a text or several, not int"),
        ({"url": b"http://a"}, "/x/: url takes a text or several, not bytes"),
        ({"url": ["http://a", None]}, "/x/: url takes a text or several, not NoneType"),
        ({"url": "http://a", "balancing": {"retries": 1}}, "/x/: balancing takes Balancing, not dict"),
    ],
)
def test_what_is_no_address(options: dict[str, Any], message: str) -> None:
    """A wrong type is told as such, with the service."""
    with pytest.raises(TypeError, match=re.escape(message)):
        PathService("/x/", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failures": 0}, "failures must be at least 1, not 0"),
        ({"eject_seconds": 0}, "eject_seconds must be at least 0.001, not 0"),
        ({"eject_seconds": float("nan")}, "eject_seconds must be at least 0.001, not nan"),
        ({"eject_seconds": 400}, "eject_longest_seconds must not be less than eject_seconds"),
        ({"eject_share": 1.1}, "eject_share must be from 0 to 1, not 1.1"),
        ({"retries": -1}, "retries must be at least 0, not -1"),
        ({"retry_share": -0.1}, "retry_share must be at least 0, not -0.1"),
        ({"attempt_seconds": 0}, "attempt_seconds must be at least 0.001, not 0"),
        ({"requests": 0}, "requests must be at least 1, not 0"),
        ({"sticky": "cookie"}, "sticky must be one of '', 'identity', 'client', not 'cookie'"),
    ],
)
def test_balancing_that_is_none(options: dict[str, Any], message: str) -> None:
    """Told when it is made, by its name."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Balancing(**options)


def test_local() -> None:
    """With an application of its own, or served by the wrapped one."""
    assert APIService.local("a.io", "v1", app=app).backend == LocalBackend("v1.a.io", app)
    assert APIService.local("a.io", "v1").backend is None
    with pytest.raises(TypeError, match=r"v1\.a\.io: app must be an ASGI application, not str"):
        APIService.local("a.io", "v1", app="module:app")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/billing", "/billing/"])
def test_path_service(path: str) -> None:
    """A path stands for itself and all below it, with or without its last slash."""
    service = PathService(path, "http://127.0.0.1:9000")
    assert service.path == "/billing/"
    assert service.backend == Backend(path, "127.0.0.1", 9000, tls=False, server_name="127.0.0.1")
    assert (service.strip_prefix, service.redirects) == (False, True)
    assert PathService(path, app=app).backend == LocalBackend(path, app)
    assert PathService("/", app=app).path == "/"


@pytest.mark.parametrize("segment", sorted(RESERVED))
@pytest.mark.parametrize("below", ["", "/", "/x/"])
def test_path_service_never_shadows(segment: str, below: str) -> None:
    """A path of the front proxy's own is refused when the service is made, naming it."""
    with pytest.raises(ConfigurationError, match=f"/{segment} is the front proxy's own"):
        PathService(f"/{segment}{below}", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "path", ["", "billing", "//", "/a//b", "/./", "/a/../b", "/a%20b/", "/a b/", "/ä/", "/a?b", "/a;b/", "/a\r\n/"]
)
def test_path_service_refuses_paths(path: str) -> None:
    """What two parsers could read differently is no path of a service."""
    with pytest.raises(ConfigurationError, match="must be a plain path"):
        PathService(path, "http://127.0.0.1:9000")


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://a", "http://a/b", "http://u:p@a", "http://a?b", "http://"])
def test_url_is_scheme_host_and_port(url: str) -> None:
    """Nothing more, and the mistake is named with the service."""
    with pytest.raises(ConfigurationError, match="/billing/: url: must"):
        PathService("/billing/", url)
    with pytest.raises(ConfigurationError, match=r"v1\.a\.io: url: must"):
        APIService.remote("a.io", "v1", url)


@pytest.mark.parametrize("options", [{}, {"url": "http://a", "app": app}])
def test_path_service_needs_one_of_both(options: dict[str, Any]) -> None:
    """Either a URL or an application."""
    with pytest.raises(TypeError, match="needs either a URL or app="):
        PathService("/billing/", **options)


def test_reprs_show_no_authority() -> None:
    """A CA bundle is long and nobody's business."""
    assert "PEM" not in repr(APIService.remote("a.io", "v1", "https://a", ca=b"PEM"))
    assert "PEM" not in repr(PathService("/a/", "https://a", ca=b"PEM"))
    assert repr(LocalBackend("v1.a.io", app)) == "LocalBackend('v1.a.io', app)"
