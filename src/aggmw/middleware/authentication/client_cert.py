"""Client certificates: kube-apiserver's `--client-ca-file` (wire contract §6.4, http-facts §6).

The TLS layer has verified the chain against all authorities of the listener. What is left is ours: whose authority it
is, what the certificates may be used for, whether they are valid now or revoked, and what they say. The rules on key
usage and on names are those of Go's `crypto/x509` and of Kubernetes' `authentication/request/x509`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Identity, Presented, authenticated
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity, Problem
from aggmw.pki.read import fingerprint, pem_certificates

__all__ = ["ClientCertificates"]

_USER_ID = ObjectIdentifier("1.3.6.1.4.1.57683.2")
_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_CLIENT_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})

_Revocations = dict[bytes, list[x509.CertificateRevocationList]]


class _Checked(NamedTuple):
    """What was found out about a connection; times in seconds since the epoch."""

    identity: Identity | None
    complaint: str = ""
    not_before: float = float("-inf")
    not_after: float = float("inf")


class ClientCertificates:
    """Callers by the certificate of their connection: the user is the common name, each organization a group.

    A chain that ends in another authority is somebody else's, so that several of these share one listener. Chains are
    checked once per connection, their validity on every request.

    Args:
        ca: the authorities, a PEM bundle.
        crl: certificate revocation lists, a PEM bundle; each signed by a member of `ca`, and effective for the
            certificates that this member issued itself. A list past its date keeps its effect.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a bundle that cannot be read, or a list of no authority in `ca`.
    """

    credentials: frozenset[bytes] = frozenset()

    def __init__(self, ca: bytes, *, crl: bytes | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.reload(ca, crl=crl)

    def __repr__(self) -> str:
        return f"ClientCertificates({len(self._authorities)} authorities)"

    def reload(self, ca: bytes, *, crl: bytes | None = None) -> None:
        """Trust these authorities from now on, also on connections that are open. On a mistake nothing changes.

        Raises:
            ConfigurationError: as on construction.
        """
        authorities = _authorities(ca)
        revocations = _revocations(crl, authorities) if crl is not None else {}
        self._authorities = frozenset(authorities)
        self._revocations = revocations
        self._checked: WeakKeyDictionary[Connection, _Checked] = WeakKeyDictionary()

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Whose certificate it is; None without one, with one of another authority, and without a common name.

        Raises:
            InvalidCredentials: not for clients, not valid now, revoked, or with names that cannot be used.
        """
        connection = presented.connection
        if not connection.chain:
            return None
        checked = self._checked.get(connection)
        if checked is None:
            checked = self._checked[connection] = self._check(connection.chain)
        if checked.complaint:
            raise InvalidCredentials(checked.complaint)
        if checked.identity is not None and not checked.not_before <= self._clock() <= checked.not_after:
            raise InvalidCredentials("a certificate of the client's chain is expired or not valid yet")
        return checked.identity

    def _check(self, chain: Sequence[bytes]) -> _Checked:
        if chain[-1] not in self._authorities:
            return _Checked(None)
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in chain]
            if not all(map(_is_for_clients, certificates)):
                return _Checked(None, "the client certificate may not be used by clients (extended key usage)")
            if self._is_revoked(certificates, chain):
                return _Checked(None, "a certificate of the client's chain is revoked")
            identity = _identity(certificates[0], chain[0])
        except InvalidCredentials as error:
            return _Checked(None, str(error))
        except InvalidIdentity as error:
            return _Checked(None, f"the client certificate names nobody that can be used: {error}")
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return _Checked(None, "the client certificate cannot be decoded")
        return _Checked(
            identity,
            "",
            max(certificate.not_valid_before_utc.timestamp() for certificate in certificates),
            min(certificate.not_valid_after_utc.timestamp() for certificate in certificates),
        )

    def _is_revoked(self, certificates: Sequence[x509.Certificate], chain: Sequence[bytes]) -> bool:
        return any(
            revocation.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for certificate, issuer in zip(certificates, chain[1:], strict=False)
            for revocation in self._revocations.get(issuer, ())
        )


def _authorities(ca: bytes) -> tuple[bytes, ...]:
    try:
        return pem_certificates(ca)
    except ValueError as error:
        raise ConfigurationError([Problem("client CA", str(error))]) from error


def _revocations(crl: bytes, authorities: Sequence[bytes]) -> _Revocations:
    """The lists by the authority that signed them, whose signatures are checked here once."""
    try:
        lists = [x509.load_pem_x509_crl(block + _CRL_END) for block in crl.split(_CRL_END)[:-1]]
    except ValueError as error:
        raise ConfigurationError([Problem("CRL", "holds a list that cannot be decoded")]) from error
    if not lists:
        raise ConfigurationError([Problem("CRL", "holds no PEM list (-----BEGIN X509 CRL-----)")])
    found: _Revocations = {}
    for number, revocation in enumerate(lists, 1):
        signers = [der for der in authorities if _has_signed(der, revocation)]
        if not signers:
            raise ConfigurationError([Problem("CRL", f"list {number} is not signed by any of the client CAs")])
        for signer in signers:
            found.setdefault(signer, []).append(revocation)
    return found


_CRL_END = b"-----END X509 CRL-----"


def _has_signed(authority: bytes, revocation: x509.CertificateRevocationList) -> bool:
    certificate = x509.load_der_x509_certificate(authority)
    if certificate.subject != revocation.issuer:
        return False
    try:
        return revocation.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]  # TypeError is caught
    except TypeError:
        return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """Whether the extended key usage, if there is one, allows clients; an authority's limits what is below it."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    return not _CLIENT_PURPOSES.isdisjoint(usage.value)


def _identity(certificate: x509.Certificate, der: bytes) -> Identity | None:
    names = _texts(certificate, NameOID.COMMON_NAME)
    if len(names) > 1:
        raise InvalidCredentials("the client certificate has several common names")
    if not names or not names[0]:
        return None
    uids = _texts(certificate, _USER_ID)
    if len(uids) > 1 or uids == [""]:
        raise InvalidCredentials("the client certificate has several uids, or an empty one")
    groups = _texts(certificate, NameOID.ORGANIZATION_NAME)
    credential = {_CREDENTIAL_ID: (f"X509SHA256={fingerprint(der)}",)}
    return authenticated(Identity(names[0], "".join(uids), tuple(groups), credential))


def _texts(certificate: x509.Certificate, kind: ObjectIdentifier) -> list[str]:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(kind)]
    if any(isinstance(value, bytes) for value in values):
        raise InvalidCredentials("the client certificate has a name that is not text")
    return [str(value) for value in values]
