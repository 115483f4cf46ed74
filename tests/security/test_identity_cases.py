"""What once made somebody else of a caller in systems like this one, each case by its name (C2, C3, C5)."""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.pki.certificates import NOW, authority, connection, leaf

from aggmw import APIService, Backend, FrontProxy, Identity
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.connection import Connection
from aggmw.middleware.authentication import (
    Anonymous,
    ClientCertificates,
    ForwardedCertificates,
    StaticTokens,
    TokenCookie,
)
from aggmw.pki.make import issue_client, make_ca
from aggmw.pki.read import pem_certificates
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

SOURCES = Path(__file__).parent.parent.parent / "src" / "aggmw"
API = "/apis/wardle.example.com/v1/flunders"
TOKENS = StaticTokens({"t0k": Identity("alice")})
BEARER = ("Authorization", "Bearer t0k")
CA = authority("clients")


class Asked:
    """Allows everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.attributes: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.attributes.append(attributes)
        return Verdict(Outcome.ALLOW)


async def forwarded(*fields: tuple[str, str]) -> tuple[ReceivedRequest, Attributes]:
    """What a backend got of alice's request with these fields, and what was decided on."""
    asked = Asked()
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as backend:
        upstream = Backend("v1.wardle.example.com", backend.host, backend.port, tls=False)
        services = [APIService("wardle.example.com", "v1", upstream)]
        async with FrontProxy(authentication=[TOKENS], authorization=asked, services=services) as proxy:
            response = await Client(proxy).request("GET", API, [BEARER, *fields])
            assert response.status == 200, response.text
        received = [ReceivedRequest.of(each) for each in backend.requests]
        (one,) = [each for each in received if each.header(b"x-remote-user") == b"alice"]
        return one, asked.attributes[-1]


INTERNAL = [
    ("X-Aggmw-Identity", base64.urlsafe_b64encode(json.dumps({"user": "root"}).encode()).decode()),
    ("X-Aggmw-Backend", "http://127.0.0.1:1"),
    ("X-Original-Url", "/apis/other/v1"),
    ("X-Original-Uri", "/apis/other/v1"),
    ("X-Rewrite-Url", "/apis/other/v1"),
    ("X-Envoy-Original-Path", "/apis/other/v1"),
    ("X-Forwarded-Uri", "/apis/other/v1"),
    ("X-Http-Method-Override", "DELETE"),
    ("X-Method-Override", "DELETE"),
]


@pytest.mark.parametrize(("name", "value"), INTERNAL, ids=[name for name, _ in INTERNAL])
async def test_cve_2023_27487_no_internal_header_is_read(name: str, value: str) -> None:
    """C2, CVE-2023-27487: no field from outside says who asks, for what, or where that is; ours never come in."""
    received, attributes = await forwarded((name, value))
    assert received.target == API.encode()
    assert received.method == "GET"
    assert received.values(b"x-remote-user") == [b"alice"]
    assert (attributes.identity.user, attributes.verb, attributes.resource) == ("alice", "list", "flunders")
    ours = ("X-Aggmw", "X-Forwarded")
    assert (value.encode() in received.values(name.lower())) is not name.startswith(ours)


@pytest.mark.parametrize("name", ["X-Forwarded-Prefix", "x_forwarded_prefix", "X.Forwarded.Prefix", "Forwarded"])
async def test_cve_2026_35051_where_it_came_from_is_not_taken_over(name: str) -> None:
    """C2, CVE-2026-35051: whatever a client says of hops before it does not arrive, in any spelling."""
    received, _ = await forwarded((name, "/admin"))
    assert b"/admin" not in b"\n".join(value for _, value in received.headers)


@pytest.mark.parametrize("host", ["x/healthz", "x/healthz?", "x/healthz#", "healthz", "x:80/healthz", "@x/healthz"])
async def test_cve_2026_48710_host_says_nothing_of_the_path(host: str) -> None:
    """C2, CVE-2026-48710: what stands in `Host` lets nobody in as an anonymous caller of another path."""
    asked = Asked()
    proxy = FrontProxy(authentication=[TOKENS], anonymous=Anonymous(paths=["/healthz"]), authorization=asked)
    response = await Client(proxy).request("GET", "/apis/x/v1/secrets", [("Host", host)])
    assert response.status in (400, 401)
    assert asked.attributes == []


