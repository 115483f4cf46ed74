"""What a flunder is: decoding, validation, the metadata that a server sets, selectors."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from aggmw.errors import StatusError

from .storage import Object

GROUP, VERSION, KIND, RESOURCE = "wardle.example.com", "v1alpha1", "Flunder", "flunders"
API_VERSION = f"{GROUP}/{VERSION}"
QUALIFIED = f"{RESOURCE}.{GROUP}"
DEPTH_LIMIT = 100

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_SERVER_SET = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "selfLink")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_REQUIREMENT = re.compile(
    r"\s*+(?P<not>!)?(?P<key>[\w./-]+)\s*+((?P<op>==|!=|=)\s*+(?P<value>[\w.-]*)\s*+)?\Z", re.ASCII
)


def about(name: str) -> dict[str, str]:
    """The details of a Status about one flunder."""
    return {"name": name, "group": GROUP, "kind": RESOURCE}


def conflict(name: str, why: str) -> StatusError:
    return StatusError(409, "Conflict", f'Operation cannot be fulfilled on {QUALIFIED} "{name}": {why}', about(name))


def invalid(name: str, path: str, what: str, reason: str = "FieldValueInvalid") -> StatusError:
    message = f'{KIND}.{GROUP} "{name}" is invalid: {path}: {what}'
    causes = [{"reason": reason, "message": what, "field": path}]
    return StatusError(422, "Invalid", message, {"name": name, "group": GROUP, "kind": KIND, "causes": causes})


def loads(body: bytes) -> Any:
    """JSON that is not nested absurdly. Duplicate keys are as in any JSON reader of Python: the last one counts."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise StatusError(400, "BadRequest", "the body of the request is not JSON") from error
    if too_deep(found):
        raise StatusError(400, "BadRequest", f"the body of the request is nested more than {DEPTH_LIMIT} deep")
    return found


def decode(body: bytes) -> Object:
    """A JSON object."""
    found = loads(body)
    if not isinstance(found, dict):
        raise StatusError(400, "BadRequest", "the body of the request is not a JSON object")
    return found


def too_deep(value: Any) -> bool:
    """Whether containers are nested more than `DEPTH_LIMIT` deep: what is kept can then be written again."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [child for each in level if isinstance(each, (dict, list)) for child in _children(each)]
        if not level:
            return False
    return any(isinstance(each, (dict, list)) for each in level)


def _children(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def check(object_: Object, namespace: str, *, strict: bool) -> None:
    """The shape of what a client sent, against its kind and the URL's namespace."""
    metadata, spec, status = (object_.get(field, {}) for field in ("metadata", "spec", "status"))
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
    if not _is_status(status):
        _unreadable("status.conditions is a list of objects with the strings type and status")
    if strict and (unknown := _unknown(object_)):
        _unreadable("strict decoding error: " + ", ".join(f'unknown field "{field}"' for field in unknown))
    if metadata.get("namespace", namespace) != namespace:
        what = "the namespace of the provided object does not match the namespace sent on the request"
        raise StatusError(400, "BadRequest", what)


def _is_status(status: Any) -> bool:
    if not isinstance(status or {}, dict):
        return False
    conditions = _conditions(status)
    if not isinstance(conditions, list) or not all(isinstance(each, dict) for each in conditions):
        return False
    return all(isinstance(each.get(key), str) for each in conditions for key in ("type", "status"))


def _conditions(status: Any) -> Any:
    return (status or {}).get("conditions") or []


def _unknown(object_: Object) -> list[str]:
    unknown = [key for key in object_ if key not in ("apiVersion", "kind", "metadata", "spec", "status")]
    for part, known in (("spec", "reference"), ("status", "conditions")):
        unknown += [f"{part}.{key}" for key in object_.get(part) or {} if key != known]
    return unknown


def _unreadable(why: str) -> None:
    raise StatusError(400, "BadRequest", f'{KIND} in version "{VERSION}" cannot be handled as a {KIND}: {why}')


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


def with_status(sent: Object, stored: Object) -> Object:
    """An existing flunder with what the client may change of its status."""
    return {**stored, "status": {"conditions": _conditions(sent.get("status"))}}


def settled(flunder: Object, *, ready: bool) -> Object:
    """With the condition that `kubectl wait --for=condition=Ready` looks at, beside the conditions of others."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": now(),
        "reason": "Settled" if ready else "Settling",
        "message": "",
    }
    others = [each for each in _conditions(flunder.get("status")) if each["type"] != "Ready"]
    return {**flunder, "status": {"conditions": [condition, *others]}}


def _spec(sent: Object) -> Object:
    spec = sent.get("spec") or {}
    return {"reference": spec["reference"]} if "reference" in spec else {}


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def selection(namespace: str, labels: str, fields: str) -> Callable[[Object], bool]:
    """Whether an object is meant: `namespace` "" is all of them; selectors as in a query, "" selects everything."""
    tests: list[Callable[[Object], bool]] = []
    if namespace:
        tests.append(lambda metadata: metadata["namespace"] == namespace)
    tests += [_label_test(part) for part in labels.split(",") if labels]
    tests += [_field_test(part) for part in fields.split(",") if part]  # kr8s ends its selectors with a comma
    return lambda object_: all(test(object_["metadata"]) for test in tests)


def _label_test(text: str) -> Callable[[Object], bool]:
    match = _REQUIREMENT.match(text)
    if match is None or (match["not"] and match["op"]):
        raise StatusError(
            400, "BadRequest", f"unable to parse requirement: {text!r} is not key, !key, key=value, key!=value"
        )
    key, wanted, unequal = match["key"], match["value"], match["op"] == "!="
    if match["op"] is None:
        return lambda metadata: (key in (metadata.get("labels") or {})) is not bool(match["not"])
    return lambda metadata: ((metadata.get("labels") or {}).get(key) == wanted) is not unequal


def _field_test(text: str) -> Callable[[Object], bool]:
    field, operator, wanted = re.match(r"([^=!]*)(==|!=|=)?(.*)\Z", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if field not in ("metadata.name", "metadata.namespace") or operator is None:
        raise StatusError(400, "BadRequest", f"field label not supported: {field}")
    return lambda metadata: (metadata[field.removeprefix("metadata.")] == wanted) is not (operator == "!=")
