"""Traefik in front of a page, decided by `aggmw serve`: with the files of the page in the docs, ports aside."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.e2e.conftest import BIN, PATIENCE
from tests.e2e.sites import ALICE, BOB, Served, Site, beside, files, served, started
from tests.ports import free_port
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from aggmw.pki.make import make_ca


def traefik(directory: Path, behind: Served) -> AbstractContextManager[Site]:
    """Traefik with the files of the page, from when it listens and knows the site."""
    port = free_port()
    changes = {
        "traefik.yaml": {'":8002"': f'"127.0.0.1:{port}"'},
        "shop.yaml": {"localhost:6443": f"localhost:{behind.port}", "127.0.0.1:8080": f"127.0.0.1:{behind.page_port}"},
    }
    files(directory, changes)
    return started([BIN / "traefik", "--configfile=traefik.yaml"], directory, port)


def ready(site: Site) -> Site:
    """Traefik listens before it has read of its routes: until then everything is 404."""
    while site.ask("GET", "/orders").status == 404:
        pass
    return site


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site"), free_port()) as both:
        yield both


@pytest.fixture(scope="module")
def site(behind: Served) -> Iterator[Site]:
    """All three; each has to end well when it is told to."""
    with traefik(behind.directory, behind) as running:
        yield ready(running)


def test_allowed(site: Site) -> None:
    """The page sees the request as it was sent, and who it is; the token stays behind."""
    answer = site.ask("GET", "/orders/1?q=a%20b", BOB)
    assert (answer.seen["method"], answer.seen["target"]) == ("GET", "/orders/1?q=a%20b")
    assert answer.header("X-Auth-Request-User") == "bob"
    assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"
    assert answer.header("Authorization") is None


def test_methods(site: Site) -> None:
    """Each is judged as what it is, and a body reaches the page alone."""
    assert site.ask("HEAD", "/orders", BOB).status == 200
    assert site.ask("POST", "/orders", BOB, b"x" * 3_000_000).seen["body"] == "x" * 3_000_000
    assert site.ask("POST", "/orders", ALICE, b"one more").status == 403
    for method in ("PUT", "OPTIONS", "PATCH", "DELETE", "PROPFIND"):
        assert (
            site.ask(method, "/orders", BOB).message == f'forbidden: User "bob" cannot {method.lower()} path "/orders"'
        )
    assert site.ask("get", "/orders", ALICE).status == 400
    assert site.ask("TRACE", "/orders", ALICE).status == 405
    assert site.ask("CONNECT", "shop.example.com:443", ALICE).status >= 400
    assert site.ask("OPTIONS", "*", ALICE).body == b""  # Traefik's own


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}])
def test_nobody(site: Site, headers: dict[str, str]) -> None:
    """401 with a challenge, and the words of aggmw."""
    answer = site.ask("GET", "/orders", headers)
    assert (answer.status, answer.message) == (401, "Unauthorized")
    assert answer.fields["www-authenticate"] == ["Bearer"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_with_words(site: Site, method: str) -> None:
    """403, and the reason names the original method and path."""
    answer = site.ask(method, "/secret", BOB)
    assert answer.status == 403
    assert answer.message == f'forbidden: User "bob" cannot {method.lower()} path "/secret"'
    assert "x-auth-request-user" not in answer.fields


def test_spoofed_question(site: Site) -> None:
    """What a client writes of what it asks for is nobody's word, also where it says that all that is of one hop."""
    spoofed = {"X-Forwarded-Uri": "/orders", "X-Forwarded-Method": "GET", "X-Forwarded-Prefix": "/orders"}
    spoofed |= {"X-Original-URI": "/orders", "X-Original-Method": "GET", "X-HTTP-Method-Override": "GET"}
    refused = 'forbidden: User "bob" cannot post path "/secret"'
    assert site.ask("POST", "/secret", {**BOB, **spoofed}).message == refused
    assert site.ask("POST", "/secret", [*BOB.items(), *spoofed.items(), *spoofed.items()]).message == refused
    named = {"Connection": "X-Forwarded-Uri, X-Forwarded-Method, X-Forwarded-Host"}
    folded = {name.replace("-", "_"): value for name, value in spoofed.items()}
    for more in (named, {**named, **spoofed}, folded):
        assert site.ask("POST", "/secret", {**BOB, **more}).message == refused
    assert site.ask("GET", "/orders", {**BOB, "X-Forwarded-Uri": "/secret"}).seen["target"] == "/orders"


def test_spoofed_identity(site: Site) -> None:
    """What a client writes of who it is reaches nobody: Traefik replaces it, aggmw does not believe it."""
    spoofed = {"X-Auth-Request-User": "alice", "X-Auth-Request-Groups": "system:masters", "X-Remote-User": "alice"}
    assert site.ask("GET", "/secret", spoofed).status == 401
    twice = [*BOB.items(), *spoofed.items(), *spoofed.items()]
    named = {**BOB, **spoofed, "Connection": "X-Auth-Request-User, X-Auth-Request-Groups"}
    for fields in ({**BOB, **spoofed}, twice, named):
        answer = site.ask("GET", "/orders", fields)
        assert answer.header("X-Auth-Request-User") == "bob"
        assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"


