"""Roles and bindings as values (`rbac.authorization.k8s.io/v1`), with their defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aggmw.middleware.authorization.rbac.selectors import Selector
from aggmw.objects.refusal import quoted

__all__ = ["GROUP", "Binding", "PolicyRule", "Role", "Subject"]

GROUP = "rbac.authorization.k8s.io"


class PolicyRule(NamedTuple):
    """What is allowed: verbs on resources, or on paths; the words of Kubernetes, "*" included.

    Attributes:
        verbs: such as "get".
        api_groups: "" is the core group.
        resources: `pods`, `pods/log`, or `*/log` for that subresource of everything.
        names: of the objects; none: all of them.
        paths: of what is no resource; may end in "*".
    """

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class Subject(NamedTuple):
    """Who gets a role.

    Attributes:
        kind: "User", "Group" or "ServiceAccount".
        name: of it.
        namespace: of a service account; the binding's, where it says none.
    """

    kind: str
    name: str
    namespace: str = ""

    @property
    def user(self) -> str:
        """The user name that it stands for; "" for a group."""
        if self.kind == "ServiceAccount":
            return f"system:serviceaccount:{self.namespace}:{self.name}"
        return self.name if self.kind == "User" else ""

    def __str__(self) -> str:
        return f"{self.kind} {quoted(f'{self.name}/{self.namespace}' if self.namespace else self.name)}"


@dataclass(frozen=True, slots=True)
class Role:
    """A `Role`, or a `ClusterRole` where `namespace` is empty.

    Attributes:
        name, namespace, labels: as in its metadata.
        rules: what it allows.
        selectors: the cluster roles whose rules it has in place of its own; None: it is not aggregated.
        where: where it is written.
    """

    name: str
    namespace: str = ""
    rules: tuple[PolicyRule, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    selectors: tuple[Selector, ...] | None = None
    where: str = ""

    @property
    def kind(self) -> str:
        return "Role" if self.namespace else "ClusterRole"

    @property
    def key(self) -> tuple[str, str, str]:
        """What no other object has."""
        return (self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Binding:
    """A `RoleBinding`, or a `ClusterRoleBinding` where `namespace` is empty.

    Attributes:
        name, namespace: as in its metadata.
        role_kind, role: what it gives: a "ClusterRole", or a "Role" of its namespace.
        subjects: to whom.
        where: where it is written.
    """

    name: str
    namespace: str
    role_kind: str
    role: str
    subjects: tuple[Subject, ...] = ()
    where: str = ""

    @property
    def kind(self) -> str:
        return "RoleBinding" if self.namespace else "ClusterRoleBinding"

    @property
    def key(self) -> tuple[str, str, str]:
        """What no other object has."""
        return (self.kind, self.namespace, self.name)

    @property
    def role_key(self) -> tuple[str, str, str]:
        """The `key` of the role that it gives."""
        return (self.role_kind, self.namespace if self.role_kind == "Role" else "", self.role)

    def __str__(self) -> str:
        name = f"{self.name}/{self.namespace}" if self.namespace else self.name
        return f"{self.kind} {quoted(name)} of {self.role_kind} {quoted(self.role)}"
