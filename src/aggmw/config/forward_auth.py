"""Other proxies that ask: from a configuration to `ForwardAuth`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aggmw.config.certificates import read_bundle
from aggmw.config.configuration import Configuration, ForwardAuthConfiguration
from aggmw.config.reloads import read_aside
from aggmw.contracts.reloading import Reload
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.forward_auth import ForwardAuth
from aggmw.pki.read import pem_certificates

__all__ = ["Asked", "asked"]

_SHARED = (
    "is needed: the CA also signs client certificates, so without names of proxies every client could ask what others"
    " may do"
)


class Asked(NamedTuple):
    """What a configuration says of other proxies.

    Attributes:
        paths: where they ask, and how.
        bundles: files of the authorities whose certificates the TLS door accepts for that.
        reloads: what can be read again, by name.
    """

    paths: Mapping[str, ForwardAuth] = {}
    bundles: tuple[Path, ...] = ()
    reloads: Mapping[str, Reload] = {}


def asked(configuration: Configuration, client_ca: Path) -> Asked:
    """Other proxies, as a configuration describes them.

    Args:
        configuration: its `authorization`.
        client_ca: the directory's own, beside which `authentication.clientCA` may name another.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    clients = [path for path in (client_ca, configuration.authentication.client_ca) if path is not None]
    paths: dict[str, ForwardAuth] = {}
    bundles: list[Path] = []
    reloads: dict[str, Reload] = {}
    problems: list[Problem] = []
    for one in configuration.authorization.forward_auth:
        try:
            made = paths[one.path] = ForwardAuth(
                one.proxy,
                peers=one.peers or None,
                ca=_authority(one, clients),
                allowed_names=one.allowed_names,
                hosts=one.hosts,
            )
        except ConfigurationError as error:
            problems += error.problems
            continue
        if one.ca is not None:
            bundles.append(one.ca)
            reloads[f"CA of {one.path}"] = read_aside(partial(_authority, one, clients), partial(_use, made))
    if problems:
        raise ConfigurationError(problems)
    return Asked(paths, tuple(bundles), reloads)


def _use(made: ForwardAuth, ca: bytes | None) -> None:
    if ca is not None:
        made.reload(ca)


def _authority(one: ForwardAuthConfiguration, clients: list[Path]) -> bytes | None:
    """The CA of proxies; one that signs clients, too, needs names of proxies beside it."""
    if one.ca is None:
        return None
    ca = read_bundle(one.ca)
    if not one.allowed_names and any(_shares(ca, path) for path in clients):
        raise ConfigurationError([Problem(f"{one.where}.allowedNames", _SHARED)])
    return ca


def _shares(ca: bytes, path: Path) -> bool:
    """Whether an authority is in both bundles; one that cannot be read is told of where clients are configured."""
    with suppress(ConfigurationError):
        return not set(pem_certificates(ca)).isdisjoint(pem_certificates(read_bundle(path)))
    return False
