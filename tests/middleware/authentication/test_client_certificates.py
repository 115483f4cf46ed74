"""Client certificates (wire contract §6.4, http-facts §6)."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import ConfigurationError, InvalidCredentials
from aggmw.middleware.authentication import ClientCertificates

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
USER_ID = ObjectIdentifier("1.3.6.1.4.1.57683.2")
CLIENT, SERVER, ANY = (
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
Attribute = tuple[ObjectIdentifier, str]


class Certificate:
    """A certificate of this test, with its key."""

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


CA = authority("clients")
OTHER = authority("front proxies")
ALICE: list[Attribute] = [
    (NameOID.ORGANIZATION_NAME, "dev"),
    (NameOID.COMMON_NAME, "alice"),
    (NameOID.ORGANIZATION_NAME, "ops"),
]


def authenticator(ca: bytes = CA.pem, **options: Any) -> ClientCertificates:
    return ClientCertificates(ca, clock=NOW.timestamp, **options)


def chain(*certificates: Certificate) -> Presented:
    return Presented(connection=Connection(chain=tuple(each.der for each in certificates)))


def leaf(subject: Sequence[Attribute] = ALICE, issuer: Certificate = CA, **options: Any) -> Certificate:
    return Certificate(subject, issuer, **{"purposes": [CLIENT], **options})


async def refusal(presented: Presented, by: ClientCertificates | None = None) -> str:
    with pytest.raises(InvalidCredentials) as refused:
        await (by or authenticator()).authenticate(presented)
    return str(refused.value)


async def test_identity() -> None:
    """§6.4: user = CN, groups = every O in order, uid, and the certificate's digest as credential id."""
    certificate = leaf([*ALICE, (USER_ID, "uid-7")])
    digest = hashlib.sha256(certificate.der).hexdigest()
    assert await authenticator().authenticate(chain(certificate, CA)) == Identity(
        "alice",
        "uid-7",
        ("dev", "ops", "system:authenticated"),
        {"authentication.kubernetes.io/credential-id": [f"X509SHA256={digest}"]},
    )


async def test_no_opinion() -> None:
    """§6.4, http-facts §6: no certificate, a resumed session, another authority, no common name."""
    assert await authenticator().authenticate(Presented()) is None
    assert await authenticator().authenticate(chain(leaf(issuer=OTHER), OTHER)) is None
    assert await authenticator().authenticate(chain(leaf([(NameOID.ORGANIZATION_NAME, "system:masters")]), CA)) is None


async def test_root_is_compared_not_its_name() -> None:
    """http-facts §6: an authority of the same name is another authority."""
    twin = authority("clients")
    assert await authenticator().authenticate(chain(leaf(issuer=twin), twin)) is None
    assert await authenticator(CA.pem + OTHER.pem).authenticate(chain(leaf(issuer=OTHER), OTHER)) is not None


@pytest.mark.parametrize("purposes", [None, [CLIENT], [SERVER, CLIENT], [ANY]])
async def test_purposes_that_allow_clients(purposes: list[ObjectIdentifier] | None) -> None:
    """http-facts §6: as Go: clientAuth, any purpose, or no limit."""
    assert await authenticator().authenticate(chain(leaf(purposes=purposes), CA)) is not None


async def test_other_purposes_are_bad() -> None:
    """http-facts §6: OpenSSL was not asked about the purpose; a server's certificate is no client's."""
    text = "the client certificate may not be used by clients (extended key usage)"
    assert await refusal(chain(leaf(purposes=[SERVER]), CA)) == text
    middle = Certificate([(NameOID.COMMON_NAME, "middle")], CA, purposes=[SERVER])
    assert await refusal(chain(leaf(issuer=middle), middle, CA)) == text
    limited = authority("limited", purposes=[SERVER])
    assert await refusal(chain(leaf(issuer=limited), limited), authenticator(limited.pem)) == text


@pytest.mark.parametrize("lifetime", [(-10, -1), (1, 10)])
async def test_validity_of_every_certificate(lifetime: tuple[int, int]) -> None:
    """http-facts §6: leaf, intermediate and root must be valid now."""
    text = "a certificate of the client's chain is expired or not valid yet"
    assert await refusal(chain(leaf(lifetime=lifetime), CA)) == text
    middle = Certificate([(NameOID.COMMON_NAME, "middle")], CA, lifetime=lifetime)
    assert await refusal(chain(leaf(issuer=middle), middle, CA)) == text
    root = authority("short", lifetime=lifetime)
    assert await refusal(chain(leaf(issuer=root), root), authenticator(root.pem)) == text


