"""Certificates that `aggmw.pki.make` would not make: any names, purposes and lifetimes, at a moment of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from aggmw.contracts.connection import Connection

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT, SERVER, ANY = (
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
Attribute = tuple[ObjectIdentifier, str]
ALICE: list[Attribute] = [
    (NameOID.ORGANIZATION_NAME, "dev"),
    (NameOID.COMMON_NAME, "alice"),
    (NameOID.ORGANIZATION_NAME, "ops"),
]


class Certificate:
    """A certificate and its key; without an issuer it has signed itself."""

    def __init__(
        self,
        subject: Sequence[Attribute],
        issuer: Certificate | None = None,
        *,
        purposes: Sequence[ObjectIdentifier] | None = None,
        lifetime: tuple[int, int] = (-10, 10),
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1()) if issuer is None else KEY
        self.name = x509.Name(
            [x509.NameAttribute(kind, value, _validate=False) for kind, value in subject]  # unfit names are the point
        )
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=lifetime[0]))
            .not_valid_after(NOW + timedelta(days=lifetime[1]))
        )
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        self.x509 = builder.sign(signer.key, hashes.SHA256())
        self.der = self.x509.public_bytes(serialization.Encoding.DER)
        self.pem = self.x509.public_bytes(serialization.Encoding.PEM)


def authority(name: str, **options: Any) -> Certificate:
    return Certificate([(NameOID.COMMON_NAME, name)], **options)


def leaf(issuer: Certificate, subject: Sequence[Attribute] = ALICE, **options: Any) -> Certificate:
    return Certificate(subject, issuer, **{"purposes": [CLIENT], **options})


def connection(*chain: Certificate) -> Connection:
    """A connection whose client showed these, leaf first."""
    return Connection(tls=True, chain=tuple(each.der for each in chain), trailers_apart=True)


def revocations(signer: Certificate, *revoked: Certificate, name: x509.Name | None = None) -> bytes:
    """A revocation list in PEM; `name` is another issuer than who signed it."""
    issuer = signer.name if name is None else name
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(NOW).next_update(NOW)
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.x509.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
