"""Envoy in front of a page, decided by `aggmw serve`: with the files of the page in the docs, ports aside."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import yaml
from tests.e2e.conftest import BIN, PATIENCE
from tests.e2e.sites import ALICE, BOB, Served, Site, beside, files, served, started
from tests.ports import free_port
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from aggmw.pki.make import make_ca

NORMALISING = "use_remote_address: true  "
TIMEOUT = "timeout: 10s"


def envoy(directory: Path, behind: Served, changes: Mapping[str, str] | None = None) -> AbstractContextManager[Site]:
    """Envoy with the file of the page, from when it listens."""
    port = free_port()
    ports = {
        "address: 0.0.0.0, port_value: 8001": f"address: 127.0.0.1, port_value: {port}",
        "port_value: 8080": f"port_value: {behind.page_port}",
        "port_value: 6443": f"port_value: {behind.port}",
    }
    files(directory, {"envoy.yaml": ports | dict(changes or {})})
    command: list[str | Path] = [BIN / "envoy", "-c", "envoy.yaml", "-l", "warning"]
    return started([*command, "--disable-hot-restart", "--concurrency", "1"], directory, port)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site"), free_port()) as both:
        yield both


@pytest.fixture(scope="module")
def site(behind: Served) -> Iterator[Site]:
    """All three; each has to end well when it is told to."""
    with envoy(behind.directory, behind) as running:
        yield running


def test_allowed(site: Site) -> None:
    """The page sees the request as it was sent, and who it is; the token stays behind."""
    answer = site.ask("GET", "/orders/1?q=a%20b", BOB)
    assert (answer.seen["method"], answer.seen["target"]) == ("GET", "/orders/1?q=a%20b")
    assert answer.header("X-Auth-Request-User") == "bob"
    assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"
    assert answer.header("Authorization") is None


def test_methods(site: Site) -> None:
    """Each is judged as what it is."""
    assert site.ask("HEAD", "/orders", BOB).status == 200
    for method in ("PUT", "OPTIONS", "PATCH", "DELETE", "PROPFIND"):
        assert (
            site.ask(method, "/orders", BOB).message == f'forbidden: User "bob" cannot {method.lower()} path "/orders"'
        )
    assert site.ask("TRACE", "/orders", ALICE).status == 405
    for method, target in (("CONNECT", "shop.example.com:443"), ("OPTIONS", "*"), ("get", "/orders")):
        assert site.ask(method, target, ALICE).status in (400, 404), method


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
    """What a client writes of what it asks for is nobody's word."""
    names = ["X-Envoy-Original-Path", "X-Original-URI", "X-Original-Url", "X-Rewrite-URL", "X-Forwarded-Uri"]
    spoofed = dict.fromkeys([*names, "X-Forwarded-Prefix"], "/orders")
    spoofed |= dict.fromkeys(["X-Original-Method", "X-Forwarded-Method", "X-HTTP-Method-Override"], "GET")
    assert site.ask("POST", "/secret", {**BOB, **spoofed}).message == 'forbidden: User "bob" cannot post path "/secret"'
    other = dict.fromkeys(names, "/secret")
    assert site.ask("GET", "/orders", {**BOB, **other}).seen["target"] == "/orders"


def test_spoofed_identity(site: Site) -> None:
    """What a client writes of who it is reaches nobody: Envoy replaces it, aggmw does not believe it."""
    spoofed = {"X-Auth-Request-User": "alice", "X-Auth-Request-Groups": "system:masters", "X-Remote-User": "alice"}
    assert site.ask("GET", "/secret", spoofed).status == 401
    twice = [*BOB.items(), *spoofed.items(), *spoofed.items()]
    named = {**BOB, **spoofed, "Connection": "X-Auth-Request-User, X-Auth-Request-Groups"}
    for fields in ({**BOB, **spoofed}, twice, named):
        answer = site.ask("GET", "/orders", fields)
        assert answer.header("X-Auth-Request-User") == "bob"
        assert answer.header("X-Auth-Request-Groups") == "buyers,system:authenticated"


