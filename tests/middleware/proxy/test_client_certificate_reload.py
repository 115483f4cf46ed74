"""The front proxy's certificate is read again while it runs (kube-aggregator: TestProxyCertReload)."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.middleware.proxy.proxying import GET, backend_of, whole

from aggmw.contracts.backends import Backend
from aggmw.errors import ConfigurationError, UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport, TransportLimits
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.testing import ReadHead, ScriptedBackend, Send, Wait, respond

NAME = "wardle.default.svc"
ANSWER = respond(body=b"hello")


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


@pytest.fixture
def pair(ca: KeyPair, tmp_path: Path) -> ClientCertificatePair:
    pair = ClientCertificatePair(tmp_path / "front-proxy.crt", tmp_path / "front-proxy.key")
    install(issue_client(ca, "front-proxy"), pair)
    return pair


@pytest.fixture
def secure(ca: KeyPair, tmp_path: Path) -> ssl.SSLContext:
    """A server that asks for our certificate."""
    made = issue_server(ca, "wardle", names=[NAME])
    (tmp_path / "server.crt").write_bytes(made.certificate)
    (tmp_path / "server.key").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    context.load_verify_locations(cadata=ca.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def install(made: KeyPair, pair: ClientCertificatePair) -> bytes:
    """Put a certificate into the files; gives it as a server sees it."""
    pair.certificate.write_bytes(made.certificate)
    pair.key.write_bytes(made.key)
    return der(made)


def der(made: KeyPair) -> bytes:
    return x509.load_pem_x509_certificate(made.certificate).public_bytes(Encoding.DER)


def secured(scripted: ScriptedBackend, ca: KeyPair, **changed: Any) -> Backend:
    return backend_of(scripted, tls=True, server_name=NAME, ca=ca.certificate, **changed)


async def seen(transport: Http1Transport, scripted: ScriptedBackend, backend: Backend) -> bytes | None:
    """What the server saw on the newest connection, after another request."""
    assert await whole(await transport.send(backend, GET)) == b"hello"
    return scripted.connections[-1].certificate


async def test_new_connections_show_it(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """Files count once they are read again; then no request is sent on a connection that was made with the old ones."""
    transport = Http1Transport(client_certificate=pair)
    async with ScriptedBackend(lambda request: ANSWER, secure) as scripted:
        backend = secured(scripted, ca)
        old = der(KeyPair(pair.certificate.read_bytes(), b""))
        assert await seen(transport, scripted, backend) == old
        new = install(issue_client(ca, "front-proxy"), pair)
        assert await seen(transport, scripted, backend) == old
        assert await seen(transport, scripted, secured(scripted, ca, insecure_skip_tls_verify=True)) == old
        transport.reload()
        assert await seen(transport, scripted, backend) == new
        assert await seen(transport, scripted, secured(scripted, ca, insecure_skip_tls_verify=True)) == new
        await scripted.connections[0].gone()
        assert len(scripted.connections) == 4
        await transport.aclose()


async def test_what_runs_is_not_disturbed(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """An exchange that runs ends as it would have; its connection is not kept, and neither is one that was just being
    made with the old certificate."""
    more = asyncio.Event()
    script = [ReadHead(), respond(headers={"Content-Length": "6"}, body=b"one"), Wait(more), Send(b"two"), Wait(more)]
    transport = Http1Transport(client_certificate=pair)
    async with ScriptedBackend(script, secure) as scripted:
        backend = secured(scripted, ca)
        response = await transport.send(backend, replace(GET, long_running=True, timeout=None))
        dialling = asyncio.create_task(transport.send(backend, GET))
        await asyncio.sleep(0)
        install(issue_client(ca, "front-proxy"), pair)
        transport.reload()
        more.set()
        assert await whole(response) == b"onetwo"
        assert await whole(await dialling) == b"onetwo"
        assert transport.statistics[0].idle == 0
        await transport.aclose()


async def test_a_bad_pair_changes_nothing(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """A pair that does not fit or cannot be read: told why. The old one stays in use, for backends that nobody asked
    before, too, and kept connections are kept."""
    transport = Http1Transport(client_certificate=pair)
    async with ScriptedBackend(lambda request: ANSWER, secure) as scripted:
        old = await seen(transport, scripted, secured(scripted, ca))
        pair.key.write_bytes(issue_client(ca, "other").key)
        with pytest.raises(ConfigurationError, match=r"front-proxy\.key: does not belong to the certificate in"):
            transport.reload()
        pair.certificate.unlink()
        with pytest.raises(ConfigurationError, match=r"front-proxy\.crt: cannot be read"):
            transport.reload()
        assert await seen(transport, scripted, secured(scripted, ca)) == old
        assert len(scripted.connections) == 1
        assert await seen(transport, scripted, secured(scripted, ca, insecure_skip_tls_verify=True)) == old
        await transport.aclose()


async def test_nothing_new_changes_nothing(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """To read the same files again closes no connection; nor does it where nothing is shown."""
    for transport in (Http1Transport(client_certificate=pair), Http1Transport()):
        secure.verify_mode = ssl.CERT_OPTIONAL
        async with ScriptedBackend(lambda request: ANSWER, secure) as scripted:
            await seen(transport, scripted, secured(scripted, ca))
            transport.reload()
            await seen(transport, scripted, secured(scripted, ca))
            assert len(scripted.connections) == 1
            await transport.aclose()


async def test_plain_connections_are_kept(ca: KeyPair, pair: ClientCertificatePair) -> None:
    """Nothing was shown on them."""
    transport = Http1Transport(client_certificate=pair)
    async with ScriptedBackend(lambda request: ANSWER) as scripted:
        transport.reload()
        for _ in range(2):
            await whole(await transport.send(backend_of(scripted), GET))
            install(issue_client(ca, "front-proxy"), pair)
            transport.reload()
        assert len(scripted.connections) == 1
        await transport.aclose()


async def test_one_that_never_could_be_read(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """It is our fault, in safe words, frees its slot, and is over when the files are good."""
    transport = Http1Transport(client_certificate=pair, limits=TransportLimits(connections=1))
    key = pair.key.read_bytes()
    pair.key.unlink()
    async with ScriptedBackend(lambda request: ANSWER, secure) as scripted:
        for _ in range(2):
            with pytest.raises(UpstreamUnreachable) as caught:
                await transport.send(secured(scripted, ca), GET)
            assert str(caught.value) == "the front proxy's own certificate cannot be used"
        pair.key.write_bytes(key)
        assert await seen(transport, scripted, secured(scripted, ca)) is not None
        await transport.aclose()


def test_other_loops_follow(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """Where nothing runs the transport is told all the same; loops that are over are no trouble."""
    transport = Http1Transport(client_certificate=pair)

    async def once() -> bytes | None:
        async with ScriptedBackend(lambda request: ANSWER, secure) as scripted:
            certificate = await seen(transport, scripted, secured(scripted, ca))
            return certificate

    with asyncio.Runner() as runner:
        runner.run(once())
        runner.run(told(transport))
        new = install(issue_client(ca, "front-proxy"), pair)
        transport.reload()
        assert runner.run(once()) == new
        runner.run(transport.aclose())
    install(issue_client(ca, "front-proxy"), pair)
    transport.reload()


async def told(transport: Http1Transport) -> None:
    transport.reload()


async def test_sessions_are_not_resumed(ca: KeyPair, pair: ClientCertificatePair, secure: ssl.SSLContext) -> None:
    """Each connection begins with a full handshake: OpenSSL would not verify the certificate again."""
    transport = Http1Transport(client_certificate=pair)
    reused = []

    def answer(request: bytes) -> bytes:
        reused.append(scripted.connections[-1]._tls().session_reused)  # type: ignore[union-attr]
        return respond(headers={"Connection": "close"}, body=b"hello")

    async with ScriptedBackend(answer, secure) as scripted:
        for _ in range(3):
            await seen(transport, scripted, secured(scripted, ca))
        await transport.aclose()
    assert reused == [False] * 3
