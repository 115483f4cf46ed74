"""What a flunder is: decoding, validation, the metadata that a server sets, selectors, merge patches."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .storage import Object

GROUP, VERSION, KIND, RESOURCE = "wardle.example.com", "v1alpha1", "Flunder", "flunders"
API_VERSION = f"{GROUP}/{VERSION}"
QUALIFIED = f"{RESOURCE}.{GROUP}"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_SERVER_SET = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "selfLink")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_REQUIREMENT = re.compile(
    r"\s*+(?P<not>!)?(?P<key>[\w./-]+)\s*+((?P<op>==|!=|=)\s*+(?P<value>[\w.-]*)\s*+)?\Z", re.ASCII
)


class Refused(Exception):
    """An error that the client gets as a `Status`."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": dict(details)} if details else {}),
            "code": code,
        }


def about(name: str) -> dict[str, str]:
    """The details of a Status about one flunder."""
    return {"name": name, "group": GROUP, "kind": RESOURCE}


def conflict(name: str, why: str) -> Refused:
    return Refused(409, "Conflict", f'Operation cannot be fulfilled on {QUALIFIED} "{name}": {why}', about(name))


def invalid(name: str, path: str, what: str, reason: str = "FieldValueInvalid") -> Refused:
    message = f'{KIND}.{GROUP} "{name}" is invalid: {path}: {what}'
    causes = [{"reason": reason, "message": what, "field": path}]
    return Refused(422, "Invalid", message, {"name": name, "group": GROUP, "kind": KIND, "causes": causes})


def decode(body: bytes) -> Object:
    """A JSON object. Duplicate keys are as in any JSON reader of Python: the last one counts."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "BadRequest", "the body of the request is not JSON") from error
    if not isinstance(found, dict):
        raise Refused(400, "BadRequest", "the body of the request is not a JSON object")
    return found


def check(object_: Object, namespace: str, *, strict: bool) -> None:
    """The shape of what a client sent, against its kind and the URL's namespace."""
    metadata, spec = object_.get("metadata", {}), object_.get("spec", {})
    if object_.get("apiVersion") != API_VERSION or object_.get("kind") != KIND:
        _unreadable(f"no kind {str(object_.get('kind'))!r} is served in {str(object_.get('apiVersion'))!r} here")
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        _unreadable("metadata and spec are objects")
    if not isinstance(spec.get("reference", ""), str):
        _unreadable("spec.reference is a string")
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            _unreadable(f"metadata.{field} maps strings to strings")
    if strict and (unknown := _unknown(object_, spec)):
        _unreadable("strict decoding error: " + ", ".join(f'unknown field "{field}"' for field in unknown))
    if metadata.get("namespace", namespace) != namespace:
        what = "the namespace of the provided object does not match the namespace sent on the request"
        raise Refused(400, "BadRequest", what)


def _unknown(object_: Object, spec: Object) -> list[str]:
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    return [key for key in object_ if key not in known] + [f"spec.{key}" for key in spec if key != "reference"]


def _unreadable(why: str) -> None:
    raise Refused(400, "BadRequest", f'{KIND} in version "{VERSION}" cannot be handled as a {KIND}: {why}')


def named(metadata: Object) -> str:
    """The name, made from `generateName` if there is none."""
    name, base = metadata.get("name") or "", metadata.get("generateName") or ""
    if not name and base:
        name = str(base)[:58] + "".join(random.choices(_SUFFIX, k=5))
    if not name:
        raise invalid("", "metadata.name", "Required value: name or generateName is required", "FieldValueRequired")
    if not isinstance(name, str) or not _NAME.match(name):
        raise invalid(name, "metadata.name", f"Invalid value: {json.dumps(name)}: not a lowercase RFC 1123 subdomain")
    return name


def created(sent: Object, namespace: str, name: str, *, ready: bool) -> Object:
    """A new flunder: what the client says, plus what only the server says."""
    metadata = {key: value for key, value in sent.get("metadata", {}).items() if key not in _SERVER_SET}
    metadata |= {"name": name, "namespace": namespace, "uid": str(uuid.uuid4())}
    metadata |= {"creationTimestamp": now(), "generation": 1}
    flunder = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": _spec(sent)}
    return settled(flunder, ready=ready)


def updated(sent: Object, stored: Object) -> Object:
    """An existing flunder with what the client may change."""
    before = stored["metadata"]
    metadata = {key: value for key, value in (sent.get("metadata") or {}).items() if key not in _SERVER_SET}
    metadata |= {key: before[key] for key in ("name", "namespace", *_SERVER_SET) if key in before}
    spec = _spec(sent)
    if spec != stored["spec"]:
        metadata["generation"] = before["generation"] + 1
    return {**stored, "metadata": metadata, "spec": spec}


def settled(flunder: Object, *, ready: bool) -> Object:
    """With the condition that `kubectl wait --for=condition=Ready` looks at."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": now(),
        "reason": "Settled" if ready else "Settling",
        "message": "",
    }
    return {**flunder, "status": {"conditions": [condition]}}


def _spec(sent: Object) -> Object:
    spec = sent.get("spec") or {}
    return {"reference": spec["reference"]} if "reference" in spec else {}


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def selection(namespace: str, labels: str, fields: str) -> Callable[[Object], bool]:
    """Whether an object is meant: `namespace` "" is all of them; selectors as in a query, "" selects everything."""
    tests: list[Callable[[Object], bool]] = []
    if namespace:
        tests.append(lambda metadata: metadata["namespace"] == namespace)
    tests += [_label_test(part) for part in labels.split(",") if labels]
    tests += [_field_test(part) for part in fields.split(",") if fields]
    return lambda object_: all(test(object_["metadata"]) for test in tests)


def _label_test(text: str) -> Callable[[Object], bool]:
    match = _REQUIREMENT.match(text)
    if match is None or (match["not"] and match["op"]):
        raise Refused(
            400, "BadRequest", f"unable to parse requirement: {text!r} is not key, !key, key=value, key!=value"
        )
    key, wanted, unequal = match["key"], match["value"], match["op"] == "!="
    if match["op"] is None:
        return lambda metadata: (key in (metadata.get("labels") or {})) is not bool(match["not"])
    return lambda metadata: ((metadata.get("labels") or {}).get(key) == wanted) is not unequal


def _field_test(text: str) -> Callable[[Object], bool]:
    field, operator, wanted = re.match(r"([^=!]*)(==|!=|=)?(.*)\Z", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if field not in ("metadata.name", "metadata.namespace") or operator is None:
        raise Refused(400, "BadRequest", f"field label not supported: {field}")
    return lambda metadata: (metadata[field.removeprefix("metadata.")] == wanted) is not (operator == "!=")
