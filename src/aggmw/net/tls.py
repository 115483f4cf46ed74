"""TLS towards backends: the service's CA, its name, and the front-proxy client certificate (wire contract §1.10)."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable

__all__ = ["ClientCertificatePair", "upstream_context"]

_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]*-----END (?:TRUSTED )?CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class ClientCertificatePair:
    """What the front proxy shows to backends.

    Args:
        certificate: PEM file, leaf first.
        key: PEM file of its private key, not encrypted.
    """

    certificate: Path
    key: Path


def upstream_context(backend: Backend, client_certificate: ClientCertificatePair | None) -> ssl.SSLContext:
    """The context to dial a backend with. The name to verify is given at the handshake.

    Built by hand: trust is the backend's CA or the system's roots, names are read from the subject alternative names
    only, TLS 1.2 is the least, HTTP/1.1 the only protocol offered.

    Raises:
        UpstreamUnreachable: the CA bundle or the client certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    if backend.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif backend.ca:
        _trust(context, backend.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if client_certificate is not None:
        _show(context, client_certificate)
    return context


def _trust(context: ssl.SSLContext, bundle: bytes) -> None:
    """Only the certificates of the bundle are read: what stands between them may be text in any encoding."""
    blocks = b"\n".join(_CERTIFICATE.findall(bundle))
    try:
        context.load_verify_locations(cadata=blocks.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UpstreamUnreachable("its CA bundle cannot be used") from error


def _show(context: ssl.SSLContext, pair: ClientCertificatePair) -> None:
    try:
        # A password is given so that OpenSSL never asks the terminal for one.
        context.load_cert_chain(pair.certificate, pair.key, password="")
    except (OSError, ValueError) as error:
        raise UpstreamUnreachable("the front proxy's own certificate cannot be used") from error
