"""The shapes of built-in kinds: each field with its JSON name, its number in protobuf, and its type.

From `generated.proto` of `k8s.io/api` and `k8s.io/apimachinery`. One table serves protobuf (`objects.protobuf`) and the
checks of JSON and YAML (`objects.bodies`).

A field is written `number type`: `string`, `bool`, `int32`, `int64`, `bytes`, `time` (RFC 3339), `json` (raw JSON),
`strings` (`ExtraValue`: a list in a message of its own), or the name of a message; `[]` in front makes it a list,
`{}` a map from strings, `?` a pointer in Go: only there do "absent" and "empty" differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

__all__ = ["KINDS", "SCALARS", "Field", "Message", "message_of", "shape_of"]

SCALARS = frozenset({"string", "bool", "int32", "int64", "bytes", "time", "json", "strings"})

_OBJECT = {"metadata": "1 ObjectMeta"}
_REVIEW = {**_OBJECT, "status": "3 SubjectAccessReviewStatus"}
_SUBJECT_REVIEW = {**_REVIEW, "spec": "2 SubjectAccessReviewSpec"}

_MESSAGES: Mapping[str, Mapping[str, str]] = {
    # k8s.io/apimachinery/pkg/apis/meta/v1
    "ObjectMeta": {
        "name": "1 string",
        "generateName": "2 string",
        "namespace": "3 string",
        "selfLink": "4 string",
        "uid": "5 string",
        "resourceVersion": "6 string",
        "generation": "7 int64",
        "creationTimestamp": "8 time",
        "deletionTimestamp": "9 ?time",
        "deletionGracePeriodSeconds": "10 ?int64",
        "labels": "11 {}string",
        "annotations": "12 {}string",
        "ownerReferences": "13 []OwnerReference",
        "finalizers": "14 []string",
        "managedFields": "17 []ManagedFieldsEntry",
    },
    "OwnerReference": {
        "kind": "1 string",
        "name": "3 string",
        "uid": "4 string",
        "apiVersion": "5 string",
        "controller": "6 ?bool",
        "blockOwnerDeletion": "7 ?bool",
    },
    "ManagedFieldsEntry": {
        "manager": "1 string",
        "operation": "2 string",
        "apiVersion": "3 string",
        "time": "4 ?time",
        "fieldsType": "6 string",
        "fieldsV1": "7 ?json",
        "subresource": "8 string",
    },
    "ListMeta": {
        "selfLink": "1 string",
        "resourceVersion": "2 string",
        "continue": "3 string",
        "remainingItemCount": "4 ?int64",
    },
    "Status": {
        "metadata": "1 ListMeta",
        "status": "2 string",
        "message": "3 string",
        "reason": "4 string",
        "details": "5 ?StatusDetails",
        "code": "6 int32",
    },
    "StatusDetails": {
        "name": "1 string",
        "group": "2 string",
        "kind": "3 string",
        "causes": "4 []StatusCause",
        "retryAfterSeconds": "5 int32",
        "uid": "6 string",
    },
    "StatusCause": {"reason": "1 string", "message": "2 string", "field": "3 string"},
    "DeleteOptions": {
        "gracePeriodSeconds": "1 ?int64",
        "preconditions": "2 ?Preconditions",
        "orphanDependents": "3 ?bool",
        "propagationPolicy": "4 ?string",
        "dryRun": "5 []string",
        "ignoreStoreReadErrorWithClusterBreakingPotential": "6 ?bool",
    },
    "Preconditions": {"uid": "1 ?string", "resourceVersion": "2 ?string"},
    # k8s.io/api/authentication/v1
    "UserInfo": {"username": "1 string", "uid": "2 string", "groups": "3 []string", "extra": "4 {}strings"},
    "TokenReview": {**_OBJECT, "spec": "2 TokenReviewSpec", "status": "3 TokenReviewStatus"},
    "TokenReviewSpec": {"token": "1 string", "audiences": "2 []string"},
    "TokenReviewStatus": {
        "authenticated": "1 bool",
        "user": "2 UserInfo",
        "error": "3 string",
        "audiences": "4 []string",
    },
    "SelfSubjectReview": {**_OBJECT, "status": "2 SelfSubjectReviewStatus"},
    "SelfSubjectReviewStatus": {"userInfo": "1 UserInfo"},
    "TokenRequest": {**_OBJECT, "spec": "2 TokenRequestSpec", "status": "3 TokenRequestStatus"},
    "TokenRequestSpec": {
        "audiences": "1 []string",
        "boundObjectRef": "3 ?BoundObjectReference",
        "expirationSeconds": "4 ?int64",
        "attestations": "5 {}strings",
    },
    "BoundObjectReference": {"kind": "1 string", "apiVersion": "2 string", "name": "3 string", "uid": "4 string"},
    "TokenRequestStatus": {"token": "1 string", "expirationTimestamp": "2 time"},
    # k8s.io/api/authorization/v1
    "SubjectAccessReview": _SUBJECT_REVIEW,
    "LocalSubjectAccessReview": _SUBJECT_REVIEW,
    "SelfSubjectAccessReview": {**_REVIEW, "spec": "2 SelfSubjectAccessReviewSpec"},
    "SubjectAccessReviewSpec": {
        "resourceAttributes": "1 ?ResourceAttributes",
        "nonResourceAttributes": "2 ?NonResourceAttributes",
        "user": "3 string",
        "groups": "4 []string",
        "extra": "5 {}strings",
        "uid": "6 string",
    },
    "SelfSubjectAccessReviewSpec": {
        "resourceAttributes": "1 ?ResourceAttributes",
        "nonResourceAttributes": "2 ?NonResourceAttributes",
    },
    "ResourceAttributes": {
        "namespace": "1 string",
        "verb": "2 string",
        "group": "3 string",
        "version": "4 string",
        "resource": "5 string",
        "subresource": "6 string",
        "name": "7 string",
        "fieldSelector": "8 ?SelectorAttributes",
        "labelSelector": "9 ?SelectorAttributes",
    },
    "SelectorAttributes": {"rawSelector": "1 string", "requirements": "2 []SelectorRequirement"},
    "SelectorRequirement": {"key": "1 string", "operator": "2 string", "values": "3 []string"},
    "NonResourceAttributes": {"path": "1 string", "verb": "2 string"},
    "SubjectAccessReviewStatus": {
        "allowed": "1 bool",
        "reason": "2 string",
        "evaluationError": "3 string",
        "denied": "4 bool",
    },
    "SelfSubjectRulesReview": {
        **_OBJECT,
        "spec": "2 SelfSubjectRulesReviewSpec",
        "status": "3 SubjectRulesReviewStatus",
    },
    "SelfSubjectRulesReviewSpec": {"namespace": "1 string"},
    "SubjectRulesReviewStatus": {
        "resourceRules": "1 []ResourceRule",
        "nonResourceRules": "2 []NonResourceRule",
        "incomplete": "3 bool",
        "evaluationError": "4 string",
    },
    "ResourceRule": {
        "verbs": "1 []string",
        "apiGroups": "2 []string",
        "resources": "3 []string",
        "resourceNames": "4 []string",
    },
    "NonResourceRule": {"verbs": "1 []string", "nonResourceURLs": "2 []string"},
}

KINDS: Mapping[tuple[str, str], str] = {
    ("v1", "Status"): "Status",
    ("v1", "DeleteOptions"): "DeleteOptions",
    ("meta.k8s.io/v1", "DeleteOptions"): "DeleteOptions",
    **{("authentication.k8s.io/v1", kind): kind for kind in ("TokenReview", "TokenRequest", "SelfSubjectReview")},
    **{
        ("authorization.k8s.io/v1", kind): kind
        for kind in (
            "SubjectAccessReview",
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
        )
    },
}
"""The message of each (apiVersion, kind) that is known here."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Args:
        name: in JSON.
        number: in protobuf.
        kind: a scalar's name, or a message's.
        many: "list", "map", or "" for one.
        pointer: whether it may be absent where its zero value is not.
    """

    name: str
    number: int
    kind: str
    many: str = ""
    pointer: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one type, by name and by number, each in the order of their numbers."""

    name: str
    by_name: Mapping[str, Field]
    by_number: Mapping[int, Field]


@cache
def message_of(name: str) -> Message:
    """A message by its name; KeyError when there is none."""
    fields = sorted((_field(*each) for each in _MESSAGES[name].items()), key=lambda each: each.number)
    return Message(name, {each.name: each for each in fields}, {each.number: each for each in fields})


def shape_of(api_version: str, kind: str) -> Message | None:
    """The message of an object, or None when its kind is not known here."""
    name = KINDS.get((api_version, kind))
    return None if name is None else message_of(name)


def _field(name: str, text: str) -> Field:
    number, _, kind = text.partition(" ")
    pointer = kind.startswith("?")
    kind = kind.removeprefix("?")
    many = {"[]": "list", "{}": "map"}.get(kind[:2], "")
    return Field(name, int(number), kind[2:] if many else kind, many, pointer)
