"""Audit: who did what, when, and what became of it: `audit.k8s.io/v1` events by Kubernetes' policy file."""

from aggmw.middleware.audit.log_file import AuditLog
from aggmw.middleware.audit.middleware import Audit, AuditMiddleware
from aggmw.middleware.audit.policy import AuditPolicy

__all__ = ["Audit", "AuditLog", "AuditMiddleware", "AuditPolicy"]
