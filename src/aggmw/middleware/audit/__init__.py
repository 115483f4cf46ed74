"""Audit: who did what, when, and what became of it: `audit.k8s.io/v1` events by Kubernetes' policy file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aggmw.middleware.audit.log_file import AuditLog
from aggmw.middleware.audit.middleware import Audit, AuditMiddleware
from aggmw.middleware.audit.policy import AuditPolicy

if TYPE_CHECKING:
    from aggmw.middleware.audit.webhook import AuditWebhook

__all__ = ["Audit", "AuditLog", "AuditMiddleware", "AuditPolicy", "AuditWebhook"]


def __getattr__(name: str) -> Any:
    """Who sends events to another server is imported when it is first used: httpx takes long."""
    if name == "AuditWebhook":
        return import_module(f"{__name__}.webhook").AuditWebhook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
