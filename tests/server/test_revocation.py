"""Clients that are cut off while the server runs: on open connections, on new ones, and with resumed sessions."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.pki.certificates import Certificate, revocations
from tests.server.test_tls_door import client

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, make_ca
from aggmw.server.tls import DoorTLS

STREAM = b"GET /apis/wardle.example.com/v1/flunders?watch=true HTTP/1.1\r\nHost: x\r\n\r\n"
WEBSOCKET = (
    b"GET /apis/wardle.example.com/v1/namespaces/a/flunders/b/attach HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING, PONG = b"\x89\x80\x00\x00\x00\x00", b"\x8a\x00"
CLOSED = b"\x88\x26\x03\xf0the credential is no longer believed"
"""A close frame with the code 1008 and the reason."""

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CONFIG = """
authentication: {clientCA: more.crt, clientCertificates: {crls: [revoked.crl]}}
authorization: {policy: policy.csv}
services:
  local: [{group: wardle.example.com, version: v1, app: "streams:app"}]
"""
STREAMS = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "begun"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while not (await receive())["type"].endswith("disconnect"):
        pass
"""


def list_of(ca: KeyPair, *revoked: KeyPair) -> bytes:
    """A revocation list of this authority."""
    signer = Certificate.__new__(Certificate)
    signer.key = load_pem_private_key(ca.key, None)  # type: ignore[assignment]  # of an elliptic curve
    signer.name = x509.load_pem_x509_certificate(ca.certificate).subject
    found = []
    for pair in revoked:
        one = Certificate.__new__(Certificate)
        one.x509 = x509.load_pem_x509_certificate(pair.certificate)
        found.append(one)
    return revocations(signer, *found)


class Site:
    """A configured front proxy behind the door, and what is on disk."""

    def __init__(self, place: Path, certificate: tuple[Path, Path]) -> None:
        self.place = place
        self.own, self.more = make_ca("own"), make_ca("more")
        (place / "own.crt").write_bytes(self.own.certificate)
        (place / "more.crt").write_bytes(self.more.certificate)
        (place / "revoked.crl").write_bytes(list_of(self.own))
        (place / "policy.csv").write_text("p2, user:alice, get, /*\np, user:alice, *, *, *, *, *\n")
        (place / "streams.py").write_text(STREAMS)
        (place / "aggmw.yaml").write_text(CONFIG)
        front = issue_client(self.own, "front-proxy")
        (place / "front.crt").write_bytes(front.certificate)
        (place / "front.key").write_bytes(front.key)
        pair = ClientCertificatePair(place / "front.crt", place / "front.key")
        self.composed: Composed = compose(load(place / "aggmw.yaml"), Credentials(place / "own.crt", pair), Drain())
        self.tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=self.composed.client_ca)

    def reload(self) -> None:
        """What SIGHUP does."""
        self.tls.reload()
        asyncio.run(self._read_again())

    async def _read_again(self) -> None:
        for reload in self.composed.reloads.values():
            result = reload()
            if isawaitable(result):
                await result


@pytest.fixture
def site(tmp_path: Path, certificate: tuple[Path, Path]) -> Site:
    return Site(tmp_path, certificate)


