"""TLS at the door: who signed a client's certificate, no resumption, reloading."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.errors import ConfigurationError
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.server.tls import DoorTLS

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def users() -> KeyPair:
    return make_ca("users")


@pytest.fixture(scope="module")
def fronts() -> KeyPair:
    return make_ca("fronts")


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")


def intermediate(root: KeyPair) -> KeyPair:
    """An authority signed by another."""
    issuer = x509.load_pem_x509_certificate(root.certificate)
    signer = serialization.load_pem_private_key(root.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "between")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return KeyPair(
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def client(
    authority: KeyPair,
    directory: Path,
    pair: KeyPair | None = None,
    *,
    extra: bytes = b"",
    version: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """A client that shows `pair`, with `extra` certificates behind it."""
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if pair is not None:
        path = directory / "client.pem"
        path.write_bytes(pair.certificate + extra + pair.key)
        context.load_cert_chain(path)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def telling(log: Any) -> Any:
    """Hands out the connection of each request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log(scope["state"]["aggmw.connection"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_two_authorities(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    fronts: KeyPair,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    """http-facts §6: on one listener the chain's last certificate, not the name, says which authority signed."""
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate, fronts.certificate])
    served = serve(telling(log), loop=loop, tls=tls)
    for signer in (users, fronts):
        pair = issue_client(signer, "front-proxy-client")
        wire = served.connect(client(authority, tmp_path, pair, version=version))
        wire.send(GET)
        assert wire.response()[0] == 200
        connection = log.next()
        assert connection.chain == (der(pair.certificate), der(signer.certificate))
        assert (connection.tls, connection.peer) == (True, wire.sock.getsockname())
        wire.send(GET)
        assert log.next() is connection


def test_intermediate(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
) -> None:
    """A certificate signed by an intermediate, which the client sends along, leads to the root."""
    between = intermediate(users)
    pair = issue_client(between, "alice")
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    wire = serve(telling(log), loop=loop, tls=tls).connect(client(authority, tmp_path, pair, extra=between.certificate))
    wire.send(GET)
    assert log.next().chain == (der(pair.certificate), der(between.certificate), der(users.certificate))


def test_stranger(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
) -> None:
    """Contract §6.3: a certificate of an unknown authority ends in a TLS alert."""
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    served = serve(telling(log), loop=loop, tls=tls)
    context = client(authority, tmp_path, issue_client(make_ca("users"), "alice"), version=TLS_1_2)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        served.connect(context)
    assert log.empty()


@pytest.mark.parametrize("authorities", [0, 1])
def test_no_certificate(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
    authorities: int,
) -> None:
    """Who shows none is let in as nobody."""
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate] * authorities)
    wire = serve(telling(log), loop=loop, tls=tls).connect(client(authority, tmp_path))
    wire.send(GET)
    assert log.next().chain == ()


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_no_resumption(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    """C5 4: no session is ever resumed, by ticket or by id; the second connection is verified like the first."""
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    served = serve(telling(log), loop=loop, tls=tls)
    pair = issue_client(users, "alice")
    context = client(authority, tmp_path, pair, version=version)
    first = served.connect(context)
    first.send(GET)
    assert first.response()[0] == 200
    session = first.sock.session
    assert session is None or not session.has_ticket
    first.close()
    second = served.connect(context, session=session)
    assert not second.sock.session_reused
    second.send(GET)
    assert second.response()[0] == 200
    assert log.next().chain == log.next().chain != ()


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_revoked_and_resumed(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    fronts: KeyPair,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    """C5 4: after its authority was taken out, a client does not come back in by an old session."""
    tls = DoorTLS(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    served = serve(telling(log), loop=loop, tls=tls)
    context = client(authority, tmp_path, issue_client(users, "alice"), version=version)
    first = served.connect(context)
    first.send(GET)
    assert first.response()[0] == 200
    assert log.next().chain
    tls.reload(client_ca=[fronts.certificate])
    try:
        second = served.connect(context, session=first.sock.session)
        second.send(GET)
        second.response()
    except (ssl.SSLError, ConnectionResetError, AssertionError):
        pass
    assert log.empty() or log.next().chain == ()


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_resumed_at_a_foreign_context(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    """C5 4: where another context does resume sessions, the certificate of a resumed one counts as none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(cadata=users.certificate.decode())
    context.verify_mode = ssl.CERT_OPTIONAL

    class Foreign(DoorTLS):
        @property
        def context(self) -> ssl.SSLContext:
            return context

    served = serve(telling(log), loop=loop, tls=Foreign(certificate=certificate[0], key=certificate[1]))
    mine = client(authority, tmp_path, issue_client(users, "alice"), version=version)
    first = served.connect(mine)
    first.send(GET)
    assert first.response()[0] == 200
    assert log.next().chain
    second = served.connect(mine, session=first.sock.session)
    assert second.sock.session_reused
    second.send(GET)
    assert second.response()[0] == 200
    assert log.next().chain == ()


def test_hello_retry(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    certificate: tuple[Path, Path],
    authority: KeyPair,
    users: KeyPair,
    tmp_path: Path,
) -> None:
    """A client that has to begin its handshake anew (another group) is verified like any other."""

    class Choosy(DoorTLS):
        def enter(self) -> ssl.SSLContext:
            context = super().enter()
            context.set_ecdh_curve("secp521r1")
            return context

    tls = Choosy(certificate=certificate[0], key=certificate[1], client_ca=[users.certificate])
    served = serve(telling(log), loop=loop, tls=tls)
    context = client(authority, tmp_path, issue_client(users, "alice"), version=TLS_1_3)
    for _ in range(10):
        wire = served.connect(context)
        wire.send(GET)
        assert wire.response()[0] == 200
        assert log.next().chain[-1] == der(users.certificate)
        wire.close()


@pytest.mark.parametrize("sni", [True, False])
def test_reload(
    serve: Callable[..., Any],
    log: Any,
    loop: str,
    authority: KeyPair,
    users: KeyPair,
    fronts: KeyPair,
    tmp_path: Path,
    sni: bool,
) -> None:
    """http-facts §6: after a reload new connections meet the new certificate and authorities, with SNI and without."""
    files = {name: tmp_path / name for name in ("crt", "key", "ca")}

    def write(ca: KeyPair, name: str) -> bytes:
        pair = issue_server(authority, name, names=["localhost"])
        files["crt"].write_bytes(pair.certificate)
        files["key"].write_bytes(pair.key)
        files["ca"].write_bytes(ca.certificate)
        return der(pair.certificate)

    before = write(users, "before")
    tls = DoorTLS(certificate=files["crt"], key=files["key"], client_ca=[files["ca"]])
    served = serve(telling(log), loop=loop, tls=tls)
    alice = client(authority, tmp_path, issue_client(users, "alice"), version=TLS_1_2)
    front = client(authority, tmp_path, issue_client(fronts, "front"), version=TLS_1_2)
    for context in (alice, front):
        context.check_hostname = False

    def shown(context: ssl.SSLContext) -> Any:
        wire = served.connect(context, server_hostname="localhost" if sni else None)
        return wire.sock.getpeercert(True)

    assert shown(alice) == before
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        shown(front)
    after = write(fronts, "after")
    assert shown(alice) == before
    tls.reload()
    assert shown(front) == after
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        shown(alice)


def test_broken_reload(certificate: tuple[Path, Path], users: KeyPair, tmp_path: Path) -> None:
    """A file that cannot be used on reload is named, and everything stays as it was."""
    files = (tmp_path / "crt", tmp_path / "key", tmp_path / "ca")
    for path, data in zip(
        files, (certificate[0].read_bytes(), certificate[1].read_bytes(), users.certificate), strict=True
    ):
        path.write_bytes(data)
    tls = DoorTLS(certificate=files[0], key=files[1], client_ca=[files[2]])
    newest = tls.newest
    files[2].write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError) as caught:
        tls.reload()
    assert str(caught.value) == f"{files[2]}: is not a bundle of certificates in PEM"
    assert tls.newest is newest
    with pytest.raises(ConfigurationError):
        tls.reload(client_ca=[b""])
    files[2].write_bytes(users.certificate)
    tls.reload()
    assert tls.newest is not newest


def test_broken_files(certificate: tuple[Path, Path], authority: KeyPair, tmp_path: Path) -> None:
    """Every mistake is one line with its path first, and all of them come at once."""
    crt, key = tmp_path / "crt", tmp_path / "key"
    pair = issue_server(authority, "x", names=["x"])

    def problems(**options: Any) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            DoorTLS(**{"certificate": crt, "key": key, **options})
        return str(caught.value).splitlines()

    missing = "cannot be read: No such file or directory"
    assert problems(client_ca=[tmp_path / "ca", b"\xff"]) == [
        f"{crt}: {missing}",
        f"{key}: {missing}",
        f"{tmp_path / 'ca'}: {missing}",
        "client CA 2: is not a bundle of certificates in PEM",
    ]
    crt.write_bytes(b"nonsense")
    key.write_bytes(pair.key)
    assert problems() == [f"{crt}: is not a certificate in PEM"]
    crt.write_bytes(certificate[0].read_bytes())
    assert problems() == [f"{key}: does not belong to the certificate in {crt}"]
    key.write_bytes(b"nonsense")
    assert problems() == [f"{key}: is not a private key in PEM"]
    private = serialization.load_pem_private_key(pair.key, None)
    crt.write_bytes(pair.certificate)
    key.write_bytes(
        private.private_bytes(  # type: ignore[union-attr]
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert problems() == [f"{key}: is encrypted; the key must be without a password"]


def test_protocols(serve: Callable[..., Any], log: Any, door_tls: DoorTLS, trusting: ssl.SSLContext) -> None:
    """TLS 1.2 is the least, and the only protocol above it is HTTP/1.1."""
    assert door_tls.context.get_ca_certs() == []
    newest = door_tls.newest
    assert newest.minimum_version == TLS_1_2
    assert newest.num_tickets == 0
    assert newest.options & ssl.OP_NO_TICKET
    assert newest.options & ssl.OP_NO_RENEGOTIATION
    assert newest.options & ssl.OP_NO_COMPRESSION
    assert not newest.verify_flags & (ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    wire = serve(telling(log), tls=door_tls).connect(trusting)
    assert wire.sock.selected_alpn_protocol() == "http/1.1"