@pytest.mark.parametrize(
    "name", ["X_Auth_Request_User", "X-Auth_Request-User", "X.Auth.Request.User", "x-auth-request.groups"]
)
def test_spoofed_identity_in_another_spelling(site: Site, name: str) -> None:
    """Envoy replaces one spelling alone: all others are refused, by Envoy or by aggmw."""
    assert site.ask("GET", "/orders", {**BOB, name: "alice"}).status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/orders/../secret",
        "/orders/%2e%2e/secret",
        "/orders/..%2fsecret",
        "/orders/..;/secret",
        "/orders//../secret",
        "//secret",
        "/orders//1",
        "/orders/./1",
        "/orders%2f1",
        "/orders%5c1",
        "/orders\\1",
        "/orders/1#/x",
        "/orders/%0a",
        "/orders/%25",
        "/orders/%ff",
        "/orders/%",
    ],
)
def test_ambiguous_paths(site: Site, target: str) -> None:
    """Envoy asks about what was sent, and that is refused, also for who may get everything."""
    assert site.ask("GET", target, ALICE).status == 400
    assert site.ask("GET", target, BOB).status == 400


@pytest.mark.parametrize("target", ["orders", "-x/orders", "*", "?x", "http://shop.example.com?x", "http:///orders"])
def test_targets_that_are_no_path(site: Site, target: str) -> None:
    """Nothing that is no path gets behind the prefix of the question, where it would be another path."""
    assert site.ask("GET", target, ALICE).status in (400, 404)


ODD = [
    "/Orders",
    "/SECRET",
    "/%6frders/%61",
    "/%73ecret",
    "/orders;x/1",
    "/orders/1;v=2",
    "/orders/caf%C3%A9",
    "/a|b{c}",
]
ODD += [
    "/orders/",
    "/orders??x",
    "/orders?/../x",
    "/orders?a=//",
    "/orders?a;b",
    "/a%3Fb",
    "/a%23b",
    "/a%20b",
    "/a+b",
    "/",
]


def judged_and_sent(site: Site, target: str) -> tuple[str, str]:
    """The path that aggmw judged, where bob is refused, and the one that the page gets when alice is not."""
    sent = unquote(site.ask("GET", target, ALICE).seen["target"].partition("?")[0])
    refused = site.ask("GET", target, BOB)
    if refused.status == 200:
        return unquote(refused.seen["target"].partition("?")[0]), sent
    return refused.message.partition(" path ")[2].strip('"'), sent


@pytest.mark.parametrize("target", ODD)
def test_judged_is_sent(site: Site, target: str) -> None:
    """What was judged is what the page gets, as it was sent."""
    assert site.ask("GET", target, ALICE).seen["target"] == target
    judged, sent = judged_and_sent(site, target)
    assert judged == sent


def test_an_envoy_that_normalises(behind: Served, tmp_path: Path) -> None:
    """What it made of the path is what is judged, and what the page gets."""
    normalising = "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"
    changes = {
        NORMALISING: "".join(
            f"{each}\n                " for each in [*normalising.split(", "), "use_remote_address: true  "]
        )
    }
    resolved = {
        "/orders/../secret": "/secret",
        "/orders/%2e%2e/secret": "/secret",
        "/orders/..%2fsecret": "/secret",
        "//secret": "/secret",
        "/secret//1": "/secret/1",
        "/secret/../orders": "/orders",
        "/secret%2f1": "/secret/1",
        "/%73ecret": "/secret",
    }
    with envoy(beside(tmp_path / "site", behind), behind, changes) as site:
        for target, path in resolved.items():
            assert judged_and_sent(site, target) == (path, path), target


def test_absolute_form(site: Site) -> None:
    """A target with a host names that host and a path; both are judged, whatever `Host` says beside it."""
    assert site.ask("GET", "http://shop.example.com/orders?x", BOB).seen["target"] == "/orders?x"
    assert site.ask("GET", "http://shop.example.com/secret", BOB).status == 403
    assert site.ask("GET", "http://shop.example.com//orders", BOB).status == 400
    assert "this host" in site.ask("GET", "http://other.example.com/orders", BOB).message
    answer = site.ask("GET", "http://shop.example.com/orders", BOB, host="other.example.com")
    assert answer.header("Host") == "shop.example.com"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("SHOP.example.com", 200),
        ("shop.example.com:80", 200),
        ("shop.example.com:8001", 200),
        ("other.example.com", 403),
        ("shop.example.com.", 403),
        ("shop.example.com:", 403),
        ("shop.example.com@other.example.com", 400),
        ("shop.example.com/x", 400),
        ("[::1]", 403),
        ("", 403),
        (None, 400),
    ],
)
def test_hosts(site: Site, host: str | None, status: int) -> None:
    """Envoy serves this site to whatever host nobody else has; the policy is for the listed ones alone."""
    answer = site.ask("GET", "/orders", BOB, host=host)
    assert answer.status == status
    if status == 200:
        assert answer.header("Host") == host


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host"])
def test_two_hosts(site: Site, name: str) -> None:
    """No second word on the host makes a listed one of it."""
    assert site.ask("GET", "/orders", {**BOB, name: "shop.example.com"}, host="other.example.com").status == 403


