"""From a configuration to what judges signed tokens: issuers elsewhere, and service accounts of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aggmw.config.configuration import (
    AuthenticationConfiguration,
    Configuration,
    ServiceAccountsConfiguration,
)
from aggmw.config.reloads import read_aside
from aggmw.contracts.anonymous import Anonymous
from aggmw.contracts.kinds import VirtualKind
from aggmw.contracts.reloading import Reload
from aggmw.contracts.threads import in_thread
from aggmw.errors import ConfigurationError, Problem, StatusError
from aggmw.middleware import authentication as known  # whose names with joserfc and httpx behind them load when used

if TYPE_CHECKING:
    from aggmw.middleware.authentication import AuthenticationConfiguration as KubernetesFile
    from aggmw.middleware.authentication import JWTAuthenticator, ServiceAccounts, StaticAccounts
    from aggmw.middleware.authentication.service_accounts import AccountKeys

__all__ = ["SignedTokens", "issued_token", "service_accounts", "signed_tokens"]


class SignedTokens(NamedTuple):
    """What a configuration says of signed tokens.

    Attributes:
        members: what judges them, in the order in which it is asked.
        anonymous: who may come without credentials, where Kubernetes' file says so.
        reloads: what can be read again, by name.
        kinds: what issues tokens over the API.
    """

    members: tuple[JWTAuthenticator | ServiceAccounts, ...] = ()
    anonymous: Anonymous | None = None
    reloads: Mapping[str, Reload] = {}
    kinds: tuple[VirtualKind, ...] = ()


def signed_tokens(configuration: Configuration) -> SignedTokens:
    """Everything that the configuration says of them.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    authentication = configuration.authentication
    problems: list[Problem] = []
    members: list[JWTAuthenticator | ServiceAccounts] = []
    reloads: dict[str, Reload] = {}
    anonymous: Anonymous | None = None
    kinds: tuple[VirtualKind, ...] = ()
    if (settings := authentication.service_accounts) is not None:
        try:
            accounts, lookup = service_accounts(settings, configuration.source)
            members.append(accounts)
            if settings.signing_key is not None:
                kinds = (known.TokenRequests(accounts),)
            reloads["service accounts"] = partial(_reload_accounts, accounts, lookup, settings, configuration.source)
        except ConfigurationError as error:
            problems += error.problems
    if authentication.configuration_file is not None:
        try:
            file = _kubernetes_file(configuration)
            anonymous = file.anonymous or Anonymous(())  # whom it lets in may change
            issuers = known.JWTAuthenticator(file.issuers, disallowed=_disallowed(authentication))
            members.append(issuers)
            reloads["issuers of tokens"] = read_aside(
                partial(_kubernetes_file, configuration), partial(_use_issuers, issuers, anonymous)
            )
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return SignedTokens(tuple(members), anonymous, reloads, kinds)


