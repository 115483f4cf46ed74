"""What the front proxy of a configuration would make of a credential, without serving anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from aggmw.config import Configuration
from aggmw.config.check_auth import Said, ask, by_certificate_chain, by_token, lines
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import ConfigurationError, Problem
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.paths import build_chain
from aggmw.pki.read import pem_certificates
from aggmw.server.directory import Directory

__all__ = ["check_auth", "identified"]


def check_auth(
    configuration: Configuration, directory: Path, *, token_file: Path | None, certificate: Path | None
) -> tuple[list[str], bool]:
    """A line each for what authenticators say, then who it is.

    Args:
        configuration: what would be served.
        directory: of `aggmw serve`; nothing is made in it.
        token_file: holds a bearer token.
        certificate: PEM file, the client certificate first.

    Returns:
        The lines, and whether anybody knows the credential.

    Raises:
        ConfigurationError: every mistake in the configuration, or a credential that cannot be read.
    """
    said, token = _said(configuration, directory, token_file, certificate)
    report = list(_without(token, lines(said)))
    return report, any(each.identity is not None for each in said)


def identified(
    configuration: Configuration, directory: Path, *, token_file: Path | None, certificate: Path | None
) -> Identity:
    """Who somebody is by a credential; as for `check_auth`.

    Raises:
        ConfigurationError: as there; also where nobody knows the credential.
    """
    said, _ = _said(configuration, directory, token_file, certificate)
    identity = next((each.identity for each in said if each.identity is not None), None)
    if identity is None:
        raise ConfigurationError(
            [Problem(str(token_file or certificate), "nobody knows this credential; aggmw check auth says why")]
        )
    return identity


def _said(
    configuration: Configuration, directory: Path, token_file: Path | None, certificate: Path | None
) -> tuple[list[Said], str]:
    """What authenticators say to a credential; and the token."""
    composed = _composed(configuration, directory)
    if token_file is not None:
        token = _token(token_file)
        presented = by_token(token)
    else:
        assert certificate is not None  # the command line demands one of the two
        token, presented = "", _with_certificate(certificate, composed)
    return asyncio.run(ask(composed.authenticators, presented)), token


def _without(token: str, report: Iterator[str]) -> Iterator[str]:
    """No authenticator repeats a token; if one did, it would not be seen."""
    for line in report:
        yield line.replace(token, "…") if len(token) >= 8 else line


def _composed(configuration: Configuration, path: Path) -> Composed:
    directory = Directory(path)
    if not directory.client_ca.is_file():
        raise ConfigurationError(
            [Problem(str(path), "is no directory of aggmw serve, which makes it on its first start (--dir)")]
        )
    pair = ClientCertificatePair(directory.front_proxy_certificate, directory.front_proxy_key)
    return compose(configuration, Credentials(directory.client_ca, pair), Drain())


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError:
        raise ConfigurationError([Problem(str(path), "is not UTF-8")]) from None
    if not token:
        raise ConfigurationError([Problem(str(path), "is empty; it must hold a bearer token")])
    return token.removeprefix("Bearer ")


def _with_certificate(path: Path, composed: Composed) -> Presented:
    authorities: list[bytes] = []
    for bundle in composed.client_ca:
        authorities += pem_certificates(bundle.read_bytes())
    try:
        chain = build_chain(pem_certificates(path.read_bytes()), authorities)
    except OSError as error:
        raise ConfigurationError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:
        raise ConfigurationError([Problem(str(path), str(error))]) from error
    if not chain:
        raise ConfigurationError([Problem(str(path), "is signed by none of the authorities that are trusted")])
    return by_certificate_chain(chain)
