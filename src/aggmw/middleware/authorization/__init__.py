"""Authorization: may this caller do this? The stage, and the authorizers it can ask.

What costs casbin, httpx or yaml is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aggmw.asgi.users import host_user
from aggmw.contracts.authorization import Explanation
from aggmw.middleware.authorization.fixed import AllowAll, AlwaysAllowPaths, DenyAll, PrivilegedGroups
from aggmw.middleware.authorization.middleware import Authorization, AuthorizationMiddleware
from aggmw.middleware.authorization.reviews import (
    LocalSubjectAccessReviews,
    SelfSubjectAccessReviews,
    SelfSubjectRulesReviews,
    SubjectAccessReviews,
    access_reviews,
)
from aggmw.middleware.authorization.union import Union

if TYPE_CHECKING:
    from aggmw.middleware.authorization.authorization_configuration import AuthorizationConfiguration, NamedAuthorizer
    from aggmw.middleware.authorization.casbin.authorizer import CasbinAuthorizer
    from aggmw.middleware.authorization.casbin.watchers import CasbinWatcher
    from aggmw.middleware.authorization.configured import ConfiguredAuthorizers
    from aggmw.middleware.authorization.rbac.authorizer import RbacAuthorizer
    from aggmw.middleware.authorization.webhook import SubjectAccessReviewWebhook

__all__ = [
    "AllowAll",
    "AlwaysAllowPaths",
    "Authorization",
    "AuthorizationConfiguration",
    "AuthorizationMiddleware",
    "CasbinAuthorizer",
    "CasbinWatcher",
    "ConfiguredAuthorizers",
    "DenyAll",
    "Explanation",
    "LocalSubjectAccessReviews",
    "NamedAuthorizer",
    "PrivilegedGroups",
    "RbacAuthorizer",
    "SelfSubjectAccessReviews",
    "SelfSubjectRulesReviews",
    "SubjectAccessReviewWebhook",
    "SubjectAccessReviews",
    "Union",
    "access_reviews",
    "host_user",
]


_LATER = {
    "AuthorizationConfiguration": "authorization_configuration",
    "CasbinAuthorizer": "casbin.authorizer",
    "CasbinWatcher": "casbin.watchers",
    "ConfiguredAuthorizers": "configured",
    "NamedAuthorizer": "authorization_configuration",
    "RbacAuthorizer": "rbac.authorizer",
    "SubjectAccessReviewWebhook": "webhook",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
