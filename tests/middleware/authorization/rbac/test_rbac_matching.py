"""What rules cover, form by form (wire contract §7.2), and whom bindings concern."""

from __future__ import annotations

from typing import Any

import pytest
from tests.middleware.authorization.rbac.manifests import asked, binding, rbac, role, rule

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.rbac import table
from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.middleware.authorization.rbac.rules import rule_allows
from aggmw.middleware.authorization.rbac.table import NOWHERE, Table

RESOURCES = [
    # the rule's resource, what is asked for, whether it covers it
    ("pods", "pods", True),
    ("pods", "pods/log", False),
    ("pods", "secrets", False),
    ("pods/log", "pods/log", True),
    ("pods/log", "pods", False),
    ("pods/log", "pods/status", False),
    ("*", "pods", True),
    ("*", "pods/log", True),
    ("*/log", "pods/log", True),
    ("*/log", "widgets/log", True),
    ("*/log", "pods", False),
    ("*/log", "pods/logs", False),
    ("*/log", "pods/xlog", False),
    ("*/log", "log", False),
    ("*/*", "pods/log", False),
    ("*/*", "pods/*", True),
    ("pods/*", "pods", False),
    ("pods/*", "pods/log", False),
    ("pods/*", "pods/*", True),
    ("po*", "pods", False),
    ("*/", "pods", False),
]
PATHS = [
    ("/healthz", "/healthz", True),
    ("/healthz", "/healthz/", False),
    ("/healthz", "/healthz/etcd", False),
    ("/healthz/*", "/healthz/etcd", True),
    ("/healthz/*", "/healthz/", True),
    ("/healthz/*", "/healthz", False),
    ("/healthz*", "/healthz", True),
    ("/healthz*", "/healthzzz", True),
    ("/healthz*", "/health", False),
    ("/healthz/**", "/healthz/a/b", True),
    ("/a/*/b", "/a/x/b", False),
    ("/a/*/b", "/a/*/b", True),
    ("*", "/anything", True),
    ("/*", "/anything", True),
    ("/", "/", True),
    ("/", "/api", False),
]


def covers(one: dict[str, Any], request: Attributes) -> bool:
    """Whether a rule that is bound everywhere allows a request: by the index, and read as it stands."""
    authorizer = rbac(role("r", one), binding("b", "ClusterRole/r", "User/alice"))
    verdict = authorizer.verdict(request)
    assert verdict.outcome in (Outcome.ALLOW, Outcome.NO_OPINION)
    fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    plain = PolicyRule(*(tuple(one.get(field, ())) for field in fields))
    assert rule_allows(plain, request) is verdict.allowed
    return verdict.allowed


@pytest.mark.parametrize(("pattern", "what", "expected"), RESOURCES)
def test_resources(pattern: str, what: str, expected: bool) -> None:
    """A resource covers itself, `*` everything, `*/sub` that subresource of everything; there is no other form."""
    assert covers(rule("get", pattern), asked("alice", "get", what, namespace="dev")) is expected


@pytest.mark.parametrize(("pattern", "path", "expected"), PATHS)
def test_paths(pattern: str, path: str, expected: bool) -> None:
    """A path covers itself, and everything that begins so where it ends in `*`."""
    assert covers({"verbs": ["get"], "nonResourceURLs": [pattern]}, asked("alice", "get", path)) is expected


@pytest.mark.parametrize(
    ("verbs", "verb", "expected"),
    [("get", "get", True), ("get", "list", False), ("get list", "list", True), ("*", "deletecollection", True),
     ("g*", "get", False), ("GET", "get", False)],
)  # fmt: skip
def test_verbs(verbs: str, verb: str, expected: bool) -> None:
    """A verb covers itself, `*` all of them: of resources and of paths."""
    assert covers(rule(verbs, "pods"), asked("alice", verb, "pods")) is expected
    assert covers(rule(verbs, "/x"), asked("alice", verb, "/x")) is expected


