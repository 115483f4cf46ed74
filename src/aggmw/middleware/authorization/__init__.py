"""Authorization: may this caller do this? The stage, and the authorizers it can ask.

`CasbinAuthorizer` is imported when it is first used, so that the others do not cost casbin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from aggmw.middleware.authorization.casbin.authorizer import CasbinAuthorizer

__all__ = [
    "AllowAll",
    "AlwaysAllowPaths",
    "Authorization",
    "AuthorizationMiddleware",
    "CasbinAuthorizer",
    "DenyAll",
    "Explanation",
    "LocalSubjectAccessReviews",
    "PrivilegedGroups",
    "SelfSubjectAccessReviews",
    "SelfSubjectRulesReviews",
    "SubjectAccessReviews",
    "Union",
    "access_reviews",
    "host_user",
]


def __getattr__(name: str) -> type[CasbinAuthorizer]:
    if name != "CasbinAuthorizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aggmw.middleware.authorization.casbin.authorizer import CasbinAuthorizer

    return CasbinAuthorizer
