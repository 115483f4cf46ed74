"""From a `Configuration` to a `FrontProxy`: every file it names is read here, and every mistake in them reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from aggmw.asgi.types import ASGIApp
from aggmw.config.applications import import_application, import_wsgi
from aggmw.config.audit import Audited, audited
from aggmw.config.authorizers import Authorized, authorized
from aggmw.config.by_token import ByToken, by_token
from aggmw.config.certificates import by_certificate, read_bundle
from aggmw.config.configuration import (
    Configuration,
    LocalServiceConfiguration,
    PathServiceConfiguration,
    ServicesConfiguration,
)
from aggmw.config.forward_auth import Asked, asked
from aggmw.config.reloads import read_aside
from aggmw.contracts.backends import APIService, BackendResolver, PathService, Routes
from aggmw.contracts.balancing import Balancing
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Authenticator
from aggmw.contracts.reloading import Reload
from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, Problem
from aggmw.front_proxy import FrontProxy
from aggmw.middleware.authentication import Anonymous, SelfSubjectReviews, TokenReviews
from aggmw.middleware.authorization import DenyAll, access_reviews
from aggmw.middleware.metrics import Metrics
from aggmw.middleware.proxy import Http1Transport
from aggmw.middleware.registry import DnsResolver, StaticResolver, StaticRoutes, load_api_services, make_routes
from aggmw.net.tls import ClientCertificatePair

__all__ = ["Composed", "Credentials", "compose"]

_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the directory holds that a front proxy needs.

    Args:
        client_ca: PEM bundle; client certificates signed by it are believed.
        front_proxy: the certificate and key shown to backends.
    """

    client_ca: Path
    front_proxy: ClientCertificatePair


@dataclass(frozen=True, slots=True)
class Composed:
    """What a configuration comes to.

    Args:
        front_proxy: the application to serve.
        authenticators: whom it asks who somebody is, in order.
        client_ca: files of the authorities whose client certificates the TLS door accepts.
        metrics: the page, if there is one.
        reloads: what can be read again while running, by name.
    """

    front_proxy: FrontProxy
    authenticators: tuple[Authenticator, ...]
    client_ca: tuple[Path, ...]
    metrics: Metrics | None
    reloads: Mapping[str, Reload]