def test_two_credentials(site: Site) -> None:
    """Envoy makes one field of two, which nobody is known by."""
    both = [*ALICE.items(), *BOB.items()]
    assert site.ask("GET", "/orders", both).status == 401
    assert site.ask("GET", "/secret", both[::-1]).status == 401


def test_cookies(site: Site) -> None:
    """The page gets them as they were sent."""
    assert site.ask("GET", "/orders", [*BOB.items(), ("Cookie", "a=1"), ("Cookie", "b=2")]).values("Cookie") == [
        "a=1",
        "b=2",
    ]


def test_impersonation(site: Site) -> None:
    """aggmw sees that somebody asks to be somebody else, and refuses it where nobody may."""
    assert "nobody can be impersonated here" in site.ask("GET", "/orders", {**BOB, "Impersonate-User": "alice"}).message


def test_bodies(site: Site) -> None:
    """A body reaches the page alone, however it comes."""
    assert site.ask("POST", "/orders", BOB, b"one more").seen["body"] == "one more"
    assert site.ask("POST", "/orders", BOB, b"x" * 3_000_000).seen["body"] == "x" * 3_000_000
    assert site.ask("POST", "/orders", ALICE, b"one more").status == 403
    assert site.ask("POST", "/secret", BOB, b"x" * 100_000).status == 403


def test_bodies_that_aggmw_gets_too(behind: Served, tmp_path: Path) -> None:
    """With `with_request_body` nothing else is decided, and the page still gets all of them."""
    changes = {
        "failure_mode_allow: false": "failure_mode_allow: false\n"
        "                      with_request_body: {max_request_bytes: 8192, allow_partial_message: true}"
    }
    with envoy(beside(tmp_path / "site", behind), behind, changes) as site:
        for body in (b"one more", b"x" * 300_000):
            assert site.ask("POST", "/orders", BOB, body).seen["body"] == body.decode()
            assert site.ask("POST", "/secret", BOB, body).status == 403
        assert site.ask("GET", "/orders", BOB).status == 200


def test_long_heads(site: Site) -> None:
    """As long as Envoy takes them; a longer one is refused."""
    for fields, more in (({"Cookie": "a=" + "b" * 50_000}, ""), ({}, "/" + "a" * 50_000)):
        assert site.ask("GET", f"/orders{more}", {**BOB, **fields}).seen["target"] == f"/orders{more}"
        assert site.ask("GET", f"/secret{more}", {**BOB, **fields}).status == 403
    assert site.ask("GET", "/orders", {**BOB, "Cookie": "b" * 70_000}).status == 431


def test_websocket(site: Site) -> None:
    """A handshake is judged as the GET that it is, and the page sees who opens it."""

    def opened(path: str, headers: dict[str, str], origin: Origin | None = None) -> dict[str, Any]:
        sock = socket.create_connection(("127.0.0.1", site.port))
        uri = f"ws://shop.example.com{path}"
        with connect(uri, sock=sock, additional_headers=headers, origin=origin, open_timeout=PATIENCE) as page:
            seen: dict[str, Any] = json.loads(page.recv(PATIENCE))
            return seen

    seen = opened("/orders", BOB)
    assert (seen["target"], seen["headers"]["x-auth-request-user"]) == ("/orders", "bob")
    assert (
        opened("/orders", BOB, origin=Origin("https://other.example.com"))["target"] == "/orders"
    )  # a token is no cookie
    for path, headers, status in (("/secret", BOB, 403), ("/orders", {}, 401)):
        with pytest.raises(InvalidStatus) as refused:
            opened(path, headers)
        assert refused.value.response.status_code == status


CERTIFICATES = {
    "        - filters:\n": """\
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates:
                  - {certificate_chain: {filename: state/server.crt}, private_key: {filename: state/server.key}}
                validation_context: {trusted_ca: {filename: state/client-ca.crt}}
          filters:
""",
    "stat_prefix: shop\n": """\
stat_prefix: shop
                forward_client_cert_details: SANITIZE_SET
                set_current_client_cert_details: {cert: true}
""",
    "- {exact: cookie}\n": "- {exact: cookie}\n                          - {exact: x-forwarded-client-cert}\n",
}
PASSED_ON = "clientCertificates: {terminators: {peers: [127.0.0.1], field: x-forwarded-client-cert}}"


