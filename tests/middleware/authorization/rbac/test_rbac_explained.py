"""Why a verdict is what it is, and what would allow what is not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.authorization.rbac.manifests import asked, binding, rbac, role, rule

from aggmw.contracts.authorization import Attributes, Explanation, Outcome
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.rbac.changes import changes

OBJECTS = [
    role("reader", rule("get list", "pods"), rule("get", "/healthz")),
    role("writer", rule("create", "pods"), rule("update", "pods", names="a"), namespace="dev"),
    binding("readers", "ClusterRole/reader", "Group/staff", "User/olga"),
    binding("writers", "Role/writer", "User/alice", namespace="dev"),
]


async def explained(request: Attributes, *more: dict[str, Any]) -> Explanation:
    explanation = await rbac(*OBJECTS, *more).explain(request)
    assert explanation.verdict == rbac(*OBJECTS, *more).verdict(request)
    return explanation


async def test_allowed_over_a_group() -> None:
    """The binding, the role and the rule that allow, and how the caller comes by them."""
    explanation = await explained(asked("alice", "list", "pods", groups="staff"))
    assert explanation.rule == (
        'ClusterRoleBinding "readers" of ClusterRole "reader" to Group "staff":'
        ' {APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]} (object 3 (readers))'
    )
    assert explanation.ways == (
        ('User "alice"', 'Group "staff"', 'ClusterRoleBinding "readers"', 'ClusterRole "reader"'),
    )
    assert (explanation.misses, explanation.changes) == ((), ())


async def test_allowed_to_a_service_account() -> None:
    """A service account stands between the user name and the binding."""
    bot = binding("bots", "Role/writer", "ServiceAccount/bot", namespace="dev")
    request = asked("system:serviceaccount:dev:bot", "create", "pods", namespace="dev")
    [way] = (await explained(request, bot)).ways
    assert way == (
        'User "system:serviceaccount:dev:bot"',
        'ServiceAccount "bot/dev"',
        'RoleBinding "bots"',
        'Role "writer"',
    )


async def test_allowed_by_an_aggregated_role() -> None:
    """The way goes on to the role that brought the rule."""
    authorizer = rbac(binding("b", "ClusterRole/admin", "User/alice", namespace="dev"), defaults=True)
    explanation = await authorizer.explain(asked("alice", "get", "pods/log", namespace="dev"))
    assert explanation.ways[0][-4:] == (
        'ClusterRole "admin"',
        'ClusterRole "edit"',
        'ClusterRole "view"',
        'ClusterRole "system:aggregate-to-view"',
    )


@pytest.mark.parametrize(
    ("request_", "differs"),
    [
        (asked("olga", "delete", "pods"), ("verb", "get|list", "delete")),
        (asked("olga", "get", "pods", group="apps"), ("apiGroup", '[""]', "apps")),
        (asked("olga", "get", "pods/log"), ("resource", "pods", "pods/log")),
        (asked("olga", "get", "/healthz/etcd"), ("path", "/healthz", "/healthz/etcd")),
        (asked("alice", "update", "pods", namespace="dev", name="b"), ("name", "a", "b")),
        (asked("alice", "create", "pods", namespace="prod"), ("namespace", "dev", "prod")),
        (asked("bob", "create", "pods", namespace="dev"), ("user", "alice", "bob")),
        (asked("bob", "list", "pods", groups="others"), ("group", "staff", "bob")),
    ],
    ids=["verb", "group of the API", "sub-resource", "path", "name", "namespace", "user", "group"],
)
async def test_nearest_rule(request_: Attributes, differs: tuple[str, str, str]) -> None:
    """Of what is not allowed, the nearest rule comes first, with the one thing in which the request differs."""
    explanation = await explained(request_)
    assert explanation.verdict.outcome is Outcome.NO_OPINION
    assert explanation.misses[0].differs == (differs,)
    assert "(object " in explanation.misses[0].rule


async def test_rules_that_are_far_away_are_no_misses() -> None:
    """A rule that has nothing in common with a request is not shown, nor the administrator's to others."""
    admin = [role("root", rule("*", "*", "*")), binding("root", "ClusterRole/root", "Group/root")]
    assert (await explained(asked("bob", "patch", "widgets", group="example.com"), *admin)).misses == ()


async def test_what_would_allow_it() -> None:
    """A role of its own, a role that there is, and a group that has one: each is told, and is enough."""
    explanation = await explained(asked("bob", "list", "pods", namespace="dev"))
    assert [change.text for change in explanation.changes] == [
        'bind a Role that allows just this to the user "bob"',
        'bind the ClusterRole "reader" to the user "bob" in the namespace "dev"; that gives 2 rules',
        'put "bob" into the group "staff"; that gives 2 rules',
    ]
    assert [change.groups for change in explanation.changes] == [(), (), ("staff",)]
    assert "\n".join(explanation.changes[1].add) == (
        "---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        "kind: RoleBinding\n"
        "metadata:\n"
        "  name: reader-to-bob\n"
        "  namespace: dev\n"
        "roleRef:\n"
        "  apiGroup: rbac.authorization.k8s.io\n"
        "  kind: ClusterRole\n"
        "  name: reader\n"
        "subjects:\n"
        "- apiGroup: rbac.authorization.k8s.io\n"
        "  kind: User\n"
        "  name: bob"
    )


async def test_a_path_that_ends_in_a_star() -> None:
    """No rule is about such a path alone, and what would allow it says so."""
    explanation = await explained(asked("bob", "get", "/logs/*"))
    assert [change.text for change in explanation.changes] == [
        'bind a ClusterRole that allows this, and every path that begins so, to the user "bob"'
    ]


async def test_a_namespace_that_there_cannot_be() -> None:
    """Nothing is told to be added that could not be; what to change is the request."""
    explanation = await explained(asked("bob", "list", "pods", namespace="Dev"))
    assert explanation.changes == ()
    said = 'there can be no namespace "Dev", so nothing is bound there: write another, or none for all'
    assert explanation.note == said


REQUESTS = st.builds(
    lambda user, verb, group, what, namespace, name: asked(
        user, verb, what, group=group, namespace="" if what.startswith("/") else namespace, name=name
    ),
    st.sampled_from(["alice", "bob", "a/b%c", "system:serviceaccount:dev:bot"]),
    st.sampled_from(["get", "list", "create", "delete"]),
    st.sampled_from(["", "apps"]),
    st.sampled_from(["pods", "pods/log", "widgets", "/healthz", "/a%b/c*", "/"]),
    st.sampled_from(["", "dev", "prod"]),
    st.sampled_from(["", "a", "true"]),
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_each_change_is_enough(request: Attributes) -> None:
    """Whatever is told to be enough is, when it is added to the manifests or to the caller's groups."""
    authorizer = rbac(*OBJECTS)
    if authorizer.verdict(request).allowed:
        return
    told = list(changes(authorizer._snapshot, request))
    assert told
    for change in told:
        added = [each for each in yaml.safe_load_all("\n".join(change.add)) if each is not None]
        changed = rbac(*OBJECTS, *added)
        who = request.identity
        then = request._replace(identity=Identity(who.user, groups=(*who.groups, *change.groups)))
        assert changed.verdict(then).allowed, change
