"""TLS towards backends: whom we believe, and what we show (wire contract §1.10)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from aggmw.contracts.backends import Backend
from aggmw.errors import ConfigurationError, UpstreamUnreachable
from aggmw.net.tls import ClientCertificate, ClientCertificatePair, upstream_context
from aggmw.pki.make import KeyPair, issue_client, make_ca


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("services")


def backend(ca: bytes = b"", *, skip: bool = False) -> Backend:
    return Backend("v1.x", "127.0.0.1", 443, ca=ca, insecure_skip_tls_verify=skip)


def test_the_context(ca: KeyPair) -> None:
    """TLS 1.2 at least, the name and the chain verified, nothing trusted but the service's CA."""
    context = upstream_context(backend(ca.certificate), None)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert [dict(item[0] for item in one["subject"])["commonName"] for one in context.get_ca_certs()] == ["services"]


def test_system_roots_without_a_bundle() -> None:
    """No bundle means the system's roots, verified as ever."""
    context = upstream_context(backend(), None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_verification_off(ca: KeyPair) -> None:
    """insecureSkipTLSVerify turns verification off, and nothing else does."""
    context = upstream_context(backend(ca.certificate, skip=True), None)
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_text_between_certificates(ca: KeyPair) -> None:
    """A bundle may hold text in any encoding between its certificates."""
    bundle = "# Zertifikate für Dienste\n".encode() + ca.certificate + b"\xff\n" + make_ca("more").certificate
    assert len(upstream_context(backend(bundle), None).get_ca_certs()) == 2


BAD_BUNDLES = {
    "text": b"not a certificate",
    "empty block": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "no base64": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "no certificate": b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    "bytes": bytes(range(256)),
    "cut": b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n",
}


@pytest.mark.parametrize("case", BAD_BUNDLES)
def test_bad_bundles(case: str) -> None:
    """A bundle that cannot be used is the service's problem, in safe words, and no crash."""
    with pytest.raises(UpstreamUnreachable) as caught:
        upstream_context(backend(BAD_BUNDLES[case]), None)
    assert str(caught.value) == "its CA bundle cannot be used"


# What we show


@pytest.fixture
def pair(ca: KeyPair, tmp_path: Path) -> ClientCertificatePair:
    """A good pair in two files."""
    good = issue_client(ca, "front-proxy")
    (tmp_path / "cert").write_bytes(good.certificate)
    (tmp_path / "key").write_bytes(good.key)
    return ClientCertificatePair(tmp_path / "cert", tmp_path / "key")


def test_bad_pairs(ca: KeyPair, pair: ClientCertificatePair, tmp_path: Path) -> None:
    """Missing, another's key, no PEM, or a key that needs a password: which file, and why."""
    (tmp_path / "other").write_bytes(issue_client(ca, "other").key)
    secret = serialization.load_pem_private_key(pair.key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "encrypted").write_bytes(secret)
    (tmp_path / "none").write_bytes(b"")

    def mistakes(certificate: str, key: str) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            ClientCertificatePair(tmp_path / certificate, tmp_path / key).read()
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    assert mistakes("missing", "gone") == [
        "missing: cannot be read: No such file or directory",
        "gone: cannot be read: No such file or directory",
    ]
    assert mistakes("cert", "bad\0name") == ["bad\0name: cannot be read: embedded null byte"]
    assert mistakes("cert", "other") == ["other: does not belong to the certificate in cert"]
    assert mistakes("cert", "encrypted") == ["encrypted: is encrypted; the key must be without a password"]
    assert mistakes("cert", "none") == ["none: is not a private key in PEM"]
    assert mistakes("none", "key") == ["none: is not a certificate in PEM"]


def test_read_when_needed(ca: KeyPair, pair: ClientCertificatePair) -> None:
    """Nothing is read before somebody asks; a pair that cannot be used is our own fault, in safe words."""
    certificate = ClientCertificate(pair)
    good = pair.certificate.read_bytes()
    pair.certificate.write_bytes(b"")
    with pytest.raises(UpstreamUnreachable) as caught:
        certificate.shown()
    assert str(caught.value) == "the front proxy's own certificate cannot be used"
    pair.certificate.write_bytes(good)
    shown = certificate.shown()
    assert shown is not None
    assert shown.certificate == good
    assert ClientCertificate(None).shown() is None
    assert not ClientCertificate(None).reload()


def test_reading_again(ca: KeyPair, pair: ClientCertificatePair) -> None:
    """What is new counts; what cannot be used leaves the old one in use, whatever is in the files by then."""
    certificate = ClientCertificate(pair)
    before = certificate.shown()
    assert not certificate.reload()
    after = issue_client(ca, "front-proxy")
    pair.certificate.write_bytes(after.certificate)
    with pytest.raises(ConfigurationError, match="does not belong to the certificate"):
        certificate.reload()
    assert certificate.shown() == before
    assert upstream_context(backend(), certificate.shown())
    pair.key.write_bytes(after.key)
    assert certificate.reload()
    assert certificate.shown() == (after.certificate, after.key)


def test_without_memory_files(pair: ClientCertificatePair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there are no files in memory, OpenSSL reads from a directory that only we may enter; nothing is left."""
    monkeypatch.delattr("os.memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = sorted(tmp_path.iterdir())
    assert upstream_context(backend(), pair.read())
    assert sorted(tmp_path.iterdir()) == left


def test_no_key_is_printed(pair: ClientCertificatePair) -> None:
    """Nothing that holds a key shows it."""
    certificate = ClientCertificate(pair)
    assert repr(certificate.shown()) == "KeyPairPem(…)"
    assert "PRIVATE" not in repr(certificate)
