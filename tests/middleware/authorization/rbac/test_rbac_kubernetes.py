"""The same as Kubernetes: its own code was asked, by tests/peers/rbac, and its answers are in tests/data/rbac.json.gz.

`cd tests/peers/rbac && go run . > ../../data/rbac.json.gz` makes them anew (`-seed` for others).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from aggmw.contracts.authorization import Attributes, NonResourceRule, Outcome, ResourceRule
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import RbacAuthorizer
from aggmw.middleware.authorization.rbac.coverage import covers, uncovered
from aggmw.middleware.authorization.rbac.escalation import escalations
from aggmw.middleware.authorization.rbac.manifests import default_objects, read_objects
from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.middleware.authorization.rbac.snapshot import Snapshot

DATA = Path(__file__).parents[3] / "data" / "rbac.json.gz"


@cache
def cases() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))
    return found


def manifest(value: Any) -> Any:
    """An object as a manifest has it: Go writes `null` where there is nothing."""
    if isinstance(value, dict):
        return {key: manifest(one) for key, one in value.items() if one is not None}
    return [manifest(one) for one in value] if isinstance(value, list) else value


def rules(some: list[dict[str, Any]] | None) -> tuple[PolicyRule, ...]:
    fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    return tuple(PolicyRule(*(tuple(each.get(field) or ()) for field in fields)) for each in some or ())


def identity(case: dict[str, Any]) -> Identity:
    return Identity(case["u"], groups=tuple(case["g"]))


def worlds() -> list[tuple[dict[str, Any], RbacAuthorizer]]:
    return [
        (world, RbacAuthorizer.from_objects(manifest(world["objects"]), defaults=False)) for world in cases()["worlds"]
    ]


def test_decisions_and_reasons() -> None:
    """Thousands of decisions are Kubernetes', those that allow and those that do not, with its reasons."""
    allowed = refused = broken = 0
    for world, authorizer in worlds():
        for case in world["requests"]:
            asked = Attributes(
                identity(case),
                case["v"],
                "r" in case,
                case.get("a", ""),
                "v1",
                case.get("r", ""),
                case.get("s", ""),
                case.get("n", ""),
                case.get("o", ""),
                case.get("p", ""),
            )
            verdict = authorizer.verdict(asked)
            assert verdict.outcome is (Outcome.ALLOW if case["allowed"] else Outcome.NO_OPINION), asked
            assert (verdict.reason, verdict.error) == (case["reason"], "")
            allowed += case["allowed"]
            refused += not case["allowed"]
            broken += not case["allowed"] and bool(case["reason"])
    assert min(allowed, refused) > 4000
    assert broken > 500


async def test_lists_of_rules() -> None:
    """What somebody may do in a namespace is listed as `SelfSubjectRulesReview` lists it, errors included."""
    errors = 0
    for world, authorizer in worlds():
        for case in world["rules"]:
            found = await authorizer.rules_for(identity(case), case["n"])
            fields = ("Verbs", "APIGroups", "Resources", "ResourceNames")
            assert list(found.resource) == [
                ResourceRule(*(tuple(each[field] or ()) for field in fields)) for each in case["resource"] or ()
            ]
            assert list(found.non_resource) == [
                NonResourceRule(tuple(each["Verbs"]), tuple(each["NonResourceURLs"]))
                for each in case["nonResource"] or ()
            ]
            assert (found.incomplete, found.error) == (False, case["error"])
            errors += bool(case["error"])
    assert errors > 20


def test_escalations() -> None:
    """Whether somebody may give rules to others, and the text that says why not."""
    refused = 0
    for world, authorizer in worlds():
        for case in world["escalations"]:
            who = identity(case)
            owned, fault = authorizer.rules_of(who, case["n"])
            assert (escalations(who, owned, rules(case["wanted"]), fault) or "") == case["message"]
            refused += case["message"] != ""
    assert 100 < refused < 300


def test_coverage() -> None:
    """Which parts of rules others do not cover."""
    for case in cases()["covers"]:
        owned, wanted = rules(case["owned"]), rules(case["wanted"])
        assert uncovered(owned, wanted) == rules(case["missing"])
        assert covers(owned, wanted) is case["covered"]
    assert 300 < sum(case["covered"] for case in cases()["covers"]) < 1200


def test_aggregated_roles() -> None:
    """Aggregated cluster roles come to the rules that Kubernetes' controller gives them, in its order."""
    for case in cases()["aggregations"]:
        snapshot = Snapshot(read_objects(manifest(case["roles"])))
        found = {name: role.rules for (_, _, name), role in snapshot.roles.items()}
        assert found == {name: rules(some) for name, some in case["rules"].items()}


def test_default_roles() -> None:
    """Each role and binding that ships is the one that Kubernetes makes when it starts, to the order of its rules."""
    theirs = {one.key: replace(one, where="") for one in read_objects(manifest(cases()["defaults"]))}
    for ours in default_objects():
        assert replace(ours, where="") == theirs[ours.key]


@pytest.mark.parametrize(
    "name", ["admin", "edit", "view", "cluster-admin", "system:discovery", "system:auth-delegator"]
)
def test_default_roles_carry_their_marks(name: str) -> None:
    """Labels and annotations of the roles that ship are Kubernetes', so that tools know them for defaults."""
    import yaml

    text = (DATA.parents[2] / "src/aggmw/middleware/authorization/rbac/defaults.yaml").read_text(encoding="utf-8")
    ours = {(each["kind"], each["metadata"]["name"]): each["metadata"] for each in yaml.safe_load_all(text) if each}
    theirs = {(each["kind"], each["metadata"]["name"]): each["metadata"] for each in cases()["defaults"]}
    mine, yours = ours["ClusterRole", name], theirs["ClusterRole", name]
    assert (mine["labels"], mine["annotations"]) == (yours["labels"], yours["annotations"])