def compose(configuration: Configuration, credentials: Credentials, drain: Drain) -> Composed:
    """The front proxy that a configuration describes.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    problems: list[Problem] = []

    def attempt(read: Callable[[], _T], otherwise: _U) -> _T | _U:
        try:
            return read()
        except ConfigurationError as error:
            problems.extend(error.problems)
            return otherwise

    certificates = attempt(lambda: by_certificate(configuration, credentials.client_ca), None)
    authenticators: list[Authenticator] = [*(certificates.authenticators if certificates else ())]
    tokens = attempt(lambda: by_token(configuration), ByToken())
    authenticators += tokens.authenticators
    audit = attempt(lambda: audited(configuration), Audited())
    authorization = attempt(lambda: authorized(configuration), Authorized(DenyAll()))
    questions = attempt(lambda: asked(configuration, credentials.client_ca), Asked())
    resolver = attempt(lambda: _resolver(configuration), DnsResolver())
    applications = attempt(lambda: _applications(configuration.services), [])
    routes = StaticRoutes(attempt(lambda: _routes(configuration, resolver, applications), None))
    transport = Http1Transport(
        client_certificate=_front_proxy(configuration, credentials),
        limits=configuration.services.limits,
        drain=drain,
        addresses=configuration.services.addresses,
    )
    attempt(transport.reload, None)  # a pair that cannot be used is a mistake like any other
    if problems or certificates is None:
        raise ConfigurationError(problems)
    anonymous = configuration.authentication.anonymous.paths
    metrics = Metrics() if configuration.metrics else None
    proxy = FrontProxy(
        authentication=authenticators,
        anonymous=Anonymous(paths=anonymous) if anonymous else tokens.anonymous,
        origins=configuration.authentication.origins,
        audit=audit.audit,
        impersonation=configuration.authentication.impersonation,
        authorization=authorization.authorizer,
        forward_auth=questions.paths,
        services=routes,
        kinds=[
            TokenReviews(authenticators, audiences=configuration.authentication.audiences),
            SelfSubjectReviews(),
            *tokens.kinds,
            *access_reviews(authorization.authorizer),
        ],
        transport=transport,
        metrics=metrics,
        max_stream_seconds=configuration.streams.max_age,
        drain=drain,
    )
    reloads: dict[str, Reload] = {
        **certificates.reloads,
        **audit.reloads,
        **tokens.reloads,
        **authorization.reloads,
        **questions.reloads,
        "client certificate for services": partial(in_thread, transport.reload),
        "services": read_aside(partial(_routes, configuration, resolver, applications), routes.swap),
    }
    return Composed(proxy, tuple(authenticators), (*certificates.bundles, *questions.bundles), metrics, reloads)


def _resolver(configuration: Configuration) -> BackendResolver:
    """Where services are: what the configuration says, then DNS."""
    try:
        return StaticResolver(configuration.services.resolve, otherwise=DnsResolver())
    except ConfigurationError as error:
        where = f"{configuration.source}: services.resolve"
        raise ConfigurationError([Problem(f"{where}: {each.path}", each.message) for each in error.problems]) from error


_Service: TypeAlias = APIService | PathService


def _applications(services: ServicesConfiguration) -> list[_Service]:
    """The services that are applications in this process. They are imported once, and stay as they are."""
    directory = services.app_directory
    return _all(
        [
            *(partial(_local, local, directory) for local in services.local),
            *(partial(_path, path, directory) for path in services.paths if path.in_process),
        ]
    )


def _routes(configuration: Configuration, resolver: BackendResolver, applications: list[_Service]) -> Routes:
    """The servers of all files, as they are at the moment, and the applications."""
    services = configuration.services
    servers = _all(
        [
            # All files in one pass, so that a service registered in two of them is named with both places.
            partial(_declared, services, resolver, f"{configuration.source}: services.impersonation"),
            *(partial(_path, path, None, services.balancing) for path in services.paths if not path.in_process),
        ]
    )
    return make_routes([*servers, *applications])


def _declared(services: ServicesConfiguration, resolver: BackendResolver, where: str) -> list[APIService]:
    """The services of all files; `where` says who is told who asks by impersonation."""
    problems: list[Problem] = []
    waiting = dict(services.impersonation)
    found: list[APIService] = []
    for service in load_api_services(*services.files, resolver=resolver, balancing=services.balancing):
        try:
            found.append(replace(service, impersonation=waiting.pop(service.name, None)))
        except (ConfigurationError, TypeError) as error:
            messages = [each.message for each in getattr(error, "problems", ())] or [str(error)]
            problems += [Problem(where, f"{service.name}: {message}") for message in messages]
    problems += [Problem(where, f"there is no APIService {name} in services.files") for name in waiting]
    if problems:
        raise ConfigurationError(problems)
    return found


def _all(reads: Iterable[Callable[[], Iterable[_Service]]]) -> list[_Service]:
    """What all of them give.

    Raises:
        ConfigurationError: all the mistakes of all of them.
    """
    problems: list[Problem] = []
    found: list[_Service] = []
    for read in reads:
        try:
            found += read()
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return found


def _local(local: LocalServiceConfiguration, directory: Path | None) -> list[APIService]:
    service = APIService.local(
        local.group,
        local.version,
        app=_application(local, directory),
        group_priority_minimum=local.group_priority_minimum,
        version_priority=local.version_priority,
    )
    return [service]


def _application(service: LocalServiceConfiguration | PathServiceConfiguration, directory: Path | None) -> ASGIApp:
    if service.wsgi is not None:
        return import_wsgi(service.wsgi, where=f"{service.where}.wsgi", directory=directory)
    return import_application(service.app or "", where=f"{service.where}.app", directory=directory)


def _path(
    path: PathServiceConfiguration, directory: Path | None, balancing: Balancing | None = None
) -> list[PathService]:
    """A path service; `balancing` holds for one with several servers and no options of its own."""
    several = isinstance(path.url, tuple) and len(path.url) > 1
    app = _application(path, directory) if path.in_process else None
    try:
        service = PathService(
            path.path,
            path.url,
            app=app,
            ca=read_bundle(path.ca) if path.ca else b"",
            server_name=path.server_name,
            strip_prefix=path.strip_prefix,
            redirects=path.redirects,
            impersonation=path.impersonation,
            balancing=path.balancing or (balancing if several else None),
        )
    except ConfigurationError as error:
        raise ConfigurationError([Problem(path.where, str(each)) for each in error.problems]) from error
    return [service]


def _front_proxy(configuration: Configuration, credentials: Credentials) -> ClientCertificatePair:
    certificate, key = configuration.services.client_certificate, configuration.services.client_key
    if certificate is not None and key is not None:
        return ClientCertificatePair(certificate, key)
    return credentials.front_proxy
