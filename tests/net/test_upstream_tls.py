"""TLS towards backends: whom we believe, and what we show (wire contract §1.10)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.net.tls import ClientCertificatePair, upstream_context
from aggmw.pki.make import KeyPair, issue_client, make_ca

ENCRYPTED = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=
-----END ENCRYPTED PRIVATE KEY-----
"""


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


def test_bad_client_certificates(ca: KeyPair, tmp_path: Path) -> None:
    """A client certificate that cannot be used: missing, another's key, or a key that needs a password."""
    good, other = issue_client(ca, "front-proxy"), issue_client(ca, "other")
    files = {"cert": good.certificate, "other": other.key, "encrypted": ENCRYPTED, "none": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for key in ("missing", "other", "encrypted", "none", "bad\0name"):
        with pytest.raises(UpstreamUnreachable) as caught:
            upstream_context(backend(), ClientCertificatePair(tmp_path / "cert", tmp_path / key))
        assert str(caught.value) == "the front proxy's own certificate cannot be used"
