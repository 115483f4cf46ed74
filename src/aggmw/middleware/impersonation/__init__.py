"""Impersonation: acting as somebody else, where the authorizer lets one; 403."""

from aggmw.middleware.impersonation.middleware import Impersonation, ImpersonationMiddleware

__all__ = ["Impersonation", "ImpersonationMiddleware"]
