"""Which APIs exist: groups, versions and resources as discovery tells them (`apidiscovery.k8s.io/v2`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["APIGroup", "APIResource", "APISubresource", "APIVersion", "Check", "Controller", "GroupVersionKind"]


@dataclass(frozen=True, slots=True)
class GroupVersionKind:
    """All three may be "": a kind that is not known is never null on the wire."""

    group: str = ""
    version: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class APISubresource:
    """`pods/log`: the part behind the slash.

    Args:
        name: "log".
        kind: of what is read and written there; nothing for the resource's own.
        verbs: what can be done with it, such as ("get", "patch", "update").
        accepted_types: kinds that it also takes.
    """

    name: str
    kind: GroupVersionKind = GroupVersionKind()
    verbs: tuple[str, ...] = ()
    accepted_types: tuple[GroupVersionKind, ...] = ()


@dataclass(frozen=True, slots=True)
class APIResource:
    """One resource of one group version.

    Args:
        name: the plural, as in paths.
        kind: of its objects.
        namespaced: whether they are in namespaces.
        singular, short_names: what clients also take for the name.
        verbs: what can be done with it.
        categories: such as ("all",), for `kubectl get all`.
        subresources: those of each object.
    """

    name: str
    kind: GroupVersionKind = GroupVersionKind()
    namespaced: bool = True
    singular: str = ""
    verbs: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[APISubresource, ...] = ()


@dataclass(frozen=True, slots=True)
class APIVersion:
    """One version of a group. `stale`: its server could not be asked; what is listed is the last good answer."""

    version: str
    resources: tuple[APIResource, ...] = ()
    stale: bool = False


@dataclass(frozen=True, slots=True)
class APIGroup:
    """One group, its versions in order of preference. The core group's name is ""."""

    name: str
    versions: tuple[APIVersion, ...]


class Controller(Protocol):
    """Work that goes on without a request: started by the lifespan, cancelled at its end.

    Attributes:
        name: for logs and health checks.
    """

    name: str

    async def run(self) -> None:
        """Work until cancelled."""
        ...


class Check(Protocol):
    """One line of `/readyz`.

    A method `note()` may say more of what is well, in a few words that anybody may read: `[+]name ok: note`.

    Attributes:
        name: as in `[+]name ok`.
    """

    name: str

    def check(self) -> str | None:
        """None when all is well, else why not, for the log."""
        ...
