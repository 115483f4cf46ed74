"""The same as Kubernetes: a real kube-apiserver was asked, by tests/peers/access_reviews, and its answers are in
tests/data/access-reviews.json.gz.

What differs, on purpose, is in `told` and `noted`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.contracts.kinds import WriteContext
from aggmw.errors import StatusError
from aggmw.middleware.authorization import (
    LocalSubjectAccessReviews,
    SelfSubjectAccessReviews,
    SubjectAccessReviews,
)
from aggmw.middleware.authorization.review_spec import review_spec, wire_spec
from aggmw.middleware.request_info.parse import parse
from aggmw.objects.bodies import ExpectedKind, FieldValidation, decode_object

DATA = Path(__file__).parents[3] / "data" / "access-reviews.json.gz"
REVIEWER = Identity("reviewer", "1", ("reviewers", "system:authenticated"))
KINDS = {
    each.resource.name: each for each in (SubjectAccessReviews, LocalSubjectAccessReviews, SelfSubjectAccessReviews)
}
SELECTING = ("list", "watch", "deletecollection")


@cache
def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(DATA.read_bytes()))
    return found


class Told:
    """Says what kube-apiserver was told, and keeps what it was asked."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.asked: Attributes | None = None
        refused = Outcome.DENY if status.get("denied") else Outcome.NO_OPINION
        self._verdict = Verdict(Outcome.ALLOW if status.get("allowed") else refused, status.get("reason", ""))

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked = attributes
        return self._verdict


async def ours(case: dict[str, Any]) -> tuple[int, dict[str, Any], Attributes | None]:
    """Code, status and what the authorizer was asked."""
    authorizer = Told(case.get("verdict", {}))
    kind = KINDS[case["path"].rpartition("/")[2]](authorizer)
    expected = ExpectedKind("authorization.k8s.io/v1", kind.resource.kind.kind)
    value, _ = decode_object(None, json.dumps(case["review"]).encode(), expected, FieldValidation.STRICT)
    info = parse("POST", f"/apis/authorization.k8s.io/v1/{case['path']}".encode(), b"")
    try:
        answer = await kind.create(value, WriteContext(REVIEWER, info))
    except StatusError as error:
        return error.code, {"message": error.message, "details": error.details}, authorizer.asked
    return 201, answer["status"], authorizer.asked


def told(said: dict[str, Any]) -> set[tuple[str, str]]:
    """The mistakes, as far as they have to be told alike.

    Whether a text could be a label is told in words of ours. A value of several fields is shown as it was sent, where
    kube-apiserver shows the names of Go's fields, and what it has added itself.
    """
    found = set()
    for cause in said["details"]["causes"]:
        field, message = cause["field"], cause["message"]
        if re.search(r"labelSelector\.requirements\[\d\]\.(key|values\[\d\])$", field):
            message = message[: message.index('"', message.index('"') + 1) + 1]
        if field == "metadata":
            message = re.sub(r"\{.*\}", "{…}", message)
        found.add((field, re.sub(r"\{.*\}", lambda match: match[0].lower(), message)))
    return found


async def test_mistakes_and_answers() -> None:
    """The same reviews are wrong, for the same reasons; the others have the same status."""
    seen: Counter[int] = Counter()
    for case in cases():
        code, said, _ = await ours(case)
        seen[code] += 1
        assert code == case["code"], case
        if code == 422:
            assert told(said) == told(case["said"]), case
            # kube-apiserver does not know which kind it was.
            assert said["message"].startswith(f"{case['review']['kind']}{case['said']['message'].partition(': ')[0]}")
        elif code == 400:
            assert said["message"] == case["said"]["message"]
        else:
            assert noted(case, said) == noted(case, case["said"]["status"]), case
    assert min(seen[201], seen[422]) > 500
    assert seen[400] > 20


def noted(case: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    """A status, as far as it has to be the same.

    What is said of selectors that no request of its verb has is left out: here they are not looked at. So is the name
    of the authorizer, which kube-apiserver puts before the reason of one without an opinion.
    """
    verb = case["review"]["spec"].get("resourceAttributes", {}).get("verb", "list")
    found = {name: each for name, each in status.items() if name != "evaluationError" or verb in SELECTING}
    if "reason" in found:
        found["reason"] = found["reason"].removeprefix("default: ")
    return found


async def test_what_is_decided_on() -> None:
    """What kube-apiserver asks its webhook about a review is what we would ask ours about the same one."""
    seen = 0
    for case in cases():
        if "asked" not in case:
            continue
        _, _, attributes = await ours(case)
        assert attributes is not None
        sent = wire_spec(review_spec(attributes), "v1")
        if sent["user"] == "system:nameless":
            del sent["user"]
        expected = spelled(case["asked"], attributes.verb)
        assert spelled(sent, attributes.verb) == expected, case
        seen += 1
    assert seen > 500


def spelled(spec: dict[str, Any], verb: str) -> dict[str, Any]:
    """What was asked, with the demands of selectors as sets, and without extra keys that have no value."""
    found = {name: each for name, each in spec.items() if name != "extra"}
    if extra := {key: values for key, values in spec.get("extra", {}).items() if values}:
        found["extra"] = extra
    if "resourceAttributes" in found:
        resource = dict(found["resourceAttributes"])
        for name in ("fieldSelector", "labelSelector"):
            demands = {
                (each["key"], each["operator"], tuple(sorted(set(each.get("values", ())))))
                for each in resource.pop(name, {}).get("requirements", ())
            }
            if demands and verb in SELECTING:
                resource[name] = demands
        found["resourceAttributes"] = resource
    return found
