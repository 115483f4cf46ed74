"""nginx in front of a page, decided by `aggmw serve`: with the files of the page in the docs, ports aside."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.e2e.conftest import PATIENCE
from tests.e2e.sites import ALICE, BOB, Served, Site, beside, files, served, started
from tests.ports import free_port

from aggmw.pki.make import make_ca

MAIN = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include shop.conf;
}
"""


def nginx(directory: Path, behind: Served) -> AbstractContextManager[Site]:
    """nginx with the files of the page, from when it listens."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.fail("nginx is missing: apt-get install nginx, or your system's package", pytrace=False)
    port = free_port()
    ports = {
        "127.0.0.1:6443": f"127.0.0.1:{behind.port}",
        "127.0.0.1:8080": f"127.0.0.1:{behind.page_port}",
        "listen 8000": f"listen 127.0.0.1:{port}",
    }
    files(directory, {"shop.conf": ports})
    (directory / "nginx.conf").write_text(MAIN)
    return started([program, "-p", directory, "-c", "nginx.conf", "-e", "stderr"], directory, port)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site"), free_port()) as both:
        yield both


@pytest.fixture(scope="module")
def site(behind: Served) -> Iterator[Site]:
    """All three; each has to end well when it is told to."""
    with nginx(behind.directory, behind) as running:
        yield running


def test_allowed(site: Site) -> None:
    """The page sees the request as it was sent, and who it is; the token stays behind."""
    answer = site.ask("GET", "/orders/1?q=a%20b", BOB)
    assert (answer.seen["method"], answer.seen["target"]) == ("GET", "/orders/1?q=a%20b")
    assert answer.header("X-Auth-Request-User") == "bob"
    assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"
    assert answer.header("Authorization") is None


def test_methods(site: Site) -> None:
    """HEAD and POST are judged as what they are, and a body reaches the page alone."""
    assert site.ask("HEAD", "/orders", BOB).status == 200
    assert site.ask("POST", "/orders", BOB, b"one more").seen["body"] == "one more"
    assert site.ask("POST", "/orders", ALICE, b"one more").status == 403
    assert site.ask("PUT", "/orders", BOB, b"one more").status == 403


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}])
def test_nobody(site: Site, headers: dict[str, str]) -> None:
    """401 with a challenge, and the words of aggmw."""
    answer = site.ask("GET", "/orders", headers)
    assert answer.status == 401
    assert set(answer.fields["www-authenticate"]) == {"Bearer"}
    assert answer.message == "Unauthorized"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_with_words(site: Site, method: str) -> None:
    """403, and the reason names the original method and path."""
    answer = site.ask(method, "/secret", BOB)
    assert answer.status == 403
    message = answer.message
    assert message == f'forbidden: User "bob" cannot {method.lower()} path "/secret"'
    assert "x-auth-request-user" not in answer.fields


def test_spoofed_question(site: Site) -> None:
    """What a client writes of the question is replaced by what it asked for, in any spelling."""
    spoofed = {
        "X-Original-URI": "/orders",
        "X-Original-Method": "GET",
        "X-Original-Url": "/orders",
        "X_Original_URI": "/orders",
        "x-original-uri ": "/orders",
        "X-Forwarded-Uri": "/orders",
    }
    for name, value in spoofed.items():
        answer = site.ask("GET", "/secret", {**BOB, name: value})
        assert answer.status in (400, 403), name
        assert answer.status == 400 or '"/secret"' in answer.message
    for name, value in spoofed.items():
        assert site.ask("POST", "/secret", {**BOB, name: value}, b"x").status in (400, 403), name


def test_spoofed_identity(site: Site) -> None:
    """What a client writes of who it is reaches nobody: nginx replaces it, aggmw does not believe it."""
    spoofed = {
        "X-Auth-Request-User": "alice",
        "X-Auth-Request-Groups": "system:masters",
        "X_Auth_Request_User": "alice",
        "X-Remote-User": "alice",
        "X-Remote-Group": "system:masters",
    }
    assert site.ask("GET", "/secret", spoofed).status == 401
    answer = site.ask("GET", "/orders", {**BOB, **spoofed})
    users = [
        value for name, value in answer.seen["headers"].items() if "auth" in name.lower() and "user" in name.lower()
    ]
    assert users == ["bob"]
    assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"


def test_nobody_asks_from_outside(site: Site) -> None:
    """The location that asks is nginx's own, and aggmw itself is asked by listed peers alone."""
    assert site.ask("GET", "/_ask", ALICE).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/orders/../secret",
        "/orders/%2e%2e/secret",
        "/orders/..%2fsecret",
        "/orders//../secret",
        "//secret",
        "/orders//1",
        "/orders/./1",
        "/orders%2f1",
        "/orders/1#/x",
        "/orders/%0a",
    ],
)
def test_ambiguous_paths(site: Site, target: str) -> None:
    """nginx resolves and merges, and asks about what was sent: that is refused, also for who may get everything."""
    assert site.ask("GET", target, ALICE).status == 403
    assert site.ask("GET", target, BOB).status == 403