@pytest.mark.parametrize(
    ("groups", "group", "expected"),
    [("apps", "apps", True), ("apps", "", False), ("", "", True), ("", "apps", False), ("*", "apps", True),
     ("*", "", True), ("*.com", "example.com", False), ("apps batch", "batch", True)],
)  # fmt: skip
def test_groups(groups: str, group: str, expected: bool) -> None:
    """A group covers itself, the empty one is the core group, `*` all of them."""
    assert covers(rule("get", "pods", groups), asked("alice", "get", "pods", group=group)) is expected


@pytest.mark.parametrize(
    ("verb", "name", "expected"),
    [("get", "a", True), ("get", "b", True), ("get", "c", False), ("create", "", False), ("list", "", False),
     ("watch", "", False), ("deletecollection", "", False), ("list", "a", True), ("get", "*", False)],
)  # fmt: skip
def test_names(verb: str, name: str, expected: bool) -> None:
    """With names, requests without one do not match; `*` is no pattern among names."""
    assert covers(rule("*", "pods", names="a b"), asked("alice", verb, "pods", name=name)) is expected


def test_rules_are_about_resources_or_paths() -> None:
    """Everything on all resources allows no path, and everything on all paths no resource."""
    assert not covers(rule("*", "*", "*"), asked("alice", "get", "/healthz"))
    assert not covers({"verbs": ["*"], "nonResourceURLs": ["*"]}, asked("alice", "get", "pods"))


@pytest.mark.parametrize(
    ("subject", "who", "groups", "expected"),
    [
        ("User/alice", "alice", "", True),
        ("User/alice", "bob", "alice", False),
        ("User/*", "alice", "", False),
        ("Group/dev", "alice", "ops dev", True),
        ("Group/dev", "dev", "ops", False),
        ("Group/*", "alice", "dev", False),
        ("ServiceAccount/ci:bot", "system:serviceaccount:ci:bot", "", True),
        ("ServiceAccount/ci:bot", "system:serviceaccount:cd:bot", "", False),
        ("ServiceAccount/ci:bot", "bot", "", False),
        ("ServiceAccount/ci:bot", "system:serviceaccount:ci:bot:x", "", False),
        ("User/system:serviceaccount:ci:bot", "system:serviceaccount:ci:bot", "", True),
    ],
)
def test_subjects(subject: str, who: str, groups: str, expected: bool) -> None:
    """Users by name, groups by membership, service accounts by namespace and name; nothing is a pattern."""
    authorizer = rbac(role("r", rule()), binding("b", "ClusterRole/r", subject))
    assert authorizer.verdict(asked(who, "get", "pods", groups=groups)).allowed is expected


def test_service_account_of_the_bindings_namespace() -> None:
    """A service account without a namespace is one of the binding's namespace."""
    authorizer = rbac(role("r", rule(), namespace="dev"), binding("b", "Role/r", "ServiceAccount/bot", namespace="dev"))
    verdict = authorizer.verdict(asked("system:serviceaccount:dev:bot", "get", "pods", namespace="dev"))
    assert verdict.reason == 'RBAC: allowed by RoleBinding "b/dev" of Role "r" to ServiceAccount "bot/dev"'


def test_role_binding_grants_in_its_namespace_alone() -> None:
    """A RoleBinding of a ClusterRole gives its rules in the namespace of the binding, and its paths nowhere."""
    authorizer = rbac(
        role("r", rule("get list", "pods"), rule("get", "/healthz")),
        binding("b", "ClusterRole/r", "User/alice", namespace="dev"),
    )
    assert authorizer.verdict(asked("alice", "list", "pods", namespace="dev")).allowed
    for elsewhere in ("prod", ""):
        assert not authorizer.verdict(asked("alice", "list", "pods", namespace=elsewhere)).allowed
    assert not authorizer.verdict(asked("alice", "get", "/healthz")).allowed