def test_client_certificates(tmp_path: Path) -> None:
    """A client certificate that Envoy has seen is the caller's, as another page of the docs says.

    Browsers send it by themselves, so a page that opens a WebSocket by it has to be listed: what Envoy tells is enough
    for aggmw to know a browser.
    """
    changes = {"tokenFile: tokens.csv": f"tokenFile: tokens.csv\n  {PASSED_ON}"}
    with served(tmp_path, free_port(), changes) as behind, envoy(tmp_path, behind, CERTIFICATES) as site:
        admin = yaml.safe_load((tmp_path / "state" / "admin.kubeconfig").read_text())["users"][0]["user"]
        pem = base64.b64decode(admin["client-certificate-data"])
        (tmp_path / "admin.pem").write_bytes(pem + base64.b64decode(admin["client-key-data"]))
        nobody = ssl.create_default_context(cafile=tmp_path / "state" / "serving-ca.crt")
        somebody = ssl.create_default_context(cafile=tmp_path / "state" / "serving-ca.crt")
        somebody.load_cert_chain(tmp_path / "admin.pem")
        forged = {"Host": "shop.example.com", "X-Forwarded-Client-Cert": f'Cert="{quote(pem)}"'}
        page = {"Host": "shop.example.com", "Origin": "https://shop.example.com", "Connection": "Upgrade"}
        page |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        asked: list[tuple[ssl.SSLContext, dict[str, str], int]] = [
            (somebody, {"Host": "shop.example.com"}, 200),
            (nobody, forged, 401),
            (nobody, {**forged, "X.Forwarded.Client-Cert": forged["X-Forwarded-Client-Cert"]}, 401),
            (somebody, page, 101),
            (somebody, {**page, "User-Agent": "Mozilla/5.0"}, 403),
            (somebody, {**page, "Accept-Language": "en"}, 403),
            (somebody, {**page, "Origin": "https://other.example.com"}, 403),
        ]
        for context, headers, status in asked:
            connection = http.client.HTTPSConnection("localhost", site.port, context=context, timeout=PATIENCE)
            try:
                connection.request("GET", "/secret", headers=headers)
                assert connection.getresponse().status == status, headers
            finally:
                connection.close()


def test_http2(site: Site) -> None:
    """Over HTTP/2, too, where a browser sends each cookie apart."""
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=PATIENCE) as client:

        def ask(method: str, path: str, *fields: tuple[str, str], body: bytes = b"") -> httpx.Response:
            headers = [("Host", "shop.example.com"), *BOB.items(), *fields]
            return client.request(method, f"http://127.0.0.1:{site.port}{path}", headers=headers, content=body)

        answer = ask(
            "POST", "/orders?x", ("cookie", "a=1"), ("cookie", "b=2"), ("x-auth-request-user", "alice"), body=b"1"
        )
        assert answer.http_version == "HTTP/2"
        seen = answer.json()
        assert (seen["target"], seen["body"], seen["headers"]["cookie"]) == ("/orders?x", "1", "a=1; b=2")
        assert [value for name, value in seen["fields"] if name == "x-auth-request-user"] == ["bob"]
        assert ask("GET", "/secret").json()["message"] == 'forbidden: User "bob" cannot get path "/secret"'
        assert ask("GET", "/orders//1").status_code == 400
        assert ask("GET", "/orders", ("x-forwarded-host", "other.example.com")).status_code == 200


def test_pages_stay_closed_without_aggmw(behind: Served, tmp_path: Path) -> None:
    """An aggmw that cannot be reached, or has another certificate, opens nothing."""
    nobody = Served(behind.directory, behind.page_port, free_port(), behind.process)
    with envoy(beside(tmp_path / "nobody", behind), nobody) as site:
        assert site.ask("GET", "/orders", BOB).status == 503
    other = beside(tmp_path / "other", behind)
    (other / "state" / "serving-ca.crt").write_bytes(make_ca("another").certificate)
    with envoy(other, behind) as site:
        assert site.ask("GET", "/orders", BOB).status == 503


def test_pages_stay_closed_while_aggmw_is_silent(behind: Served, tmp_path: Path) -> None:
    """One that does not answer in time opens nothing; when it answers again, the page is open again."""
    with envoy(beside(tmp_path / "site", behind), behind, {TIMEOUT: "timeout: 0.5s"}) as site:
        behind.process.send_signal(signal.SIGSTOP)
        try:
            assert site.ask("GET", "/orders", BOB).status == 503
        finally:
            behind.process.send_signal(signal.SIGCONT)
        while (status := site.ask("GET", "/orders", BOB).status) != 200:
            assert status == 503
