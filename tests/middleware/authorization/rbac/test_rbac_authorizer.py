"""The authorizer as a whole: defaults, reading again, revisions, warnings, lists of rules."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.middleware.authorization.rbac.manifests import asked, binding, rbac, role, rule

from aggmw.contracts.authorization import (
    Authorizer,
    Explainer,
    NonResourceRule,
    Outcome,
    ResourceRule,
    RuleLister,
)
from aggmw.contracts.grants import Grant, GrantLister
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import RbacAuthorizer
from aggmw.objects.yaml_files import write_document

READER = [role("reader", rule("get", "pods")), binding("b", "ClusterRole/reader", "User/alice")]
POD = asked("alice", "get", "pods")


def write(path: Path, *objects: dict[str, Any]) -> None:
    path.write_bytes(b"---\n".join(map(write_document, objects)))


async def test_is_what_authorizers_are() -> None:
    """It decides at once and when awaited, explains, lists rules, and says what it grants."""
    authorizer: Authorizer = rbac(*READER)
    assert isinstance(authorizer, Explainer)
    assert isinstance(authorizer, RuleLister)
    assert isinstance(authorizer, GrantLister)
    assert await authorizer.authorize(POD) == rbac(*READER).verdict(POD)


def test_defaults() -> None:
    """Kubernetes' default roles are there unless they are not wanted."""
    authorizer = rbac(defaults=True)
    admin = authorizer.verdict(asked("root", "delete", "secrets", groups="system:masters", namespace="dev"))
    everybody = authorizer.verdict(asked("alice", "get", "/apis/apps/v1", groups="system:authenticated"))
    assert admin.reason == (
        'RBAC: allowed by ClusterRoleBinding "cluster-admin" of ClusterRole "cluster-admin" to Group "system:masters"'
    )
    assert everybody.allowed
    for path, expected in (("/version", True), ("/readyz", True), ("/apis", False), ("/metrics", False)):
        assert authorizer.verdict(asked("x", "get", path, groups="system:unauthenticated")).allowed is expected
    assert not rbac().verdict(asked("root", "get", "pods", groups="system:masters")).allowed


@pytest.mark.parametrize(
    ("name", "verb", "what", "group", "expected"),
    [
        ("view", "list", "pods", "", True),
        ("view", "get", "secrets", "", False),
        ("view", "create", "pods", "", False),
        ("edit", "list", "pods", "", True),
        ("edit", "get", "secrets", "", True),
        ("edit", "create", "deployments", "apps", True),
        ("edit", "create", "roles", "rbac.authorization.k8s.io", False),
        ("admin", "list", "pods", "", True),
        ("admin", "create", "pods/exec", "", True),
        ("admin", "create", "roles", "rbac.authorization.k8s.io", True),
        ("admin", "create", "namespaces", "", False),
    ],
)
def test_roles_for_people(name: str, verb: str, what: str, group: str, expected: bool) -> None:
    """view, edit and admin contain one another, and stay in their namespace."""
    authorizer = rbac(binding("b", f"ClusterRole/{name}", "User/alice", namespace="dev"), defaults=True)
    assert authorizer.verdict(asked("alice", verb, what, group=group, namespace="dev")).allowed is expected
    assert not authorizer.verdict(asked("alice", verb, what, group=group, namespace="prod")).allowed


def test_own_kinds_in_default_roles() -> None:
    """A cluster role with the label of one is part of it, and of those above."""
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    authorizer = rbac(
        role("flunders:view", rule("get", "flunders", "wardle.example.com"), labels=label),
        binding("b", "ClusterRole/admin", "User/alice", namespace="dev"),
        defaults=True,
    )
    assert authorizer.verdict(asked("alice", "get", "flunders", group="wardle.example.com", namespace="dev")).allowed


def test_own_object_takes_the_place_of_a_default() -> None:
    """An object of the same kind and name counts in place of the one that ships."""
    authorizer = rbac(binding("cluster-admin", "ClusterRole/view", "Group/ops"), defaults=True)
    assert not authorizer.verdict(asked("root", "create", "pods", groups="system:masters")).allowed
    assert authorizer.verdict(asked("olga", "get", "pods", groups="ops")).allowed