def test_namespace_itself_is_in_the_namespace() -> None:
    """Getting namespace x carries namespace x, so that a RoleBinding in x can grant it."""
    authorizer = rbac(
        role("r", rule("get", "namespaces")), binding("b", "ClusterRole/r", "User/alice", namespace="dev")
    )
    assert authorizer.verdict(asked("alice", "get", "namespaces", namespace="dev", name="dev")).allowed
    assert not authorizer.verdict(asked("alice", "list", "namespaces")).allowed


def test_role_of_another_namespace_is_not_meant() -> None:
    """A RoleBinding of a Role means the one of its own namespace."""
    authorizer = rbac(
        role("r", rule(), namespace="prod"),
        role("r", rule("list"), namespace="dev"),
        binding("b", "Role/r", "User/alice", namespace="dev"),
    )
    assert not authorizer.verdict(asked("alice", "get", "pods", namespace="dev")).allowed
    assert authorizer.verdict(asked("alice", "list", "pods", namespace="dev")).allowed


def test_first_binding_and_first_subject_are_the_reason() -> None:
    """Bindings everywhere come first, then those of the namespace, each in the order in which they were read."""
    objects = [
        role("r", rule()),
        binding("there", "ClusterRole/r", "User/alice", namespace="dev"),
        binding("late", "ClusterRole/r", "Group/ops", "Group/dev", "User/alice"),
        binding("later", "ClusterRole/r", "User/alice"),
    ]
    request = asked("alice", "get", "pods", groups="x dev ops", namespace="dev")
    expected = Verdict(Outcome.ALLOW, 'RBAC: allowed by ClusterRoleBinding "late" of ClusterRole "r" to Group "ops"')
    assert rbac(*objects).verdict(request) == expected
    there = rbac(objects[0], objects[1]).verdict(request)
    assert there.reason == 'RBAC: allowed by RoleBinding "there/dev" of ClusterRole "r" to User "alice"'


def test_nothing_that_fits_is_no_opinion() -> None:
    """A plain refusal has no reason."""
    authorizer = rbac(role("r", rule()), binding("b", "ClusterRole/r", "User/alice"))
    for request in (asked("bob", "get", "pods"), asked("alice", "get", "secrets"), asked("alice", "get", "/x")):
        assert authorizer.verdict(request) == Verdict(Outcome.NO_OPINION)


def test_missing_role_is_said_and_the_others_count() -> None:
    """A binding of a role that there is not gives nothing, and is told where nothing else allows the request."""
    authorizer = rbac(
        role("r", rule()),
        binding("broken", "ClusterRole/gone", "User/alice"),
        binding("broken-too", "ClusterRole/gone", "Group/dev"),
        binding("there", "Role/lost", "User/alice", namespace="dev"),
        binding("good", "ClusterRole/r", "User/alice"),
    )
    assert authorizer.verdict(asked("alice", "get", "pods")).allowed
    lost = 'role.rbac.authorization.k8s.io "lost" not found'
    gone = 'clusterrole.rbac.authorization.k8s.io "gone" not found'
    here = authorizer.verdict(asked("alice", "list", "pods", groups="dev"))
    assert here == Verdict(Outcome.NO_OPINION, f"RBAC: {gone}")
    there = authorizer.verdict(asked("alice", "list", "pods", namespace="dev"))
    assert there == Verdict(Outcome.NO_OPINION, f"RBAC: [{gone}, {lost}]")
    assert authorizer.verdict(asked("bob", "list", "pods")) == Verdict(Outcome.NO_OPINION)


LIMITS = pytest.mark.parametrize(("limit", "most"), [("_COMBINATIONS", 1), ("_TOGETHER", 1), ("_TOGETHER", 6)])


