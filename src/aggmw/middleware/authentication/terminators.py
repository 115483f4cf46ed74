"""Client certificates in header fields, from whoever ends TLS in front: RFC 9440, and Envoy's XFCC."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from aggmw.asgi.headers import first, values
from aggmw.asgi.types import Headers
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Identity, Presented
from aggmw.contracts.peers import Peers
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication.client_cert import ClientCertificates
from aggmw.pki.paths import build_chain
from aggmw.pki.read import pem_certificates
from aggmw.pki.verify import Authorities

__all__ = ["FIELDS", "ForwardedCertificates"]

Field: TypeAlias = Literal["client-cert", "x-forwarded-client-cert"]
FIELDS: tuple[Field, ...] = ("client-cert", "x-forwarded-client-cert")

_REMEMBERED = 1024
_BINARY = re.compile(rb":([A-Za-z0-9+/]+={0,2}):").fullmatch
_PAIR = re.compile(rb'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)([;,]|$)')


class ForwardedCertificates:
    """Callers by the client certificate that a TLS terminator in front has seen and passes on in a header field.

    The field counts only on connections whose other end, as this server's socket sees it, is a listed terminator; from
    everybody else it is removed unread. The terminator must remove the field from what clients send. Its word is that
    the client holds the certificate's key; whose certificate it is, and whether it counts, is checked here as for
    `ClientCertificates`: the chain to `ca`, validity, extended key usage and revocation.

    Args:
        ca: the authorities, a PEM bundle.
        peers: addresses and networks of the terminators.
        field: "client-cert", which comes with "client-cert-chain" (RFC 9440), or "x-forwarded-client-cert" with `Cert`
            or `Chain` (Envoy), and exactly one element.
        crl: as for `ClientCertificates`.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a bundle that cannot be read, or a list of no authority in `ca`.
        ValueError, TypeError: peers that cannot be read, or an unknown field.
    """

    credentials: frozenset[bytes] = frozenset()  # these fields go on every request

    def __init__(
        self,
        ca: bytes,
        *,
        peers: Iterable[str],
        field: Field = "client-cert",
        crl: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if field not in FIELDS:
            raise ValueError(f"field must be one of {', '.join(FIELDS)}, not {field!r}")
        self._peers = Peers(peers)
        self._field = field
        self._certificates = ClientCertificates(ca, crl=crl, clock=clock)
        self._authorities = pem_certificates(ca)
        self._seen: dict[Headers, Connection] = {}

    def __repr__(self) -> str:
        return f"ForwardedCertificates({len(self._authorities)} authorities, peers={self._peers!r})"

    def reload(self, ca: bytes | Authorities, *, crl: bytes | None = None) -> None:
        """Trust these authorities from now on. On a mistake nothing changes.

        Raises:
            ConfigurationError: as on construction.
        """
        self._certificates.reload(ca, crl=crl)
        self._authorities = ca.certificates if isinstance(ca, Authorities) else pem_certificates(ca)
        self._seen = {}

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As `identify`."""
        return self.identify(presented)

    def identify(self, presented: Presented) -> Identity | None:
        """Whose certificate it is; None without one, from others than terminators, and of another authority.

        Raises:
            InvalidCredentials: a field that cannot be read, or a certificate that does not count.
        """
        connection = presented.connection
        if connection.peer is None or connection.peer[0] not in self._peers:
            return None
        fields = tuple([each for each in presented.headers if each[0] in (self._field.encode(), b"client-cert-chain")])
        if not fields:
            return None
        if not connection.trailers_apart and first(presented.headers, b"transfer-encoding") is not None:
            raise InvalidCredentials(
                f"{self._field} beside Transfer-Encoding, under a server that mixes trailers into the headers"
            )
        seen = self._seen.get(fields)
        if seen is None:
            seen = self._look(fields)
            if len(self._seen) >= _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[fields] = seen
        return self._certificates.find(seen)

    def _look(self, fields: Headers) -> Connection:
        """As if the client had come by itself."""
        try:
            if self._field == "client-cert":
                certificates = [*_binaries(fields, b"client-cert", most=1), *_binaries(fields, b"client-cert-chain")]
            else:
                certificates = _from_envoy(values(fields, b"x-forwarded-client-cert"))
            return Connection(chain=build_chain(certificates, self._authorities))
        except ValueError as error:
            raise InvalidCredentials(f"{self._field}: {error}") from None


def _binaries(fields: Headers, name: bytes, most: int | None = None) -> Iterator[bytes]:
    """Byte sequences of structured fields (RFC 8941 §3.3.5): one, or a list over all fields of the name."""
    found = values(fields, name)
    if most is not None and len(found) != most:
        raise ValueError(f"it is there {len(found)} times")
    for value in found:
        for item in [value] if most is not None else value.split(b","):
            match = _BINARY(item.strip(b" \t"))
            if match is None:
                raise ValueError("not a byte sequence such as :MIIB…:")
            try:
                yield base64.b64decode(match[1], validate=True)
            except binascii.Error:
                raise ValueError("not base64") from None


def _from_envoy(found: list[bytes]) -> list[bytes]:
    """The certificates of the one element of `X-Forwarded-Client-Cert`."""
    if len(found) != 1:
        raise ValueError(f"it is there {len(found)} times")
    pairs: dict[bytes, bytes] = {}
    value, position = found[0], 0
    while position < len(value):
        match = _PAIR.match(value, position)
        if match is None:
            raise ValueError("cannot be read")
        key, text, end = match[1].lower(), match[2].strip(b'"'), match[3]
        if end == b",":
            raise ValueError("several elements: the terminator has to set the field, not to append to it")
        if key in (b"cert", b"chain"):
            if key in pairs:
                raise ValueError("a certificate twice in one element")
            pairs[key] = text
        position = match.end()
    certificates: list[bytes] = []
    for key in (b"cert", b"chain"):
        if key in pairs:
            certificates += pem_certificates(unquote_to_bytes(pairs[key]))
    if not certificates:
        raise ValueError("no Cert and no Chain in it")
    return list(dict.fromkeys(certificates))
