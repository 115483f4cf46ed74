"""From a configuration to what decides who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aggmw.config.configuration import AuthorizationConfiguration, Configuration
from aggmw.contracts.authorization import Authorizer
from aggmw.contracts.reloading import Reload
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware import authorization as known  # whose names with casbin and httpx behind them load when used
from aggmw.middleware.authorization import AlwaysAllowPaths, PrivilegedGroups, Union

__all__ = ["Authorized", "authorized"]


class Authorized(NamedTuple):
    """What a configuration says of authorization.

    Attributes:
        authorizer: decides.
        reloads: what can be read again, by name.
    """

    authorizer: Authorizer
    reloads: Mapping[str, Reload] = {}


class _Policies(NamedTuple):
    """Policies that were read, by the type that stands for each in Kubernetes' file, in the order to ask them."""

    authorizers: dict[str, Authorizer]
    reloads: dict[str, Reload]


def authorized(configuration: Configuration) -> Authorized:
    """The privileged group `system:masters`, paths that everybody may use, then the policies.

    Kubernetes' file says in which order policies and others are asked; without one the casbin policy is the first.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    settings = configuration.authorization
    problems: list[Problem] = []
    policies = _policies(settings, problems)
    asked, reloads = dict(policies.authorizers), dict(policies.reloads)
    if settings.configuration_file is not None and not problems:
        try:
            configured = known.ConfiguredAuthorizers(settings.configuration_file, known=asked, watch=settings.watch)
        except ConfigurationError as error:
            problems += error.problems
        else:
            asked = {"AuthorizationConfiguration": configured}
            reloads["authorization configuration"] = configured.refresh
    if problems:
        raise ConfigurationError(problems)
    if settings.always_allow_paths:
        asked = {"AlwaysAllowPaths": AlwaysAllowPaths(settings.always_allow_paths), **asked}
    if list(asked) == ["Casbin"]:
        return Authorized(asked["Casbin"], reloads)  # which knows of system:masters itself
    asked = {"PrivilegedGroups": PrivilegedGroups(), **asked}
    return Authorized(Union(asked.values(), names=list(asked)), reloads)


def _policies(settings: AuthorizationConfiguration, problems: list[Problem]) -> _Policies:
    found = _Policies({}, {})
    if settings.policy is not None:
        try:
            casbin = known.CasbinAuthorizer.from_files(settings.policy, model=settings.model, watch=settings.watch)
        except ConfigurationError as error:
            problems += error.problems
        else:
            found.authorizers["Casbin"] = casbin
            found.reloads["policy"] = casbin.refresh
    if settings.rbac:
        try:
            rbac = known.RbacAuthorizer.from_files(*settings.rbac, watch=settings.watch)
        except ConfigurationError as error:
            problems += error.problems
        else:
            found.authorizers["RBAC"] = rbac
            found.reloads["roles and bindings"] = rbac.refresh
    return found