def test_encoded_paths(site: Site) -> None:
    """An encoded letter is that letter, for the policy as for nginx; the page gets what was sent."""
    assert site.ask("GET", "/%6frders/%61", BOB).seen["target"] == "/%6frders/%61"
    assert site.ask("GET", "/%73ecret", BOB).status == 403
    assert site.ask("GET", "/orders/caf%C3%A9", BOB).seen["target"] == "/orders/caf%C3%A9"
    assert site.ask("GET", "/orders/%ff", BOB).status == 403


@pytest.mark.parametrize(
    "target",
    [
        "/Orders",
        "/%73ecret",
        "/orders;x/1",
        "/orders/1;v=2",
        "/a|b{c}",
        "/a%3Fb",
        "/a%20b",
        "/a+b",
        "/orders??x",
        "/orders?/../x",
        "/",
    ],
)
def test_judged_is_sent(site: Site, target: str) -> None:
    """What was judged is what the page gets, as it was sent."""
    assert site.ask("GET", target, ALICE).seen["target"] == target
    answer = site.ask("GET", target, BOB)
    path = unquote(target.partition("?")[0])
    assert answer.status == 200 or answer.message == f'forbidden: User "bob" cannot get path "{path}"'


def test_two_credentials(site: Site) -> None:
    """Nobody is known by two."""
    both = [*ALICE.items(), *BOB.items()]
    assert site.ask("GET", "/orders", both).status in (400, 401)
    assert site.ask("GET", "/secret", both[::-1]).status in (400, 401)


def test_absolute_form(site: Site) -> None:
    """A target with a host names that host and a path; both are judged, whatever `Host` says beside it."""
    assert site.ask("GET", "http://shop.example.com/orders", BOB).status == 200
    assert site.ask("GET", "http://shop.example.com/secret", BOB).status == 403
    assert site.ask("GET", "http://other.example.com/orders", BOB).status == 403
    assert site.ask("GET", "http://shop.example.com/orders", BOB, host="other").header("Host") == "shop.example.com"


def test_another_host(site: Site) -> None:
    """nginx serves this site to whatever host nobody else has; the policy is for the listed ones alone."""
    answer = site.ask("GET", "/orders", BOB, host="other.example.com")
    assert answer.status == 403
    assert answer.message == "forbidden: requests for this host are not judged here"


def test_pages_stay_closed_without_aggmw(behind: Served, tmp_path: Path) -> None:
    """An aggmw that cannot be reached, or has another certificate, opens nothing."""
    nobody = Served(behind.directory, behind.page_port, free_port(), behind.process)
    with nginx(beside(tmp_path / "nobody", behind), nobody) as site:
        assert site.ask("GET", "/orders", BOB).status == 500
    other = beside(tmp_path / "other", behind)
    (other / "state" / "serving-ca.crt").write_bytes(make_ca("another").certificate)
    with nginx(other, behind) as site:
        assert site.ask("GET", "/orders", BOB).status == 500


def test_others_may_not_ask(behind: Served) -> None:
    """Whoever is no listed peer is not answered, whatever it shows."""
    context = ssl.create_default_context(cafile=str(behind.directory / "state" / "serving-ca.crt"))
    answers = []
    for source in ("127.0.0.1", "127.0.0.2"):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", behind.port, context=context, timeout=PATIENCE, source_address=(source, 0)
        )
        try:
            fields = {"Host": "shop.example.com", "X-Original-Method": "GET", "X-Original-URI": "/orders", **BOB}
            connection.request("GET", "/auth/nginx", headers=fields)
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read() or b"{}").get("message")))
        finally:
            connection.close()
    assert answers == [(200, None), (403, "forbidden: only listed proxies may ask here")]