def answered(wire: Any) -> int:
    wire.send(GET)
    status: int = wire.response()[0]
    return status


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("how", ["revoked", "authority removed"])
def test_cut_off(
    serve: Callable[..., Any],
    loop: str,
    authority: KeyPair,
    tmp_path: Path,
    site: Site,
    how: str,
    version: ssl.TLSVersion,
) -> None:
    """C5.4: who is on a new list, or whose authority is gone, is refused on the next request of an open connection."""
    ca = site.own if how == "revoked" else site.more
    alice, again = issue_client(ca, "alice"), issue_client(site.own, "alice")
    served = serve(site.composed.front_proxy, loop=loop, tls=site.tls, lifespan=False)
    wire = served.connect(client(authority, tmp_path, alice, version=version))
    assert answered(wire) == 200
    if how == "revoked":
        (tmp_path / "revoked.crl").write_bytes(list_of(site.own, alice))
    else:
        (tmp_path / "more.crt").write_bytes(site.own.certificate)
    assert answered(wire) == 200  # not yet: nobody said so
    site.reload()
    assert answered(wire) == 401
    assert answered(wire) == 401
    other = served.connect(client(authority, tmp_path, again, version=version))
    assert answered(other) == 200
    if how == "revoked":
        anew = served.connect(client(authority, tmp_path, alice, version=version))
        assert answered(anew) == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumed_session(
    serve: Callable[..., Any],
    loop: str,
    authority: KeyPair,
    tmp_path: Path,
    site: Site,
    version: ssl.TLSVersion,
) -> None:
    """http-facts 6: a session from before gets nobody in: there is none to resume, so the certificate is looked at."""
    alice = issue_client(site.own, "alice")
    served = serve(site.composed.front_proxy, loop=loop, tls=site.tls, lifespan=False)
    context = client(authority, tmp_path, alice, version=version)

    def ask(session: ssl.SSLSession | None) -> tuple[bytes, bool | None, ssl.SSLSession | None]:
        raw = socket.create_connection(("127.0.0.1", served.port))
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as wire:
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head = b""
            while chunk := wire.recv(65_536):
                head += chunk
            return head.split(b" ")[1], wire.session_reused, wire.session

    status, _, session = ask(None)
    assert status == b"200"
    (tmp_path / "revoked.crl").write_bytes(list_of(site.own, alice))
    site.reload()
    for before in (session, None):
        status, reused, _ = ask(before)
        assert (status, reused) == (b"401", False)


@pytest.mark.parametrize("how", ["revoked", "authority removed"])
def test_c5_4_what_is_going_on_ends(
    serve: Callable[..., Any], loop: str, authority: KeyPair, tmp_path: Path, site: Site, how: str
) -> None:
    """C5.4: watches and WebSockets that somebody has open who is cut off end at once, and nobody else's."""
    ca = site.own if how == "revoked" else site.more
    alice, other = issue_client(ca, "alice"), issue_client(site.own, "alice")
    served = serve(site.composed.front_proxy, loop=loop, tls=site.tls, lifespan=False)
    served.server.reloads.update(site.composed.reloads)
    wires = [served.connect(client(authority, tmp_path, pair)) for pair in (alice, alice, other)]
    for wire, request in zip(wires, [STREAM, WEBSOCKET, WEBSOCKET], strict=True):
        wire.send(request)
        wire.until(b"begun")
    if how == "revoked":
        (tmp_path / "revoked.crl").write_bytes(list_of(site.own, alice))
    else:
        (tmp_path / "more.crt").write_bytes(site.own.certificate)
    served.server._on_loop(served.server.reload)  # what SIGHUP does
    watch, websocket, stays = wires
    assert watch.until(b"0\r\n\r\n")
    assert websocket.until(CLOSED)
    stays.send(PING)
    assert stays.until(PONG)


def test_broken_list_changes_nothing(
    serve: Callable[..., Any], loop: str, authority: KeyPair, tmp_path: Path, site: Site
) -> None:
    """A list that cannot be read, or of another authority, is an error with its path, and the last ones stay."""
    alice, bob = issue_client(site.own, "alice"), issue_client(site.own, "alice")
    served = serve(site.composed.front_proxy, loop=loop, tls=site.tls, lifespan=False)
    (tmp_path / "revoked.crl").write_bytes(list_of(site.own, bob))
    site.reload()
    for broken in (b"nonsense", list_of(make_ca("own"), alice)):
        (tmp_path / "revoked.crl").write_bytes(broken)
        with pytest.raises(Exception, match=f"{tmp_path / 'revoked.crl'}: "):
            site.reload()
    assert answered(served.connect(client(authority, tmp_path, alice))) == 200
    assert answered(served.connect(client(authority, tmp_path, bob))) == 401
