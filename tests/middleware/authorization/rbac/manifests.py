"""What the RBAC tests share: roles, bindings and requests in one line each."""

from __future__ import annotations

from typing import Any

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import RbacAuthorizer

GROUP = "rbac.authorization.k8s.io"


def rule(verbs: str = "get", what: str = "pods", group: str = "", names: str = "") -> dict[str, Any]:
    """`rule("get list", "pods pods/log", "apps", names="a b")`, or `rule("get", "/healthz /api/*")`."""
    if what.startswith("/") or (what == "*" and group == "paths"):
        return {"verbs": verbs.split(), "nonResourceURLs": what.split()}
    made = {"verbs": verbs.split(), "apiGroups": group.split(" "), "resources": what.split()}
    return {**made, "resourceNames": names.split()} if names else made


def role(name: str, *rules: dict[str, Any], namespace: str = "", **fields: Any) -> dict[str, Any]:
    """A Role, or a ClusterRole without a namespace."""
    return _object("Role", name, namespace, rules=list(rules), **fields)


def binding(
    name: str, of: str, *subjects: str, namespace: str = "", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """`binding("b", "Role/r", "User/alice", "Group/dev", "ServiceAccount/ns:bot", namespace="dev")`."""
    kind, _, name_of_role = of.partition("/")
    return _object(
        "RoleBinding",
        name,
        namespace,
        roleRef={"kind": kind, "name": name_of_role},
        subjects=[_subject(each) for each in subjects],
    )


def _object(
    kind: str, name: str, namespace: str, *, labels: dict[str, str] | None = None, **rest: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": kind if namespace else f"Cluster{kind}",
        "metadata": metadata,
        **rest,
    }


def _subject(text: str) -> dict[str, str]:
    kind, _, name = text.partition("/")
    if kind == "ServiceAccount":
        namespace, _, name = name.rpartition(":")
        return {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": kind, "name": name}


def rbac(*objects: dict[str, Any], defaults: bool = False) -> RbacAuthorizer:
    """An authorizer of these."""
    return RbacAuthorizer.from_objects(objects, defaults=defaults)


def asked(
    who: str, verb: str, what: str, *, groups: str = "", group: str = "", namespace: str = "", name: str = ""
) -> Attributes:
    """`asked("alice", "get", "pods/log", namespace="dev")`, or with a path that begins with a slash."""
    identity = Identity(who, groups=tuple(groups.split()))
    if what.startswith("/"):
        return Attributes(identity, verb, False, path=what)
    resource, _, subresource = what.partition("/")
    return Attributes(identity, verb, True, group, "v1", resource, subresource, namespace, name)
