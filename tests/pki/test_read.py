"""Reading PEM bundles, certificates and keys."""

import base64
import hashlib
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.pki.make import issue_client, issue_server, make_ca, make_key
from aggmw.pki.read import (
    UnreadablePem,
    certificate_details,
    fingerprint,
    key_matches,
    pem_certificates,
    signed_by,
)

CA = make_ca("one")
OTHER = make_ca("two")
LEAF = issue_client(CA, "alice")


def test_bundle() -> None:
    """The certificates of a bundle come out in order, in DER, exactly as encoded."""
    first, second = pem_certificates(CA.certificate + OTHER.certificate)
    assert (certificate_details(first).common_name, certificate_details(second).common_name) == ("one", "two")
    assert (DER_cert_to_PEM_cert(first) + DER_cert_to_PEM_cert(second)).encode() == CA.certificate + OTHER.certificate


def test_text_and_other_blocks_around() -> None:
    """Comments, keys and CRLF line ends around a certificate are skipped."""
    data = b"# my CA\nsubject=CN = one\n" + CA.key + CA.certificate.replace(b"\n", b"\r\n") + b"trailing"
    assert pem_certificates(data) == pem_certificates(CA.certificate)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (b"\0\xff", "holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (CA.key, "holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (CA.certificate[:300], "certificate 1 of 1 is cut off: -----END CERTIFICATE----- is missing"),
        (
            CA.certificate[:300] + b"\n" + CA.certificate,
            "certificate 1 of 2 is cut off: -----END CERTIFICATE----- is missing",
        ),
        (CA.certificate + CA.certificate.replace(b"MII", b"M*I", 1), "certificate 2 of 2 is not base64"),
        (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "certificate 1 of 1 cannot be decoded: "),
    ],
)
def test_broken_bundles(data: bytes, message: str) -> None:
    """What is wrong is said in one line that names the certificate, without a path."""
    with pytest.raises(UnreadablePem) as error:
        pem_certificates(data)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes(noise: bytes) -> None:
    """Whatever is in the file: certificates or one error, never anything else."""
    for data in (noise, b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(noise) + b"\n-----END CERTIFICATE-----\n"):
        with pytest.raises(UnreadablePem):
            pem_certificates(data)


def test_fingerprint() -> None:
    """The fingerprint is the SHA-256 of the DER bytes."""
    (der,) = pem_certificates(CA.certificate)
    assert fingerprint(der) == hashlib.sha256(der).hexdigest()


def test_key_matches() -> None:
    """A key belongs to one certificate only."""
    (der,) = pem_certificates(CA.certificate)
    assert key_matches(CA.key, der)
    assert not key_matches(OTHER.key, der)


def test_key_that_is_none() -> None:
    """A file without a key is an error that does not repeat the file."""
    (der,) = pem_certificates(CA.certificate)
    with pytest.raises(UnreadablePem, match=r"^holds no PEM private key \(-----BEGIN PRIVATE KEY-----\)$"):
        key_matches(b"secret", der)


def test_encrypted_key() -> None:
    """An encrypted key is named as such."""
    (der,) = pem_certificates(CA.certificate)
    locked = serialization.load_pem_private_key(make_key(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(UnreadablePem, match="encrypted"):
        key_matches(locked, der)


def test_signed_by() -> None:
    """Only the authority whose key signed a certificate counts, not one of the same name."""
    (leaf,), (ca,) = pem_certificates(LEAF.certificate), pem_certificates(CA.certificate)
    (namesake,) = pem_certificates(make_ca("one").certificate)
    assert signed_by(leaf, ca)
    assert not signed_by(leaf, namesake)
    assert not signed_by(ca, leaf)


def test_addresses_are_canonical() -> None:
    """Addresses are compared in their canonical form."""
    (der,) = pem_certificates(issue_server(CA, "s", names=["0:0:0:0:0:0:0:1", "LOCALHOST"]).certificate)
    assert certificate_details(der).names == {"::1", "localhost"}


def test_details_of_noise() -> None:
    """Bytes that are no certificate are an error in one line."""
    with pytest.raises(UnreadablePem, match="cannot be decoded"):
        certificate_details(b"\x30\x00")
