"""One role or binding from an object, with Kubernetes' defaults and validation (`pkg/apis/rbac`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, PolicyRule, Role, Subject
from aggmw.middleware.authorization.rbac.selectors import Selector, labels_of, read_selector
from aggmw.objects.fields import Fields
from aggmw.objects.names import is_group, is_service
from aggmw.objects.yaml_files import Value, shown

__all__ = ["API_VERSION", "KINDS", "Found", "read"]

API_VERSION = f"{GROUP}/v1"
KINDS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
_METADATA = frozenset(
    {
        *("name", "namespace", "labels", "annotations", "generateName", "uid", "resourceVersion", "generation"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
        *("managedFields", "selfLink"),
    }
)
_TOP = ("apiVersion", "kind", "metadata")
_SEGMENT = "must be one segment of a path: not '.' or '..', without '/' and '%'"
_RULE = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


class Found(NamedTuple):
    """An object and where it was found, such as `roles.yaml: document 2`."""

    place: str
    value: Value


def read(found: Found, report: Callable[[str, str], None]) -> Role | Binding | None:
    """The role or binding that an object is.

    Args:
        found: the object.
        report: called with place and message of each mistake.

    Returns:
        the value, where there was no mistake.
    """
    reading = _Reading(found, report)
    value = reading.object()
    return None if reading.faulty else value


class _Reading:
    def __init__(self, found: Found, report: Callable[[str, str], None]) -> None:
        self._value = found.value
        self._place = found.place
        self._tell = report
        self.faulty = False

    def _report(self, path: str, message: str) -> None:
        self.faulty = True
        self._tell(f"{self._place}: {path}" if path else self._place, message)

    def object(self) -> Role | Binding | None:
        if not isinstance(self._value, dict):
            self._report("", f"must be an object: one of {', '.join(KINDS)} of {API_VERSION}")
            return None
        top = Fields(self._value, self._report)
        kind = top.text("kind")
        if not self._is_ours(top.text("apiVersion"), kind):
            return None
        metadata = top.inner("metadata") or top.nothing("metadata")
        name, namespace = self._names(metadata, namespaced=not kind.startswith("Cluster"))
        if kind.endswith("Binding"):
            return self._binding(top, name, namespace)
        return self._role(top, metadata, name, namespace)

    def _is_ours(self, api_version: str, kind: str) -> bool:
        if api_version == API_VERSION and kind in KINDS:
            return True
        if api_version.startswith(f"{GROUP}/") and kind in KINDS:
            self._report("apiVersion", f"is {shown(api_version)}: write {API_VERSION}")
        else:
            what = shown(f"{api_version} {kind}".strip())
            self._report(
                "", f"is {what}: only {', '.join(KINDS)} of {API_VERSION} stand here; keep other objects in other files"
            )
        return False

    def _names(self, metadata: Fields, *, namespaced: bool) -> tuple[str, str]:
        """Name and namespace; from here on, mistakes say the name."""
        name, namespace = metadata.text("name"), metadata.text("namespace")
        if name:
            self._place = f"{self._place} ({name if name.isprintable() else shown(name)})"
        metadata.only(_METADATA)
        if not name:
            metadata.required("name")
        elif not _is_segment(name):
            metadata.invalid("name", _SEGMENT)
        if namespaced and not namespace:
            metadata.problem("namespace", "Required value: there is no namespace to take it from")
        elif namespaced and not is_service(namespace):
            metadata.invalid("namespace", "must be a DNS-1123 label")
        elif not namespaced and namespace:
            metadata.problem("namespace", "Forbidden: not allowed on this type; without Cluster, it has a namespace")
        return name, namespace

    def _role(self, top: Fields, metadata: Fields, name: str, namespace: str) -> Role:
        top.only((*_TOP, "rules") if namespace else (*_TOP, "rules", "aggregationRule"))
        return Role(
            name,
            namespace,
            tuple(_rule(each, namespaced=bool(namespace)) for each in top.each("rules")),
            tuple(labels_of(metadata, "labels")),
            None if namespace else self._selectors(top),
            self._place,
        )

    def _selectors(self, top: Fields) -> tuple[Selector, ...] | None:
        aggregation = top.inner("aggregationRule")
        if aggregation is None:
            return None
        aggregation.only(("clusterRoleSelectors",))
        selectors = tuple(read_selector(each) for each in aggregation.each("clusterRoleSelectors"))
        if not selectors:
            aggregation.problem("clusterRoleSelectors", "Required value: at least one selector")
        return selectors

    def _binding(self, top: Fields, name: str, namespace: str) -> Binding:
        top.only((*_TOP, "subjects", "roleRef"))
        if "roleRef" not in top:
            top.required("roleRef")
        reference = top.inner("roleRef") or top.nothing("roleRef")
        kinds = ("Role", "ClusterRole") if namespace else ("ClusterRole",)
        role_kind, role = reference.text("kind"), reference.text("name")
        if "roleRef" in top:
            reference.only(("apiGroup", "kind", "name"))
            if reference.text("apiGroup") not in ("", GROUP):
                reference.invalid("apiGroup", f"must be {GROUP}")
            if role_kind not in kinds:
                reference.invalid("kind", f"must be {' or '.join(kinds)} in a {top.text('kind')}")
            if not role:
                reference.required("name")
            elif not _is_segment(role):
                reference.invalid("name", _SEGMENT)
        subjects = tuple(_subject(each, namespace) for each in top.each("subjects"))
        return Binding(name, namespace, role_kind, role, subjects, self._place)


def _is_segment(name: str) -> bool:
    return name not in (".", "..") and "/" not in name and "%" not in name


def _rule(fields: Fields, *, namespaced: bool) -> PolicyRule:
    fields.only(_RULE)
    rule = PolicyRule(*(tuple(fields.texts(name)) for name in _RULE))
    if not rule.verbs:
        fields.problem("verbs", "Required value: at least one verb, or *")
    if rule.paths:
        if namespaced:
            fields.problem("nonResourceURLs", "a Role has a namespace, and paths have none: write a ClusterRole")
        if rule.api_groups or rule.resources or rule.names:
            fields.problem("nonResourceURLs", "cannot stand beside resources: make it two rules")
        return rule
    if not rule.api_groups:
        fields.problem("apiGroups", 'Required value: at least one group; "" is the core group')
    if not rule.resources:
        fields.problem("resources", "Required value: at least one resource, or nonResourceURLs")
    return rule


def _subject(fields: Fields, namespace: str) -> Subject:
    fields.only(("kind", "apiGroup", "name", "namespace"))
    kind, name, own = fields.text("kind"), fields.text("name"), fields.text("namespace")
    group = fields.text("apiGroup")
    if not name:
        fields.required("name")
    if kind == "ServiceAccount":
        if group:
            fields.invalid("apiGroup", "must be left out for a ServiceAccount")
        if name and not is_group(name):
            fields.invalid("name", "must be a DNS-1123 subdomain, as names of service accounts are")
        if not own and not namespace:
            fields.required("namespace")
        return Subject(kind, name, own or namespace)
    if kind not in ("User", "Group"):
        fields.invalid("kind", "must be User, Group or ServiceAccount")
    elif group not in ("", GROUP):
        fields.invalid("apiGroup", f"must be {GROUP}")
    return Subject(kind, name)
