"""Client certificates (wire contract §6.4). What makes a chain good is tested with `aggmw.pki.verify`."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from cryptography.x509.oid import NameOID, ObjectIdentifier
from tests.pki.certificates import (
    ALICE,
    NOW,
    SERVER,
    Attribute,
    Certificate,
    authority,
    connection,
    leaf,
    revocations,
)

from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.errors import ConfigurationError, InvalidCredentials
from aggmw.middleware.authentication import ClientCertificates
from aggmw.pki.make import USER_ID

CA = authority("clients")
OTHER = authority("front proxies")
UID = ObjectIdentifier(USER_ID)


def authenticator(*, crl: bytes | None = None) -> ClientCertificates:
    return ClientCertificates(CA.pem, crl=crl, clock=NOW.timestamp)


def chain(*certificates: Certificate) -> Presented:
    return Presented(connection=connection(*certificates))


async def refusal(presented: Presented, by: ClientCertificates | None = None) -> str:
    with pytest.raises(InvalidCredentials) as refused:
        await (by or authenticator()).authenticate(presented)
    return str(refused.value)


async def test_identity() -> None:
    """§6.4: user = CN, groups = every O in order, uid, and the certificate's digest as credential id."""
    certificate = leaf(CA, [*ALICE, (UID, "uid-7")])
    digest = hashlib.sha256(certificate.der).hexdigest()
    assert await authenticator().authenticate(chain(certificate, CA)) == Identity(
        "alice",
        "uid-7",
        ("dev", "ops", "system:authenticated"),
        {"authentication.kubernetes.io/credential-id": [f"X509SHA256={digest}"]},
    )


async def test_credential() -> None:
    """C5.10, C5.11: browsers show certificates by themselves, and what a certificate opened ends with it."""
    identity = await authenticator().authenticate(chain(leaf(CA), CA))
    assert identity is not None
    assert identity.credential == Credential(ambient=True, expires=(NOW + timedelta(days=10)).timestamp())


async def test_expired_meanwhile() -> None:
    """C5.11: a connection outlives the certificate that it began with; the next request on it does not."""
    now = NOW
    certificates = ClientCertificates(CA.pem, clock=lambda: now.timestamp())
    presented = chain(leaf(CA), CA)
    assert await certificates.authenticate(presented) is not None
    now = NOW + timedelta(days=10, seconds=1)
    assert "expired" in await refusal(presented, certificates)


async def test_no_opinion() -> None:
    """§6.4, http-facts §6: no certificate, another authority, no common name."""
    assert await authenticator().authenticate(Presented()) is None
    assert await authenticator().authenticate(chain(leaf(OTHER), OTHER)) is None
    assert await authenticator().authenticate(chain(leaf(CA, [(NameOID.ORGANIZATION_NAME, "masters")]), CA)) is None


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ([*ALICE, (UID, "1"), (UID, "2")], "several uids, or an empty one"),
        ([*ALICE, (UID, "")], "several uids, or an empty one"),
        ([(NameOID.COMMON_NAME, "alice ")], "begins or ends with white space"),
        ([(NameOID.COMMON_NAME, "a\r\nX-Remote-Group: system:masters")], "holds a control character"),
        ([*ALICE, (NameOID.ORGANIZATION_NAME, " system:masters")], "begins or ends with white space"),
        ([*ALICE, (NameOID.ORGANIZATION_NAME, "")], "a group name is empty"),
    ],
)
async def test_names_that_cannot_be_used(subject: list[Attribute], text: str) -> None:
    """§12.4: receivers trim, so the group " system:masters" would arrive as `system:masters`."""
    assert text in await refusal(chain(leaf(CA, subject), CA))


async def test_chain_is_checked() -> None:
    """http-facts §6: purpose, validity, revocation and reading again are those of `ClientCA`."""
    good = leaf(CA)
    assert "extended key usage" in await refusal(chain(leaf(CA, purposes=[SERVER]), CA))
    assert "expired" in await refusal(chain(leaf(CA, lifetime=(-2, -1)), CA))
    assert "revoked" in await refusal(chain(good, CA), authenticator(crl=revocations(CA, good)))


async def test_reload_reaches_open_connections() -> None:
    """C5.4, http-facts §6: another bundle or a revocation counts from the next request on."""
    certificates = authenticator()
    certificate = leaf(CA)
    presented = chain(certificate, CA)
    assert await certificates.authenticate(presented) is not None
    certificates.reload(CA.pem, crl=revocations(CA, certificate))
    assert "revoked" in await refusal(presented, certificates)
    certificates.reload(OTHER.pem)
    assert await certificates.authenticate(presented) is None


def test_mistakes() -> None:
    """A bundle that cannot be used is found at start-up."""
    with pytest.raises(ConfigurationError) as refused:
        ClientCertificates(b"")
    assert str(refused.value) == "client CA: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"


def test_repr() -> None:
    """It tells how much is trusted."""
    assert repr(ClientCertificates(CA.pem + OTHER.pem)) == "ClientCertificates(2 authorities)"
