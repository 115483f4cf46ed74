"""The names that Kubernetes allows for groups, versions and services."""

from __future__ import annotations

import re

__all__ = ["is_group", "is_service", "is_version"]

_VERSION = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_GROUP = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_version(name: str) -> bool:
    """A DNS-1035 label."""
    return _VERSION.fullmatch(name) is not None


def is_group(name: str) -> bool:
    """A DNS-1123 subdomain; the core group's "" is none."""
    return _GROUP.fullmatch(name) is not None


def is_service(name: str) -> bool:
    """A DNS-1123 label."""
    return _SERVICE.fullmatch(name) is not None
