"""The 422 of an object with mistakes."""

from __future__ import annotations

from aggmw.contracts.catalog import GroupVersionKind
from aggmw.objects.field_errors import forbidden_field, invalid_field, invalid_object, required_field

KIND = GroupVersionKind("example.com", "v1", "Widget")


def test_one_mistake() -> None:
    """§0.3: the path, the type, the value, the detail; the cause has all but the path."""
    error = invalid_object(KIND, "", [invalid_field("spec.user", "", "must be somebody")])
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.message == 'Widget.example.com "" is invalid: spec.user: Invalid value: "": must be somebody'
    assert error.details == {
        "group": "example.com",
        "kind": "Widget",
        "causes": [
            {
                "reason": "FieldValueInvalid",
                "message": 'Invalid value: "": must be somebody',
                "field": "spec.user",
            }
        ],
    }


def test_several_mistakes() -> None:
    """In brackets, each once; no value is shown of what must be there, or must not."""
    error = invalid_object(
        KIND,
        "w",
        [
            required_field("a", "must be specified"),
            required_field("a", "must be specified"),
            forbidden_field("b", "not here"),
            invalid_field("c", {"x": [1]}, "must be empty"),
        ],
    )
    assert error.message == (
        'Widget.example.com "w" is invalid: [a: Required value: must be specified, b: Forbidden: not here,'
        ' c: Invalid value: {"x":[1]}: must be empty]'
    )
    assert error.details is not None
    assert [each["reason"] for each in error.details["causes"]] == [
        *["FieldValueRequired"] * 2,
        "FieldValueForbidden",
        "FieldValueInvalid",
    ]


def test_values_are_shown_short_and_printable() -> None:
    """What a client sent does not flood or break its own error."""
    message = invalid_field("a", "x\n" * 100, "bad").message
    assert message.isprintable()
    assert len(message) < 200
