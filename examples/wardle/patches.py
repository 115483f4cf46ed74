"""The two patches of this server: JSON merge patch (RFC 7386) and JSON patch (RFC 6902)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from aggmw.errors import StatusError

from .objects import decode, loads, too_deep
from .storage import Object

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
OPERATIONS_LIMIT = 10_000
COPIES_LIMIT = 3 * 1024 * 1024  # what all copies of one patch may add, as JSON

_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*+)*+\Z")
_INDEX = re.compile(r"(0|[1-9][0-9]{0,8})\Z", re.ASCII)
_NEEDS = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": "path"}


def change_of(media_type: str, body: bytes) -> Callable[[Object], Object]:
    """What a patch does to an object; the object that it is given stays as it is.

    Raises:
        StatusError: 400, the body is not a patch; 413, too many operations. The change itself: 422, it cannot be made.
    """
    if media_type == MERGE_PATCH:
        patch = decode(body)
        return lambda target: merged(target, patch)
    operations = loads(body)
    if not isinstance(operations, list) or not all(map(_is_operation, operations)):
        raise StatusError(400, "BadRequest", "the body of the request is not a list of JSON patch operations")
    if len(operations) > OPERATIONS_LIMIT:
        what = f"The allowed maximum operations in a JSON patch is {OPERATIONS_LIMIT}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", what)
    return lambda target: patched(target, operations)


def merged(target: Any, patch: Any) -> Any:
    """The target after a merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def patched(target: Object, operations: list[dict[str, Any]]) -> Object:
    """The target after all operations of a JSON patch."""
    document: list[Any] = [deepcopy(target)]  # the root is an element too, so that "" needs no case of its own
    budget = COPIES_LIMIT
    for number, operation in enumerate(operations):
        try:
            if operation["op"] == "copy":
                budget -= len(json.dumps(_value(document, operation["from"])))
                if budget < 0:
                    raise _Impossible(f"all copies together are more than {COPIES_LIMIT} bytes")
            _apply(document, operation)
        except (_Impossible, RecursionError) as error:
            where = f"operation {number}, {operation['op']} {operation['path']!r}"
            raise _unprocessable(f"{where}: {error}") from error
    (result,) = document
    if not isinstance(result, dict) or too_deep(result):
        raise _unprocessable("what it leaves is not a JSON object, or nested too deep")
    return result


class _Impossible(Exception):
    """An operation does not fit the document."""


def _unprocessable(why: str) -> StatusError:
    return StatusError(422, "Invalid", f"the patch cannot be applied: {why}")


def _is_operation(operation: Any) -> bool:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        return False
    needs = _NEEDS.get(operation["op"]) if isinstance(operation.get("op"), str) else None
    return needs in operation and (needs != "from" or isinstance(operation["from"], str))


def _apply(document: list[Any], operation: dict[str, Any]) -> None:
    kind, path = operation["op"], operation["path"]
    if kind == "test":
        if not _same(_value(document, path), operation["value"]):
            raise _Impossible("the value is another one")
    elif kind == "add":
        _add(document, path, deepcopy(operation["value"]))
    elif kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        parent, key = _find(document, path)
        parent[key] = deepcopy(operation["value"])
    elif kind == "copy":
        _add(document, path, deepcopy(_value(document, operation["from"])))
    elif path == operation["from"] or not path.startswith(operation["from"] + "/"):
        _add(document, path, _remove(document, operation["from"]))
    else:
        raise _Impossible("nothing can be moved into itself")


def _add(document: list[Any], path: str, value: Any) -> None:
    parent, key = _find(document, path, new=True)
    if isinstance(parent, list) and parent is not document:
        parent.insert(key, value)
    else:
        parent[key] = value


def _remove(document: list[Any], path: str) -> Any:
    parent, key = _find(document, path)
    value = parent[key]
    if parent is document:
        parent[key] = None
    else:
        del parent[key]
    return value


def _value(document: list[Any], path: str) -> Any:
    parent, key = _find(document, path)
    return parent[key]


def _find(document: list[Any], path: str, *, new: bool = False) -> tuple[Any, Any]:
    """Where a JSON pointer (RFC 6901) leads: the container, and the key or index in it; `new`: which may be added."""
    if not _POINTER.match(path):
        raise _Impossible("a path is nothing, or begins with / and has ~ only as ~0 and ~1")
    parent: Any = document
    key: Any = 0
    for token in path.split("/")[1:]:
        _check_key(parent, key)
        parent = parent[key]
        key = _key(parent, token.replace("~1", "/").replace("~0", "~"))
    _check_key(parent, key, new=new)
    return parent, key


def _key(parent: Any, token: str) -> Any:
    if isinstance(parent, dict):
        return token
    if isinstance(parent, list) and token == "-":
        return len(parent)
    if isinstance(parent, list) and _INDEX.match(token):
        return int(token)
    raise _Impossible("there is no such path")


def _check_key(parent: Any, key: Any, *, new: bool = False) -> None:
    there = key in parent if isinstance(parent, dict) else key < len(parent)
    if not there and not (new and (isinstance(parent, dict) or key == len(parent))):
        raise _Impossible("there is no such path")


def _same(one: Any, other: Any) -> bool:
    """JSON equality: 1 is 1.0, but not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
