"""What rules of the shipped model mean (wire contract §7.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aggmw.contracts.authorization import Outcome, Verdict
from aggmw.middleware.authorization import CasbinAuthorizer

ALLOW, DENY, NO_OPINION = Outcome.ALLOW, Outcome.DENY, Outcome.NO_OPINION
OutcomeOf = Callable[..., Outcome]


def rule(
    verb: str = "*", group: str = "*", resource: str = "*", namespace: str = "*", name: str = "*"
) -> CasbinAuthorizer:
    return CasbinAuthorizer.from_text(f"p, user:alice, {verb}, {group}, {resource}, {namespace}, {name}\n")


@pytest.mark.parametrize(
    ("written", "verb", "expected"),
    [
        ("get", "get", ALLOW),
        ("get|list|watch", "list", ALLOW),
        ("get|list", "watch", NO_OPINION),
        ("get", "ge", NO_OPINION),
        ("*", "deletecollection", ALLOW),
        ("delete", "deletecollection", NO_OPINION),
        ("impersonate:user", "impersonate:user", ALLOW),
    ],
)
def test_verbs(outcome: OutcomeOf, written: str, verb: str, expected: Outcome) -> None:
    """§7.2: a verb is listed, or * covers all; a part of a word is no verb."""
    assert outcome(rule(verb=written), "alice", verb, "flunders") is expected


@pytest.mark.parametrize(
    ("written", "group", "expected"),
    [
        ("wardle.example.com", "wardle.example.com", ALLOW),
        ("wardle.example.com", "wardleXexample.com", NO_OPINION),
        ("wardle.example.com", "sub.wardle.example.com", NO_OPINION),
        ("wardle.example.com", "", NO_OPINION),
        ("core", "", ALLOW),
        ("core|apps", "", ALLOW),
        ("core|apps", "apps", ALLOW),
        ("core", "core", NO_OPINION),
        ("core", "apps", NO_OPINION),
        ("*", "", ALLOW),
        ("*", "core", ALLOW),
        ("*", "anything", ALLOW),
    ],
)
def test_api_groups(outcome: OutcomeOf, written: str, group: str, expected: Outcome) -> None:
    """§7.2: exact or *; `core` is the core group alone, never a group that calls itself so."""
    assert outcome(rule(group=written), "alice", "get", "flunders", group=group) is expected


@pytest.mark.parametrize(
    ("written", "resource", "expected"),
    [
        ("flunders", "flunders", ALLOW),
        ("flunders", "flunders/status", NO_OPINION),
        ("flunders/status", "flunders/status", ALLOW),
        ("flunders/status", "flunders", NO_OPINION),
        ("flunders|fischers", "fischers", ALLOW),
        ("flunders|flunders/status", "flunders/status", ALLOW),
        ("*/status", "flunders/status", ALLOW),
        ("*/status", "flunders", NO_OPINION),
        ("*/status", "flunders/scale", NO_OPINION),
        ("*", "flunders", ALLOW),
        ("*", "flunders/status", ALLOW),
        ("status", "flunders/status", NO_OPINION),
    ],
)
def test_resources(outcome: OutcomeOf, written: str, resource: str, expected: Outcome) -> None:
    """§7.2: `pods` does not cover `pods/log`; * covers everything with subresources; `*/sub` one subresource."""
    assert outcome(rule(resource=written), "alice", "get", resource) is expected


@pytest.mark.parametrize(
    ("written", "namespace", "expected"),
    [
        ("dev", "dev", ALLOW),
        ("dev|test", "test", ALLOW),
        ("dev", "dev2", NO_OPINION),
        ("dev", "", NO_OPINION),
        ("*", "", ALLOW),
        ("*", "prod", ALLOW),
    ],
)
def test_namespaces(outcome: OutcomeOf, written: str, namespace: str, expected: Outcome) -> None:
    """A namespace covers itself alone, never the cluster scope; * covers both."""
    assert outcome(rule(namespace=written), "alice", "list", "flunders", namespace=namespace) is expected


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ("f1", "f1", ALLOW),
        ("f1|f2", "f2", ALLOW),
        ("f1", "f10", NO_OPINION),
        ("f1", "", NO_OPINION),
        ("*", "", ALLOW),
        ("system:node:a", "system:node:a", ALLOW),
    ],
)
def test_names(outcome: OutcomeOf, written: str, name: str, expected: Outcome) -> None:
    """§7.2: a rule with a name never matches create and unnamed list, watch, deletecollection."""
    assert outcome(rule(name=written), "alice", "list", "flunders", name=name) is expected


@pytest.mark.parametrize(
    ("written", "path", "expected"),
    [
        ("/healthz", "/healthz", ALLOW),
        ("/healthz", "/healthz/", NO_OPINION),
        ("/healthz", "/healthzX", NO_OPINION),
        ("/healthz*", "/healthz", ALLOW),
        ("/healthz*", "/healthz/ping", ALLOW),
        ("/healthz/*", "/healthz", NO_OPINION),
        ("/healthz/*", "/healthz/", ALLOW),
        ("/healthz/*", "/healthz/a/b", ALLOW),
        ("/apis|/apis/*", "/apis", ALLOW),
        ("/apis/apps.example.com", "/apis/appsXexample.com", NO_OPINION),
        ("*", "/anything", ALLOW),
    ],
)
def test_paths(outcome: OutcomeOf, written: str, path: str, expected: Outcome) -> None:
    """§7.2: exact, or a beginning before a * at the end; a dot is a dot (C4)."""
    authorizer = CasbinAuthorizer.from_text(f"p2, user:alice, get, {written}\n")
    assert outcome(authorizer, "alice", "get", path) is expected
    assert outcome(authorizer, "alice", "post", path) is NO_OPINION


def test_rules_of_one_kind_say_nothing_about_the_other(outcome: OutcomeOf) -> None:
    """p is about resources and p2 about paths; a star in one is no star in the other."""
    resources, paths = rule(), CasbinAuthorizer.from_text("p2, user:alice, *, *\n")
    assert outcome(resources, "alice", "get", "/healthz") is NO_OPINION
    assert outcome(paths, "alice", "get", "flunders") is NO_OPINION


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("user:alice", ALLOW), ("user:dev", NO_OPINION), ("group:dev", ALLOW), ("group:alice", NO_OPINION)],
)
def test_users_and_groups_are_not_confused(outcome: OutcomeOf, subject: str, expected: Outcome) -> None:
    """A group that is called like a user is not that user, and the other way round."""
    authorizer = CasbinAuthorizer.from_text(f"p, {subject}, *, *, *, *, *\n")
    assert outcome(authorizer, "alice", "get", "flunders", groups=("dev",)) is expected


@pytest.mark.parametrize("user", ["role:admin", "group:dev", "user:alice", "alice"])
def test_no_user_name_is_a_role(outcome: OutcomeOf, user: str) -> None:
    """Whoever calls themselves `role:admin` has no role by that."""
    authorizer = CasbinAuthorizer.from_text(
        "p, role:admin, *, *, *, *, *\np, group:dev, *, *, *, *, *\ng, group:ops, role:admin\n"
    )
    assert outcome(authorizer, user, "get", "flunders") is NO_OPINION


ROLES = """
p, role:reader, get, *, flunders, *, *
p, role:writer, update, *, flunders, *, *
g, role:writer, role:reader
g, user:alice, role:writer
g, group:dev, role:reader
"""


@pytest.mark.parametrize(
    ("user", "groups", "verb", "expected"),
    [
        ("alice", (), "update", ALLOW),
        ("alice", (), "get", ALLOW),
        ("bob", ("dev",), "get", ALLOW),
        ("bob", ("dev",), "update", NO_OPINION),
        ("bob", (), "get", NO_OPINION),
        ("dev", (), "get", NO_OPINION),
        ("bob", ("alice",), "update", NO_OPINION),
    ],
)
def test_roles(outcome: OutcomeOf, user: str, groups: tuple[str, ...], verb: str, expected: Outcome) -> None:
    """A role's rules hold for its members, and a role inherits from the roles it is a member of, not the reverse."""
    authorizer = CasbinAuthorizer.from_text(ROLES)
    assert outcome(authorizer, user, verb, "flunders", groups=groups) is expected


