"""Addresses of backends, read strictly."""

from __future__ import annotations

import pytest

from aggmw.contracts.addresses import Address, parse_backend_url
from aggmw.contracts.backends import APIService, Backend, PathService
from aggmw.errors import ConfigurationError


@pytest.mark.parametrize("url", ["unix:/run/app.sock", "unix:///run/app.sock"])
def test_unix(url: str) -> None:
    """Both forms that tools use for a Unix socket: plain HTTP, to a server that is called localhost."""
    assert parse_backend_url(url) == Address("localhost", 0, tls=False, unix="/run/app.sock")
    backend = Backend.at(url, name="v1.x")
    assert (backend.unix, backend.authority, backend.address) == (
        "/run/app.sock",
        "localhost",
        "unix:/run/app.sock",
    )
    assert PathService("/app/", url).backend == Backend.at(url, name="/app/")
    assert APIService.remote("x", "v1", url).backend == backend


def test_sockets_are_told_apart() -> None:
    """Servers behind different sockets are different servers, whatever they are called."""
    one, other = Backend.at("unix:/run/one.sock"), Backend.at("unix:/run/other.sock")
    assert one != other
    assert len({one, other, Backend.at("unix:/run/one.sock")}) == 2


FORMS = "or unix:/path/of/a.sock"
NO_PATH = "must name a socket by its plain absolute path"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("unix:", FORMS),
        ("unix:app.sock", FORMS),
        ("unix:@abstract", FORMS),
        ("unix://run/app.sock", NO_PATH),
        ("UNIX:/run/app.sock", FORMS),
        ("http+unix:///run/app.sock", FORMS),
        ("unix:/", NO_PATH),
        ("unix:////run/app.sock", NO_PATH),
        ("unix:/run/app.sock/", NO_PATH),
        ("unix:/run/../app.sock", NO_PATH),
        ("unix:/run/./app.sock", NO_PATH),
        ("unix:/run/app.sock:/v1", NO_PATH),
        ("unix:/run/app.sock?x", NO_PATH),
        ("unix:/run/app.sock#x", NO_PATH),
        ("unix:/run/%61pp.sock", NO_PATH),
        ("unix:/run/app\0.sock", NO_PATH),
        ("unix:/run/app.sock\n", NO_PATH),
        ("unix:/run/äpp.sock", NO_PATH),
        ("unix:/run/" + "a" * 107, "must have a path of at most 107 bytes"),
    ],
)
def test_what_names_no_socket(url: str, message: str) -> None:
    """Relative, abstract, with escapes, with more behind it, or too long for the system: told what is wrong."""
    with pytest.raises(ValueError, match=message):
        parse_backend_url(url)
    with pytest.raises(ConfigurationError, match=rf"^/app/: url: .*{message}"):
        PathService("/app/", url)
