"""Protobuf by tables: the triples of k8s.io/api, and bytes that are none."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.objects.messages import KINDS, SCALARS, message_of
from aggmw.objects.protobuf import MAGIC, BadProtobuf, UnknownKind, decode, encode

_TRIPLES = Path(__file__).parent / "encodings"
_NAMES = sorted(path.stem for path in _TRIPLES.glob("*.pb"))
_REVIEW = ("authentication.k8s.io/v1", "TokenReview")


def _object(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_TRIPLES / f"{name}.json").read_bytes())
    return loaded


def test_there_are_triples() -> None:
    """The files are there: a test without cases shows nothing."""
    assert len(_NAMES) == 7


@pytest.mark.parametrize("name", _NAMES)
def test_reads_what_go_wrote(name: str) -> None:
    """Protobuf of Go is the same object as its JSON."""
    assert decode((_TRIPLES / f"{name}.pb").read_bytes()) == _object(name)


@pytest.mark.parametrize("name", _NAMES)
def test_writes_what_go_writes(name: str) -> None:
    """And is written byte for byte as Go does."""
    assert encode(_object(name)) == (_TRIPLES / f"{name}.pb").read_bytes()


def test_status_both_ways() -> None:
    """`Status`, with its details and causes."""
    status = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "message": "no",
        "reason": "Invalid",
        "details": {"name": "a", "causes": [{"reason": "FieldValueInvalid", "message": "m", "field": "spec"}]},
        "code": 422,
    }
    assert decode(encode(status)) == status


def test_delete_options_both_ways() -> None:
    """`DeleteOptions`: a grace period of 0 differs from none."""
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
        "propagationPolicy": "Foreground",
        "dryRun": ["All"],
    }
    assert decode(encode(options)) == options


def test_empty_means_unset() -> None:
    """Go writes empty texts; behind a pointer an empty object is one."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": ""}},
        "metadata": {"creationTimestamp": None},
    }
    assert decode(encode(review)) == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {}},
    }


def test_negative_numbers_and_early_times() -> None:
    """int64 in two's complement; times before 1970."""
    meta = {"generation": -1, "creationTimestamp": "1901-02-03T04:05:06Z"}
    review = {"apiVersion": _REVIEW[0], "kind": _REVIEW[1], "metadata": meta}
    assert decode(encode(review))["metadata"] == meta


def test_unknown_fields_are_skipped() -> None:
    """A newer client's fields, of every wire type, harm nobody."""
    known = encode({"apiVersion": _REVIEW[0], "kind": _REVIEW[1], "spec": {"token": "t"}})
    further = b"\xf8\x3f\x01" + b"\xfa\x3f\x02hi" + b"\xfd\x3f\x00\x00\x00\x00" + b"\xf9\x3f" + bytes(8)
    assert decode(known + further)["spec"] == {"token": "t"}


def test_unknown_kind_is_named_so() -> None:
    """A kind without a table is refused, not read as an empty object."""
    with pytest.raises(UnknownKind):
        encode({"apiVersion": "v1", "kind": "Pod"})
    with pytest.raises(UnknownKind):
        decode(MAGIC + b"\x0a\x09\x0a\x02v1\x12\x03Pod")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begin"),
        (b'{"kind":', "begin"),
        (MAGIC + b"\x0a", "number"),
        (MAGIC + b"\x0a\xff", "number"),
        (MAGIC + b"\xff" * 20, "64 bits"),
        (MAGIC + b"\x0a\xff\xff\xff\xff\x0f", "within a field"),
        (MAGIC + b"\x0b", "wire type"),
        (MAGIC + b"\x02\x00", "legal number"),
        (MAGIC + b"\x08\x01", "another wire type"),
        (MAGIC + b"\x1a\x04gzip", "another encoding"),
    ],
)
def test_broken_bytes_are_refused(data: bytes, reason: str) -> None:
    """Security C: truncated, over-long and mistyped input ends in an error that says so and repeats nothing."""
    with pytest.raises(BadProtobuf, match=reason):
        decode(data)


def test_text_that_is_not_utf_8() -> None:
    """Bytes that are no text do not become a user's name."""
    raw = b"\x12\x04\x0a\x02\xff\xfe"
    meta = b"\x0a\x27\x0a\x18authentication.k8s.io/v1\x12\x0bTokenReview"
    with pytest.raises(BadProtobuf, match="UTF-8"):
        decode(MAGIC + meta + b"\x12" + bytes([len(raw)]) + raw)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_object_or_an_error(data: bytes) -> None:
    """Nothing that a client sends raises anything else."""
    for head in (b"", MAGIC, (_TRIPLES / f"{_NAMES[0]}.pb").read_bytes()[:60]):
        with suppress(BadProtobuf):
            assert isinstance(decode(head + data), dict)


@given(st.sampled_from(_NAMES), st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_changed_bytes_end_in_an_object_or_an_error(name: str, place: int, change: bytes) -> None:
    """Nor does a good object with some bytes changed; and what is read can be written again."""
    data = (_TRIPLES / f"{name}.pb").read_bytes()
    place %= len(data)
    try:
        found = decode(data[:place] + change + data[place + len(change) :])
    except BadProtobuf:
        return
    assert decode(encode(found)) == found


@given(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=5), st.booleans())
def test_round_trip(token: str, groups: list[str], known: bool) -> None:
    """What is written is read back, whatever the texts are; surrogates cannot be written."""
    token = token.encode("utf-8", "replace").decode()
    groups = [each.encode("utf-8", "replace").decode() for each in groups]
    review: dict[str, Any] = {"apiVersion": _REVIEW[0], "kind": _REVIEW[1]}
    if token:
        review["spec"] = {"token": token}
    status: dict[str, Any] = {"authenticated": True} if known else {}
    if groups:
        status["user"] = {"groups": groups}
    if status:
        review["status"] = status
    assert decode(encode(review)) == review


def test_tables_are_whole() -> None:
    """Every type that a field names exists, and no number is given twice."""
    seen: set[str] = set()
    todo = list(KINDS.values())
    while todo:
        message = message_of(todo.pop())
        assert len(message.by_number) == len(message.by_name)
        seen.add(message.name)
        todo += [
            field.kind for field in message.by_name.values() if field.kind not in SCALARS and field.kind not in seen
        ]


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        (
            "SelfSubjectReview",
            "azhzAAotChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESEVNlbGZTdWJqZWN0UmV2aWV3"
            "EhoKEAoAEgAaACIAKgAyADgAQgASBgoECgASABoAIgA=",
        ),
        (
            "TokenRequest",
            "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIaChAKABIAGgAiACoAMgA4AEIAEgAaBAoAEgAaACIA",
        ),
    ],
)
def test_empty_fields_are_written_as_kubectl_does(kind: str, recorded: str) -> None:
    """What kubectl 1.37.1 sends for `auth whoami` and `create token`, byte for byte."""
    assert encode({"apiVersion": _REVIEW[0], "kind": kind}) == base64.b64decode(recorded)
