"""`authorization.forwardAuth`: from a configuration to what answers other proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.config.again import read_again

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.pki.read import pem_certificates
from aggmw.testing import Client

CLIENTS, EDGE = make_ca("clients"), make_ca("edge")
QUESTION = {"X-Original-Method": "GET", "X-Original-URI": "/page", "Authorization": "Bearer token"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with credentials, and alice, who may get everything."""
    for name, ca in (("clients", CLIENTS), ("edge", EDGE)):
        (tmp_path / f"{name}.crt").write_bytes(ca.certificate)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text("p2, user:alice, get, /*\n")
    pair = issue_client(CLIENTS, "front-proxy")
    (tmp_path / "proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "proxy.key").write_bytes(pair.key)
    return tmp_path


def composed(place: Path, *entries: str) -> Composed:
    """A front proxy with these entries of `forwardAuth`."""
    listed = "".join(f"    - {entry}\n" for entry in entries)
    (place / "aggmw.yaml").write_text(
        f"authentication: {{tokenFile: tokens.csv}}\nauthorization:\n  policy: policy.csv\n  forwardAuth:\n{listed}"
    )
    pair = ClientCertificatePair(place / "proxy.crt", place / "proxy.key")
    return compose(load(place / "aggmw.yaml"), Credentials(place / "clients.crt", pair), Drain())


def mistakes(place: Path, *entries: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        composed(place, *entries)
    lines = str(caught.value).replace(f"{place}/", "").splitlines()
    return [line.replace("aggmw.yaml: authorization.forwardAuth", "") for line in lines]


def shows(certificate: bytes, ca: bytes) -> Connection:
    chain = (*pem_certificates(certificate), *pem_certificates(ca))
    return Connection(("192.0.2.1", 1), tls=True, chain=chain, trailers_apart=True)


async def test_peers_and_hosts(place: Path) -> None:
    """Each entry answers at its path, in its words, whom it lists, for its hosts."""
    found = composed(
        place,
        "{path: /auth/nginx, proxy: nginx, peers: [192.0.2.0/24], hosts: [shop.test]}",
        "{path: /auth/envoy, proxy: envoy, peers: [192.0.2.1]}",
    )
    client = Client(found.front_proxy, connection=Connection(("192.0.2.1", 1), trailers_apart=True))
    async with found.front_proxy:
        answers = [
            await client.request("GET", "/auth/nginx", {**QUESTION, "Host": "shop.test"}),
            await client.request("GET", "/auth/nginx", {**QUESTION, "Host": "other.test"}),
            await client.request("GET", "/auth/envoy/page", QUESTION),
            await client.request("POST", "/auth/envoy/page", QUESTION),
        ]
    assert [answer.status for answer in answers] == [200, 403, 200, 403]
    assert found.client_ca == (place / "clients.crt",)


async def test_certificates(place: Path) -> None:
    """The door takes certificates of that CA, and the CA is read again while running."""
    found = composed(place, "{path: /auth, proxy: nginx, ca: edge.crt, allowedNames: [edge]}")
    assert found.client_ca == (place / "clients.crt", place / "edge.crt")
    edge = issue_client(EDGE, "edge").certificate
    connections = {
        "edge": shows(edge, EDGE.certificate),
        "another name": shows(issue_client(EDGE, "other").certificate, EDGE.certificate),
        "a client": shows(issue_client(CLIENTS, "edge").certificate, CLIENTS.certificate),
        "nobody": Connection(("192.0.2.1", 1), trailers_apart=True),
    }
    async with found.front_proxy:
        for name, connection in connections.items():
            answer = await Client(found.front_proxy, connection=connection).request("GET", "/auth", QUESTION)
            assert answer.status == (200 if name == "edge" else 403), name
        (place / "edge.crt").write_text("nothing")
        with pytest.raises(ConfigurationError, match=r"edge\.crt"):
            await read_again(found, "CA of /auth")
        (place / "edge.crt").write_bytes(make_ca("edge").certificate)
        await read_again(found, "CA of /auth")
        client = Client(found.front_proxy, connection=connections["edge"])
        assert (await client.request("GET", "/auth", QUESTION)).status == 403


def test_mistakes(place: Path) -> None:
    """All at once, each with its place."""
    assert mistakes(
        place,
        "{path: /a, proxy: nginx}",
        "{path: a/, proxy: caddy, peers: [host]}",
        "{proxy: nginx, peers: [10.0.0.7], allowedNames: [x], hosts: ['http://x']}",
        "{path: /b, proxy: nginx, peers: [10.0.0.7]}",
        "{path: /b, proxy: envoy, peers: [10.0.0.7], kind: envoy}",
        "{path: /c, peers: [10.0.0.7]}",
    ) == [
        "[0].peers: is missing, or ca: nobody may ask unless it is said who",
        "[1].path: 'a/' must begin and not end with a slash, and need no escapes",
        "[1].proxy: must be one of nginx, traefik, envoy, not 'caddy'",
        "[1].peers[0]: 'host' does not appear to be an IPv4 or IPv6 network",
        "[2].allowedNames: needs ca beside it",
        "[2].path: is missing",
        "[2].hosts[0]: 'http://x' must be a host, or host:port, as in the Host field of a request",
        "[4].path: is that of [3] already",
        "[4].kind: is not a known key; known here: allowedNames, ca, hosts, path, peers, proxy",
        "[5].proxy: is missing",
    ]


def test_ca_that_signs_clients_needs_names(place: Path) -> None:
    """Otherwise every client could ask what the others may do."""
    assert mistakes(
        place,
        "{path: /a, proxy: nginx, ca: clients.crt}",
        "{path: /b, proxy: nginx, ca: nowhere.crt}",
    ) == [
        "[0].allowedNames: is needed: the CA also signs client certificates, so without names of proxies every client"
        " could ask what others may do",
        "nowhere.crt: cannot be read: No such file or directory",
    ]
    assert composed(place, "{path: /a, proxy: nginx, ca: clients.crt, allowedNames: [edge]}")
