"""TLS towards backends: the service's CA, its name, and the front-proxy client certificate (wire contract §1.10)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable

__all__ = ["ClientCertificatePair", "upstream_context"]


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
        try:
            context.load_verify_locations(cadata=backend.ca.decode("utf-8"))
        except (ssl.SSLError, ValueError) as error:
            raise UpstreamUnreachable("its CA bundle cannot be used") from error
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if client_certificate is not None:
        try:
            context.load_cert_chain(client_certificate.certificate, client_certificate.key)
        except (OSError, ssl.SSLError) as error:
            raise UpstreamUnreachable("the front proxy's own certificate cannot be used") from error
    return context
