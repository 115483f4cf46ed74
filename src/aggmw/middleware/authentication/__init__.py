"""Authentication: who is asking. Identity in; credentials and forged identity headers out; 401."""

from aggmw.contracts.anonymous import Anonymous
from aggmw.middleware.authentication.client_cert import ClientCertificates
from aggmw.middleware.authentication.middleware import Authentication, AuthenticationMiddleware
from aggmw.middleware.authentication.token_cookie import TokenCookie
from aggmw.middleware.authentication.tokens import StaticTokens
from aggmw.middleware.authentication.union import AuthenticatorUnion

__all__ = [
    "Anonymous",
    "Authentication",
    "AuthenticationMiddleware",
    "AuthenticatorUnion",
    "ClientCertificates",
    "StaticTokens",
    "TokenCookie",
]
