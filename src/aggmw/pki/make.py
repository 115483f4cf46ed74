"""Making certificate authorities and certificates: EC P-256, PEM in and out, profiles of RFC 5280.

The certificates also pass OpenSSL's `VERIFY_X509_STRICT`, which Python 3.13 and newer set by default: key identifiers
everywhere, key usage on authorities, critical basic constraints.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = ["USER_ID", "KeyPair", "canonical_name", "issue_client", "issue_server", "make_ca", "make_key"]

USER_ID = "1.3.6.1.4.1.57683.2"
"""The object identifier of the subject attribute that holds a user's uid (Kubernetes, wire contract §6.4)."""

_CA_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=365)
_CLOCK_SKEW = timedelta(minutes=5)
_DNS_NAME = re.compile(r"(\*\.)?([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*\Z")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key.

    Args:
        certificate: PEM.
        key: PKCS#8 PEM, not encrypted.
    """

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


def make_key() -> bytes:
    """A new EC P-256 private key, PKCS#8 PEM."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_ca(common_name: str, *, key: bytes | None = None, lifetime: timedelta = _CA_LIFETIME) -> KeyPair:
    """A self-signed certificate authority, valid for ten years.

    Args:
        common_name: 1 to 64 bytes of UTF-8.
        key: an existing private key, PEM; a new one when left out. The same key and name make an authority that
            verifies whatever the former one signed.
        lifetime: from now on.

    Raises:
        ValueError: a common name or key that cannot be used, in one line.
    """
    private = _private_key(key)
    name = _subject(common_name)
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    builder = (
        _builder(name, name, private, datetime.now(UTC), lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return _signed(builder, private, private)


def issue_server(
    ca: KeyPair,
    common_name: str,
    *,
    names: Sequence[str],
    key: bytes | None = None,
    lifetime: timedelta = _LEAF_LIFETIME,
) -> KeyPair:
    """A server certificate.

    Args:
        ca: who signs.
        common_name: for people; clients verify `names` only.
        names: DNS names (also `*.example.com`) and IP addresses, at least one.
        key: an existing private key, PEM; a new one when left out.
        lifetime: from now on; ends no later than the authority.

    Raises:
        ValueError: a name, key or authority that cannot be used, in one line.
    """
    if not names:
        raise ValueError("a server certificate needs at least one name")
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)])
    return _issue(ca, _subject(common_name), ExtendedKeyUsageOID.SERVER_AUTH, key, lifetime, alternatives)


def issue_client(
    ca: KeyPair,
    user: str,
    *,
    groups: Sequence[str] = (),
    uid: str = "",
    key: bytes | None = None,
    lifetime: timedelta = _LEAF_LIFETIME,
) -> KeyPair:
    """A client certificate as Kubernetes reads it: the user is the common name, each group an organization.

    Args:
        ca: who signs.
        user: 1 to 64 bytes of UTF-8.
        groups: in order.
        uid: kept in the attribute `USER_ID`; left out when empty.
        key: an existing private key, PEM; a new one when left out.
        lifetime: from now on; ends no later than the authority.

    Raises:
        ValueError: a user, group, key or authority that cannot be used, in one line.
    """
    return _issue(ca, _subject(user, groups, uid), ExtendedKeyUsageOID.CLIENT_AUTH, key, lifetime)


def canonical_name(name: str) -> str:
    """A DNS name or address as a certificate holds it: lower case, the shortest form of an IPv6 address.

    Raises:
        ValueError: it is neither, in one line.
    """
    return str(_general_name(name).value)


def _issue(
    ca: KeyPair,
    subject: x509.Name,
    purpose: ObjectIdentifier,
    key: bytes | None,
    lifetime: timedelta,
    alternatives: x509.SubjectAlternativeName | None = None,
) -> KeyPair:
    authority = x509.load_pem_x509_certificate(ca.certificate)
    signer = _private_key(ca.key)
    if signer.public_key() != authority.public_key():
        raise ValueError("the authority's key does not match its certificate")
    private = _private_key(key)
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    builder = (
        _builder(subject, authority.subject, private, now, min(lifetime, authority.not_valid_after_utc - now))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(_issuer_identifier(authority), critical=False)
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return _signed(builder, private, signer)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    """What every certificate has. It is valid a little earlier than now, for clocks that are behind ours."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _signed(
    builder: x509.CertificateBuilder, private: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> KeyPair:
    certificate = builder.sign(signer, hashes.SHA256())
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(private))


def _subject(common_name: str, groups: Sequence[str] = (), uid: str = "") -> x509.Name:
    if not 1 <= len(common_name.encode()) <= 64:
        raise ValueError(f"the common name {common_name!r} is not 1 to 64 bytes long (RFC 5280)")
    if not all(groups):
        raise ValueError("a group name is empty")
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    if uid:
        attributes.append(x509.NameAttribute(ObjectIdentifier(USER_ID), uid))
    return x509.Name(attributes)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if len(name) > 253 or not _DNS_NAME.match(name.lower()):
            raise ValueError(f"{name!r} is neither an IP address nor a DNS name") from None
        return x509.DNSName(name.lower())


def _issuer_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Points at the authority's own key identifier; authorities made elsewhere may compute theirs differently."""
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        public_key = authority.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):  # _private_key compared them already
            raise ValueError("the authority's key is not an elliptic curve key") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _private_key(pem: bytes | None) -> ec.EllipticCurvePrivateKey:
    if pem is None:
        return ec.generate_private_key(ec.SECP256R1())
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("the private key cannot be read: it has to be PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the private key is not an elliptic curve key")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
