"""Nobody gives others more than they have themselves (wire contract §7.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.authorization.rbac.manifests import GROUP, asked, binding, rbac, role, rule

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.exchange import Answer
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.authorization.rbac.coverage import covers, uncovered
from aggmw.middleware.authorization.rbac.escalation import EscalationCheck, escalations, only_garbage_collected
from aggmw.middleware.authorization.rbac.manifests import read_objects
from aggmw.middleware.authorization.rbac.objects import Binding, PolicyRule, Role
from aggmw.middleware.authorization.rbac.rules import rule_allows

ALICE = Identity("alice", groups=("staff",))


def pods(verbs: str = "get", what: str = "pods", names: str = "", group: str = "") -> PolicyRule:
    return PolicyRule(tuple(verbs.split()), (group,), tuple(what.split()), tuple(names.split()))


def paths(verbs: str, what: str) -> PolicyRule:
    return PolicyRule(tuple(verbs.split()), paths=tuple(what.split()))


@pytest.mark.parametrize(
    ("owned", "wanted", "expected"),
    [
        ([pods("get")], pods("get"), True),
        ([pods("get")], pods("get list"), False),
        ([pods("get"), pods("list")], pods("get list"), True),
        ([pods("*")], pods("get"), True),
        ([pods("get list")], pods("*"), False),
        ([pods(what="*")], pods(what="pods/log"), True),
        ([pods(what="*/log")], pods(what="pods/log"), True),
        ([pods(what="*/log")], pods(what="*/log"), True),
        ([pods(what="pods/log")], pods(what="*/log"), False),
        ([pods(what="pods")], pods(what="pods/log"), False),
        ([pods(what="pods/*")], pods(what="pods/log"), False),
        ([pods()], pods(names="a"), True),
        ([pods(names="a b")], pods(names="a"), True),
        ([pods(names="a")], pods(names="a b"), False),
        ([pods(names="a")], pods(), False),
        ([pods(group="*")], pods(group="apps"), True),
        ([pods(group="apps")], pods(group="*"), False),
        ([paths("get", "/a*")], paths("get", "/ab*"), True),
        ([paths("get", "/a*")], paths("get", "/a"), True),
        ([paths("get", "/ab*")], paths("get", "/a*"), False),
        ([paths("get", "/a/*")], paths("get", "/a"), False),
        ([paths("get", "*")], paths("get", "/*"), True),
        ([paths("get", "/*")], paths("get", "*"), False),
        ([paths("*", "*")], pods(), False),
        ([pods("*", "*", group="*")], paths("get", "/a"), False),
        ([], PolicyRule((), ("",), ("pods",)), True),
    ],
)
def test_coverage(owned: list[PolicyRule], wanted: PolicyRule, expected: bool) -> None:
    """Each smallest part of what is wanted is covered by one rule that is owned."""
    assert covers(owned, [wanted]) is expected


def test_what_is_missing_is_said_once() -> None:
    """The text names every right that is missing, rights on one thing together, in the order of the alphabet."""
    wanted = [pods("get list", "secrets", group="apps"), pods("get", "pods", names="b a"), paths("get put", "/x")]
    text = escalations(ALICE, [pods("list", "secrets", group="apps")], [*wanted, wanted[0]], "what is broken")
    assert text == (
        'user "alice" (groups=["staff"]) is attempting to grant RBAC permissions not currently held:\n'
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get"]}\n'
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}\n'
        '{APIGroups:["apps"], Resources:["secrets"], Verbs:["get" "get"]}\n'
        '{NonResourceURLs:["/x"], Verbs:["get"]}\n'
        '{NonResourceURLs:["/x"], Verbs:["put"]}; resolution errors: [what is broken]'
    )
    assert escalations(ALICE, [pods("*", "*")], [pods()]) is None


def test_rules_of_very_many_parts() -> None:
    """Such a rule is not taken apart: it is covered by one rule, or missing as a whole."""
    many = tuple(f"x{number}" for number in range(200))
    wide = PolicyRule(many, many, many, many)
    assert uncovered([pods()], [wide, pods("list")]) == (wide, pods("list"))
    assert covers([pods("*", "*", group="*")], [wide])
    assert covers([wide], [wide])
    assert '"x199"]}' in (escalations(ALICE, [], [wide]) or "")


def said(answer: Answer | None) -> tuple[int, str] | None:
    if answer is None:
        return None
    status: dict[str, Any] = json.loads(answer.body)
    return status["code"], status["message"]


def one(manifest: dict[str, Any]) -> Any:
    [found] = read_objects([manifest])
    return found


def made(manifest: dict[str, Any]) -> Role:
    found = one(manifest)
    assert isinstance(found, Role)
    return found


def bound(manifest: dict[str, Any]) -> Binding:
    found = one(manifest)
    assert isinstance(found, Binding)
    return found


HELD = [
    role("reader", rule("get list", "pods")),
    role("secrets", rule("get", "secrets")),
    role("secrets", rule("get", "secrets"), namespace="dev"),
    binding("staff", "ClusterRole/reader", "Group/staff"),
]


async def test_role_of_what_one_has() -> None:
    """A role that gives no more than its writer has may be written, everywhere and in a namespace."""
    check = EscalationCheck(rbac(*HELD))
    assert await check.role(ALICE, made(role("new", rule("get", "pods")))) is None
    assert await check.role(ALICE, made(role("new", rule("get", "pods", names="a"), namespace="dev"))) is None


async def test_role_of_more() -> None:
    """A role that gives more is a 403 that says what."""
    check = EscalationCheck(rbac(*HELD))
    expected = (
        'user "alice" (groups=["staff"]) is attempting to grant RBAC permissions not currently held:\n'
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    answer = await check.role(ALICE, made(role("new", rule("get delete", "pods"))))
    assert said(answer) == (403, f'clusterroles.{GROUP} "new" is forbidden: {expected}')
    assert json.loads(answer.body)["details"] == {"name": "new", "group": GROUP, "kind": "clusterroles"}
    there = await check.role(ALICE, made(role("new", rule("delete", "pods"), namespace="dev")))
    assert said(there) == (403, f'roles.{GROUP} "new" is forbidden: {expected}')


async def test_rights_in_a_namespace_count_there() -> None:
    """What somebody has in a namespace they may give in it, and nowhere else."""
    check = EscalationCheck(rbac(*HELD, binding("b", "Role/secrets", "User/alice", namespace="dev")))
    wanted = rule("get", "secrets")
    assert await check.role(ALICE, made(role("new", wanted, namespace="dev"))) is None
    assert await check.role(ALICE, made(role("new", wanted, namespace="prod"))) is not None
    assert await check.role(ALICE, made(role("new", wanted))) is not None


@pytest.mark.parametrize("group", ["system:masters", "escalators"])
async def test_who_may_escalate(group: str) -> None:
    """The verb `escalate` on the role, and membership in system:masters, let anything be written."""
    objects = [role("up", rule("escalate", "clusterroles", GROUP)), binding("up", "ClusterRole/up", "Group/escalators")]
    check = EscalationCheck(rbac(*HELD, *objects))
    who = Identity("alice", groups=(group,))
    assert await check.role(who, made(role("new", rule("*", "*", "*")))) is None
    there = await check.role(who, made(role("new", rule("*", "*", "*"), namespace="dev")))
    assert (there is None) is (group == "system:masters")


async def test_aggregation_is_the_administrators() -> None:
    """Setting, changing or leaving an aggregationRule needs everything."""
    summing = made(role("sum", aggregationRule={"clusterRoleSelectors": [{}]}))
    plain = made(role("sum"))
    message = f'clusterroles.{GROUP} "sum" is forbidden: must have cluster-admin privileges to use the aggregationRule'
    check = EscalationCheck(rbac(*HELD, defaults=True))
    assert said(await check.role(ALICE, summing)) == (403, message)
    assert said(await check.role(ALICE, plain, old=summing)) == (403, message)
    assert await check.role(ALICE, plain, old=plain) is None
    admin = binding("root", "ClusterRole/cluster-admin", "User/alice")
    assert await EscalationCheck(rbac(*HELD, admin, defaults=True)).role(ALICE, summing, old=plain) is None


async def test_binding_of_what_one_has() -> None:
    """A role may be bound by whoever has all that it allows."""
    check = EscalationCheck(rbac(*HELD))
    assert await check.binding(ALICE, bound(binding("b", "ClusterRole/reader", "User/bob"))) is None
    assert await check.binding(ALICE, bound(binding("b", "ClusterRole/reader", "User/bob", namespace="dev"))) is None


@pytest.mark.parametrize(("kind", "namespace"), [("ClusterRole", ""), ("ClusterRole", "dev"), ("Role", "dev")])
async def test_binding_of_more(kind: str, namespace: str) -> None:
    """A role that allows more than its binder has needs the verb `bind` on it, where it is bound."""
    wanted = bound(binding("b", f"{kind}/secrets", "User/bob", namespace=namespace))
    resource = "rolebindings" if namespace else "clusterrolebindings"
    assert said(await EscalationCheck(rbac(*HELD)).binding(ALICE, wanted)) == (
        403,
        f'{resource}.{GROUP} "b" is forbidden: user "alice" (groups=["staff"]) is attempting to grant RBAC permissions'
        ' not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
    )
    may = role("may", rule("bind", f"{kind.lower()}s", GROUP, names="secrets"))
    there = binding("may", "ClusterRole/may", "User/alice", namespace="dev")
    anywhere = binding("may", "ClusterRole/may", "User/alice")
    assert await EscalationCheck(rbac(*HELD, may, anywhere)).binding(ALICE, wanted) is None
    answer = await EscalationCheck(rbac(*HELD, may, there)).binding(ALICE, wanted)
    assert (answer is None) is (namespace == "dev")


async def test_binding_of_a_role_that_there_is_not() -> None:
    """It is a 404, unless its binder may bind whatever that role will be."""
    wanted = bound(binding("b", "Role/gone", "User/bob", namespace="dev"))
    answer = await EscalationCheck(rbac(*HELD)).binding(ALICE, wanted)
    assert said(answer) == (404, f'role.{GROUP} "gone" not found')
    assert await EscalationCheck(rbac(*HELD), AllowAll()).binding(ALICE, wanted) is None


def test_changes_of_the_garbage_collector() -> None:
    """A change of owners, finalizers and bookkeeping alone gives nobody anything; any other may."""
    old = role("r", rule("*", "*", "*"))
    new = json.loads(json.dumps(old))
    new["metadata"] |= {"finalizers": [], "ownerReferences": [{"name": "x"}], "managedFields": []}
    assert only_garbage_collected(new, old)
    for changed in ({**new, "rules": []}, {**new, "metadata": {**new["metadata"], "labels": {"a": "b"}}}):
        assert not only_garbage_collected(changed, old)


VERBS, GROUPS = st.sampled_from(["get", "list", "*"]), st.sampled_from(["", "apps", "*"])
RESOURCES = st.sampled_from(["pods", "pods/log", "widgets", "widgets/log", "*/log", "*", "*/*", "pods/*", "*/a/b"])
NAMES = st.sampled_from(["a", "b", "", "*"])
PATHS = st.sampled_from(["/a", "/a*", "/ab*", "/a/*", "*", "/*", "/a**", "/a*b"])


def some(of: st.SearchStrategy[str], least: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, min_size=least, max_size=2).map(tuple)


RULES = st.lists(
    st.one_of(
        st.builds(lambda *four: PolicyRule(*four), some(VERBS), some(GROUPS), some(RESOURCES), some(NAMES, 0)),
        st.builds(lambda verbs, paths: PolicyRule(verbs, paths=paths), some(VERBS), some(PATHS)),
    ),
    max_size=3,
)
REQUESTS = st.one_of(
    st.builds(
        lambda verb, group, what, name: asked("alice", verb, what, group=group, name=name),
        st.sampled_from(["get", "list", "delete"]),
        st.sampled_from(["", "apps", "x"]),
        st.sampled_from(["pods", "widgets", "x", "pods/log", "widgets/log", "x/log", "pods/a/b", "pods/*"]),
        NAMES,
    ),
    st.builds(
        lambda verb, path: asked("alice", verb, path),
        st.sampled_from(["get", "list", "delete"]),
        st.sampled_from(["/", "/a", "/ab", "/abc", "/a/", "/a/b", "/a*b", "/b"]),
    ),
)


@settings(max_examples=400, deadline=None)
@given(RULES, RULES, st.lists(REQUESTS, min_size=1, max_size=8))
def test_what_is_covered_allows_no_more(
    owned: list[PolicyRule], wanted: list[PolicyRule], requests: list[Attributes]
) -> None:
    """Rules that are covered allow no request that those who cover them do not; parts that are not covered are told."""
    missing = uncovered(owned, wanted)
    for request in requests:
        if any(rule_allows(rule, request) for rule in wanted):
            covered = any(rule_allows(rule, request) for rule in owned)
            assert covered or any(rule_allows(part, request) for part in missing)


@settings(max_examples=200, deadline=None)
@given(RULES, RULES)
def test_coverage_grows(owned: list[PolicyRule], more: list[PolicyRule]) -> None:
    """Everybody covers what they have, and whoever has more misses no more."""
    assert covers([*owned, *more], owned)
    assert set(uncovered([*owned, *more], more)) == set()
    assert covers([PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), paths=("*",))], [*owned, *more])
