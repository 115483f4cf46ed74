"""A request and a caller, as people write them on a command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.analysis.subjects import implied

__all__ = ["Asked", "caller", "extra_values", "request"]

_NOBODY = Identity("nobody in particular")
_VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
    *("proxy", "impersonate", "bind", "escalate", "approve", "sign", "attest", "use"),
)
_SUBRESOURCES = frozenset(
    {
        *("approval", "attach", "binding", "ephemeralcontainers", "eviction", "exec", "finalize", "log", "portforward"),
        *("proxy", "resize", "scale", "status", "token"),
    }
)
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")


class Asked(NamedTuple):
    """What was read.

    Attributes:
        attributes: the request, of nobody in particular.
        note: how it was read, where it could be meant otherwise.
    """

    attributes: Attributes
    note: str = ""


def request(
    verb: str,
    what: str,
    *,
    namespace: str = "",
    everywhere: bool = False,
    name: str = "",
    subresource: str = "",
    version: str = "",
) -> Asked:
    """A request.

    Args:
        verb: such as get.
        what: `/path`; or RESOURCE, RESOURCE.GROUP or RESOURCE.VERSION.GROUP (`pods.v1.` of the core group), each with
            `/NAME`, `/SUBRESOURCE` or `/NAME/SUBRESOURCE` behind it.
        namespace, name, subresource, version: as in the attributes; "" for none, and the version v1.
        everywhere: that all namespaces are meant, which is what "" means anyway.

    Raises:
        ValueError: what cannot be read so, or is said twice.
    """
    verb = verb.lower()
    if not verb:
        raise ValueError("the verb is empty: write get, list, create, …")
    if namespace and everywhere:
        raise ValueError("one namespace and all namespaces exclude each other")
    if what.startswith("/"):
        if namespace or name or subresource:
            raise ValueError(f"{what} is a path, which has no namespace, name or subresource")
        return Asked(Attributes(_NOBODY, verb, False, path=what))
    kind, *parts = what.split("/")
    resource, said, group = _of_kind(kind)
    if said and version not in ("", said):
        raise ValueError(f"'{what}' says '{said}' already, so --api-version is too much")
    if not resource or "" in parts or len(parts) > 2:
        raise ValueError(f"cannot read '{what}': write /path, or RESOURCE.GROUP with /NAME or /NAME/SUBRESOURCE")
    note = ""
    if _VERSION.fullmatch(group):
        note = f"'{group}' is read as a group; a version stands before its group: {resource}.{group}. of the core group"
    if len(parts) == 1 and not subresource and (name or parts[0] in _SUBRESOURCES or verb == "create"):
        subresource = parts.pop()
        if not name:
            note = f"'{subresource}' is read as a subresource; an object called so is written --name {subresource}"
    for part, given, option in zip(parts, (name, subresource), ("--name", "--subresource"), strict=False):
        if given:
            raise ValueError(f"'{what}' says '{part}' already, so {option} is too much")
    name = parts[0] if parts else name
    subresource = parts[1] if len(parts) > 1 else subresource
    if verb not in _VERBS:
        note = f"'{verb}' is no verb of Kubernetes; most requests have one of {', '.join(_VERBS[:8])}"
    version = said or version or "v1"
    return Asked(Attributes(_NOBODY, verb, True, group, version, resource, subresource, namespace, name), note)


def _of_kind(text: str) -> tuple[str, str, str]:
    """Resource, version and group, as kubectl takes them apart; a version is what looks like one of Kubernetes'."""
    resource, _, group = text.partition(".")
    version, dot, behind = group.partition(".")
    return (resource, version, behind) if dot and _VERSION.fullmatch(version) else (resource, "", group)


def extra_values(pairs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`key=value` texts as extra values of an identity.

    Raises:
        ValueError: one is of another form.
    """
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"the extra value '{pair}' is not of the form KEY=VALUE")
        found[key] = (*found.get(key, ()), value)
    return found


def caller(
    user: str, groups: Sequence[str] = (), uid: str = "", extra: Mapping[str, Sequence[str]] | None = None
) -> tuple[Identity, tuple[str, ...]]:
    """Somebody of that name in these groups and those that everybody of that kind is in; which the latter are.

    Raises:
        InvalidIdentity: nobody can be called so.
    """
    added = tuple(name for one in implied(f"user:{user}") if (name := one.partition(":")[2]) not in groups)
    return Identity(user, uid, (*groups, *added), dict(extra or {})), added
