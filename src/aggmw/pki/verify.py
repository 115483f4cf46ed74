"""Client certificates of one purpose: whose authority it is, and what the certificates may be used for (http-facts §6).

The TLS layer has verified the chain against all authorities of the listener. What is left is ours: that the chain ends
in an authority of this purpose, that its certificates are for clients, valid now and not revoked, and what they say.
The rules on key usage are those of Go's `crypto/x509`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, NamedTuple, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity, Problem
from aggmw.pki.make import USER_ID
from aggmw.pki.read import fingerprint, pem_certificates, signed_by

__all__ = ["Authorities", "ClientCA", "Subject"]

_USER_ID = ObjectIdentifier(USER_ID)
_CLIENT_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_CRL_END = b"-----END X509 CRL-----"
_BESIDE = "that of an intermediate authority needs its certificate beside it"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_UNDECODABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)

_T = TypeVar("_T")
_Signer: TypeAlias = tuple[bytes, bytes]
_Revocations: TypeAlias = dict[_Signer, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a client certificate names.

    Args:
        common_name: "" when there is none.
        organizations: in the order of the subject.
        uids: the values of Kubernetes' attribute for a uid (wire contract §6.4).
        fingerprint: SHA-256 of the certificate, in lower-case hexadecimal digits.
        expires: when the first certificate of the chain does, in seconds since the epoch.
        withdrawal: begins when the chain no longer counts: its authority is gone, or a certificate of it revoked.
    """

    common_name: str
    organizations: tuple[str, ...]
    uids: tuple[str, ...]
    fingerprint: str
    expires: float
    withdrawal: Drain = field(default_factory=Drain, compare=False, repr=False)


class _Checked(NamedTuple, Generic[_T]):
    """What was found out about a connection; times in seconds since the epoch."""

    found: _T | None
    complaint: str = ""
    not_before: float = float("-inf")
    not_after: float = float("inf")


class _Chain(NamedTuple):
    """What has to be looked at again when authorities or lists are others.

    Attributes:
        root: in DER.
        links: each certificate's issuer and serial number.
    """

    root: bytes
    links: tuple[tuple[_Signer, int], ...]


class Authorities(NamedTuple):
    """Whom to trust, read and checked. That takes long where lists are long, and may be done in any thread.

    Attributes:
        certificates: in DER.
        revocations: serial numbers, by who has signed the list.
    """

    certificates: tuple[bytes, ...]
    revocations: _Revocations

    @classmethod
    def read(cls, ca: bytes, *, crl: bytes | None = None, name: str = "client CA") -> Authorities:
        """The authorities of PEM bundles, as for `ClientCA`.

        Raises:
            ConfigurationError: a bundle that cannot be read, or a list of no authority in `ca`.
        """
        try:
            certificates = pem_certificates(ca)
        except ValueError as error:
            raise ConfigurationError([Problem(name, str(error))]) from error
        return cls(certificates, {} if crl is None else _revocations(crl, certificates, name))


class ClientCA(Generic[_T]):
    """The authorities whose client certificates count for one purpose.

    A chain that ends in another authority is somebody else's, so that several of these share one listener. Chains are
    checked once per connection, their validity each time.

    Args:
        ca: the authorities, a PEM bundle.
        read: what a certificate that counts means to the caller; asked once per connection. May raise
            `InvalidCredentials` or `InvalidIdentity`.
        crl: certificate revocation lists, a PEM bundle; each signed by a member of `ca`, and effective for the
            certificates that this member issued itself. A list past its date keeps its effect. The list of an
            intermediate authority needs the certificate of that authority in the same bundle.
        name: what `ca` is called in error messages.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a bundle that cannot be read, or a list of no authority in `ca`.
    """

    def __init__(
        self,
        ca: bytes,
        read: Callable[[Subject], _T | None],
        *,
        crl: bytes | None = None,
        name: str = "client CA",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._name = name
        self._clock = clock
        self._believed: WeakKeyDictionary[Drain, _Chain] = WeakKeyDictionary()
        self.reload(ca, crl=crl)

    def __repr__(self) -> str:
        return f"ClientCA({self.size} authorities)"

    @property
    def size(self) -> int:
        """How many authorities there are."""
        return len(self._authorities)

    def reload(self, ca: bytes | Authorities, *, crl: bytes | None = None) -> None:
        """Trust these authorities from now on, also on connections that are open. On a mistake nothing changes.

        `Subject.withdrawal` begins for every chain that was believed and no longer counts.

        Raises:
            ConfigurationError: as on construction.
        """
        found = ca if isinstance(ca, Authorities) else Authorities.read(ca, crl=crl, name=self._name)
        self._authorities = frozenset(found.certificates)
        self._revocations = found.revocations
        self._checked: WeakKeyDictionary[Connection, _Checked[_T]] = WeakKeyDictionary()
        gone = [withdrawal for withdrawal, chain in self._believed.items() if not self._still_counts(chain)]
        for withdrawal in gone:
            del self._believed[withdrawal]
        for withdrawal in gone:
            withdrawal.begin()

    def find(self, connection: Connection) -> _T | None:
        """What `read` makes of the client's certificate; None without one, and with one of another authority.

        Raises:
            InvalidCredentials: not for clients, not valid now, revoked, or refused by `read`.
        """
        if not connection.chain:
            return None
        checked = self._checked.get(connection)
        if checked is None:
            checked = self._checked[connection] = self._check(connection.chain)
        if checked.complaint:
            raise InvalidCredentials(checked.complaint)
        if checked.found is not None and not checked.not_before <= self._clock() <= checked.not_after:
            raise InvalidCredentials("a certificate of the client's chain is expired or not valid yet")
        return checked.found

    def _check(self, shown: Sequence[bytes]) -> _Checked[_T]:
        if shown[-1] not in self._authorities:
            return _Checked(None)
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in shown]
            if not all(map(_is_for_clients, certificates)):
                return _Checked(None, "the client certificate may not be used by clients (extended key usage)")
            chain = _Chain(shown[-1], tuple(_links(certificates)))
            if self._is_revoked(chain):
                return _Checked(None, "a certificate of the client's chain is revoked")
            expires = min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
            subject = _subject(certificates[0], shown[0], expires)
            found = self._read(subject)
        except InvalidCredentials as error:
            return _Checked(None, str(error))
        except InvalidIdentity as error:
            return _Checked(None, f"the client certificate names nobody that can be used: {error}")
        except _UNDECODABLE:
            return _Checked(None, "the client certificate cannot be decoded")
        if found is not None:
            self._believed[subject.withdrawal] = chain
        return _Checked(
            found,
            "",
            max(certificate.not_valid_before_utc.timestamp() for certificate in certificates),
            expires,
        )

    def _still_counts(self, chain: _Chain) -> bool:
        return chain.root in self._authorities and not self._is_revoked(chain)

    def _is_revoked(self, chain: _Chain) -> bool:
        return any(serial in self._revocations.get(issuer, ()) for issuer, serial in chain.links)


