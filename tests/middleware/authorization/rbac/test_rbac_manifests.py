"""Files of roles and bindings: how they are read, and every mistake in them, with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authorization.rbac.manifests import asked, binding, rbac, role, rule

from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import RbacAuthorizer

ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"""
BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: User, name: alice}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def allows(authorizer: RbacAuthorizer) -> bool:
    return authorizer.verdict(asked("alice", "get", "pods")).allowed


def mistakes(*objects: Any) -> list[str]:
    """The messages that objects are refused with."""
    with pytest.raises(ConfigurationError) as caught:
        rbac(*objects)
    return str(caught.value).splitlines()


def test_documents_and_files(here: Path) -> None:
    """Several documents of a file, and several files, are one set of objects."""
    Path("one.yaml").write_text(f"{ROLE}---\n---\n{BINDING}", encoding="utf-8")
    assert allows(RbacAuthorizer.from_files("one.yaml", defaults=False))
    Path("roles.yaml").write_text(ROLE, encoding="utf-8")
    Path("bindings.yaml").write_text(BINDING, encoding="utf-8")
    assert allows(RbacAuthorizer.from_files(here / "roles.yaml", "bindings.yaml"))


def test_too_much(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, and all files together, may be so large and no larger."""
    (here / "endless.yaml").symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError) as caught:
        RbacAuthorizer.from_files("endless.yaml")
    assert str(caught.value) == "endless.yaml: is larger than 4 MiB"
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (here / name).write_text("#" * 700_000)
    monkeypatch.setattr("aggmw.middleware.authorization.rbac.manifests.MAX_TOGETHER", 1024 * 1024)
    with pytest.raises(ConfigurationError) as caught:
        RbacAuthorizer.from_files("a.yaml", "b.yaml", "c.yaml")
    assert str(caught.value) == "b.yaml: comes to more than 1 MiB with the files before it"


def test_directories(here: Path) -> None:
    """Of a directory, files of YAML and JSON are read; hidden ones, others, and directories in it are not."""
    (here / "rbac.d").mkdir()
    (here / "rbac.d/a.yaml").write_text(ROLE, encoding="utf-8")
    (here / "rbac.d/b.json").write_text(json.dumps(binding("b", "ClusterRole/reader", "User/alice")), encoding="utf-8")
    for name in (".hidden.yaml", "README.md", "c.yaml~"):
        (here / "rbac.d" / name).write_text("kind: [", encoding="utf-8")
    (here / "rbac.d/old.yaml").mkdir()
    (here / "rbac.d/old.yaml/x.yaml").write_text("kind: [", encoding="utf-8")
    assert allows(RbacAuthorizer.from_files("rbac.d", defaults=False))


@pytest.mark.parametrize("kinds", ["List", "typed"])
def test_lists(kinds: str) -> None:
    """Lists as kubectl writes them are taken apart; the items of a list of one kind need not say what they are."""
    made, bound = role("reader", rule()), binding("b", "ClusterRole/reader", "User/alice")
    if kinds == "List":
        objects: list[Any] = [{"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [made, bound]}]
    else:
        del made["kind"], made["apiVersion"]
        version = "rbac.authorization.k8s.io/v1"
        objects = [
            {"apiVersion": version, "kind": "ClusterRoleList", "items": [made]},
            {"apiVersion": version, "kind": "ClusterRoleBindingList", "items": [bound]},
            {"apiVersion": version, "kind": "RoleList", "items": None},
        ]
    assert allows(rbac(*objects))


def test_what_servers_write_into_metadata_is_known() -> None:
    """An object as a server gives it is read as it is."""
    made = role("reader", rule(), labels={"example.com/team": "x", "plain": ""})
    made["metadata"] |= {
        "annotations": {"note": "anything\nat all"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "uid": "1",
        "resourceVersion": "7",
        "managedFields": [{"manager": "x"}],
    }
    assert allows(rbac(made, binding("b", "ClusterRole/reader", "User/alice")))


def test_groups_of_references_are_filled_in() -> None:
    """`apiGroup` may be left out or written as Kubernetes does."""
    written = binding("b", "ClusterRole/reader", "User/alice")
    written["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io"
    written["subjects"][0]["apiGroup"] = "rbac.authorization.k8s.io"
    assert allows(rbac(role("reader", rule()), written))


def test_every_mistake_of_all_files_at_once(here: Path) -> None:
    """Mistakes are told with file, document, name and field; a file that is no YAML hides those of no other file."""
    Path("roles.yaml").write_text(f"{ROLE}---\n{ROLE.replace('verbs', 'verb')}", encoding="utf-8")
    Path("broken.yaml").write_text("kind: [\n", encoding="utf-8")
    Path("more.yaml").write_text(ROLE, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        RbacAuthorizer.from_files("roles.yaml", "broken.yaml", "missing.yaml", "more.yaml")
    assert str(caught.value).splitlines() == [
        "roles.yaml: document 2 (reader): rules[0].verb: unknown field",
        "roles.yaml: document 2 (reader): rules[0].verbs: Required value: at least one verb, or *",
        "broken.yaml:2: is not YAML: did not find expected node content",
        "missing.yaml: cannot be read: No such file or directory",
        "more.yaml: document 1 (reader): declared before, in roles.yaml: document 1 (reader)",
    ]


def changed(one: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An object with other fields; None takes one away."""
    return {key: value for key, value in {**one, **fields}.items() if value is not None}


BOUND = binding("b", "ClusterRole/r", "User/alice")
THERE = binding("b", "Role/r", "User/alice", namespace="dev")
MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "no object": (
        [1],
        [": must be an object: one of Role, ClusterRole, RoleBinding, ClusterRoleBinding of"
         " rbac.authorization.k8s.io/v1"],
    ),
    "another kind": (
        {"apiVersion": "v1", "kind": "Namespace"},
        [': is "v1 Namespace": only Role, ClusterRole, RoleBinding, ClusterRoleBinding of'
         " rbac.authorization.k8s.io/v1 stand here; keep other objects in other files"],
    ),
    "no kind": (
        {"metadata": {"name": "r"}},
        [': is "": only Role, ClusterRole, RoleBinding, ClusterRoleBinding of rbac.authorization.k8s.io/v1 stand'
         " here; keep other objects in other files"],
    ),
    "an old version": (
        changed(role("r"), apiVersion="rbac.authorization.k8s.io/v1beta1"),
        [': apiVersion: is "rbac.authorization.k8s.io/v1beta1": write rbac.authorization.k8s.io/v1'],
    ),
    "unknown field": (role("r", spec={}), [" (r): spec: unknown field"]),
    "aggregation of a Role": (
        role("r", namespace="dev", aggregationRule={"clusterRoleSelectors": [{}]}),
        [" (r): aggregationRule: unknown field"],
    ),
    "no name": (changed(role("r"), metadata={}), [": metadata.name: Required value"]),
    "name of several segments": (
        role("a/b"),
        [" (a/b): metadata.name: Invalid value: \"a/b\": must be one segment of a path: not '.' or '..', without"
         " '/' and '%'"],
    ),
    "no namespace": (
        changed(role("r", namespace="dev"), metadata={"name": "r"}),
        [" (r): metadata.namespace: Required value: there is no namespace to take it from"],
    ),
    "namespace that is none": (
        changed(role("r", namespace="dev"), metadata={"name": "r", "namespace": "Dev"}),
        [' (r): metadata.namespace: Invalid value: "Dev": must be a DNS-1123 label'],
    ),
    "namespace of a ClusterRole": (
        changed(role("r"), metadata={"name": "r", "namespace": "dev"}),
        [" (r): metadata.namespace: Forbidden: not allowed on this type; without Cluster, it has a namespace"],
    ),
    "rules that are none": (role("r") | {"rules": {"verbs": []}}, [" (r): rules: must be a list, not an object"]),
    "empty rule": (
        role("r", {}),
        [
            " (r): rules[0].verbs: Required value: at least one verb, or *",
            ' (r): rules[0].apiGroups: Required value: at least one group; "" is the core group',
            " (r): rules[0].resources: Required value: at least one resource, or nonResourceURLs",
        ],
    ),
    "verbs as a text": (
        role("r", {**rule(), "verbs": "get"}),
        [
            " (r): rules[0].verbs: must be a list, not a text",
            " (r): rules[0].verbs: Required value: at least one verb, or *",
        ],
    ),
    "paths of a Role": (
        role("r", rule("get", "/x"), namespace="dev"),
        [" (r): rules[0].nonResourceURLs: a Role has a namespace, and paths have none: write a ClusterRole"],
    ),
    "paths and resources": (
        role("r", {**rule(), "nonResourceURLs": ["/x"]}),
        [" (r): rules[0].nonResourceURLs: cannot stand beside resources: make it two rules"],
    ),
    "no reference": (changed(BOUND, roleRef=None), [" (b): roleRef: Required value"]),
    "reference to nothing": (
        changed(BOUND, roleRef={}),
        [
            ' (b): roleRef.kind: Invalid value: null: must be ClusterRole in a ClusterRoleBinding',
            " (b): roleRef.name: Required value",
        ],
    ),
    "Role in a ClusterRoleBinding": (
        changed(BOUND, roleRef={"kind": "Role", "name": "r"}),
        [' (b): roleRef.kind: Invalid value: "Role": must be ClusterRole in a ClusterRoleBinding'],
    ),
    "reference to another group": (
        changed(THERE, roleRef={"kind": "Role", "name": "r", "apiGroup": "x"}),
        [' (b): roleRef.apiGroup: Invalid value: "x": must be rbac.authorization.k8s.io'],
    ),
    "subject of another kind": (
        changed(BOUND, subjects=[{"kind": "user", "name": "alice"}]),
        [' (b): subjects[0].kind: Invalid value: "user": must be User, Group or ServiceAccount'],
    ),
    "subject without a name": (
        changed(BOUND, subjects=[{"kind": "Group", "apiGroup": "x"}]),
        [
            " (b): subjects[0].name: Required value",
            ' (b): subjects[0].apiGroup: Invalid value: "x": must be rbac.authorization.k8s.io',
        ],
    ),
    "service account from nowhere": (
        changed(BOUND, subjects=[{"kind": "ServiceAccount", "name": "bot", "apiGroup": "x"}]),
        [
            ' (b): subjects[0].apiGroup: Invalid value: "x": must be left out for a ServiceAccount',
            " (b): subjects[0].namespace: Required value",
        ],
    ),
    "service account with a user's name": (
        changed(THERE, subjects=[{"kind": "ServiceAccount", "name": "a:b"}]),
        [' (b): subjects[0].name: Invalid value: "a:b": must be a DNS-1123 subdomain, as names of service accounts'
         " are"],
    ),
    "no selectors": (
        role("r", aggregationRule={"clusterRoleSelectors": []}),
        [" (r): aggregationRule.clusterRoleSelectors: Required value: at least one selector"],
    ),
    "selectors that select wrongly": (
        role(
            "r",
            aggregationRule={
                "clusterRoleSelectors": [
                    {"matchLabels": {"a b": "c d"}, "x": 1},
                    {"matchExpressions": [
                        {"key": "a", "operator": "in", "values": ["b"]},
                        {"key": "a", "operator": "In"},
                        {"key": "a", "operator": "Exists", "values": ["b"]},
                        {"key": "", "operator": "NotIn", "values": ["-"]},
                    ]},
                ]
            },
        ),
        [
            " (r): aggregationRule.clusterRoleSelectors[0].x: unknown field",
            " (r): aggregationRule.clusterRoleSelectors[0].matchLabels.a b: must be a label's key: NAME or"
            " prefix.example.com/NAME, NAME of up to 63 letters, digits, '-', '_' and '.'",
            " (r): aggregationRule.clusterRoleSelectors[0].matchLabels.a b: must be a label's value: up to 63"
            " letters, digits, '-', '_' and '.', a letter or digit at both ends",
            " (r): aggregationRule.clusterRoleSelectors[1].matchExpressions[0].operator: Invalid value: \"in\": must"
            " be one of In, NotIn, Exists, DoesNotExist",
            " (r): aggregationRule.clusterRoleSelectors[1].matchExpressions[1].values: must hold at least one value"
            " for In",
            " (r): aggregationRule.clusterRoleSelectors[1].matchExpressions[2].values: may not be given for Exists",
            " (r): aggregationRule.clusterRoleSelectors[1].matchExpressions[3].key: Invalid value: \"\": must be a"
            " label's key: NAME or prefix.example.com/NAME, NAME of up to 63 letters, digits, '-', '_' and '.'",
            " (r): aggregationRule.clusterRoleSelectors[1].matchExpressions[3].values[0]: must be a label's value: up"
            " to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends",
        ],
    ),
    "list that is none": (
        {"apiVersion": "v1", "kind": "List", "items": {}},
        [": items: must be a list"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", MISTAKES)
def test_mistakes(which: str) -> None:
    """Each mistake says where it is, what it is, and what to do."""
    value, expected = MISTAKES[which]
    assert mistakes(value) == [f"object 1{each}" for each in expected]


@pytest.mark.parametrize("kind", [[], {}, ["Role"], 3])
def test_kinds_that_are_no_text(kind: object) -> None:
    """Whatever stands where a kind should be is a mistake like any other."""
    place = "object 1: kind: must be a text, not "
    assert mistakes({**role("r", rule()), "kind": kind})[0].startswith(place)
    item = {**role("r", rule()), "kind": kind}
    assert mistakes({"apiVersion": "v1", "kind": "List", "items": [item]})[0].startswith("object 1, item 1: kind: must")


def test_a_file_that_is_named_twice(here: Path) -> None:
    """It is read as if it were named once."""
    (here / "rbac.d").mkdir()
    (here / "rbac.d/a.yaml").write_text(f"{ROLE}---\n{BINDING}", encoding="utf-8")
    once = RbacAuthorizer.from_files("rbac.d")
    twice = RbacAuthorizer.from_files("rbac.d", "rbac.d/a.yaml")
    assert twice.revision == once.revision
    assert repr(twice).count("4 bindings") == repr(once).count("4 bindings")


def test_twice() -> None:
    """No two objects of one kind have one name in one namespace; of several kinds or namespaces they may."""
    there, elsewhere = role("r", namespace="dev"), role("r", namespace="prod")
    assert mistakes(role("r"), there, elsewhere, role("r")) == ["object 4 (r): declared before, in object 1 (r)"]
    listed = {"apiVersion": "v1", "kind": "List", "items": [there, there]}
    assert mistakes(listed) == ["object 1, item 2 (r): declared before, in object 1, item 1 (r)"]
