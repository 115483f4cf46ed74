"""A minimal OpenAPI v3 document for a backend that has none: what kubectl needs to create, and to explain a little.

kubectl looks for a PATCH with `fieldValidation` before it creates anything (wire contract §4.5); the document is made
from what the backend's discovery says, in the form of §4.6.
"""

from __future__ import annotations

import re
from typing import Any

from aggmw.contracts.catalog import APIResource, APIVersion, GroupVersionKind
from aggmw.middleware.discovery.limits import MAX_OPENAPI_BYTES
from aggmw.objects.encoding import encode

__all__ = ["generate"]

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_COLLECTION = (("list", "get", "list"), ("create", "post", "post"), ("deletecollection", "delete", "deletecollection"))
_ITEM = (("get", "get", "get"), ("update", "put", "put"), ("patch", "patch", "patch"), ("delete", "delete", "delete"))
_SUBRESOURCE = (("get", "get", "get"), ("create", "post", "post"), *_ITEM[1:])
_WORDS = {
    "list": "list",
    "create": "create",
    "deletecollection": "deleteCollection",
    "get": "read",
    "update": "replace",
    "patch": "patch",
    "delete": "delete",
}
_WRITES = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_QUERY = {
    "list": (
        ("allowWatchBookmarks", "boolean"),
        ("continue", "string"),
        ("fieldSelector", "string"),
        ("labelSelector", "string"),
        ("limit", "integer"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("sendInitialEvents", "boolean"),
        ("timeoutSeconds", "integer"),
        ("watch", "boolean"),
    ),
    "create": _WRITES,
    "update": _WRITES,
    "patch": (*_WRITES, ("force", "boolean")),
    "delete": (
        ("dryRun", "string"),
        ("gracePeriodSeconds", "integer"),
        ("orphanDependents", "boolean"),
        ("propagationPolicy", "string"),
    ),
}
_ALWAYS = (("pretty", "string"),)
_NAMESPACE = {"name": "namespace", "in": "path", "required": True, "schema": {"type": "string"}}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def generate(group: str, version: APIVersion) -> bytes | None:
    """The document of one group version, as JSON; None when it would be larger than `MAX_OPENAPI_BYTES`.

    Objects are described as far as every object is alike: apiVersion, kind, metadata; the rest is left open.
    """
    writer = _Writer(group, version.version)
    for resource in version.resources:
        if resource.kind.kind and not writer.add(resource):
            return None
    head = {"openapi": "3.0.0", "info": {"title": "made from discovery", "version": version.version}}
    return b'%b,"paths":%b,"components":{"schemas":%b}}' % (
        encode(head)[:-1],
        writer.paths.encoded(),
        writer.schemas.encoded(),
    )


class _Members:
    """A JSON object of which each member is encoded at once: a large document never exists as Python objects."""

    def __init__(self) -> None:
        self._members: dict[str, bytes] = {}
        self.size = 0

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def put(self, name: str, value: object) -> None:
        """Add a member. What is there already stays."""
        if name not in self._members:
            member = self._members[name] = b"%b:%b" % (encode(name), encode(value))
            self.size += len(member) + 1

    def encoded(self) -> bytes:
        return b"{%b}" % b",".join(self._members.values())


class _Writer:
    def __init__(self, group: str, version: str) -> None:
        self._prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
        self._title = _camel(group or "core") + _camel(version)
        self.paths = _Members()
        self.schemas = _Members()
        self.schemas.put(_OBJECT_META, _meta(True))
        self.schemas.put(_LIST_META, _meta(False))

    def add(self, resource: APIResource) -> bool:
        """Everything that can be done with one resource; whether there was room for it."""
        kind, verbs = resource.kind, resource.verbs
        middle = "/namespaces/{namespace}" if resource.namespaced else ""
        collection, item = f"{self._prefix}{middle}/{resource.name}", f"{self._prefix}{middle}/{resource.name}/{{name}}"
        name = ("Namespaced" if resource.namespaced else "") + kind.kind
        self._describe(kind)
        self._path(collection, kind, _COLLECTION, verbs, name)
        # Of a kind that can be created kubectl wants to see a PATCH, also where there is none: it looks nowhere else.
        self._path(item, kind, _ITEM, (*verbs, "patch") if "create" in verbs else verbs, name)
        if resource.namespaced:
            # The list over all namespaces.
            self._path(f"{self._prefix}/{resource.name}", kind, _COLLECTION[:1], verbs, f"{kind.kind}ForAllNamespaces")
        for sub in resource.subresources:
            shown = sub.kind if sub.kind.kind else kind
            self._describe(shown)
            self._path(f"{item}/{sub.name}", shown, _SUBRESOURCE, sub.verbs, name + _camel(sub.name))
            if not self._room:
                return False
        return self._room

    @property
    def _room(self) -> bool:
        # What else is in the document is a few hundred bytes.
        return self.paths.size + self.schemas.size < MAX_OPENAPI_BYTES - 1024

    def _path(
        self,
        path: str,
        kind: GroupVersionKind,
        offered: tuple[tuple[str, str, str], ...],
        verbs: tuple[str, ...],
        name: str,
    ) -> None:
        operations = {
            method: self._operation(verb, action, kind, f"{_WORDS[verb]}{self._title}{name}")
            for verb, method, action in offered
            if verb in verbs
        }
        if not operations:
            return
        parameters = [_NAME] if "{name}" in path else []
        if "{namespace}" in path:
            parameters.append(_NAMESPACE)
        self.paths.put(path, {**operations, "parameters": parameters})

    def _operation(self, verb: str, action: str, kind: GroupVersionKind, name: str) -> dict[str, Any]:
        schema = _reference(kind, "List" if verb == "list" else "")
        operation: dict[str, Any] = {
            "operationId": name,
            "parameters": [
                {"name": each, "in": "query", "schema": {"type": type_, "uniqueItems": True}}
                for each, type_ in (*_QUERY.get(verb, ()), *_ALWAYS)
            ],
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _named(kind),
        }
        if verb in ("create", "update"):
            operation["requestBody"] = {"content": {"*/*": {"schema": schema}}, "required": True}
        elif verb == "patch":
            content = {type_: {"schema": {"type": "object"}} for type_ in _PATCH_TYPES}
            operation["requestBody"] = {"content": content, "required": True}
        return operation

    def _describe(self, kind: GroupVersionKind) -> None:
        name = _schema_name(kind)
        if name in self.schemas:
            return
        self.schemas.put(name, _object(kind, _OBJECT_META, {}))
        items = {"items": {"type": "array", "items": _reference(kind)}}
        list_kind = GroupVersionKind(kind.group, kind.version, f"{kind.kind}List")
        self.schemas.put(_schema_name(list_kind), _object(list_kind, _LIST_META, items) | {"required": ["items"]})


def _object(kind: GroupVersionKind, meta: str, further: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The server of this kind publishes no description; what every object has is shown.",
        "properties": {
            "apiVersion": {"type": "string", "description": "The group and version of this object's form."},
            "kind": {"type": "string", "description": "The kind of this object."},
            "metadata": {
                "allOf": [{"$ref": f"#/components/schemas/{meta}"}],
                "description": "What every object has.",
                "default": {},
            },
            **further,
        },
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-group-version-kind": [_named(kind)],
    }


def _meta(of_an_object: bool) -> dict[str, Any]:
    texts = ("name", "generateName", "namespace", "uid") if of_an_object else ("continue",)
    properties: dict[str, Any] = {each: {"type": "string"} for each in (*texts, "resourceVersion")}
    if of_an_object:
        properties["creationTimestamp"] = {"type": "string", "format": "date-time"}
        for each in ("labels", "annotations"):
            properties[each] = {"type": "object", "additionalProperties": {"type": "string"}}
    return {"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


def _named(kind: GroupVersionKind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _schema_name(kind: GroupVersionKind) -> str:
    """`com.example.v1.Widget`: the group from behind, so that names of one owner stand together."""
    return ".".join([*reversed((kind.group or "api.k8s.io").split(".")), kind.version, kind.kind])


def _reference(kind: GroupVersionKind, suffix: str = "") -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{_schema_name(kind)}{suffix}"}


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", text))