@pytest.mark.parametrize(
    "name", ["X_Auth_Request_User", "X-Auth_Request-User", "X.Auth.Request.User", "x_auth_request_groups"]
)
def test_spoofed_identity_in_another_spelling(site: Site, name: str) -> None:
    """Traefik replaces one spelling alone: aggmw refuses all others."""
    assert "in another spelling" in site.ask("GET", "/orders", {**BOB, name: "alice"}).message


RESOLVED = {
    "/orders/../secret": "/secret",
    "/orders/%2e%2e/secret": "/secret",
    "//secret": "/secret",
    "/secret//1": "/secret/1",
    "/secret/./1": "/secret/1",
    "/secret/../orders": "/orders",
    "/%73ecret": "/secret",
    "/Orders": "/Orders",
    "/orders;x/1": "/orders;x/1",
    "/orders/caf%C3%A9": "/orders/caf\xe9",
    "/a|b{c}": "/a|b{c}",
    "/a%3Fb": "/a?b",
    "/a%20b": "/a b",
    "/orders??x": "/orders",
    "/orders?/../x": "/orders",
    "/": "/",
}


@pytest.mark.parametrize(("target", "path"), RESOLVED.items())
def test_judged_is_sent(site: Site, target: str, path: str) -> None:
    """What Traefik made of the path is what is judged, and what the page gets."""
    assert unquote(site.ask("GET", target, ALICE).seen["target"].partition("?")[0]) == path
    answer = site.ask("GET", target, BOB)
    if answer.status == 200:
        assert unquote(answer.seen["target"].partition("?")[0]) == path
    else:
        assert answer.message == f'forbidden: User "bob" cannot get path "{path}"'


@pytest.mark.parametrize(
    "target",
    [
        "/orders/..%2fsecret",
        "/orders/..;/secret",
        "/orders%2f1",
        "/orders%5c1",
        "/orders/1#/x",
        "/orders/%0a",
        "/orders/%25",
        "/orders/%ff",
        "/orders/%",
        "orders",
    ],
)
def test_ambiguous_paths(site: Site, target: str) -> None:
    """What Traefik leaves as it is and two readers could read differently is refused, for whoever asks."""
    assert site.ask("GET", target, ALICE).status == 400


def test_hosts(site: Site) -> None:
    """The host that Traefik chose the router by is the one that is judged; what else a client says of hosts is not."""
    for host in ("shop.example.com:80", "SHOP.example.com"):
        assert site.ask("GET", "/orders", BOB, host=host).header("Host") == host
    assert site.ask("GET", "/orders", BOB, host="other.example.com").status == 404
    assert (
        site.ask("GET", "/orders", {**BOB, "X-Forwarded-Host": "shop.example.com"}, host="other.example.com").status
        == 404
    )
    assert site.ask("GET", "/orders", {**BOB, "X-Forwarded-Host": "other.example.com"}).status == 200
    assert site.ask("GET", "http://shop.example.com/secret", BOB).status == 403
    assert site.ask("GET", "http://other.example.com/orders", BOB).status == 404


def test_two_credentials(site: Site) -> None:
    """Nobody is known by two."""
    both = [*ALICE.items(), *BOB.items()]
    assert site.ask("GET", "/orders", both).status == 401
    assert site.ask("GET", "/secret", both[::-1]).status == 401
    assert site.ask("GET", "/orders", {**BOB, "Connection": "Authorization"}).status == 401


def test_long_heads(site: Site) -> None:
    """As long as aggmw takes them; a longer one is refused in its words."""
    assert site.ask("GET", "/orders", {**BOB, "Cookie": "a=" + "b" * 50_000}).status == 200
    assert site.ask("GET", "/orders", {**BOB, "Cookie": "a=" + "b" * 70_000}).status == 431


def test_websocket(site: Site) -> None:
    """A handshake is judged as the GET that it is, and the page sees who opens it."""

    def opened(path: str, headers: dict[str, str]) -> dict[str, Any]:
        sock = socket.create_connection(("127.0.0.1", site.port))
        with connect(
            f"ws://shop.example.com{path}", sock=sock, additional_headers=headers, open_timeout=PATIENCE
        ) as page:
            seen: dict[str, Any] = json.loads(page.recv(PATIENCE))
            return seen

    assert opened("/orders", BOB)["headers"]["X-Auth-Request-User"] == "bob"
    for path, headers, status in (("/secret", BOB, 403), ("/orders", {}, 401)):
        with pytest.raises(InvalidStatus) as refused:
            opened(path, headers)
        assert refused.value.response.status_code == status


def test_pages_stay_closed_without_aggmw(behind: Served, tmp_path: Path) -> None:
    """An aggmw that cannot be reached, or has another certificate, opens nothing."""
    nobody = Served(behind.directory, behind.page_port, free_port(), behind.process)
    with traefik(beside(tmp_path / "nobody", behind), nobody) as site:
        assert ready(site).ask("GET", "/orders", BOB).status == 500
    other = beside(tmp_path / "other", behind)
    (other / "state" / "serving-ca.crt").write_bytes(make_ca("another").certificate)
    with traefik(other, behind) as site:
        assert ready(site).ask("GET", "/orders", BOB).status == 500
