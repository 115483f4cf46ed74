"""The names that Kubernetes allows: for groups, versions and services, and for what discovery lists."""

from __future__ import annotations

import re
from typing import TypeGuard

__all__ = ["is_group", "is_kind", "is_resource", "is_service", "is_subresource", "is_version", "is_word"]

_GROUP = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VERSION = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SEGMENT = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?"
_RESOURCE = re.compile(_SEGMENT)
_SUBRESOURCE = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,3}}")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,252}")
_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.:]{0,61}[A-Za-z0-9])?")


def is_group(value: object) -> TypeGuard[str]:
    """A DNS-1123 subdomain; the core group's "" is none."""
    return isinstance(value, str) and _GROUP.fullmatch(value) is not None


def is_version(value: object) -> TypeGuard[str]:
    """A DNS-1035 label."""
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def is_service(value: object) -> TypeGuard[str]:
    """A DNS-1123 label."""
    return isinstance(value, str) and _SERVICE.fullmatch(value) is not None


def is_resource(value: object) -> TypeGuard[str]:
    """A plural name, as it stands in a path."""
    return isinstance(value, str) and _RESOURCE.fullmatch(value) is not None


def is_subresource(value: object) -> TypeGuard[str]:
    """What stands behind `resource/`; further slashes belong to it."""
    return isinstance(value, str) and _SUBRESOURCE.fullmatch(value) is not None


def is_kind(value: object) -> TypeGuard[str]:
    """Letters and digits, a letter first."""
    return isinstance(value, str) and _KIND.fullmatch(value) is not None


def is_word(value: object) -> TypeGuard[str]:
    """A verb, a short name or a category."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
