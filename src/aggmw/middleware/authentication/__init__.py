"""Authentication: who is asking. Identity in; credentials and forged identity headers out; 401."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aggmw.contracts.anonymous import Anonymous
from aggmw.middleware.authentication.client_cert import ClientCertificates
from aggmw.middleware.authentication.front_proxies import FrontProxies
from aggmw.middleware.authentication.middleware import Authentication, AuthenticationMiddleware
from aggmw.middleware.authentication.reviews import SelfSubjectReviews, TokenReviews
from aggmw.middleware.authentication.terminators import ForwardedCertificates
from aggmw.middleware.authentication.token_cookie import TokenCookie
from aggmw.middleware.authentication.token_requests import TokenRequests
from aggmw.middleware.authentication.tokens import StaticTokens
from aggmw.middleware.authentication.union import AuthenticatorUnion

if TYPE_CHECKING:
    from aggmw.middleware.authentication.accounts import StaticAccounts
    from aggmw.middleware.authentication.authentication_configuration import AuthenticationConfiguration
    from aggmw.middleware.authentication.cache import TokenCache
    from aggmw.middleware.authentication.issuers import (
        ClaimValidationRule,
        ExtraMapping,
        JWTIssuer,
        MappedClaim,
        UserValidationRule,
    )
    from aggmw.middleware.authentication.jwt_authenticator import JWTAuthenticator
    from aggmw.middleware.authentication.service_accounts import IssuedToken, ServiceAccounts
    from aggmw.middleware.authentication.webhook import WebhookTokens

__all__ = [
    "Anonymous",
    "Authentication",
    "AuthenticationConfiguration",
    "AuthenticationMiddleware",
    "AuthenticatorUnion",
    "ClaimValidationRule",
    "ClientCertificates",
    "ExtraMapping",
    "ForwardedCertificates",
    "FrontProxies",
    "IssuedToken",
    "JWTAuthenticator",
    "JWTIssuer",
    "MappedClaim",
    "SelfSubjectReviews",
    "ServiceAccounts",
    "StaticAccounts",
    "StaticTokens",
    "TokenCache",
    "TokenCookie",
    "TokenRequests",
    "TokenReviews",
    "UserValidationRule",
    "WebhookTokens",
]

_LATER = {
    "AuthenticationConfiguration": "authentication_configuration",
    "ClaimValidationRule": "issuers",
    "ExtraMapping": "issuers",
    "IssuedToken": "service_accounts",
    "JWTAuthenticator": "jwt_authenticator",
    "JWTIssuer": "issuers",
    "MappedClaim": "issuers",
    "ServiceAccounts": "service_accounts",
    "StaticAccounts": "accounts",
    "TokenCache": "cache",
    "UserValidationRule": "issuers",
    "WebhookTokens": "webhook",
}


def __getattr__(name: str) -> Any:
    """What has to do with signed tokens is imported when it is first used: joserfc and httpx take long."""
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
