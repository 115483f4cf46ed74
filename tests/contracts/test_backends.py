"""Services as values: what may be registered, and what is refused when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.backends import RESERVED, APIService, Backend, LocalBackend, PathService
from aggmw.errors import ConfigurationError


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application."""


def test_remote() -> None:
    """A URL becomes a backend that is named like the APIService."""
    service = APIService.remote("a.io", "v1", "https://api.a.io", ca=b"PEM", version_priority=7)
    assert service == APIService(
        "a.io", "v1", Backend("v1.a.io", "api.a.io", 443, server_name="api.a.io", ca=b"PEM"), version_priority=7
    )


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
