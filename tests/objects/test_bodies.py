"""Objects in and out of bodies: forms, checks of fields, and bodies that are none."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aggmw.errors import StatusError
from aggmw.objects.bodies import MAX_VALUES, ExpectedKind, FieldValidation, decode_object, encode_object, form_for
from aggmw.objects.protobuf import PROTOBUF, encode

_TRIPLES = Path(__file__).parent / "encodings"
REVIEW = ExpectedKind("authentication.k8s.io/v1", "TokenReview")
_WHOLE = {"apiVersion": REVIEW.api_version, "kind": REVIEW.kind}


def decoded(
    data: bytes | str | dict[str, Any],
    content_type: str | None = "application/json",
    validation: FieldValidation = FieldValidation.WARN,
) -> tuple[dict[str, Any], list[str]]:
    if isinstance(data, dict):
        data = json.dumps(data)
    return decode_object(content_type, data.encode() if isinstance(data, str) else data, REVIEW, validation)


def refusal(data: bytes | str | dict[str, Any], content_type: str | None = "application/json") -> StatusError:
    with pytest.raises(StatusError) as caught:
        decoded(data, content_type)
    return caught.value


@pytest.mark.parametrize(
    "many",
    [
        {f"k{number}": 1 for number in range(MAX_VALUES)},
        {"spec": {"audiences": [[] for _ in range(MAX_VALUES)]}},
        [{} for _ in range(MAX_VALUES)],
        {"spec": {"audiences": [1] * 8 * MAX_VALUES}},
    ],
    ids=["members", "lists", "objects", "numbers"],
)
def test_as_many_values_as_keep_nobody_waiting(many: Any) -> None:
    """A parser does not stop in the middle, so a body with very many values is refused before it is parsed."""
    expected = (400, r"it holds more than 32768 members and lists")
    error = refusal(json.dumps(many))
    assert (error.code, str(error).rpartition(": ")[2]) == expected
    error = refusal(f"spec: {json.dumps(many)}", "application/yaml")
    assert (error.code, str(error).rpartition(": ")[2]) == (400, "holds more than 32768 values")


def test_long_bodies_of_few_values() -> None:
    """What is merely long is read: a token of a megabyte, and thousands of texts."""
    spec = {"token": "t" * 1_000_000, "audiences": [f"https://{number}.example.com" for number in range(20_000)]}
    assert decoded({"spec": spec}) == ({**_WHOLE, "spec": spec}, [])


@pytest.mark.parametrize(
    ("suffix", "form"), [("json", "application/json"), ("yaml", "application/yaml"), ("pb", PROTOBUF)]
)
def test_same_object_in_every_form(suffix: str, form: str) -> None:
    """JSON, YAML and protobuf of one object are one object, in and out."""
    name = "authentication.k8s.io.v1.TokenReview"
    expected = json.loads((_TRIPLES / f"{name}.json").read_bytes())
    assert decoded((_TRIPLES / f"{name}.{suffix}").read_bytes(), form) == (expected, [])
    assert decoded(encode_object(expected, form), form) == (expected, [])


def test_kind_may_be_left_out() -> None:
    """The endpoint says which kind it takes."""
    assert decoded({"spec": {"token": "t"}}, None) == ({**_WHOLE, "spec": {"token": "t"}}, [])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "Pod"}, "the object provided is a Pod, and this endpoint takes a TokenReview"),
        (
            {"apiVersion": "authentication.k8s.io/v1beta1"},
            "the API version in the data (authentication.k8s.io/v1beta1) does not match the expected API version"
            " (authentication.k8s.io/v1)",
        ),
        ({"kind": 1}, "apiVersion and kind must be texts"),
        ({"spec": {"token": 1}}, "spec.token must be a text, not a number"),
        ({"spec": {"audiences": "a"}}, "spec.audiences must be a list, not a text"),
        ({"spec": {"audiences": [None]}}, "spec.audiences[0] must be a text, not null"),
        ({"spec": []}, "spec must be an object, not a list"),
        ({"metadata": {"labels": {"a": 1}}}, "metadata.labels[a] must be a text"),
        ({"metadata": {"generation": 1.5}}, "metadata.generation must be a whole number (int64)"),
        ({"metadata": {"generation": 2**63}}, "metadata.generation must be a whole number (int64)"),
        ({"metadata": {"generation": True}}, "metadata.generation must be a whole number (int64)"),
        ({"status": {"authenticated": "yes"}}, "status.authenticated must be true or false"),
        ({"status": {"user": {"extra": {"a": "b"}}}}, "status.user.extra[a] must be a list of texts"),
    ],
)
def test_wrong_values_are_named_with_their_path(value: dict[str, Any], message: str) -> None:
    """400, with what is wrong and where."""
    error = refusal(value)
    assert (error.code, error.reason) == (400, "BadRequest")
    assert message in error.message


def test_unknown_and_repeated_fields() -> None:
    """A warning by default, an error when strict, nothing when they are to be ignored."""
    body = '{"spec": {"token": "t", "token": "u", "tokn": ""}, "foo": 1}'
    words = ['duplicate field "token"', 'unknown field "spec.tokn"', 'unknown field "foo"']
    value = {**_WHOLE, "spec": {"token": "u"}}
    assert decoded(body) == (value, words)
    assert decoded(body, validation=FieldValidation.IGNORE) == (value, [])
    with pytest.raises(StatusError, match="strict decoding error: " + ", ".join(words)):
        decoded(body, validation=FieldValidation.STRICT)


def test_null_is_absent() -> None:
    """As in Go."""
    assert decoded({"spec": None, "metadata": {"creationTimestamp": None}})[0] == {**_WHOLE, "metadata": {}}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '"x"',
        "null",
        '{"a": NaN}',
        "[" * 100_000,
        '{"spec": ' * 5000,
        "1" * 5000,
        b"\xff\xfe",
        b'{"a": "\xff"}',
    ],
)
def test_what_is_no_object_is_400(body: str | bytes) -> None:
    """Security: nothing that a client sends as JSON raises anything else; the text repeats none of it."""
    assert refusal(body).code == 400


@pytest.mark.parametrize(
    "body",
    [
        "a: &a [1]\nb: *a",
        "a: 1\na: 2",
        "- 1",
        "!!python/object:os.system {}",
        "a: 1\n---\nb: 2",
        "",
        "{" * 200,
        b"\xff",
    ],
)
def test_hostile_yaml_is_400(body: str | bytes) -> None:
    """Aliases, tags, repeated keys, several documents, depth: refused before anything is built."""
    assert refusal(body, "application/yaml").code == 400


def test_hostile_protobuf_is_400() -> None:
    """Another kind, and bytes that are none."""
    other = encode({"apiVersion": "v1", "kind": "Status"})
    assert "takes a TokenReview" in refusal(other, PROTOBUF).message
    assert "not protobuf" in refusal(b"k8s\x00\xff", PROTOBUF).message


def test_other_forms_are_415() -> None:
    """With the forms that are taken."""
    error = refusal("{}", "application/cbor")
    assert (error.code, error.reason) == (415, "UnsupportedMediaType")
    assert "application/json, application/yaml, application/vnd.kubernetes.protobuf" in error.message


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/json"),
        ("application/json;q=0.1, application/yaml", "application/yaml"),
    ],
)
def test_answer_in_the_form_that_is_accepted(accept: str | None, form: str) -> None:
    """The first by weight that can be written; tables are for lists."""
    assert form_for(accept) == form


def test_nothing_acceptable_is_406() -> None:
    """Not JSON after all: the client said what it reads."""
    with pytest.raises(StatusError, match="only the following media types are accepted") as caught:
        form_for("text/html")
    assert caught.value.code == 406


def test_yaml_is_yaml() -> None:
    """What is written in YAML can be read by any YAML library."""
    value = {**_WHOLE, "spec": {"token": "é: [", "audiences": ["yes", "1"]}}
    assert yaml.safe_load(encode_object(value, "application/yaml")) == value


_KEYS = st.sampled_from(["spec", "status", "user", "token", "metadata", "extra", "x"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@given(
    st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_an_object_or_refused(value: Any) -> None:
    """What is let through has the types of its table: it can be written as protobuf. All else is a StatusError."""
    with suppress(StatusError):
        encode(decoded(json.dumps(value))[0])