@pytest.mark.parametrize("order", ["allow deny", "deny allow"])
def test_deny_wins_in_any_order(decide: Callable[..., Verdict], attributes: Callable[..., Any], order: str) -> None:
    """A denying rule that matches overrules every allowing one, also one of a role against one of the user."""
    lines = {
        "allow": "p, user:alice, *, *, *, *, *, allow",
        "deny": "p, group:dev, delete, *, *, *, *, deny",
    }
    authorizer = CasbinAuthorizer.from_text("\n".join(lines[word] for word in order.split()))
    verdict = decide(authorizer, attributes("alice", "delete", "flunders", groups=("dev",)))
    assert verdict == Verdict(DENY, "denied by policy")
    assert decide(authorizer, attributes("alice", "get", "flunders", groups=("dev",))).outcome is ALLOW


def test_reasons(decide: Callable[..., Verdict], attributes: Callable[..., Any]) -> None:
    """An allow names its rule, for audit; a plain refusal says nothing, as RBAC's; a denying rule is not shown."""
    authorizer = CasbinAuthorizer.from_text(
        "# first\np, group:dev, get|list, core, pods, dev, *\np2, user:eve, *, *, deny\n"
    )
    allowed = decide(authorizer, attributes("al", "get", "pods", group="", namespace="dev", groups=("dev",)))
    assert allowed == Verdict(ALLOW, "policy:2: p, group:dev, get|list, core, pods, dev, *, allow")
    assert decide(authorizer, attributes("bob", "get", "pods")) == Verdict(NO_OPINION, "")
    assert decide(authorizer, attributes("eve", "get", "/")) == Verdict(DENY, "denied by policy")


def test_masters_need_no_rule(outcome: OutcomeOf) -> None:
    """§7.1: system:masters is allowed unconditionally, before any denying rule; an empty list turns that off."""
    policy = "p, user:root, *, *, *, *, *, deny\n"
    fields = {"groups": ("system:masters",)}
    assert outcome(CasbinAuthorizer.from_text(policy), "root", "get", "flunders", **fields) is ALLOW
    assert outcome(CasbinAuthorizer.from_text(policy, privileged=()), "root", "get", "flunders", **fields) is DENY
    assert outcome(CasbinAuthorizer.from_text(policy, privileged=["ops"]), "x", "get", "/", groups=("ops",)) is ALLOW
