"""nginx in front of a page, decided by `aggmw serve`: with the files of the page in the docs, ports aside."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import DOCS, blocks
from tests.e2e.conftest import PATIENCE, START_SECONDS, STOP_SECONDS
from tests.ports import free_port

PAGE = DOCS / "how-to" / "behind-nginx-traefik-envoy.md"
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
ALICE, BOB = {"Authorization": "Bearer alice-token"}, {"Authorization": "Bearer bob-token"}


@dataclass
class Answer:
    """What a client of nginx got."""

    status: int
    fields: dict[str, list[str]]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the page saw."""
        assert self.status == 200, self
        found: dict[str, Any] = json.loads(self.body)
        return found

    def header(self, name: str) -> str | None:
        """What the page saw of a field."""
        return {key.lower(): value for key, value in self.seen["headers"].items()}.get(name.lower())


@dataclass
class Site:
    """nginx in front of the page, and aggmw, running."""

    directory: Path
    port: int
    aggmw_port: int

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, host: str = ""
    ) -> Answer:
        """One request, its target as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, target, skip_host=True)
            connection.putheader("Host", host or "shop.example.com")
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            fields: dict[str, list[str]] = {}
            for name, value in response.getheaders():
                fields.setdefault(name.lower(), []).append(value)
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()


def files(directory: Path, ports: dict[str, str]) -> None:
    """What the page of the docs calls by a name, and nginx's own file around it."""
    for block in blocks(PAGE):
        if block.title:
            text = block.text
            for written, here in ports.items():
                assert block.title != "shop.conf" or text.count(written) == 1
                text = text.replace(written, here)
            (directory / block.title).write_text(text)
    (directory / "nginx.conf").write_text(MAIN)


@contextmanager
def ended(command: Sequence[str | Path], **options: Any) -> Iterator[Any]:
    """A process that is ended at the latest when this is left."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def started_nginx(directory: Path, port: int) -> Iterator[None]:
    """nginx in the foreground, as whoever we are, from when it listens."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.fail("nginx is missing: apt-get install nginx, or your system's package", pytrace=False)
    command: list[str | Path] = [program, "-p", directory, "-c", "nginx.conf", "-e", "stderr"]
    with (directory / "nginx.log").open("wb") as log, ended(command, stderr=log) as process:
        until = time.monotonic() + START_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"nginx did not start:\n{(directory / 'nginx.log').read_text()}", pytrace=False)
            time.sleep(0.05)
        yield
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All three; each has to end well when it is told to."""
    directory = tmp_path_factory.mktemp("site")
    port, aggmw_port = free_port(), free_port()
    with ExitStack() as stack:
        shop = stack.enter_context(ended([sys.executable, Path(__file__).parent / "echo.py"], stdout=subprocess.PIPE))
        shop_port = int(shop.stdout.readline())
        ports = {
            "127.0.0.1:6443": f"127.0.0.1:{aggmw_port}",
            "127.0.0.1:8080": f"127.0.0.1:{shop_port}",
            "listen 8000": f"listen 127.0.0.1:{port}",
        }
        files(directory, ports)
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        command += ["--port", str(aggmw_port)]
        aggmw = stack.enter_context(ended(command, cwd=directory, stderr=subprocess.PIPE))
        for line in aggmw.stderr:
            if json.loads(line)["event"] == "serving":
                break
        stack.enter_context(started_nginx(directory, port))
        yield Site(directory, port, aggmw_port)
        aggmw.terminate()
        assert b"Traceback" not in aggmw.stderr.read()
        assert aggmw.wait(STOP_SECONDS) == 0


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
    assert json.loads(answer.body)["message"] == "Unauthorized"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_with_words(site: Site, method: str) -> None:
    """403, and the reason names the original method and path."""
    answer = site.ask(method, "/secret", BOB)
    assert answer.status == 403
    message = json.loads(answer.body)["message"]
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
        assert answer.status == 400 or '"/secret"' in json.loads(answer.body)["message"]
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
    assert json.loads(answer.body)["message"] == "forbidden: requests for this host are not judged here"


def test_pages_stay_closed_without_aggmw(site: Site, tmp_path: Path) -> None:
    """An aggmw that cannot be reached, or has another certificate, opens nothing."""
    other, port = free_port(), free_port()
    files(tmp_path, {"127.0.0.1:6443": f"127.0.0.1:{other}", "listen 8000": f"listen 127.0.0.1:{port}"})
    (tmp_path / "state").mkdir()
    shutil.copy(site.directory / "state" / "serving-ca.crt", tmp_path / "state")
    with started_nginx(tmp_path, port):
        assert Site(tmp_path, port, other).ask("GET", "/orders", BOB).status == 500


def test_others_may_not_ask(site: Site) -> None:
    """Whoever is no listed peer is not answered, whatever it shows."""
    context = ssl.create_default_context(cafile=str(site.directory / "state" / "serving-ca.crt"))
    answers = []
    for source in ("127.0.0.1", "127.0.0.2"):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", site.aggmw_port, context=context, timeout=PATIENCE, source_address=(source, 0)
        )
        try:
            fields = {"Host": "shop.example.com", "X-Original-Method": "GET", "X-Original-URI": "/orders", **BOB}
            connection.request("GET", "/auth/nginx", headers=fields)
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read() or b"{}").get("message")))
        finally:
            connection.close()
    assert answers == [(200, None), (403, "forbidden: only listed proxies may ask here")]
