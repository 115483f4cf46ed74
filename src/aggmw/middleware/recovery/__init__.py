"""Recovery: the request id, and the last answer when everything inside failed."""

from aggmw.middleware.recovery.middleware import RecoveryMiddleware

__all__ = ["RecoveryMiddleware"]
