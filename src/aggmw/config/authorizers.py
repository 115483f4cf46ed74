"""From a configuration to what decides who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aggmw.config.configuration import Configuration
from aggmw.contracts.authorization import Authorizer
from aggmw.contracts.reloading import Reload
from aggmw.middleware.authorization import CasbinAuthorizer, PrivilegedGroups

__all__ = ["Authorized", "authorized"]


class Authorized(NamedTuple):
    """What a configuration says of authorization.

    Attributes:
        authorizer: decides.
        reloads: what can be read again, by name.
    """

    authorizer: Authorizer
    reloads: Mapping[str, Reload] = {}


def authorized(configuration: Configuration) -> Authorized:
    """The privileged group `system:masters`, then the policy.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    policy, model = configuration.authorization.policy, configuration.authorization.model
    if policy is None:
        return Authorized(PrivilegedGroups())
    casbin = CasbinAuthorizer.from_files(policy, model=model, watch=configuration.authorization.watch)
    return Authorized(casbin, {"policy": casbin.refresh})
