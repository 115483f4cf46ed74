"""TLS towards backends: the service's CA, its name, and the front-proxy client certificate (wire contract §1.10)."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from aggmw.contracts.backends import Backend
from aggmw.errors import ConfigurationError, Problem, UpstreamUnreachable

__all__ = [
    "ClientCertificate",
    "ClientCertificatePair",
    "KeyPairPem",
    "explained",
    "no_password",
    "trusting_context",
    "upstream_context",
]

_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]*-----END (?:TRUSTED )?CERTIFICATE-----")


class KeyPairPem(NamedTuple):
    """A certificate, leaf first, and its private key, as they were read."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPairPem(…)"


@dataclass(frozen=True, slots=True)
class ClientCertificatePair:
    """What the front proxy shows to backends.

    Args:
        certificate: PEM file, leaf first.
        key: PEM file of its private key, not encrypted.
    """

    certificate: Path
    key: Path

    def read(self) -> KeyPairPem:
        """Both files, as a pair that can be used.

        Raises:
            ConfigurationError: they cannot, each mistake with its file.
        """
        problems: list[Problem] = []
        pem = KeyPairPem(_read(self.certificate, problems), _read(self.key, problems))
        if not problems:
            try:
                _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)
            except (OSError, ValueError) as error:
                problems.append(explained(error, self.certificate, self.key, pem))
        if problems:
            raise ConfigurationError(problems)
        return pem


class ClientCertificate:
    """What is shown to backends at the moment: read from its files when it is first needed, and when it is told to.

    Args:
        pair: the files; None to show nothing.
    """

    def __init__(self, pair: ClientCertificatePair | None) -> None:
        self._pair = pair
        self._pem: KeyPairPem | None = None

    def __repr__(self) -> str:
        return f"ClientCertificate({'' if self._pair is None else self._pair.certificate})"

    def shown(self) -> KeyPairPem | None:
        """What new connections show.

        Raises:
            UpstreamUnreachable: it could never be read.
        """
        if self._pem is None and self._pair is not None:
            try:
                self._pem = self._pair.read()
            except ConfigurationError as error:
                raise UpstreamUnreachable("the front proxy's own certificate cannot be used") from error
        return self._pem

    def reload(self) -> bool:
        """Read the files again; whether there is anything new in them.

        Raises:
            ConfigurationError: they cannot be used; what was shown before is still shown.
        """
        before, self._pem = self._pem, None if self._pair is None else self._pair.read()
        return self._pem != before


def upstream_context(backend: Backend, shown: KeyPairPem | None) -> ssl.SSLContext:
    """The context to dial a backend with. The name to verify is given at the handshake.

    Built by hand: trust is the backend's CA or the system's roots, names are read from the subject alternative names
    only, TLS 1.2 is the least, HTTP/1.1 the only protocol offered. Sessions are never resumed.

    Args:
        backend: whom to trust.
        shown: the client certificate.

    Raises:
        UpstreamUnreachable: the CA bundle cannot be used.
    """
    context = _bare_context()
    if backend.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, backend.ca)
    if shown is not None and backend.shows_certificate:
        _show(context, shown)
    return context


def trusting_context(ca: bytes = b"", *, shown: KeyPairPem | None = None) -> ssl.SSLContext:
    """The context to reach somebody else with who is no backend: an issuer of tokens, a webhook.

    Args:
        ca: whom to trust, a PEM bundle; empty: the system's roots.
        shown: the client certificate.

    Raises:
        UpstreamUnreachable: the CA bundle cannot be used.
    """
    context = _bare_context()
    _trust(context, ca)
    if shown is not None:
        _show(context, shown)
    return context


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    return context


def _trust(context: ssl.SSLContext, bundle: bytes) -> None:
    """Only the certificates of the bundle are read: what stands between them may be text in any encoding. An empty
    bundle stands for the system's.
    """
    if not bundle:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    blocks = b"\n".join(_CERTIFICATE.findall(bundle))
    try:
        context.load_verify_locations(cadata=blocks.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UpstreamUnreachable("its CA bundle cannot be used") from error


def _show(context: ssl.SSLContext, pem: KeyPairPem) -> None:
    with _as_file(pem.certificate) as certificate, _as_file(pem.key) as key:
        context.load_cert_chain(certificate, key, password=no_password)


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which reads nothing else, finds these bytes, and no other user does."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("aggmw"), "wb") as memory:
            memory.write(data)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with TemporaryDirectory() as folder:
            path = Path(folder, "pem")
            path.write_bytes(data)
            yield str(path)


def no_password() -> str:
    """For `load_cert_chain`: without it OpenSSL would ask the terminal.

    Raises:
        ValueError: whenever it is asked.
    """
    raise ValueError("no password")


def explained(error: Exception, certificate: Path, key: Path, pem: KeyPairPem) -> Problem:
    """Why `load_cert_chain` would not take a pair.

    Args:
        error: what it raised.
        certificate, key: the files.
        pem: what was read from them.
    """
    if isinstance(error, ValueError):
        return Problem(str(key), "is encrypted; the key must be without a password")
    if not isinstance(error, ssl.SSLError):
        return Problem(str(certificate), f"cannot be used: {error}")
    if error.reason == "KEY_VALUES_MISMATCH":
        return Problem(str(key), f"does not belong to the certificate in {certificate}")
    if b"-----BEGIN CERTIFICATE-----" not in pem.certificate:
        return Problem(str(certificate), "is not a certificate in PEM")
    if b"PRIVATE KEY-----" not in pem.key:
        return Problem(str(key), "is not a private key in PEM")
    return Problem(str(certificate), f"certificate or key cannot be used ({error.reason or 'not PEM'})")


def _read(path: Path, problems: list[Problem]) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        problems.append(Problem(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}"))
        return b""