async def test_expiry_on_an_open_connection() -> None:
    """C5.11: a connection outlives its certificate; the next request does not."""
    now = [NOW.timestamp()]
    certificates = ClientCertificates(CA.pem, clock=lambda: now[0])
    presented = chain(leaf(lifetime=(-1, 1)), CA)
    assert await certificates.authenticate(presented) is not None
    now[0] += 86_401
    assert "expired" in await refusal(presented, certificates)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ([(NameOID.COMMON_NAME, "a"), (NameOID.COMMON_NAME, "b")], "several common names"),
        ([*ALICE, (USER_ID, "1"), (USER_ID, "2")], "several uids, or an empty one"),
        ([*ALICE, (USER_ID, "")], "several uids, or an empty one"),
        ([(NameOID.COMMON_NAME, "alice ")], "begins or ends with white space"),
        ([(NameOID.COMMON_NAME, "a\r\nX-Remote-Group: system:masters")], "holds a control character"),
        ([*ALICE, (NameOID.ORGANIZATION_NAME, " system:masters")], "begins or ends with white space"),
        ([*ALICE, (NameOID.ORGANIZATION_NAME, "")], "a group name is empty"),
    ],
)
async def test_names_that_cannot_be_used(subject: list[Attribute], text: str) -> None:
    """§12.4: receivers trim, so the group " system:masters" would arrive as `system:masters`."""
    assert text in await refusal(chain(leaf(subject), CA))


async def test_garbage_is_bad() -> None:
    """A chain that cannot be decoded, under a root that is ours."""
    presented = Presented(connection=Connection(chain=(b"garbage", CA.der)))
    assert await refusal(presented) == "the client certificate cannot be decoded"


async def test_checked_once_per_connection() -> None:
    """A second request on a connection costs a look-up; what was found out goes with the connection."""
    certificates = authenticator()
    presented = chain(leaf(), CA)
    first = await certificates.authenticate(presented)
    assert first is not None
    assert await certificates.authenticate(presented) is first
    assert len(certificates._checked) == 1
    del presented
    gc.collect()
    assert len(certificates._checked) == 0


async def test_reload_reaches_open_connections() -> None:
    """C5.4, http-facts §6: another bundle or a revocation counts from the next request on."""
    certificates = authenticator()
    certificate = leaf()
    presented = chain(certificate, CA)
    assert await certificates.authenticate(presented) is not None
    certificates.reload(CA.pem, crl=revocations(CA, certificate))
    assert await refusal(presented, certificates) == "a certificate of the client's chain is revoked"
    certificates.reload(OTHER.pem)
    assert await certificates.authenticate(presented) is None


async def test_mistaken_reload_changes_nothing() -> None:
    """A broken bundle leaves the former trust as it was."""
    certificates = authenticator()
    with pytest.raises(ConfigurationError):
        certificates.reload(b"nothing")
    with pytest.raises(ConfigurationError):
        certificates.reload(OTHER.pem, crl=b"nothing")
    assert await certificates.authenticate(chain(leaf(), CA)) is not None


def revocations(signer: Certificate, *revoked: Certificate, name: x509.Name | None = None) -> bytes:
    issuer = signer.name if name is None else name
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(NOW).next_update(NOW)
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.x509.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def test_revocation_is_per_authority() -> None:
    """http-facts §6: OpenSSL's flag refuses every certificate of the other authority; ours does not."""
    good, bad, others = leaf(), leaf(), leaf(issuer=OTHER)
    certificates = authenticator(CA.pem + OTHER.pem, crl=b"# two lists\n" + revocations(CA, bad) + revocations(OTHER))
    assert await certificates.authenticate(chain(good, CA)) is not None
    assert await certificates.authenticate(chain(others, OTHER)) is not None
    assert "revoked" in await refusal(chain(bad, CA), certificates)


@pytest.mark.parametrize(
    ("ca", "crl", "text"),
    [
        (b"", None, "client CA: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (CA.pem, b"", "CRL: holds no PEM list (-----BEGIN X509 CRL-----)"),
        (CA.pem, b"x\n-----END X509 CRL-----\n", "CRL: holds a list that cannot be decoded"),
        (CA.pem, revocations(OTHER), "CRL: list 1 is not signed by any of the client CAs"),
        (CA.pem, revocations(CA, name=OTHER.name), "CRL: list 1 is not signed by any of the client CAs"),
        (CA.pem, revocations(authority("clients")), "CRL: list 1 is not signed by any of the client CAs"),
    ],
)
def test_mistakes(ca: bytes, crl: bytes | None, text: str) -> None:
    """A bundle that cannot be used is found at start-up; a list that nobody signed would revoke nothing."""
    with pytest.raises(ConfigurationError) as refused:
        ClientCertificates(ca, crl=crl)
    assert str(refused.value) == text
