"""TLS at the door: contexts that never resume, client certificates of several authorities, reloading at run time.

OpenSSL does not verify a certificate again when a session is resumed, and gives an empty chain, so a client that was
cut off would keep its name. Hence no tickets, and no cache: each connection begins in a context of its own, which the
SNI callback (called without SNI too) exchanges for the newest one with certificate and authorities.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from aggmw.errors import ConfigurationError, Problem
from aggmw.net.tls import KeyPairPem, explained, no_password

__all__ = ["DoorTLS", "verified_chain"]

_log = structlog.get_logger("aggmw.server")

_OPTIONS = ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption only
# Neither CRLs, which OpenSSL would then demand of every authority, nor VERIFY_X509_STRICT. Any certificate of a bundle
# is trusted, self-signed or not, as in Go.
_VERIFY_FLAGS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


class DoorTLS:
    """What the door shows and whom it believes.

    Args:
        certificate: PEM file, leaf first.
        key: PEM file, not encrypted.
        client_ca: PEM bundles of all authorities that sign client certificates, each a file, read again by `reload`, or
            bytes. Clients may then show a certificate; one that none of them signed, or that is expired, ends in a TLS
            alert, because CPython leaves no way to let it pass as a stranger. Which authority it was is for the
            authenticators to see from the chain's last certificate.

    Raises:
        ConfigurationError: every file that cannot be used, path first.
    """

    def __init__(self, *, certificate: Path, key: Path, client_ca: Sequence[bytes | Path] = ()) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = tuple(client_ca)
        self._newest = self._load()
        self._context = _Entrance(ssl.PROTOCOL_TLS_SERVER)
        self._context.furnish(self)

    @property
    def context(self) -> ssl.SSLContext:
        """For `create_server(ssl=…)`; always the same object, whatever is loaded again."""
        return self._context

    @property
    def newest(self) -> ssl.SSLContext:
        """The context with what was loaded last."""
        return self._newest

    def reload(self, *, client_ca: Sequence[bytes | Path] | None = None) -> None:
        """Read all files again, in any thread.

        New connections meet the new certificate and authorities, open ones stay.

        Args:
            client_ca: other authorities than before.

        Raises:
            ConfigurationError: a file cannot be used; everything stays as it was.
        """
        before = self._client_ca
        self._client_ca = before if client_ca is None else tuple(client_ca)
        try:
            # A new context: certificates can be added to one, never taken out.
            self._newest = self._load()
        except ConfigurationError:
            self._client_ca = before
            raise

    def enter(self) -> ssl.SSLContext:
        """The context that one connection begins in."""
        context = _bare(ssl.CERT_OPTIONAL if self._client_ca else ssl.CERT_NONE)
        context.sni_callback = self._exchange
        return context

    def _exchange(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = _bare(ssl.CERT_OPTIONAL if self._client_ca else ssl.CERT_NONE)
        problems = [*self._load_certificate(context)]
        for number, bundle in enumerate(self._client_ca, 1):
            problems += _load_authorities(context, bundle, number)
        if problems:
            raise ConfigurationError(problems)
        return context

    def _load_certificate(self, context: ssl.SSLContext) -> list[Problem]:
        unread = [problem for path in (self._certificate, self._key) if (problem := _unreadable(path))]
        if unread:
            return unread
        try:
            context.load_cert_chain(self._certificate, self._key, password=no_password)
        except (OSError, ValueError) as error:
            pem = KeyPairPem(self._certificate.read_bytes(), self._key.read_bytes())
            return [explained(error, self._certificate, self._key, pem)]
        return []


class _Entrance(ssl.SSLContext):
    """Starts every connection in a context of its own: session caches belong to the context a connection starts in."""

    _tls: DoorTLS

    def furnish(self, tls: DoorTLS) -> None:
        """Say where contexts come from."""
        self._tls = tls

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As `SSLContext.wrap_bio`, in a new context."""
        context = self._tls.enter()
        connection: Any = context.wrap_bio(*args, **kwargs)
        # A second ClientHello (TLS 1.3, HelloRetryRequest) calls back into this context, which must still be there
        # though the connection has another by then.
        connection.entrance = context
        wrapped: ssl.SSLObject = connection
        return wrapped


def _bare(verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    context.num_tickets = 0
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = verify_mode
    context.verify_flags = _VERIFY_FLAGS
    return context


def _unreadable(path: Path) -> Problem | None:
    try:
        path.read_bytes()
    except OSError as error:
        return Problem(str(path), f"cannot be read: {error.strerror}")
    return None


def _load_authorities(context: ssl.SSLContext, bundle: bytes | Path, number: int) -> list[Problem]:
    where = str(bundle) if isinstance(bundle, Path) else f"client CA {number}"
    try:
        data = bundle.read_bytes() if isinstance(bundle, Path) else bundle
        context.load_verify_locations(cadata=data.decode("utf-8"))
    except ssl.SSLError:
        return [Problem(where, "is not a bundle of certificates in PEM")]
    except OSError as error:
        return [Problem(where, f"cannot be read: {error.strerror}")]
    except ValueError:
        return [Problem(where, "is not a bundle of certificates in PEM")]
    return []


def verified_chain(transport: asyncio.BaseTransport) -> tuple[bytes, ...]:
    """The client's certificates in DER as OpenSSL verified them, leaf first, root last.

    Empty without a client certificate, for a resumed session, and where this Python cannot tell.
    """
    connection = transport.get_extra_info("ssl_object")
    if connection is None or connection.getpeercert(binary_form=True) is None:
        return ()
    if connection.session_reused:
        _log.warning("client certificate of a resumed session ignored")
        return ()
    # Public from 3.13 on, in DER; before that on the object underneath.
    chain: Callable[[], Sequence[Any] | None] | None = getattr(connection, "get_verified_chain", None)
    if chain is None:
        chain = getattr(getattr(connection, "_sslobj", None), "get_verified_chain", None)
    if chain is None:
        _say_once()
        return ()
    return tuple([_der(certificate) for certificate in chain() or ()])


def _der(certificate: Any) -> bytes:
    """A certificate, or CPython's private object for one, in DER."""
    if isinstance(certificate, bytes):
        return certificate
    data: bytes | str = certificate.public_bytes(2)  # _ssl.ENCODING_DER
    return data if isinstance(data, bytes) else ssl.PEM_cert_to_DER_cert(data)


_said = False


def _say_once() -> None:
    global _said
    if not _said:
        _said = True
        _log.error("client certificates are ignored: this Python does not show verified chains")
