"""What the policy allows somebody: `rules_for`, which `kubectl auth can-i --list` shows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.authorization import Attributes, NonResourceRule, ResourceRule, RuleLister, Rules
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer

POLICY = """\
p, user:ann, get|list, core|apps, pods|pods/log, dev|test, *
p, group:devs, *, *, */status, *, one|two
p, role:reader, watch, *, *, *, *
p, role:admin, delete, core, pods, prod, *
p, user:bob, create, core, pods, *, *
p2, user:ann, get|head, /logs/*|/version
p2, role:reader, *, *
g, group:devs, role:reader
g, user:carol, role:writer
"""
ANN = Identity("ann", groups=("devs",))

MODEL = """\
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.obj == p.obj && r.act == p.act
"""


async def test_rules_about_somebody() -> None:
    """By name, by group, by role; in the namespace; in their order, in the words of the API."""
    authorizer = CasbinAuthorizer.from_text(POLICY)
    assert isinstance(authorizer, RuleLister)
    assert await authorizer.rules_for(ANN, "dev") == Rules(
        (
            ResourceRule(("get", "list"), ("", "apps"), ("pods", "pods/log")),
            ResourceRule(("*",), ("*",), ("*/status",), ("one", "two")),
            ResourceRule(("watch",), ("*",), ("*",)),
        ),
        (NonResourceRule(("get", "head"), ("/logs/*", "/version")), NonResourceRule(("*",), ("*",))),
    )


@pytest.mark.parametrize("namespace", ["prod", ""])
async def test_rules_in_other_namespaces(namespace: str) -> None:
    """Those that hold everywhere; the cluster scope is covered by * alone."""
    rules = await CasbinAuthorizer.from_text(POLICY).rules_for(ANN, namespace)
    assert [rule.verbs for rule in rules.resource] == [("*",), ("watch",)]


async def test_nobody() -> None:
    """No rules, and that is all there is."""
    assert await CasbinAuthorizer.from_text(POLICY).rules_for(Identity("zoe"), "dev") == Rules()


async def test_privileged() -> None:
    """Everything; no rule that denies takes away from it."""
    policy = POLICY + "p, group:system:masters, *, *, *, *, *, deny\n"
    rules = await CasbinAuthorizer.from_text(policy).rules_for(Identity("root", groups=("system:masters",)), "dev")
    everything = ("*",)
    assert rules == Rules(
        (ResourceRule(everything, everything, everything),), (NonResourceRule(everything, everything),)
    )


@pytest.mark.parametrize(
    ("rule", "incomplete"),
    [
        ("p, group:devs, get, core, pods, dev, *, deny", True),
        ("p, user:ann, *, *, *, *, *, deny", True),
        ("p2, role:reader, get, /logs/*, deny", True),
        ("p, user:bob, get, core, pods, dev, *, deny", False),
        ("p, group:devs, get, core, pods, prod, *, deny", False),
    ],
)
async def test_rules_that_deny(rule: str, incomplete: bool) -> None:
    """Security: where one concerns the caller, the list says that it promises more than there is."""
    rules = await CasbinAuthorizer.from_text(f"{POLICY}{rule}\n").rules_for(ANN, "dev")
    assert len(rules.resource) == 3
    assert rules.incomplete is incomplete
    assert bool(rules.error) is incomplete


async def test_model_of_ones_own() -> None:
    """Its rules mean what its matcher says, so none is listed, and the list says so."""
    rules = await CasbinAuthorizer.from_text("p, ann, /x, get", model=MODEL).rules_for(ANN, "dev")
    assert (rules.resource, rules.non_resource, rules.incomplete) == ((), (), True)
    assert "a model of its own" in rules.error


identities = st.builds(
    lambda user, groups: Identity(user, groups=tuple(groups)),
    st.sampled_from(["ann", "bob", "carol"]),
    st.lists(st.sampled_from(["devs", "others"]), unique=True),
)


@settings(deadline=None, max_examples=200)
@given(
    identities,
    st.sampled_from(["get", "list", "watch", "create", "delete"]),
    st.sampled_from(["", "apps", "example.com"]),
    st.sampled_from([("pods", ""), ("pods", "log"), ("pods", "status"), ("nodes", "")]),
    st.sampled_from(["dev", "prod", "test"]),
    st.sampled_from(["", "one", "three"]),
)
async def test_list_says_what_is_decided(
    identity: Identity, verb: str, group: str, what: tuple[str, str], namespace: str, name: str
) -> None:
    """Where no rule denies, what the list allows is allowed, and nothing else is."""
    authorizer = CasbinAuthorizer.from_text(POLICY)
    resource, subresource = what
    rules = await authorizer.rules_for(identity, namespace)
    listed = any(
        {verb, "*"} & {*rule.verbs}
        and {group, "*"} & {*rule.api_groups}
        and {f"{resource}/{subresource}" if subresource else resource, f"*/{subresource}", "*"} & {*rule.resources}
        and (not rule.names or name in rule.names)
        for rule in rules.resource
    )
    asked = Attributes(identity, verb, True, group, "v1", resource, subresource, namespace, name)
    assert (await authorizer.authorize(asked)).allowed is listed