@LIMITS
def test_rules_with_very_many_combinations(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    """What is too large to be taken apart, by itself or with others, is decided as what is not."""
    lists = [
        [PolicyRule(("get",), ("",), ("pods", "*/log"), ("a", "b"))],
        [PolicyRule(("get", "list"), ("", "apps"), ("pods", "secrets"))],
        [PolicyRule(("*",), ("*",), ("*",))],
    ]
    small = Table(lists, {})
    monkeypatch.setattr(table, limit, most)
    whole = Table(lists, {})
    for verb in ("get", "list", "delete"):
        for group in ("", "apps", "x"):
            for resource, subresource in (("pods", ""), ("secrets", ""), ("pods", "log"), ("x", "log")):
                for name in ("", "a", "c"):
                    place = (verb, "*"), (group, "*"), table.asked(resource, subresource), name
                    assert small.resource(*place) == whole.resource(*place) != NOWHERE
    assert whole.resource(("get", "*"), ("", "*"), table.asked("pods", ""), "a") == 0


@LIMITS
def test_rules_with_very_many_paths(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    """The same of rules about paths."""
    lists = [
        [PolicyRule(("get",), paths=("/a", "/b/*"))],
        [PolicyRule(("get", "list"), paths=("/a*", "/b", "/c*d"))],
        [PolicyRule(("*",), paths=("/e", "/f/**"))],
    ]
    small = Table(lists, {})
    monkeypatch.setattr(table, limit, most)
    whole = Table(lists, {})
    found = set()
    for verb in ("get", "list", "delete"):
        for path in ("/a", "/ab", "/b", "/b/", "/b/c", "/c*d", "/cxd", "/e", "/f", "/f/g", "/"):
            place = small.path((verb, "*"), path)
            assert place == whole.path((verb, "*"), path)
            found.add(place)
    assert found == {0, 1, 2, NOWHERE}


def test_a_rule_of_a_million_combinations_is_loaded_at_once() -> None:
    """A rule of very many verbs, resources and paths costs what it says, not their product."""
    many = [f"x{number}" for number in range(2000)]
    resources = {"verbs": many, "apiGroups": many, "resources": many, "resourceNames": many}
    paths = {"verbs": many, "nonResourceURLs": [f"/{each}" for each in many]}
    authorizer = rbac(role("r", resources, paths), binding("b", "ClusterRole/r", "User/alice"))
    assert authorizer.verdict(asked("alice", "x7", "x9", group="x1", name="x1999")).allowed
    assert authorizer.verdict(asked("alice", "x7", "/x1999")).allowed
    assert not authorizer.verdict(asked("alice", "get", "/x1999")).allowed


def test_callers_with_many_groups() -> None:
    """Each of fifty groups counts, also those that come last, and strangers leave nothing behind."""
    groups = tuple(f"group-{number}" for number in range(50))
    objects = [role("r", rule())]
    objects += [binding(f"b-{group}", "ClusterRole/r", f"Group/{group}", namespace="dev") for group in groups[40:]]
    authorizer = rbac(*objects)
    request = asked("alice", "get", "pods", namespace="dev")
    verdict = authorizer.verdict(request._replace(identity=Identity("alice", groups=groups)))
    assert verdict.reason.endswith('to Group "group-40"')
    assert not authorizer.verdict(request._replace(identity=Identity("alice", groups=groups[:40]))).allowed


def test_what_is_alike_is_there_once() -> None:
    """Resources with the same verbs share what is kept of these, also those of several callers."""
    alike: table.Alike = {}
    rules = [PolicyRule(("get", "list"), ("apps",), tuple(f"r{number}" for number in range(100)), ("a", "b"))]
    for extra in range(50):
        other = [PolicyRule(("get", "list"), (f"group-{extra}",), ("pods", "secrets"))]
        found = Table([rules, other], alike)
        assert found.resource(("list", "*"), (f"group-{extra}", "*"), table.asked("pods", ""), "") == 1
        assert found.resource(("list", "*"), ("apps", "*"), table.asked("r7", ""), "b") == 0
    assert len(alike) == 3  # none, the first list's, the second one's
