"""Building the path of a certificate that somebody else's TLS has seen (RFC 5280 §6.1, as far as clients need it)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

__all__ = ["MAX_CERTIFICATES", "build_chain"]

MAX_CERTIFICATES = 10
"""In one chain, the leaf included, the root left out."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
"""What may be critical; a certificate with another critical extension is not used."""


def build_chain(certificates: Sequence[bytes], authorities: Sequence[bytes]) -> tuple[bytes, ...]:
    """The chain of the first certificate in DER, leaf first, root last; empty when it ends in none of `authorities`.

    Signatures, names, basic constraints, path lengths and key usage are checked; under an authority with name
    constraints there is no chain. Validity, extended key usage and revocation are not: `ClientCA` does that.

    Args:
        certificates: the leaf, and others that may lie between it and an authority, in any order.
        authorities: whom to trust, in DER.

    Raises:
        ValueError: too many certificates, or one that cannot be decoded.
    """
    if not 0 < len(certificates) <= MAX_CERTIFICATES:
        raise ValueError(f"{len(certificates)} certificates instead of 1 to {MAX_CERTIFICATES}")
    try:
        leaf, *others = [_Certificate(der) for der in certificates]
        trusted = [_Certificate(der) for der in authorities]
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError("a certificate cannot be decoded") from error
    if not leaf.usable:
        return ()
    return tuple([each.der for each in _path(leaf, others, trusted)])


class _Certificate:
    """A certificate, and what decides whether it may sign others."""

    __slots__ = ("_limit", "_signs", "certificate", "der", "usable")

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.certificate = x509.load_der_x509_certificate(der)
        extensions = self.certificate.extensions
        # Name constraints bind whether they are called critical or not, and they are not followed here.
        restricting = [each.oid for each in extensions if each.critical or each.oid == ExtensionOID.NAME_CONSTRAINTS]
        self.usable = _UNDERSTOOD.issuperset(restricting)
        self._signs = False
        self._limit: int | None = None
        try:
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            return
        self._signs = self.usable and constraints.ca
        self._limit = constraints.path_length
        with suppress(x509.ExtensionNotFound):
            self._signs = self._signs and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign

    def has_signed(self, other: _Certificate, below: int) -> bool:
        """Whether it is the issuer of `other`, under which there are `below` further authorities."""
        if not self._signs or (self._limit is not None and below > self._limit):
            return False
        try:
            other.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


def _path(
    leaf: _Certificate, others: Sequence[_Certificate], trusted: Sequence[_Certificate]
) -> Sequence[_Certificate]:
    """The shortest chain; empty when there is none.

    Each certificate is tried once, where it is nearest to the leaf: a chain on which it is farther away is none the
    better for it. So nobody can send ten that have all signed each other, and have every order of them tried.
    """
    begun = [[leaf]]
    waiting = list(others)
    for chain in begun:
        last, below = chain[-1], len(chain) - 1
        for authority in trusted:
            if authority.has_signed(last, below):
                return [*chain, authority]
        above = [each for each in waiting if each.has_signed(last, below)]
        waiting = [each for each in waiting if each not in above]
        begun += [[*chain, each] for each in above]
    return ()