def _revocations(crl: bytes, authorities: Sequence[bytes], name: str) -> _Revocations:
    """The serial numbers on the lists by who signed them; the signatures are checked here once."""
    try:
        lists = [x509.load_pem_x509_crl(block + _CRL_END) for block in crl.split(_CRL_END)[:-1]]
        revoked = [{each.serial_number for each in revocation} for revocation in lists]
    except _UNDECODABLE as error:
        raise ConfigurationError([Problem("CRL", "holds a list that cannot be decoded")]) from error
    if not lists:
        raise ConfigurationError([Problem("CRL", "holds no PEM list (-----BEGIN X509 CRL-----)")])
    signers = [*authorities, *_intermediates(crl, authorities, name)]
    found: dict[_Signer, set[int]] = {}
    for number, (revocation, serials) in enumerate(zip(lists, revoked, strict=True), 1):
        signed = [der for der in signers if _has_signed(der, revocation)]
        if not signed:
            text = f"list {number} is not signed by any authority of the {name}; {_BESIDE}"
            raise ConfigurationError([Problem("CRL", text)])
        for der in signed:
            found.setdefault(_signer(x509.load_der_x509_certificate(der)), set()).update(serials)
    return {signer: frozenset(serials) for signer, serials in found.items()}


def _intermediates(crl: bytes, authorities: Sequence[bytes], name: str) -> list[bytes]:
    """The authorities beside the lists, each of which another one has to have signed."""
    if _CERTIFICATE not in crl:
        return []
    try:
        waiting = list(pem_certificates(crl))
    except ValueError as error:
        raise ConfigurationError([Problem("CRL", str(error))]) from error
    found: list[bytes] = []
    while waiting:
        signed = [der for der in waiting if any(signed_by(der, by) for by in (*authorities, *found))]
        if not signed:
            text = f"a certificate beside the lists is not signed by any authority of the {name}"
            raise ConfigurationError([Problem("CRL", text)])
        found += signed
        waiting = [der for der in waiting if der not in signed]
    return found


def _signer(certificate: x509.Certificate) -> _Signer:
    """An authority, whichever of its certificates says so: its name and its key."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.subject.public_bytes(), key


def _links(certificates: Sequence[x509.Certificate]) -> Iterator[tuple[_Signer, int]]:
    for certificate, issuer in pairwise(certificates):
        yield _signer(issuer), certificate.serial_number


def _has_signed(authority: bytes, revocation: x509.CertificateRevocationList) -> bool:
    certificate = x509.load_der_x509_certificate(authority)
    try:
        if certificate.subject != revocation.issuer:
            return False
        return revocation.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError, UnsupportedAlgorithm):  # by a key of a kind that is not known here
        return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """Whether the extended key usage, if there is one, allows clients; an authority's limits what is below it."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    return not _CLIENT_PURPOSES.isdisjoint(usage.value)


def _subject(certificate: x509.Certificate, der: bytes, expires: float) -> Subject:
    names = _texts(certificate, NameOID.COMMON_NAME)
    if len(names) > 1:
        raise InvalidCredentials("the client certificate has several common names")
    return Subject(
        "".join(names),
        _texts(certificate, NameOID.ORGANIZATION_NAME),
        _texts(certificate, _USER_ID),
        fingerprint(der),
        expires,
    )


def _texts(certificate: x509.Certificate, kind: ObjectIdentifier) -> tuple[str, ...]:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(kind)]
    if any(isinstance(value, bytes) for value in values):
        raise InvalidCredentials("the client certificate has a name that is not text")
    return tuple(str(value) for value in values)
