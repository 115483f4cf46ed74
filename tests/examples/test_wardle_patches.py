"""The demo's API server: what its two kinds of patches do to a document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from examples.wardle.patches import COPIES_LIMIT, JSON_PATCH, OPERATIONS_LIMIT, change_of, merged, patched

from aggmw.errors import StatusError


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [1]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a"], ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, expected: object) -> None:
    """RFC 7386, its appendix."""
    assert merged(target, patch) == expected


def operation(op: str, path: str, value: object = None, **fields: object) -> dict[str, Any]:
    return {"op": op, "path": path, "value": value, **fields}


@pytest.mark.parametrize(
    ("target", "operations", "expected"),
    [
        ({"a": 1}, [operation("add", "/b", 2)], {"a": 1, "b": 2}),
        ({"a": 1}, [operation("add", "/a", 2)], {"a": 2}),
        ({"a": [1, 3]}, [operation("add", "/a/1", 2)], {"a": [1, 2, 3]}),
        ({"a": [1]}, [operation("add", "/a/1", 2)], {"a": [1, 2]}),
        ({"a": [1]}, [operation("add", "/a/-", 2)], {"a": [1, 2]}),
        ({"a": 1}, [operation("add", "", {"b": 2})], {"b": 2}),
        ({"a": 1, "b": 2}, [operation("remove", "/a")], {"b": 2}),
        ({"a": [1, 2]}, [operation("remove", "/a/0")], {"a": [2]}),
        ({"a": 1}, [operation("remove", ""), operation("add", "", {})], {}),
        ({"a": [1, 2]}, [operation("replace", "/a/0", 3)], {"a": [3, 2]}),
        ({"a": 1}, [operation("replace", "", {"b": 2})], {"b": 2}),
        ({"a": {"b": 1}}, [operation("move", "/c", **{"from": "/a/b"})], {"a": {}, "c": 1}),
        ({"a": [1, 2, 3]}, [operation("move", "/a/2", **{"from": "/a/0"})], {"a": [2, 3, 1]}),
        ({"a": 1}, [operation("move", "/a", **{"from": "/a"})], {"a": 1}),
        ({"a": {"b": 1}}, [operation("copy", "/a/c", **{"from": "/a"})], {"a": {"b": 1, "c": {"b": 1}}}),
        ({"a/b": 1, "m~n": 2}, [operation("remove", "/a~1b"), operation("add", "/m~0n", 3)], {"m~n": 3}),
        ({"": 1}, [operation("replace", "/", 2)], {"": 2}),
        ({"~1": 1}, [operation("test", "/~01", 1)], {"~1": 1}),
        ({"a": [1, {"b": None}]}, [operation("test", "/a", [1.0, {"b": None}])], {"a": [1, {"b": None}]}),
    ],
)
def test_json_patch(target: dict[str, Any], operations: list[dict[str, Any]], expected: object) -> None:
    """RFC 6902 with the pointers of RFC 6901; the target itself is left alone."""
    before = json.dumps(target)
    assert patched(target, operations) == expected
    assert json.dumps(target) == before


DOCUMENT = {"a": 1, "b": [True, "x"], "c": {"d": {}}}


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([operation("remove", "/z")], "operation 0, remove '/z': there is no such path"),
        ([operation("remove", "/a"), operation("remove", "/a")], "operation 1, remove '/a': there is no such path"),
        ([operation("add", "/z/y", 1)], "operation 0, add '/z/y': there is no such path"),
        ([operation("add", "/a/y", 1)], "operation 0, add '/a/y': there is no such path"),
        ([operation("add", "/b/3", 1)], "operation 0, add '/b/3': there is no such path"),
        ([operation("add", "/b/01", 1)], "operation 0, add '/b/01': there is no such path"),
        ([operation("add", "/b/x", 1)], "operation 0, add '/b/x': there is no such path"),
        ([operation("replace", "/b/-", 1)], "operation 0, replace '/b/-': there is no such path"),
        ([operation("replace", "/b/-1", 1)], "operation 0, replace '/b/-1': there is no such path"),
        ([operation("test", "/b/0", 1)], "operation 0, test '/b/0': the value is another one"),
        ([operation("test", "/b", [True])], "operation 0, test '/b': the value is another one"),
        ([operation("test", "/c", {"d": []})], "operation 0, test '/c': the value is another one"),
        ([operation("move", "/c/d", **{"from": "/c"})], "operation 0, move '/c/d': nothing can be moved into itself"),
        (
            [operation("remove", "a")],
            "operation 0, remove 'a': a path is nothing, or begins with / and has ~ only as ~0 and ~1",
        ),
        (
            [operation("remove", "/a~2")],
            "operation 0, remove '/a~2': a path is nothing, or begins with / and has ~ only as ~0 and ~1",
        ),
        ([operation("remove", "")], "what it leaves is not a JSON object, or nested too deep"),
        ([operation("replace", "", [])], "what it leaves is not a JSON object, or nested too deep"),
    ],
)
def test_json_patches_that_cannot_be_applied(operations: list[dict[str, Any]], why: str) -> None:
    """What does not fit the document is a 422 that names the operation."""
    with pytest.raises(StatusError) as caught:
        patched(DOCUMENT, operations)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.message == f"the patch cannot be applied: {why}"


def test_copies_do_not_grow_without_end() -> None:
    """Copies of copies double the document: all together are bounded."""
    with pytest.raises(StatusError, match=f"all copies together are more than {COPIES_LIMIT} bytes") as caught:
        patched({"a": "x" * 100}, [operation("copy", f"/{number}", **{"from": ""}) for number in range(100)])
    assert caught.value.code == 422


def test_nesting_does_not_grow_without_end() -> None:
    """An object that could not be written again is not kept."""
    deeper = [operation("add", "/a" * depth, {}) for depth in range(1, 101)]
    with pytest.raises(StatusError, match="what it leaves is not a JSON object, or nested too deep"):
        patched({}, deeper)
    deepest = [operation("add", "/a" * depth, {}) for depth in range(1, 1200)]
    with pytest.raises(StatusError, match="the patch cannot be applied") as caught:
        patched({}, [*deepest, operation("copy", "/b", **{"from": "/a"})])
    assert caught.value.code == 422


@pytest.mark.parametrize(
    "sent",
    [
        {},
        ["x"],
        [{}],
        [{"op": "add"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": "copy", "path": "/a"}],
        [{"op": "move", "path": "/a", "from": 1}],
        [{"op": "change", "path": "/a", "value": 1}],
        [{"op": ["add"], "path": "/a", "value": 1}],
    ],
)
def test_bodies_that_are_no_json_patch(sent: object) -> None:
    """A body of another shape is a 400."""
    with pytest.raises(StatusError, match="not a list of JSON patch operations") as caught:
        change_of(JSON_PATCH, json.dumps(sent).encode())
    assert caught.value.code == 400


def test_too_many_operations() -> None:
    """The number of operations is bounded (wire contract §9.3)."""
    with pytest.raises(StatusError, match="allowed maximum operations") as caught:
        change_of(JSON_PATCH, json.dumps([operation("add", "/a")] * (OPERATIONS_LIMIT + 1)).encode())
    assert caught.value.code == 413
