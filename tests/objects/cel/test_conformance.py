"""The public conformance cases of cel-spec: basic, fields, lists, logic, macros, parse, plumbing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from aggmw.objects.cel import CelError, Type, UInt, compile  # noqa: A004
from aggmw.objects.cel.types import DYN, list_of, map_of

_VECTORS = Path(__file__).parent / "cel-spec.json"
_CASES: list[dict[str, Any]] = json.loads(_VECTORS.read_bytes())
_MESSAGES = "it needs protobuf messages, which expressions of Kubernetes do not have"


def _type(described: dict[str, Any]) -> Type:
    match described:
        case {"primitive": name}:
            return Type({"INT64": "int", "UINT64": "uint"}.get(name, name.lower()))
        case {"listType": {"elemType": element}}:
            return list_of(_type(element))
        case {"mapType": {"keyType": key, "valueType": value}}:
            return map_of(_type(key), _type(value))
        case {"dyn": _}:
            return DYN
    pytest.skip(_MESSAGES)


def _value(described: dict[str, Any]) -> Any:
    match described:
        case {"int64Value": digits}:
            return int(digits)
        case {"uint64Value": digits}:
            return UInt(digits)
        case {"doubleValue": number}:
            return float(number)
        case {"bytesValue": text}:
            return base64.b64decode(text)
        case {"listValue": values}:
            return [_value(each) for each in values.get("values", [])]
        case {"mapValue": values}:
            return {_value(each["key"]): _value(each["value"]) for each in values.get("entries", [])}
        case {"nullValue": _}:
            return None
        case {"stringValue": value} | {"boolValue": value}:
            return value
    pytest.skip(_MESSAGES)


def _typed(value: Any) -> Any:
    """A value in which 1, 1u, 1.0 and true differ."""
    if isinstance(value, list):
        return [_typed(each) for each in value]
    if isinstance(value, dict):
        return {(type(key), key): _typed(each) for key, each in value.items()}
    return type(value), value


def _name(case: dict[str, Any]) -> str:
    return f"{case['suite']}-{case['original']['name']}"


@pytest.mark.parametrize("case", _CASES, ids=_name)
def test_case(case: dict[str, Any]) -> None:
    """The value that the specification gives, of its type, or an error where it wants one."""
    original = case["original"]
    variables = {each["name"]: _type(each["ident"]["type"]) for each in original.get("typeEnv", [])}
    bindings = {name: _value(each["value"]) for name, each in original.get("bindings", {}).items()}
    checked = not original.get("disableCheck", False)
    if "evalError" in original:
        with pytest.raises(CelError):
            compile(original["expr"], variables, checked=checked).evaluate(**bindings)
        return
    expected = _value(original["value"])
    program = compile(original["expr"], variables, checked=checked)
    assert _typed(program.evaluate(**bindings)) == _typed(expected)


def _is_checked(case: dict[str, Any]) -> bool:
    """Of an empty list nothing is known: dyn, where cel-go takes the first overload."""
    original = case["original"]
    return "type" in case and not original.get("disableCheck") and not original["expr"].startswith("[].filter(")


@pytest.mark.parametrize("case", [each for each in _CASES if _is_checked(each)], ids=_name)
def test_type(case: dict[str, Any]) -> None:
    """The type that cel-go infers, where it is one without messages."""
    original = case["original"]
    variables = {each["name"]: _type(each["ident"]["type"]) for each in original.get("typeEnv", [])}
    assert str(compile(original["expr"], variables).type) == case["type"]
