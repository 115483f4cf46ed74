"""Why it was refused: what nearly allowed it, and what would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.policies import (
    GRANTS,
    MODEST,
    REQUESTS,
    RULES,
    Rule,
    authorizer,
    lines,
)

from aggmw.contracts.authorization import Attributes, Change, Explanation, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer


def changed(text: list[str], change: Change) -> CasbinAuthorizer:
    """The policy with a change applied."""
    gone = {int(rule.partition(": ")[0].rpartition(":")[2]) for rule in change.remove}
    kept = [line for number, line in enumerate(text, 1) if number not in gone]
    return CasbinAuthorizer.from_text("\n".join([*kept, *change.add]))


def explained(policy: CasbinAuthorizer, asked: Attributes) -> Explanation:
    return asyncio.run(policy.explain(asked))


@MODEST
@given(st.lists(RULES, min_size=1, max_size=8, unique=True), GRANTS.map(dict.fromkeys), REQUESTS)
def test_every_change_allows(
    decide: Callable[..., Verdict], rules: list[Rule], grants: dict[tuple[str, str], None], asked: Attributes
) -> None:
    """Each change that is proposed, applied to the policy, does allow what was refused, and there always is one."""
    text = lines(rules, list(grants))
    explanation = explained(authorizer(rules, list(grants)), asked)
    assert explanation.verdict == decide(authorizer(rules, list(grants)), asked)
    if explanation.verdict.allowed:
        assert explanation.changes == explanation.misses == ()
        return
    assert explanation.changes
    for change in explanation.changes:
        identity = asked.identity.with_groups((*asked.identity.groups, *change.groups))
        assert decide(changed(text, change), asked._replace(identity=identity)).allowed, change


MODEL = """
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, obj, act{effect}
[role_definition]
g = {roles}
[policy_effect]
e = {rule}
[matchers]
m = {matcher}
"""
ALLOW = "some(where (p.eft == allow))"


def own(policy: str, matcher: str, *, roles: str = "_, _", denies: bool = False, **options: Any) -> CasbinAuthorizer:
    rule = f"{ALLOW} && !some(where (p.eft == deny))" if denies else ALLOW
    model = MODEL.format(matcher=matcher, roles=roles, rule=rule, effect=", eft" if denies else "")
    return CasbinAuthorizer.from_text(policy, model=model, **options)


PLAIN = "g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act"
ROWS = "p, role:reader, /apis/x/v1/:kind, list\np, role:writer, /apis/x/v1/:kind, create\ng, alice, role:reader\n"
POD = Attributes(Identity("alice"), "list", True, "x", "v1", "pods")


@pytest.mark.parametrize(
    ("matcher", "policy", "asked", "misses", "added"),
    [
        (
            PLAIN,
            ROWS,
            POD._replace(verb="create"),
            [
                ("policy:1", [("act", "list", "create")]),
                ("policy:2", [("role", "role:writer", "alice")]),
            ],
            [
                ["p, role:reader, /apis/x/v1/:kind, create"],
                ["p, alice, /apis/x/v1/:kind, create"],
                ["g, alice, role:writer"],
            ],
        ),
        (
            PLAIN,
            ROWS,
            POD._replace(name="web", verb="list", namespace="dev"),
            [("policy:1", [("obj", "/apis/x/v1/:kind", "/apis/x/v1/namespaces/dev/pods")])],
            [["p, role:reader, /apis/x/v1/namespaces/dev/pods, list"]],
        ),
        (
            f"({PLAIN}) || (p.sub in r.sub && r.act == 'watch')",
            ROWS,
            POD._replace(identity=Identity("bob")),
            [
                ("policy:1", [("role", "role:reader", "bob")]),
                ("policy:2", [("role", "role:writer", "bob"), ("act", "create", "list")]),
            ],
            [["p, bob, /apis/x/v1/:kind, list"], ["g, bob, role:reader"]],
        ),
        (
            f"{PLAIN} && r.sub != 'alice'",
            ROWS,
            POD,
            [("policy:1", [("r.sub != 'alice'", "", "r.sub=alice")])],
            [],
        ),
        (
            f"{PLAIN} && len(p.sub) > 3 && slow(r.sub)",
            ROWS,
            POD,
            [("policy:1", [("slow(r.sub)", "", "r.sub=alice")])],
            [],
        ),
    ],
)  # fmt: skip
def test_models_of_ones_own(
    matcher: str,
    policy: str,
    asked: Attributes,
    misses: list[tuple[str, list[tuple[str, str, str]]]],
    added: list[list[str]],
) -> None:
    """Conditions are told apart: each that does not hold says what the rule and what the request has."""

    async def slow(value: str) -> bool:
        return False

    functions = {"len": len, "slow": slow} if "slow" in matcher else {}
    explanation = explained(own(policy, matcher, functions=functions), asked)
    assert [(miss.rule.partition(": ")[0], list(miss.differs)) for miss in explanation.misses] == misses
    assert [list(change.add) for change in explanation.changes] == added


def test_domains_of_models_of_ones_own() -> None:
    """A membership says in which domain."""
    policy = "p, role:reader, /apis/x/v1/namespaces/dev/pods, list\ng, alice, role:reader, prod\n"
    model = "g(r.sub, p.sub, r.dom) && r.obj == p.obj && r.act == p.act"
    explanation = explained(own(policy, model, roles="_, _, _"), POD._replace(namespace="dev"))
    assert explanation.misses[0].differs == (("role", "role:reader in dev", "alice"),)
    assert [change.add[0] for change in explanation.changes] == [
        "p, alice, /apis/x/v1/namespaces/dev/pods, list",
        "g, alice, role:reader, dev",
    ]


def test_subjects_of_models_of_ones_own() -> None:
    """Where a model asks for `r.subjects`, users and groups are told apart."""
    model = MODEL.format(matcher="p.sub in r.sub && r.act == p.act", roles="_, _", rule=ALLOW, effect="")
    policy = "p, group:dev, x, list\np, user:bob, x, list\np, role:reader, x, list\ng, user:carol, role:reader"
    authorizer = CasbinAuthorizer.from_text(
        policy, model=model.replace("r = sub", "r = subjects").replace("r.sub", "r.subjects")
    )
    explanation = explained(authorizer, POD)
    assert [miss.differs for miss in explanation.misses] == [
        (("group", "dev", "alice"),),
        (("user", "bob", "alice"),),
        (("role", "role:reader", "alice"),),
    ]
    assert [change.add[0] for change in explanation.changes] == ["p, user:alice, x, list", "g, user:alice, role:reader"]


def test_denials_of_models_of_ones_own() -> None:
    """The rule that denies is what to take out, where that is enough, and the one that would allow is named."""
    policy = "p, alice, /apis/x/v1/pods, list, allow\np, alice, /apis/x/v1/:any, list, deny\n"
    explanation = explained(own(policy, PLAIN, denies=True), POD)
    assert explanation.rule.startswith("policy:2: ")
    assert (
        explanation.note == "without that, this rule would allow it: policy:1: p, alice, /apis/x/v1/pods, list, allow"
    )
    (change,) = explanation.changes
    assert change.remove == (explanation.rule,)


OWN_ROWS = st.tuples(
    st.sampled_from(["a", "b", "role:r"]),
    st.sampled_from(["/x", "/y/*"]),
    st.sampled_from(["get", "put"]),
    st.sampled_from(["allow", "allow", "deny"]),
)


@MODEST
@given(
    st.lists(OWN_ROWS, min_size=1, max_size=5, unique=True),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["/x", "/y/z", "/z"]),
)
def test_every_change_of_a_model_of_ones_own_allows(
    decide: Callable[..., Verdict], rows: list[tuple[str, ...]], user: str, path: str
) -> None:
    """As for the model that ships; there need not be one."""
    text = [*(", ".join(("p", *row)) for row in rows), "g, b, role:r"]
    matcher = PLAIN.replace("keyMatch2", "keyMatch")
    asked = Attributes(Identity(user), "get", False, path=path)
    explanation = explained(own("\n".join(text), matcher, denies=True), asked)
    for change in explanation.changes:
        gone = {int(rule.partition(": ")[0].rpartition(":")[2]) for rule in change.remove}
        kept = [line for number, line in enumerate(text, 1) if number not in gone]
        assert decide(own("\n".join([*kept, *change.add]), matcher, denies=True), asked).allowed, change


def test_what_no_rule_is_for() -> None:
    """It is said why nothing was looked for."""
    policy = CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *")
    strange = explained(policy, Attributes(Identity("a"), "get", True, "", "v1", "pods", name="a/b"))
    assert strange.note == (
        "the request holds control characters, or a / inside a name: no rule is for those, so write it without"
    )


def test_policy_without_rules() -> None:
    """Whoever begins with an empty file is told the first rule."""
    empty = explained(CasbinAuthorizer.from_text(""), POD)
    assert empty.note == "the policy has no rule, so everything is denied"
    assert [change.add for change in empty.changes] == [("p, user:alice, list, x, pods, *, *",)]
    assert changed([], empty.changes[0]).verdict(POD).outcome is Outcome.ALLOW
    own_model = explained(own("", PLAIN), POD)
    assert [change.add for change in own_model.changes] == [("p, alice, /apis/x/v1/pods, list",)]


def test_nothing_near_in_a_model_of_ones_own() -> None:
    """Where no rule is near, a row about just this request is told, unless it would stand for more than that."""
    matcher = "g(r.sub, p.sub, r.dom) && r.sub == p.sub && keyMatch(r.obj, p.obj) && r.act == p.act"
    policy = own("p, bob, /apis/y/v1/some/thing, delete", matcher, roles="_, _, _")
    explanation = explained(policy, POD)
    assert [(change.text, change.add) for change in explanation.changes] == [
        ("add a rule for just this", ("p, alice, /apis/x/v1/pods, list",))
    ]
    starred = POD._replace(is_resource=False, path="/a*", verb="get")
    assert explained(policy, starred).changes == ()


def test_large_policies() -> None:
    """Of thousands of rules, the nearest are told; they are compared in a thread."""
    policy = CasbinAuthorizer.from_text("\n".join(f"p, role:r{number}, get, g, pods, *, *" for number in range(2000)))
    explanation = explained(policy, POD._replace(verb="get", api_group="g"))
    assert len(explanation.misses) == 5


def test_a_wide_change_says_so() -> None:
    """What a column cannot hold is a `*` in the row, and it is said."""
    explanation = explained(
        CasbinAuthorizer.from_text("p, user:b, get, core, pods, *, *"), POD._replace(name="a|b", verb="get")
    )
    (change,) = explanation.changes
    assert change.text == (
        "add a rule for alice to policy (only a * covers requests without a namespace; no column can hold its name)"
    )
    assert change.add == ("p, user:alice, get, x, pods, *, *",)


def test_a_star_that_was_asked_for_says_so() -> None:
    """A rule can name no path that ends in a star, nor an object or a namespace of that name: it would cover more."""
    policy = CasbinAuthorizer.from_text("p2, user:b, get, /x")
    (change,) = explained(policy, Attributes(Identity("alice"), "get", False, path="/logs/*")).changes
    assert change.text.endswith("(which covers every path that begins so: no column can hold a path that ends in a *)")
    assert change.add == ("p2, user:alice, get, /logs/*",)
    (change,) = explained(policy, POD._replace(namespace="dev", name="*")).changes
    assert change.text.endswith("(no column can hold its name)")


def test_what_gives_more_says_so() -> None:
    """A rule that is made wider to all names, a group with several rules, a rule that is like another one."""
    wide = "p, user:alice, list, x, pods, dev, web"
    changes = explained(CasbinAuthorizer.from_text(wide), POD._replace(verb="list", namespace="dev")).changes
    assert changes[1].text == "widen the rule at policy:1 to every name"
    rules = "p, group:staff, list, x, pods, *, *\np, group:staff, delete, x, pods, *, *"
    changes = explained(CasbinAuthorizer.from_text(rules), POD._replace(verb="list")).changes
    assert changes[1].text == (
        "put alice into the group staff, which gives 2 rules, where users are kept: no rule can do that"
    )
    changes = explained(own(ROWS, PLAIN), POD._replace(verb="create")).changes
    assert changes[0].text == "add a rule like that at policy:1, and as wide as that"