def test_cve_2026_48710_no_path_is_made_of_host() -> None:
    """C2, CVE-2026-48710: nothing of ours reads Starlette's `request.url`, which is made of `Host`."""
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("url", "base_url") and _is_a_request(node.value)
    ]
    assert found == []


def _is_a_request(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("request", "websocket", "conn", "connection")


@pytest.mark.parametrize("key", ["access_token", "token", "id_token", "authorization", "api_key", "bearer", "t0k"])
@pytest.mark.parametrize("path", [API, "/anything"])
async def test_c3_no_token_in_the_url(path: str, key: str) -> None:
    """C3, §12.5: a query is logged by everybody on its way, so a token in it is nobody's, for every authenticator."""
    asked = Asked()
    authenticators = [TOKENS, TokenCookie("session", TOKENS)]
    proxy = FrontProxy(authentication=authenticators, authorization=asked)
    for query in (f"{key}=t0k", f"{key}=Bearer%20t0k", f"a=b&{key}=t0k"):
        assert (await Client(proxy).request("GET", f"{path}?{query}")).status == 401
    assert asked.attributes == []


def scoped(app: Any, **changed: Any) -> Any:
    """An application under a server that says this of each request."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **changed}, receive, send)

    return server


@pytest.mark.parametrize("client", [("10.0.0.7", 4711), ("10.0.0.7", "4711"), ("::ffff:10.0.0.7", 1), None])
async def test_c5_5_what_a_server_says_of_the_client_does_not_count(client: Any) -> None:
    """C5.5: `scope["client"]` may come from `X-Forwarded-For`: only the peer of our own socket makes a terminator."""
    users = make_ca("users")
    (alice,) = pem_certificates(issue_client(users, "alice").certificate)
    by = ForwardedCertificates(users.certificate, peers=["10.0.0.0/24"])
    proxy = FrontProxy(authentication=[by], authorization=Asked())
    field = ("Client-Cert", f":{base64.b64encode(alice).decode()}:")
    for fields in ([field], [field, ("X-Forwarded-For", "10.0.0.7"), ("Forwarded", "for=10.0.0.7")]):
        server = scoped(proxy, client=client)
        assert (await Client(server).request("GET", "/x", fields)).status == 401
        elsewhere = Connection(("192.0.2.1", 1), trailers_apart=True)
        assert (await Client(server, connection=elsewhere).request("GET", "/x", fields)).status == 401
    here = Connection(("10.0.0.7", 1), trailers_apart=True)
    assert (await Client(proxy, connection=here).request("GET", "/x", [field])).status == 404


VERIFIED: list[Mapping[str, Any]] = [
    {"client_cert_name": "CN=alice", "client_cert_chain": ["-----BEGIN CERTIFICATE-----"], "client_cert_error": None},
    {"client_cert_chain": [leaf(CA).pem.decode()]},
    {"verified": True, "subject": "CN=alice"},
]


@pytest.mark.parametrize("extension", VERIFIED, ids=["name", "chain", "verified"])
async def test_c2_that_a_server_has_verified_is_not_enough(extension: Mapping[str, Any]) -> None:
    """C2: a server that says it had verified a client may have been told not to: the chain itself is looked at."""
    by = ClientCertificates(CA.pem, clock=NOW.timestamp)
    proxy = FrontProxy(authentication=[by], authorization=Asked())
    server = scoped(proxy, extensions={"tls": extension}, state={"aggmw.connection": {"chain": [leaf(CA).der, CA.der]}})
    assert (await Client(server).request("GET", "/x")).status == 401
    shown = connection(leaf(CA), CA)
    assert (await Client(proxy, connection=shown).request("GET", "/x")).status == 404


async def test_c2_nothing_is_left_in_what_requests_share() -> None:
    """C2: some servers give all requests one `extensions` and one `state`: no request finds in them who another was."""
    extensions: dict[str, Any] = {"tls": {}}
    state: dict[str, Any] = {}
    proxy = FrontProxy(authentication=[TOKENS], authorization=Asked())
    server = scoped(proxy, extensions=extensions, state=state)
    assert (await Client(server).request("GET", "/x", [BEARER])).status == 404
    assert (extensions, state) == ({"tls": {}}, {})
    assert (await Client(server).request("GET", "/x")).status == 401
