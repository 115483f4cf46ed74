"""Reading certificates and keys. The messages of errors name no file: whoever read the file puts its path in front."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from aggmw.errors import AggmwError

__all__ = [
    "CertificateDetails",
    "UnreadablePem",
    "certificate_details",
    "fingerprint",
    "key_matches",
    "pem_certificates",
    "signed_by",
]

_BEGIN = re.compile(rb"^-----BEGIN (?:X509 )?CERTIFICATE-----[ \t\r]*$", re.MULTILINE)
_END = re.compile(rb"^-----END (?:X509 )?CERTIFICATE-----[ \t\r]*$", re.MULTILINE)
_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}


class UnreadablePem(AggmwError, ValueError):
    """A certificate or key that cannot be read: what is wrong, in one line, to be printed behind the file's path."""


@dataclass(frozen=True, slots=True)
class CertificateDetails:
    """What a certificate says about itself.

    Attributes:
        common_name: "" when there is none; the first of several.
        organizations: in the order of the subject.
        names: alternative names: DNS names in lower case, IP addresses in their canonical form.
        purposes: "serverAuth", "clientAuth" or a dotted identifier; empty when the certificate is not limited.
        authority: whether it may sign others.
        not_before, not_after: with time zone.
    """

    common_name: str
    organizations: tuple[str, ...]
    names: frozenset[str]
    purposes: frozenset[str]
    authority: bool
    not_before: datetime
    not_after: datetime


def pem_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM bundle in DER, in order, exactly the bytes that were encoded.

    Text and other PEM blocks around them are allowed, as OpenSSL writes and reads them.

    Raises:
        UnreadablePem: there is none, or one of them is broken ("certificate 2 of 3 …").
    """
    blocks = list(_blocks(data))
    if not blocks:
        raise UnreadablePem("holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
    return tuple(_der(block, f"certificate {number} of {len(blocks)}") for number, block in enumerate(blocks, 1))


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER, in lower-case hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


def certificate_details(der: bytes) -> CertificateDetails:
    """What the certificate says.

    Raises:
        UnreadablePem: it cannot be decoded.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        subject = certificate.subject
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnreadablePem(f"the certificate cannot be decoded: {_one_line(error)}") from error
    return CertificateDetails(
        common_name=next(iter(_attributes(subject, NameOID.COMMON_NAME)), ""),
        organizations=_attributes(subject, NameOID.ORGANIZATION_NAME),
        names=_names(extensions),
        purposes=_purposes(extensions),
        authority=_is_authority(extensions),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def key_matches(key: bytes, der: bytes) -> bool:
    """Whether the private key (PEM) belongs to the certificate (DER).

    Raises:
        UnreadablePem: the key cannot be read or is encrypted.
    """
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError as error:
        raise UnreadablePem("the private key is encrypted; it has to be PEM without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadablePem("holds no PEM private key (-----BEGIN PRIVATE KEY-----)") from error
    return bool(private.public_key() == x509.load_der_x509_certificate(der).public_key())


def signed_by(der: bytes, authority: bytes) -> bool:
    """Whether `authority` (DER) itself signed the certificate: its name is the issuer's and its key fits."""
    try:
        x509.load_der_x509_certificate(der).verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _blocks(data: bytes) -> Iterator[bytes]:
    """The base64 text of each certificate; "" where a BEGIN line has no END line before the next BEGIN."""
    begins = list(_BEGIN.finditer(data))
    limits = [*(following.start() for following in begins[1:]), len(data)]
    for begin, limit in zip(begins, limits, strict=False):
        end = _END.search(data, begin.end(), limit)
        yield data[begin.end() : end.start()] if end else b""


def _der(block: bytes, what: str) -> bytes:
    if not block.strip():
        raise UnreadablePem(f"{what} is cut off: -----END CERTIFICATE----- is missing")
    try:
        der = base64.b64decode(b"".join(block.split()), validate=True)
    except binascii.Error as error:
        raise UnreadablePem(f"{what} is not base64") from error
    try:
        x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise UnreadablePem(f"{what} cannot be decoded: {_one_line(error)}") from error
    return der


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _attributes(subject: x509.Name, oid: ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(oid))


def _names(extensions: x509.Extensions) -> frozenset[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    domains = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return frozenset(domains | {str(address) for address in names.get_values_for_type(x509.IPAddress)})


def _purposes(extensions: x509.Extensions) -> frozenset[str]:
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(_PURPOSES.get(oid, oid.dotted_string) for oid in usage)


def _is_authority(extensions: x509.Extensions) -> bool:
    try:
        return bool(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
