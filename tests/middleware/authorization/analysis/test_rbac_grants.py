"""Roles and bindings as grants: what is found in them is what the authorizer decides."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.policies import MODEST
from tests.middleware.authorization.rbac.manifests import asked, binding, rbac, role, rule

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity, authenticated
from aggmw.middleware.authorization.analysis.comparison import diff
from aggmw.middleware.authorization.analysis.search import who_can

VERBS, GROUPS = ("get", "list"), ("", "apps")
RULES = st.builds(
    rule,
    st.sampled_from(["get", "list", "get list", "*"]),
    st.sampled_from(["pods", "pods/log", "*/log", "pods pods/*", "*", "/a", "/a* /b", "/a/*"]),
    st.sampled_from(["", "apps", "*", " apps"]),
    st.sampled_from(["", "", "x", "x y"]),
)
SUBJECTS = st.lists(
    st.sampled_from(["User/a", "User/b", "Group/dev", "Group/system:authenticated", "ServiceAccount/n:a"]),
    max_size=3,
    unique=True,
)
OBJECTS = st.builds(
    lambda rules, bound: [
        *(role(f"r{number}", *some) for number, some in enumerate(rules)),
        role("r0", *(one for one in rules[-1] if "resources" in one), namespace="n"),
        *(
            binding(f"b{number}", of, *subjects, namespace=namespace if of[:4] != "Role" else "n")
            for number, (of, subjects, namespace) in enumerate(bound)
        ),
    ],
    st.lists(st.lists(RULES, max_size=2), min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(["ClusterRole/r0", "ClusterRole/r1", "Role/r0", "ClusterRole/none"]),
            SUBJECTS,
            st.sampled_from(["", "", "n", "m"]),
        ),
        max_size=4,
    ),
)
REQUESTS = st.builds(
    lambda verb, what, group, namespace, name: asked("x", verb, what, group=group, namespace=namespace, name=name),
    st.sampled_from(VERBS),
    st.sampled_from(["pods", "pods/log", "log", "/a", "/ab", "/a/b", "/c"]),
    st.sampled_from(GROUPS),
    st.sampled_from(["", "n", "m"]),
    st.sampled_from(["", "x", "z"]),
)
CALLERS = [
    authenticated(Identity(user, groups=groups))
    for user, groups in itertools.product(["a", "b", "stranger", "system:serviceaccount:n:a"], [(), ("dev",)])
]


@MODEST
@given(OBJECTS, REQUESTS)
def test_who_can_agrees_with_verdicts(objects: list[dict[str, Any]], request: Attributes) -> None:
    """A caller may do it if one of their names is listed."""
    policy = rbac(*objects)
    allowed = {one.subject for one in asyncio.run(who_can(policy, request)).allowed}
    for identity in CALLERS:
        names = {f"user:{identity.user}", *(f"group:{group}" for group in identity.groups)}
        assert policy.verdict(request._replace(identity=identity)).allowed is bool(names & allowed)


@MODEST
@given(OBJECTS, OBJECTS, st.lists(REQUESTS, min_size=1, max_size=4))
def test_differences_are_differences(
    before: list[dict[str, Any]], after: list[dict[str, Any]], requests: list[Attributes]
) -> None:
    """Where none is found, all verdicts are the same; each that is found is one."""
    one, other = rbac(*before), rbac(*after)
    found = diff(one.granted(), other.granted())
    if not found:
        for request, identity in itertools.product(requests, CALLERS):
            mine = request._replace(identity=identity)
            assert one.verdict(mine).allowed is other.verdict(mine).allowed
    for difference in found:
        for reaches, old, new in ((difference.gains, one, other), (difference.losses, other, one)):
            for reach in reaches:
                kind, _, name = difference.subjects[0].partition(":")
                identity = authenticated(Identity(name) if kind == "user" else Identity("stranger", groups=(name,)))
                mine = Attributes(identity, is_resource="paths" not in reach.values, **reach.example)  # type: ignore[arg-type]  # texts
                assert not old.verdict(mine).allowed
                assert new.verdict(mine).allowed


def test_the_way_of_a_group_begins_with_it() -> None:
    """Nobody in particular is asked about to find out what a group may do; nobody in particular is named."""
    policy = rbac(role("reader", rule("get", "pods")), binding("readers", "ClusterRole/reader", "Group/dev"))
    found = asyncio.run(who_can(policy, asked("x", "get", "pods", name="a")))
    assert [one.ways for one in found.allowed if one.subject == "group:dev"] == [
        (('Group "dev"', 'ClusterRoleBinding "readers"', 'ClusterRole "reader"'),)
    ]
