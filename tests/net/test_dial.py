"""Dialling: what is verified, and what is said when it fails; never an address."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs
from tests.net.dialling import Peer

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.net.dial import dial
from aggmw.net.tls import ClientCertificatePair, upstream_context
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.testing import Hold, ScriptedBackend, Send, VirtualClock

NAME = "wardle.default.svc"


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


@pytest.fixture(scope="module")
def served(ca: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Callable[[KeyPair], ssl.SSLContext]:
    """The TLS context of a server with this certificate."""

    def context(pair: KeyPair, **options: Any) -> ssl.SSLContext:
        folder = tmp_path_factory.mktemp("server")
        (folder / "cert").write_bytes(pair.certificate)
        (folder / "key").write_bytes(pair.key)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(folder / "cert", folder / "key")
        for name, value in options.items():
            setattr(made, name, value)
        return made

    return context


def only_a_common_name(ca: KeyPair) -> KeyPair:
    """A server certificate as they were made long ago: a CN and no subject alternative name."""
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    signer = serialization.load_pem_private_key(ca.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(signer, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(made.public_bytes(serialization.Encoding.PEM), pem)


def trusting(ca: KeyPair, client: ClientCertificatePair | None = None, *, skip: bool = False) -> ssl.SSLContext:
    backend = Backend("v1.x", "127.0.0.1", 443, ca=ca.certificate, insecure_skip_tls_verify=skip)
    return upstream_context(backend, client and client.read())


async def reason(*arguments: Any, **options: Any) -> str:
    """Why dialling failed, as it is shown; the address is in the log and nowhere else."""
    with capture_logs() as logs, pytest.raises(UpstreamUnreachable) as caught:
        await dial(Peer, *arguments, **options)
    text = str(caught.value)
    assert [(entry["event"], entry["host"], entry["reason"]) for entry in logs] == [
        ("dialling failed", arguments[0], text)
    ]
    assert not any(character.isdigit() for character in text)
    return text


async def test_plain(ca: KeyPair) -> None:
    """A connection without TLS; what is small goes out at once, what is dead is noticed."""
    async with ScriptedBackend([Send(b"hi"), Hold()]) as backend:
        peer = await dial(Peer, backend.host, backend.port)
        assert await peer.received == b"hi"
        stream = peer.transport.get_extra_info("socket")
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        peer.transport.close()


async def test_secured(ca: KeyPair, served: Any, tmp_path: Path) -> None:
    """The name is sent and verified, HTTP/1.1 chosen, our certificate shown: whatever address is dialled."""
    front = issue_client(ca, "front-proxy")
    (tmp_path / "cert").write_bytes(front.certificate)
    (tmp_path / "key").write_bytes(front.key)
    context = served(issue_server(ca, "wardle", names=[NAME]))
    context.load_verify_locations(cadata=ca.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    ours = trusting(ca, ClientCertificatePair(tmp_path / "cert", tmp_path / "key"))
    async with ScriptedBackend([Send(b"hi"), Hold()], context) as backend:
        peer = await dial(Peer, backend.host, backend.port, context=ours, server_name=NAME)
        assert await peer.received == b"hi"
        assert peer.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        connection = backend.connections[0]
        assert connection.server_name == NAME
        assert connection.certificate == x509.load_pem_x509_certificate(front.certificate).public_bytes(
            serialization.Encoding.DER
        )
        peer.transport.abort()


@pytest.fixture(scope="module")
def wrong(ca: KeyPair) -> dict[str, tuple[KeyPair, str]]:
    return {
        "another CA": (issue_server(make_ca("others"), "wardle", names=[NAME]), "its certificate is not trusted"),
        "another name": (issue_server(ca, "wardle", names=["other.svc"]), "its certificate is for another name"),
        "only a CN": (only_a_common_name(ca), "its certificate is for another name"),
        "a client's": (issue_client(ca, NAME), "its certificate is not trusted"),
    }


@pytest.mark.parametrize("case", ["another CA", "another name", "only a CN", "a client's"])
async def test_wrong_certificates(case: str, wrong: Any, ca: KeyPair, served: Any) -> None:
    """A certificate of another CA, for another name, with a CN only, or of a client: nothing is sent."""
    pair, text = wrong[case]
    async with ScriptedBackend([Hold()], served(pair)) as backend:
        assert await reason(backend.host, backend.port, context=trusting(ca), server_name=NAME) == text
        peer = await dial(Peer, backend.host, backend.port, context=trusting(ca, skip=True), server_name=NAME)
        peer.transport.abort()


async def test_expired(ca: KeyPair, served: Any) -> None:
    """An expired certificate is called that."""
    past = issue_server(ca, "wardle", names=[NAME], lifetime=timedelta(minutes=-1))
    async with ScriptedBackend([Hold()], served(past)) as backend:
        text = await reason(backend.host, backend.port, context=trusting(ca), server_name=NAME)
        assert text == "its certificate expired"


async def test_no_tls(ca: KeyPair) -> None:
    """A server that speaks no TLS."""
    async with ScriptedBackend([Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Hold()]) as backend:
        text = await reason(backend.host, backend.port, context=trusting(ca), server_name=NAME)
        assert text == "the TLS handshake failed"


async def test_old_tls(ca: KeyPair, served: Any) -> None:
    """TLS 1.1 is not spoken."""
    context = served(issue_server(ca, "wardle", names=[NAME]))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with ScriptedBackend([Hold()], context) as backend:
        text = await reason(backend.host, backend.port, context=trusting(ca), server_name=NAME)
        assert text in ("the TLS handshake failed", "connection reset")


@pytest.mark.parametrize("name", [".example.com", "a" * 70, "bad\0name"])
async def test_names_that_tls_refuses(name: str, ca: KeyPair) -> None:
    """A server name that is none: no socket is opened for it."""
    async with ScriptedBackend([Hold()]) as backend:
        text = await reason(backend.host, backend.port, context=trusting(ca), server_name=name)
        assert text == "its name does not resolve"
    assert backend.connections == []


async def test_refused() -> None:
    """A port where nobody listens."""
    async with ScriptedBackend([Hold()]) as backend:
        await backend.close()
        assert await reason(backend.host, backend.port) == "connection refused"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Host names and their addresses; the others do not resolve."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(loop: Any, host: str, port: int, **options: Any) -> Any:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


async def test_unknown_names(names: Any) -> None:
    """A name that nobody knows."""
    assert await reason("nowhere.example", 443) == "its name does not resolve"


async def test_timing_out(ca: KeyPair, clock: VirtualClock) -> None:
    """Name, connection and handshake together have five seconds."""
    async with ScriptedBackend([Hold()]) as backend:
        dialling = asyncio.create_task(reason(backend.host, backend.port, context=trusting(ca), server_name=NAME))
        await backend.connected()
        await clock.advance(4)
        assert not dialling.done()
        await clock.advance(2)
        assert await dialling == "timed out connecting"