def service_accounts(settings: ServiceAccountsConfiguration, source: str) -> tuple[ServiceAccounts, StaticAccounts]:
    """The issuer of our own, and which accounts there are.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    problems: list[Problem] = []
    try:
        lookup = known.StaticAccounts.load(settings.accounts)
    except ConfigurationError as error:
        problems += error.problems
        lookup = known.StaticAccounts({})
    keys, signing_key = _keys(settings, problems)
    if problems:
        raise ConfigurationError(problems)
    try:
        accounts = known.ServiceAccounts(
            settings.issuer,
            lookup,
            keys=keys,
            signing_key=signing_key,
            audiences=settings.audiences,
            max_seconds=settings.max_seconds,
        )
    except ConfigurationError as error:
        raise _placed(error, settings, source) from error
    return accounts, lookup


def issued_token(configuration: Configuration, account: str, *, audiences: Sequence[str], seconds: int) -> str:
    """A new token of a service account that the configuration knows.

    Args:
        configuration: with `authentication.serviceAccounts`.
        account: "NAMESPACE/NAME".
        audiences: for whom; the configured ones, when left out.
        seconds: how long it is good.

    Raises:
        ConfigurationError: there are no service accounts, no such one, or it may not have such a token.
    """
    settings = configuration.authentication.service_accounts
    if settings is None:
        where = configuration.source or "the configuration"
        raise ConfigurationError([Problem(where, "has no authentication.serviceAccounts that could issue tokens")])
    accounts, _ = service_accounts(settings, configuration.source)
    namespace, _, name = account.partition("/")
    try:
        issued = asyncio.run(accounts.issue(namespace, name, audiences=audiences, expiration_seconds=seconds))
    except StatusError as error:
        raise ConfigurationError([Problem(account, error.message)]) from error
    return issued.token


def _kubernetes_file(configuration: Configuration) -> KubernetesFile:
    authentication = configuration.authentication
    file = authentication.configuration_file
    assert file is not None
    problems = list(_bad_key_sets(authentication.key_sets.values()))
    try:
        found = known.AuthenticationConfiguration.load(
            file,
            keys=authentication.key_sets,
            system_names=frozenset(authentication.system_names),
            disallowed=_disallowed(authentication),
        )
    except ConfigurationError as error:
        raise ConfigurationError([*problems, *error.problems]) from error
    if found.says_anonymous and authentication.anonymous.paths:
        where = f"{configuration.source}: authentication.anonymous"
        problems.append(Problem(where, "the file of issuers says it already"))
    if problems:
        raise ConfigurationError(problems)
    return found


def _bad_key_sets(paths: Iterable[Path]) -> Iterator[Problem]:
    """What is wrong with the files now; later, in the background, that is a line in the log."""
    from aggmw.middleware.authentication.jose import BadKeys, parse_jwks

    for path in paths:
        try:
            parse_jwks(path.read_bytes())
        except OSError as error:
            yield Problem(str(path), f"cannot be read: {error.strerror}")
        except BadKeys as error:
            yield Problem(str(path), str(error))


def _disallowed(authentication: AuthenticationConfiguration) -> frozenset[str]:
    settings = authentication.service_accounts
    return frozenset() if settings is None else frozenset({settings.issuer})


def _keys(settings: ServiceAccountsConfiguration, problems: list[Problem]) -> tuple[list[bytes], bytes | None]:
    def read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            problems.append(Problem(str(path), f"cannot be read: {error.strerror}"))
            return b""

    return [read(path) for path in settings.keys], None if settings.signing_key is None else read(settings.signing_key)


def _placed(error: ConfigurationError, settings: ServiceAccountsConfiguration, source: str) -> ConfigurationError:
    """The mistakes in keys, each with its file."""
    files = {f"keys[{number}]": str(path) for number, path in enumerate(settings.keys)}
    files["signingKey"] = str(settings.signing_key)
    where = f"{source}: authentication.serviceAccounts"
    return ConfigurationError(
        [Problem(files.get(each.path) or f"{where}.{each.path}", each.message) for each in error.problems]
    )


def _read_accounts(settings: ServiceAccountsConfiguration, source: str) -> tuple[AccountKeys, StaticAccounts]:
    from aggmw.middleware.authentication.service_accounts import AccountKeys

    problems: list[Problem] = []
    keys, signing_key = _keys(settings, problems)
    if problems:
        raise ConfigurationError(problems)
    found = known.StaticAccounts.load(settings.accounts)
    try:
        return AccountKeys.read(keys=keys, signing_key=signing_key), found
    except ConfigurationError as error:
        raise _placed(error, settings, source) from error


async def _reload_accounts(
    accounts: ServiceAccounts, lookup: StaticAccounts, settings: ServiceAccountsConfiguration, source: str
) -> None:
    keys, found = await in_thread(partial(_read_accounts, settings, source))
    accounts.use(keys)
    lookup.swap(found)
    await accounts.withdraw()


def _use_issuers(issuers: JWTAuthenticator, anonymous: Anonymous, file: KubernetesFile) -> None:
    issuers.reload(file.issuers)
    anonymous.swap(file.anonymous or Anonymous(()))
