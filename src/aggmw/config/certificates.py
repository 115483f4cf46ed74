"""Who is believed by a certificate: clients, front proxies in front, and those who end TLS in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aggmw.config.configuration import Configuration, RequestHeaderConfiguration
from aggmw.config.reloads import read_aside
from aggmw.contracts.identity import Authenticator
from aggmw.contracts.reloading import Reload
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authentication import ClientCertificates, ForwardedCertificates, FrontProxies
from aggmw.pki.read import pem_certificates
from aggmw.pki.verify import Authorities

__all__ = ["ByCertificate", "by_certificate", "read_bundle"]

_SHARED = (
    "is needed: the CA also signs client certificates, so without names of front proxies every client could be anybody"
)


@dataclass(frozen=True, slots=True)
class ByCertificate:
    """Authenticators that look at certificates.

    Args:
        authenticators: in the order in which they are asked.
        bundles: files of the authorities whose certificates the TLS door accepts.
        reloads: what can be read again, by name.
    """

    authenticators: tuple[Authenticator, ...]
    bundles: tuple[Path, ...]
    reloads: Mapping[str, Reload]


def by_certificate(configuration: Configuration, client_ca: Path) -> ByCertificate:
    """The authenticators that a configuration describes.

    Args:
        configuration: its `authentication`.
        client_ca: the directory's own.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    authentication = configuration.authentication
    files = [path for path in (client_ca, authentication.client_ca) if path is not None]
    problems: list[Problem] = []
    authorities: tuple[bytes, bytes | None] | None = None
    try:
        authorities = _authorities(files, authentication.crls)
    except ConfigurationError as error:
        problems += error.problems
    front_proxies: FrontProxies | None = None
    if (header := authentication.request_header) is not None:
        try:
            ca, crl = _front_proxy_ca(configuration, header, authorities)
            front_proxies = FrontProxies(
                ca,
                allowed_names=header.allowed_names,
                crl=crl,
                user_headers=header.user_headers,
                uid_headers=header.uid_headers,
                group_headers=header.group_headers,
                extra_prefixes=header.extra_prefixes,
            )
        except ConfigurationError as error:
            problems += error.problems
    if problems or authorities is None:
        raise ConfigurationError(problems)
    clients: list[ClientCertificates | ForwardedCertificates] = [ClientCertificates(authorities[0], crl=authorities[1])]
    if (terminators := authentication.terminators) is not None:
        ca, crl = authorities
        clients.append(ForwardedCertificates(ca, peers=terminators.peers, field=terminators.field, crl=crl))

    def read() -> Authorities:
        ca, crl = _authorities(files, authentication.crls)
        return Authorities.read(ca, crl=crl)

    def use(found: Authorities) -> None:
        for each in clients:
            each.reload(found)

    reloads: dict[str, Reload] = {"client CAs and CRLs": read_aside(read, use)}
    if header is None or front_proxies is None:
        return ByCertificate(tuple(clients), tuple(files), reloads)

    def read_front_proxies() -> Authorities:
        ca, crl = _front_proxy_ca(configuration, header, _authorities(files, ()))
        return Authorities.read(ca, crl=crl, name="front-proxy CA")

    reloads["front-proxy CA"] = read_aside(read_front_proxies, front_proxies.reload)
    return ByCertificate((front_proxies, *clients), (*files, header.ca), reloads)


def read_bundle(path: Path) -> bytes:
    """A PEM bundle that is one.

    Raises:
        ConfigurationError: it cannot be read, or holds no certificate.
    """
    data = _read(path)
    try:
        pem_certificates(data)
    except ValueError as error:
        raise ConfigurationError([Problem(str(path), str(error))]) from error
    return data


def _authorities(files: list[Path], crls: tuple[Path, ...], *, name: str = "client CA") -> tuple[bytes, bytes | None]:
    """All bundles in one, and all revocation lists, each of which was looked at by itself."""
    problems: list[Problem] = []
    bundles: list[bytes] = []
    for path in files:
        try:
            bundles.append(read_bundle(path))
        except ConfigurationError as error:
            problems += error.problems
    ca = b"\n".join(bundles)
    lists: list[bytes] = []
    for path in crls:
        try:
            lists.append(_read(path))
            if not problems:
                Authorities.read(ca, crl=lists[-1], name=name)
        except ConfigurationError as error:
            problems += [Problem(str(path), each.message) for each in error.problems]
    if problems:
        raise ConfigurationError(problems)
    return ca, b"\n".join(lists) if lists else None


def _front_proxy_ca(
    configuration: Configuration, header: RequestHeaderConfiguration, clients: tuple[bytes, bytes | None] | None
) -> tuple[bytes, bytes | None]:
    """The CA of front proxies, and its lists; one that signs clients, too, needs names of front proxies beside it."""
    ca, crl = _authorities([header.ca], header.crls, name="front-proxy CA")
    shared = clients is not None and not set(pem_certificates(ca)).isdisjoint(pem_certificates(clients[0]))
    if shared and not header.allowed_names:
        where = f"{configuration.source}: authentication.requestHeader.allowedNames"
        raise ConfigurationError([Problem(where, _SHARED)])
    return ca, crl


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
