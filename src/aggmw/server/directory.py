"""The directory of a front proxy: its authorities, certificates and kubeconfigs, made on the first start and kept.

::

    DIR/                          0700
    ├── serving-ca.crt .key         signs what servers show; clients trust it (it is in every kubeconfig)
    ├── server.crt .key             what the door shows
    ├── client-ca.crt .key          signs users' certificates
    ├── front-proxy-ca.crt .key     signs what the front proxy shows to backends; they believe X-Remote-* only with it
    ├── front-proxy-client.crt .key
    └── admin.kubeconfig            an identity in system:masters

Every key file is 0600. Keys are written before their certificates and never replaced; certificates are replaced whole.
So whatever a crash left behind fits together, and the next start completes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from aggmw.pki.make import KeyPair, issue_client
from aggmw.server.certificates import MOVE_AWAY, Certificates, still_good
from aggmw.server.files import make_directory, mistake, read_private, shown, working_in, write_file
from aggmw.server.kubeconfig import Access, certificate_user, merge_kubeconfig, render_kubeconfig

__all__ = ["CertificateFiles", "Directory"]

_log = structlog.get_logger("aggmw.server")

_ALWAYS = ("localhost", "127.0.0.1", "::1")
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_SERVING = ("serving-ca", "aggmw serving CA")
_CLIENT = ("client-ca", "aggmw client CA")
_FRONT_PROXY = ("front-proxy-ca", "aggmw front proxy CA")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate and its key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Directory:
    """An opened directory: every file named here exists and fits the others.

    Args:
        path: absolute.
    """

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, names: Sequence[str] = ()) -> Directory:
        """Make what is missing, renew what ends within 30 days or lacks a name, keep the rest.

        Several processes may do so at once.

        Args:
            path: made with its parents if it does not exist.
            names: host names and addresses that the server's certificate is for, besides localhost, 127.0.0.1 and
                ::1. Unspecified addresses ("0.0.0.0", "::") are no names and are skipped.

        Raises:
            ConfigurationError: all mistakes found, a line each, path first. No file is ever replaced because it is
                wrong, only because it is old.
        """
        directory = cls(Path(path).absolute())
        if make_directory(directory.path):
            _log.warning("others may list this directory, keys in it stay private", path=shown(directory.path))
        with working_in(directory.path):
            directory._complete([*_ALWAYS, *names])
        return directory

    @property
    def serving_ca(self) -> Path:
        """What verifies the door's certificate."""
        return self.path / "serving-ca.crt"

    @property
    def serving_ca_key(self) -> Path:
        return self.path / "serving-ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.path / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.path / "server.key"

    @property
    def client_ca(self) -> Path:
        """What verifies users' certificates."""
        return self.path / "client-ca.crt"

    @property
    def client_ca_key(self) -> Path:
        return self.path / "client-ca.key"

    @property
    def front_proxy_ca(self) -> Path:
        """What backends verify the front proxy with (`--requestheader-client-ca-file`)."""
        return self.path / "front-proxy-ca.crt"

    @property
    def front_proxy_ca_key(self) -> Path:
        return self.path / "front-proxy-ca.key"

    @property
    def front_proxy_certificate(self) -> Path:
        """What the front proxy shows to backends; its common name is "front-proxy-client"."""
        return self.path / "front-proxy-client.crt"

    @property
    def front_proxy_key(self) -> Path:
        return self.path / "front-proxy-client.key"

    def kubeconfig(self, name: str, *, server: str, user: str, groups: Sequence[str] = (), namespace: str = "") -> Path:
        """`DIR/<name>.kubeconfig` for a user with a client certificate: made, brought up to date, or kept.

        What people added to it stays.

        Args:
            name: letters, digits, `.`, `_`, `-`.
            server: the door's URL.
            user: the certificate's common name.
            groups: the certificate's organizations.
            namespace: what `-n` defaults to in a file that is made.

        Raises:
            ConfigurationError: the name cannot be one, the file is something else, or it cannot be written.
        """
        path = self.path / f"{self._stem(name)}.kubeconfig"
        with working_in(self.path):
            serving, clients = self._authorities(_SERVING, _CLIENT)
            existing = read_private(path)
            identity = _held(path, existing, user)
            if identity is None or not still_good(identity, clients, user, groups):
                identity = _new_identity(path, clients, user, groups)
            access = Access(
                server,
                serving.certificate,
                user,
                certificate=identity.certificate,
                key=identity.key,
                namespace=namespace,
            )
            data = render_kubeconfig(access) if existing is None else merge_kubeconfig(existing, access)
            if data != existing:
                write_file(path, data, private=True)
                _log.info("kubeconfig written", path=shown(path), user=user)
        return path

    def server(self, name: str, *, names: Sequence[str]) -> CertificateFiles:
        """`DIR/<name>.crt` and `.key` for a further server, signed by the serving CA: made, renewed, or kept.

        Args:
            name: letters, digits, `.`, `_`, `-`.
            names: host names and addresses, at least one.

        Raises:
            ConfigurationError: as `open`.
        """
        stem = self._stem(name)
        with working_in(self.path):
            certificates = Certificates(self.path)
            certificates.server(stem, certificates.authority(*_SERVING), names)
            certificates.finish()
        return CertificateFiles(self.path / f"{stem}.crt", self.path / f"{stem}.key")

    def _complete(self, names: Sequence[str]) -> None:
        certificates = Certificates(self.path)
        serving = certificates.authority(*_SERVING)
        certificates.authority(*_CLIENT)
        front_proxy = certificates.authority(*_FRONT_PROXY)
        certificates.server("server", serving, names)
        certificates.client("front-proxy-client", front_proxy, "front-proxy-client")
        certificates.finish()

    def _authorities(self, *wanted: tuple[str, str]) -> list[KeyPair]:
        certificates = Certificates(self.path)
        found = [certificates.authority(*each) for each in wanted]
        certificates.finish()
        return [pair for pair in found if pair is not None]

    def _stem(self, name: str) -> str:
        if not _STEM.match(name):
            raise mistake(self.path, f"{name!r} cannot name a file here: use letters, digits, '.', '_' and '-'")
        return name


def _held(path: Path, existing: bytes | None, user: str) -> KeyPair | None:
    """The identity that an existing kubeconfig holds."""
    try:
        pair = None if existing is None else certificate_user(existing, user)
    except ValueError as error:
        raise mistake(path, f"{error}; {MOVE_AWAY}") from error
    return None if pair is None else KeyPair(*pair)


def _new_identity(path: Path, ca: KeyPair, user: str, groups: Sequence[str]) -> KeyPair:
    try:
        return issue_client(ca, user, groups=groups)
    except ValueError as error:
        raise mistake(path, f"cannot be made: {error}") from error