def test_reload(tmp_path: Path) -> None:
    """Files are read again; broken ones leave what was loaded in force, and are counted."""
    path = tmp_path / "rbac.yaml"
    write(path, *READER)
    authorizer = RbacAuthorizer.from_files(path, defaults=False)
    first = authorizer.revision
    path.write_text("kind: Rule\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"rbac.yaml: document 1: is \"Rule\""):
        authorizer.reload()
    assert (authorizer.revision, authorizer.verdict(POD).allowed) == (first, True)
    counted = {sample.labels[-1][1]: sample.value for sample in authorizer.samples() if "reloads" in sample.name}
    assert counted == {"success": 1, "failure": 1}
    write(path, READER[0])
    authorizer.reload()
    assert not authorizer.verdict(POD).allowed
    assert authorizer.revision != first


async def test_watched_files(tmp_path: Path) -> None:
    """With `watch`, its controller reads files and directories again when they were changed."""
    write(tmp_path / "roles.yaml", READER[0])
    (tmp_path / "rbac.d").mkdir()
    authorizer = RbacAuthorizer.from_files(tmp_path / "roles.yaml", tmp_path / "rbac.d", defaults=False, watch=True)
    [watcher] = authorizer.controllers
    assert not authorizer.verdict(POD).allowed
    write(tmp_path / "rbac.d/bindings.yaml", READER[1])
    for _ in range(2):
        await watcher.look()  # type: ignore[attr-defined]  # what its controller does four times a second
    assert authorizer.verdict(POD).allowed
    assert RbacAuthorizer.from_files(tmp_path / "roles.yaml").controllers == ()


async def test_disk_that_hangs(tmp_path: Path) -> None:
    """Who waits for a manifest keeps neither the collector off, nor other policies from being loaded."""
    path = tmp_path / "slow.yaml"
    os.mkfifo(path)
    waiting = asyncio.create_task(asyncio.to_thread(RbacAuthorizer.from_files, path))
    async with asyncio.timeout(60):
        while True:
            try:
                writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # nobody waits yet
                await asyncio.sleep(0.01)
        try:
            assert gc.isenabled()
            await asyncio.to_thread(RbacAuthorizer.from_objects, READER)
            assert not waiting.done()
        finally:
            os.close(writing)
        authorizer = await waiting
    with pytest.raises(ConfigurationError) as caught:
        await authorizer.refresh()
    assert str(caught.value) == f"{path}: is a pipe, which cannot be read again: put a file there"


async def test_refresh_while_requests_go_on() -> None:
    """A collection that was changed counts from the next reading on; the verdicts of before were of one whole."""
    objects = list(READER)
    authorizer = RbacAuthorizer.from_objects(objects, defaults=False)
    first = authorizer.revision
    objects[1] = binding("b", "ClusterRole/reader", "User/bob")
    assert authorizer.verdict(POD).allowed
    later = await asyncio.gather(authorizer.refresh(), authorizer.refresh())
    assert first not in later
    assert later[0] == later[1] == authorizer.revision
    assert not authorizer.verdict(POD).allowed


def test_revision_is_of_the_contents() -> None:
    """The same objects have the same revision everywhere; others have another."""
    assert rbac(*READER).revision == rbac(*READER).revision
    assert rbac(READER[0], {"apiVersion": "v1", "kind": "List", "items": READER[1:]}).revision == rbac(*READER).revision
    revisions = {rbac(*READER).revision, rbac(READER[0]).revision, rbac(*READER, defaults=True).revision}
    assert len(revisions) == 3


