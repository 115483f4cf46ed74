"""From a configuration and a directory to a server that runs until it is told to stop."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from aggmw.config import Configuration
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.errors import ConfigurationError, Problem
from aggmw.front_proxy import FrontProxy
from aggmw.net.tls import ClientCertificatePair
from aggmw.server import logs, serving
from aggmw.server.directory import Directory
from aggmw.server.sockets import url_of
from aggmw.server.tls import DoorTLS

__all__ = ["Announce", "Running", "administrator", "check", "open_directory", "prepare", "run", "serve"]

_log = structlog.get_logger("aggmw.server")
_ADMINISTRATOR = ("admin", ("system:masters",))


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens.

    Args:
        server: what serves.
        front_proxy: what is served.
        url: how clients of this machine reach it.
        kubeconfig: the administrator's.
    """

    server: serving.Server
    front_proxy: FrontProxy
    url: str
    kubeconfig: Path


Announce = Callable[[Running], Coroutine[Any, Any, None]]


def run(configuration: Configuration, path: Path, *, read: Callable[[], Configuration] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        configuration: what to serve.
        path: the directory of certificates and kubeconfigs, made on the first start.
        read: the configuration, read anew, for several workers that are told to start again; by default it is the same.

    Returns:
        The exit status: 0 after a clean stop.

    Raises:
        ConfigurationError: all mistakes, before anything is served.
    """
    logs.configure(configuration.log_level, configuration.log_format)
    with serving.holding_back_reload():
        if configuration.workers > 1:
            from aggmw.server.workers.supervisor import supervise

            return supervise(configuration, path, read or (lambda: configuration))
        return serve(configuration, open_directory(configuration, path), _announce)


def open_directory(configuration: Configuration, path: Path) -> Directory:
    """The directory, its server certificate good for every name that clients may use."""
    return Directory.open(path, names=[configuration.host, *configuration.tls.names])


def serve(configuration: Configuration, directory: Directory, announce: Announce) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        configuration: what to serve.
        directory: certificates and kubeconfigs.
        announce: runs beside the server, once it listens.

    Returns:
        The exit status: 0 after a clean stop.

    Raises:
        ConfigurationError: all mistakes, before anything is served.
    """
    running = _prepare(configuration, directory)
    status = serving.run(running.server, beside=lambda: _beside(running, announce))
    _log.info("stopped")
    return status


def _prepare(configuration: Configuration, directory: Directory) -> Running:
    server, composed = prepare(configuration, directory, lambda: serving.bind(configuration.host, configuration.port))
    url = url_of(server.sockets[0])
    return Running(server, composed.front_proxy, url, administrator(directory, url))


def prepare(
    configuration: Configuration, directory: Directory, listen: Callable[[], socket.socket], *, signals: bool = True
) -> tuple[serving.Server, Composed]:
    """Read everything and listen. What is wrong with files, certificates and the port is all found in one pass.

    Args:
        configuration: what to serve.
        directory: certificates.
        listen: gives a listening socket.
        signals: whether the server listens for signals.

    Raises:
        ConfigurationError: all mistakes, those of `listen` too.
    """
    drain = Drain()
    composed, tls, problems = _read(configuration, directory, drain)
    try:
        listener = listen()
    except ConfigurationError as error:
        raise ConfigurationError([*problems, *error.problems]) from error
    if composed is None or tls is None:
        listener.close()
        raise ConfigurationError(problems)
    server = serving.make_server(
        composed.front_proxy, sockets=[listener], tls=tls, drain=drain, grace=configuration.grace, signals=signals
    )
    server.reloads.update(composed.reloads)
    return server, composed


def check(configuration: Configuration, path: Path) -> str:
    """What would be served, as its `repr` shows it.

    Args:
        configuration: every file that it names is read, and applications in it are imported.
        path: the directory of `run`; nothing is made in it, and it need not be there.

    Raises:
        ConfigurationError: all mistakes.
    """
    logs.configure("warning", configuration.log_format)
    directory = Directory(path.absolute())
    if not directory.client_ca.is_file():
        with tempfile.TemporaryDirectory(prefix="aggmw-check-") as made:
            return _checked(configuration, open_directory(configuration, Path(made)))
    return _checked(configuration, directory)


def _checked(configuration: Configuration, directory: Directory) -> str:
    composed, tls, problems = _read(configuration, directory, Drain())
    if composed is None or tls is None:
        raise ConfigurationError(problems)
    return repr(composed.front_proxy)


def administrator(directory: Directory, url: str) -> Path:
    """The administrator's kubeconfig, made or brought up to date.

    Raises:
        ConfigurationError: it cannot be.
    """
    user, groups = _ADMINISTRATOR
    return directory.kubeconfig(user, server=url, user=user, groups=groups)


def _read(
    configuration: Configuration, directory: Directory, drain: Drain
) -> tuple[Composed | None, DoorTLS | None, list[Problem]]:
    """What is to be served and the door's TLS, None where there are mistakes; and all of those."""
    problems: list[Problem] = []
    composed: Composed | None = None
    tls: DoorTLS | None = None
    try:
        composed = compose(configuration, _credentials(directory), drain)
    except ConfigurationError as error:
        problems.extend(error.problems)
    try:
        tls = DoorTLS(
            certificate=configuration.tls.certificate or directory.server_certificate,
            key=configuration.tls.key or directory.server_key,
            client_ca=composed.client_ca if composed else (),
        )
    except ConfigurationError as error:
        problems.extend(error.problems)
    return composed, tls, problems


def _credentials(directory: Directory) -> Credentials:
    return Credentials(
        client_ca=directory.client_ca,
        front_proxy=ClientCertificatePair(directory.front_proxy_certificate, directory.front_proxy_key),
    )


async def _beside(running: Running, announce: Announce) -> None:
    serving.settle_memory()
    await announce(running)


async def _announce(running: Running) -> None:
    _log.info("serving", url=running.url, kubeconfig=str(running.kubeconfig))
