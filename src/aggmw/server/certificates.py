"""Certificates with their keys in one directory: checked, completed after a crash, renewed.

A key is written before its certificate and never replaced; a certificate is replaced whole. So whatever a crash left
behind fits together.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from aggmw.errors import ConfigurationError, Problem
from aggmw.pki.make import KeyPair, canonical_name, issue_client, issue_server, make_ca, make_key
from aggmw.pki.read import (
    CertificateDetails,
    UnreadablePem,
    certificate_details,
    key_matches,
    pem_certificates,
    signed_by,
)
from aggmw.server.files import mistake, read_file, read_private, shown, write_file

__all__ = ["MOVE_AWAY", "Certificates", "still_good"]

_log = structlog.get_logger("aggmw.server")

_RENEW_BEFORE = timedelta(days=30)
MOVE_AWAY = "move it away to have a new one made"


def still_good(pair: KeyPair, ca: KeyPair, user: str, groups: Sequence[str]) -> bool:
    """Whether a client certificate is this user's, signed by `ca`, and not about to end."""
    try:
        leaf, authority = pem_certificates(pair.certificate)[0], pem_certificates(ca.certificate)[0]
        details = certificate_details(leaf)
        return (
            key_matches(pair.key, leaf)
            and signed_by(leaf, authority)
            and (details.common_name, details.organizations) == (user, tuple(groups))
            and not _ends_soon(details)
        )
    except UnreadablePem:
        return False


class Certificates:
    """One pass over a directory whose lock is held. Mistakes are collected; `finish` raises them together.

    An authority that exists is never made again: everything it signed would become worthless. No file is replaced
    because it is wrong, only because it is old.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def finish(self) -> None:
        """Raises:
        ConfigurationError: everything that was wrong since the beginning.
        """
        if self._problems:
            raise ConfigurationError(self._problems)

    def authority(self, stem: str, common_name: str) -> KeyPair | None:
        """The authority in `<stem>.crt` and `.key`; None when there is a mistake about it."""
        return self._pair(stem, lambda key: make_ca(common_name, key=key), _check_authority, lambda _: False)

    def server(self, stem: str, ca: KeyPair | None, names: Sequence[str]) -> None:
        """A server certificate for all of `names`, renewed when one of them is missing."""
        try:
            wanted = _wanted(names)
        except ValueError as error:
            self._problems.extend(mistake(self._path / f"{stem}.crt", f"cannot be made: {error}").problems)
            return
        if ca is not None:
            self._leaf(
                stem,
                ca,
                lambda key: issue_server(ca, stem, names=wanted, key=key),
                lambda details: not details.names.issuperset(wanted),
            )

    def client(self, stem: str, ca: KeyPair | None, user: str) -> None:
        """A client certificate without groups."""
        if ca is not None:
            self._leaf(
                stem,
                ca,
                lambda key: issue_client(ca, user, key=key),
                lambda details: details.common_name != user,
            )

    def _leaf(
        self,
        stem: str,
        ca: KeyPair,
        issue: Callable[[bytes], KeyPair],
        outdated: Callable[[CertificateDetails], bool],
    ) -> None:
        (authority,) = pem_certificates(ca.certificate)

        def check(der: bytes, _: CertificateDetails) -> str | None:
            return None if signed_by(der, authority) else f"was not signed by the authority beside it; {MOVE_AWAY}"

        self._pair(stem, issue, check, lambda details: _ends_soon(details) or outdated(details))

    def _pair(
        self,
        stem: str,
        issue: Callable[[bytes], KeyPair],
        check: Callable[[bytes, CertificateDetails], str | None],
        outdated: Callable[[CertificateDetails], bool],
    ) -> KeyPair | None:
        certificate_path, key_path = self._path / f"{stem}.crt", self._path / f"{stem}.key"
        try:
            key, certificate = read_private(key_path), read_file(certificate_path)
            if certificate is not None:
                details = _checked(certificate_path, certificate, key_path, key, check)
                if key is not None and not outdated(details):
                    return KeyPair(certificate, key)
            if key is None:
                key = make_key()
                write_file(key_path, key, private=True)
            pair = _issued(key_path, issue, key)
            write_file(certificate_path, pair.certificate, private=False)
        except ConfigurationError as error:
            self._problems.extend(error.problems)
            return None
        _log.info("certificate made" if certificate is None else "certificate renewed", path=shown(certificate_path))
        return KeyPair(pair.certificate, key)


def _checked(
    path: Path,
    certificate: bytes,
    key_path: Path,
    key: bytes | None,
    check: Callable[[bytes, CertificateDetails], str | None],
) -> CertificateDetails:
    """What the certificate says, if it is one, alone, belongs to the key and passes `check`."""
    if key is None:
        raise mistake(key_path, f"is missing, though {path.name} exists; bring it back, or move that away too")
    try:
        ders = pem_certificates(certificate)
        details = certificate_details(ders[0])
    except UnreadablePem as error:
        raise mistake(path, f"{error}; {MOVE_AWAY}") from error
    if len(ders) > 1:
        raise mistake(path, f"holds {len(ders)} certificates instead of one; {MOVE_AWAY}")
    try:
        fits = key_matches(key, ders[0])
    except UnreadablePem as error:
        raise mistake(key_path, f"{error}; move it and {path.name} away to have new ones made") from error
    if not fits:
        raise mistake(key_path, f"does not belong to the certificate in {path.name}")
    if (wrong := check(ders[0], details)) is not None:
        raise mistake(path, wrong)
    return details


def _issued(key_path: Path, issue: Callable[[bytes], KeyPair], key: bytes) -> KeyPair:
    try:
        return issue(key)
    except ValueError as error:  # a key without certificate that is none
        raise mistake(key_path, f"{error}; {MOVE_AWAY}") from error


def _check_authority(_: bytes, details: CertificateDetails) -> str | None:
    if not details.authority:
        return f"is not the certificate of an authority (CA:TRUE); {MOVE_AWAY}"
    if details.not_after <= datetime.now(UTC):
        return f"expired on {details.not_after:%Y-%m-%d}; move it, its key and what it signed away"
    return None


def _ends_soon(details: CertificateDetails) -> bool:
    return details.not_after - datetime.now(UTC) < _RENEW_BEFORE


def _wanted(names: Sequence[str]) -> list[str]:
    """Canonical, without repetitions, without addresses that mean "all of mine"."""
    wanted = [name for name in dict.fromkeys(canonical_name(name) for name in names if name) if not _unspecified(name)]
    if not wanted:
        raise ValueError("a server certificate needs at least one name")
    return wanted


def _unspecified(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False
