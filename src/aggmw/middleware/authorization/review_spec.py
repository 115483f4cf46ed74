"""What is decided on, as the `spec` of a `SubjectAccessReview` (`k8s.io/api/authorization/v1`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aggmw.contracts.authorization import Attributes
from aggmw.objects.selectors import Requirement, field_requirements, label_requirements

__all__ = ["review_spec", "wire_spec"]

_SELECTORS = frozenset({"fieldSelector", "labelSelector"})
_FIELD_OPERATORS = frozenset({"In", "NotIn"})
_LABEL_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def review_spec(attributes: Attributes) -> dict[str, Any]:
    """The spec with every field of who asks and what for, also the empty ones, as match conditions see it.

    A requirement of a selector that a review cannot say is left out: the question is then a wider one.
    """
    identity = attributes.identity
    spec: dict[str, Any] = {
        "user": identity.user,
        "groups": list(identity.groups),
        "uid": identity.uid,
        "extra": {key: list(values) for key, values in identity.extra.items()},
    }
    if not attributes.is_resource:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
        return spec
    resource: dict[str, Any] = {
        "namespace": attributes.namespace,
        "verb": attributes.verb,
        "group": attributes.api_group,
        "version": attributes.api_version,
        "resource": attributes.resource,
        "subresource": attributes.subresource,
        "name": attributes.name,
    }
    if attributes.field_selector:
        _put(resource, "fieldSelector", field_requirements(attributes.field_selector), _FIELD_OPERATORS)
    if attributes.label_selector:
        _put(resource, "labelSelector", label_requirements(attributes.label_selector), _LABEL_OPERATORS)
    spec["resourceAttributes"] = resource
    return spec


def wire_spec(spec: dict[str, Any], version: str) -> dict[str, Any]:
    """The spec as it is sent: without what is empty, and with the names of the version ("v1" or "v1beta1")."""
    sent = {name: _dense(value) if name.endswith("Attributes") else value for name, value in spec.items() if value}
    if version == "v1beta1" and "groups" in sent:
        sent["group"] = sent.pop("groups")
    return sent


def _dense(value: dict[str, Any]) -> dict[str, Any]:
    sent = {name: each for name, each in value.items() if each}
    for selector in _SELECTORS & sent.keys():
        sent[selector] = {"requirements": [_dense(each) for each in sent[selector]["requirements"]]}
    return sent


def _put(resource: dict[str, Any], name: str, requirements: Sequence[Requirement], operators: frozenset[str]) -> None:
    said = [
        {"key": key, "operator": operator, "values": list(values)}
        for key, operator, values in requirements
        if operator in operators
    ]
    if said:
        resource[name] = {"requirements": said}