def test_warnings() -> None:
    """Bindings of roles that there are not, and rules that an aggregation overrides, are told and logged."""
    with capture_logs() as logs:
        authorizer = rbac(
            binding("b", "ClusterRole/gone", "User/alice"),
            binding("b", "Role/gone", "User/alice", namespace="dev"),
            role("sum", rule(), aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}),
            role("same", rule("list get"), aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"c": "d"}}]}),
            role("part", rule("get list"), labels={"c": "d"}),
        )
    assert [str(warning) for warning in authorizer.warnings] == [
        "object 3 (sum): has an aggregationRule, and rules besides that no role gives it: these do not count",
        'object 1 (b): gives nobody anything: there is no ClusterRole "gone"',
        'object 2 (b): gives nobody anything: there is no Role "gone"',
    ]
    assert [entry["path"] for entry in logs] == [warning.path for warning in authorizer.warnings]


async def test_rules_of_a_caller() -> None:
    """All rules of all bindings that concern a caller are listed, as often as they have them."""
    authorizer = rbac(
        role("r", rule("get", "pods", names="a"), rule("get", "/healthz")),
        role("r", rule("list", "pods"), namespace="dev"),
        binding("everywhere", "ClusterRole/r", "Group/ops", "User/alice"),
        binding("there", "Role/r", "User/alice", namespace="dev"),
        binding("too", "ClusterRole/r", "User/alice", namespace="dev"),
        binding("lost", "Role/lost", "User/alice", namespace="dev"),
    )
    pods, paths = ResourceRule(("get",), ("",), ("pods",), ("a",)), NonResourceRule(("get",), ("/healthz",))
    alice = await authorizer.rules_for(Identity("alice", groups=("ops",)), "dev")
    assert list(alice.resource) == [pods, ResourceRule(("list",), ("",), ("pods",)), pods]
    assert list(alice.non_resource) == [paths, paths]
    assert (alice.incomplete, alice.error) == (False, 'role.rbac.authorization.k8s.io "lost" not found')
    elsewhere = await authorizer.rules_for(Identity("alice", groups=("ops",)), "prod")
    assert (list(elsewhere.resource), elsewhere.error) == ([pods], "")


def test_what_is_granted() -> None:
    """Grants are those of the bindings: in their namespace or everywhere, paths only everywhere."""
    authorizer = rbac(
        role("r", rule("get", "pods", names="a"), rule("*", "/api/**")),
        binding("b", "ClusterRole/r", "Group/ops"),
        binding("b", "ClusterRole/r", "ServiceAccount/bot", namespace="dev"),
    )
    found = authorizer.granted()
    pods = Grant("", "", verbs=frozenset({"get"}), api_groups=frozenset({""}), resources=frozenset({"pods"}))
    assert [grant._replace(rule="", subject="") for grant in found.grants] == [
        pods._replace(names=frozenset({"a"})),
        Grant("", "", is_resource=False, paths=frozenset({"/api/*"})),
        pods._replace(names=frozenset({"a"}), namespaces=frozenset({"dev"})),
    ]
    assert sorted(found.roles) == ["group:ops", "user:system:serviceaccount:dev:bot"]


@pytest.mark.parametrize("verb", ["get", "list"])
def test_repr_and_outcome(verb: str) -> None:
    """What is printed says where the objects are from; nothing of what they allow."""
    authorizer = rbac(*READER)
    assert repr(authorizer) == f"RbacAuthorizer(objects, 1 bindings, revision {authorizer.revision})"
    outcome = authorizer.verdict(asked("alice", verb, "pods")).outcome
    assert outcome is (Outcome.ALLOW if verb == "get" else Outcome.NO_OPINION)


def test_what_is_replaced_is_freed_without_the_collector(tmp_path: Path) -> None:
    """A snapshot holds no circle: what was loaded before goes when the next is there; and reading leaves none."""
    write(tmp_path / "rbac.yaml", *READER)
    authorizer = RbacAuthorizer.from_files(tmp_path / "rbac.yaml")
    authorizer.verdict(POD)
    before = weakref.ref(authorizer._snapshot)
    gc.collect()
    gc.disable()
    try:
        authorizer.reload()
        assert before() is None
        gc.collect()
        left = []
        for _ in range(3):  # now and then another thread of the tests leaves a circle
            authorizer.reload()
            left.append(gc.collect())
        assert min(left) == 0
    finally:
        gc.enable()
