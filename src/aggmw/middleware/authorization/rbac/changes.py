"""What would allow a request: a group to be in, a role to bind, or a role and a binding that allow just this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aggmw.contracts.authorization import Attributes, Change
from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, Role
from aggmw.middleware.authorization.rbac.rules import is_everything, rule_allows
from aggmw.middleware.authorization.rbac.snapshot import Snapshot
from aggmw.objects.names import is_service
from aggmw.objects.refusal import quoted
from aggmw.objects.yaml_files import write_document

__all__ = ["changes"]


def changes(snapshot: Snapshot, attributes: Attributes) -> Iterator[Change]:
    """Ways to allow a request that is not, each enough by itself; the narrowest first. Lines are YAML manifests."""
    if not attributes.verb or not attributes.identity.user:
        return
    if attributes.namespace and not is_service(attributes.namespace):
        return  # no object can be there
    yield _own_role(attributes)
    role = _narrowest(snapshot, attributes)
    if role is not None:
        where = f" in the namespace {quoted(attributes.namespace)}" if attributes.namespace else ""
        user = quoted(attributes.identity.user)
        yield Change(
            f"bind the {role.kind} {quoted(role.name)} to the user {user}{where}{_given(len(role.rules))}",
            _lines(_binding(attributes, role.kind, role.name)),
        )
        group = _group(snapshot, attributes)
        if group is not None:
            given = (snapshot.roles.get(one.role_key) for one in snapshot.bindings if _is_for(one, group))
            rules = sum(len(role.rules) for role in given if role is not None)
            yield Change(f"put {user} into the group {quoted(group)}{_given(rules)}", groups=(group,))


def _is_for(binding: Binding, group: str) -> bool:
    return any(subject.kind == "Group" and subject.name == group for subject in binding.subjects)


def _given(rules: int) -> str:
    """That whoever gets this gets more than a rule."""
    return f"; that gives {rules} rules" if rules > 1 else ""


def _own_role(attributes: Attributes) -> Change:
    """A role that allows this and nothing else, and a binding of it to the caller."""
    namespace = attributes.namespace
    resource = attributes.resource
    if attributes.is_resource:
        if attributes.subresource:
            resource = f"{resource}/{attributes.subresource}"
        rule: dict[str, Any] = {"apiGroups": [attributes.api_group], "resources": [resource]}
        if attributes.name:
            rule["resourceNames"] = [attributes.name]
    else:
        rule = {"nonResourceURLs": [attributes.path]}
    rule["verbs"] = [attributes.verb]
    kind = "Role" if namespace else "ClusterRole"
    name = _name(attributes)
    every = not attributes.is_resource and attributes.path.endswith("*")
    what = "this, and every path that begins so," if every else "just this"
    return Change(
        f"bind a {kind} that allows {what} to the user {quoted(attributes.identity.user)}",
        _lines(_object(kind, name, namespace, rules=[rule]), _binding(attributes, kind, name)),
    )


def _name(attributes: Attributes) -> str:
    words = (attributes.verb, attributes.resource or attributes.path, attributes.subresource)
    return "-".join(word for text in words for word in text.replace("%", "/").split("/") if word)


def _binding(attributes: Attributes, role_kind: str, role: str) -> dict[str, Any]:
    user = attributes.identity.user
    kind = "RoleBinding" if attributes.namespace else "ClusterRoleBinding"
    return _object(
        kind,
        f"{role}-to-{user.replace('/', '-').replace('%', '-')}",
        attributes.namespace,
        roleRef={"apiGroup": GROUP, "kind": role_kind, "name": role},
        subjects=[{"apiGroup": GROUP, "kind": "User", "name": user}],
    )


def _object(kind: str, name: str, namespace: str, **fields: object) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, **fields}


def _lines(*objects: dict[str, Any]) -> tuple[str, ...]:
    return tuple(line for each in objects for line in ("---", *write_document(each).decode().splitlines()))


def _narrowest(snapshot: Snapshot, attributes: Attributes) -> Role | None:
    """The role with the fewest rules of those that allow the request, but for those that allow everything."""
    fitting = (
        role
        for role in snapshot.roles.values()
        if (not role.namespace or role.namespace == attributes.namespace)
        and not role.name.startswith("system:")  # parts of others, and what belongs to the server
        and any(rule_allows(rule, attributes) and not is_everything(rule) for rule in role.rules)
    )
    return min(fitting, key=lambda role: (len(role.rules), role.key), default=None)


def _group(snapshot: Snapshot, attributes: Attributes) -> str | None:
    """The first group that has a role which allows the request."""
    for binding in snapshot.bindings:
        if binding.namespace in ("", attributes.namespace):
            role = snapshot.roles.get(binding.role_key)
            if role is not None and any(
                rule_allows(rule, attributes) and not is_everything(rule) for rule in role.rules
            ):
                for subject in binding.subjects:
                    if subject.kind == "Group" and not subject.name.startswith("system:"):
                        return subject.name
    return None
