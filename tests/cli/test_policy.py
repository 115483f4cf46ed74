"""`aggmw policy lint`, `diff` and `who-can`: what they print, and their exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.test_why import place, run

from aggmw.config.questions import grants_of, policy_of
from aggmw.errors import ConfigurationError

__all__ = ["place"]  # a fixture

MODEL = """\
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub && regexMatch(r.obj, p.obj) && r.act == p.act
"""


def test_lint_says_nothing_of_a_good_policy(place: Path) -> None:
    """But that administrators may do everything."""
    assert run("policy lint policy.csv") == (0, "policy.csv:16: allows role:admin everything\n", "")


def test_who_can_says_how_it_read_the_request(place: Path) -> None:
    """What could be meant otherwise is said, as by `aggmw why`."""
    (place / "some.csv").write_text("p, user:ann, get, core, pods/log, *, *\n")
    status, out, _ = run("policy who-can get pods/log --policy some.csv")
    assert (status, out.splitlines()[-1]) == (
        0,
        "'log' is read as a subresource; an object called so is written --name log.",
    )
    assert "'v1' is read as a group" in run("policy who-can get pods.v1 --policy some.csv")[1]


def test_model_that_cannot_be_evaluated(place: Path) -> None:
    """What would be a 500 is told as that, in one line, and is neither a yes nor a no."""
    for matcher in ("r.sub > 5 && r.obj == p.obj", "r.sub == p.sub & (r.obj == p.obj, 1)"):
        lines = [*MODEL.replace("p.eft == deny", "p.eft == allow").replace("!some", "some").splitlines()[:-1]]
        (place / "own.conf").write_text("\n".join([*lines, f"m = {matcher}"]))
        (place / "own.csv").write_text("p, ann, /x, get\n")
        for command in ("why --as ann", "policy who-can"):
            status, out, err = run(f"{command} get /x --policy own.csv --model own.conf")
            assert (status, out) == (2, "")
            assert "policy: cannot be decided (TypeError: " in err
            assert err.endswith("): the server would answer 500\n")


def test_lint(place: Path) -> None:
    """Everything that is questionable, in the order of the file, and status 1 only when that is asked for."""
    (place / "careless.csv").write_text(
        "p, role:viewer, get|list, core, pods, *, *\n"
        "p, user:alice, get, core, pods, dev, *\n"
        "p, user:bob, delete, core, pods, dev, *\n"
        "p, user:bob, *, core, *, *, *, deny\n"
        "p2, group:staff, get, /healthz*\n"
        "g, user:alice, role:viewer\n"
        "g, user:alice, role:viewer\n"
        "g, role:a, role:viewer\n"
        "g, role:b, role:a\n"
        "p, group:system:masters, get, core, pods, *, *\n"
        "p, group:system:unauthenticated, list, core, pods, *, *\n"
        "g, user:carol, role:nothing\n"
    )
    status, out, err = run("policy lint careless.csv")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "careless.csv:2: changes nothing: all of it is covered by careless.csv:1: p, role:viewer, get|list, core, pods,"
        " *, *, allow",
        "careless.csv:3: allows nothing: all of it is denied by careless.csv:4: p, user:bob, *, core, *, *, *, deny",
        "careless.csv:5: covers /healthzOTHER too, by /healthz*: write /healthz|/healthz/* for /healthz and what is"
        " below it",
        "careless.csv:7: repeats careless.csv:6",
        "careless.csv:9: gives role:a to role:b, and that can be had by nobody",
        "careless.csv:10: is about group:system:masters, whose members are allowed everything before any rule is asked",
        "careless.csv:11: allows callers whom nobody knows (group:system:unauthenticated) to list pods",
        "careless.csv:12: grants role:nothing, for which there is no rule",
    ]
    assert run("policy lint careless.csv --strict")[0] == 1
    answer = json.loads(run("policy lint careless.csv -o json")[1])
    assert answer[3] == {"path": "careless.csv:7", "message": "repeats careless.csv:6"}


def test_lint_of_models_of_ones_own(place: Path) -> None:
    """Effects that allow what no rule denies, and patterns without an end, also while there is no rule."""
    (place / "model.conf").write_text(MODEL.replace("p = sub, obj, act", "p = sub, obj, act, eft"))
    (place / "own.csv").write_text("p, alice, /apis/.*, get, deny\n")
    status, out, _ = run("policy lint own.csv --model model.conf")
    assert "model.conf:6: [policy_effect] allows every request that no rule denies" in out
    (place / "own.csv").write_text("p, alice, /apis, get, allow\n")
    assert "own.csv:1: the pattern '/apis' is matched against whole" in run("policy lint own.csv --model model.conf")[1]
    (place / "own.csv").write_text("")
    assert "own.csv: has no rule: everything is denied" in run("policy lint own.csv --model model.conf")[1]
    assert status == 0


def test_lint_of_nothing(place: Path) -> None:
    """A file or a directory without a rule is probably not what was meant."""
    (place / "rbac.d").mkdir()
    (place / "rbac.d/policy.csv").write_text("p, user:a, get, core, pods, *, *\n")
    said = "rbac.d: has no role and no binding: those that ship are all there is\n"
    assert run("policy lint rbac.d --strict") == (1, said, "")


def test_lint_of_manifests(place: Path) -> None:
    """Roles that nobody has, bindings that give nothing, and what gives everything; not of what ships."""
    (place / "more.yaml").write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        "kind: ClusterRole\n"
        "metadata: {name: all}\n"
        "rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n"
        "---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        "kind: ClusterRoleBinding\n"
        "metadata: {name: nobody}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
        "---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        "kind: ClusterRoleBinding\n"
        "metadata: {name: strangers}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
        "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:unauthenticated'}]\n"
    )
    status, out, err = run("policy lint roles.yaml more.yaml")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        'roles.yaml: document 5 (bob-releases): gives nobody anything: there is no Role "releaser"',
        "more.yaml: document 1 (all): is bound to nobody, and part of no other role",
        "more.yaml: document 1 (all): rules[0] allows everything",
        "more.yaml: document 2 (nobody): has no subjects: it gives nobody anything",
        'more.yaml: document 3 (strangers): gives the ClusterRole "view" to callers whom nobody knows',
    ]


def test_diff(place: Path) -> None:
    """By callers, gains with +, losses with -; the status is 1 when there is a difference."""
    text = (place / "policy.csv").read_text(encoding="utf-8")
    (place / "new.csv").write_text(
        text.replace("g, user:bob, role:viewer", "g, user:bob, role:editor").replace("dev|test", "dev")
    )
    status, out, err = run("policy diff policy.csv new.csv")
    assert (status, err) == (1, "")
    assert out == (
        "group:interns\n"
        "  - create|patch|update flunders of wardle.example.com, in test\n\n"
        "user:alice\n"
        "  - create|delete|patch|update flunders of wardle.example.com, in test\n\n"
        "user:bob\n"
        "  + create|delete|patch|update flunders of wardle.example.com, in dev\n"
    )
    (answer, *_) = json.loads(run("policy diff policy.csv new.csv -o json")[1])
    assert answer["subjects"] == ["group:interns"]
    assert answer["losses"][0]["values"]["namespaces"] == "test"
    (place / "same.csv").write_text("\n".join(reversed(text.splitlines())))
    assert run("policy diff policy.csv same.csv") == (0, "", "")


def test_diff_of_manifests_and_a_policy(place: Path) -> None:
    """They are compared by what they allow, whatever they are written in."""
    (place / "as.csv").write_text(
        "p, group:staff, get|list|watch, wardle.example.com, flunders, *, *\n"
        "p, user:alice, get|list|update|patch, wardle.example.com, flunders|flunders/status, dev, *\n"
        "p, user:alice, get|update, core, configmaps, dev, settings\n"
    )
    status, out, _ = run("policy diff as.csv roles.yaml")
    assert status == 1
    assert "user:alice" not in out
    assert "group:staff" not in out
    assert "group:system:authenticated\n  + " in out  # by the roles that ship


def test_diff_of_models_of_ones_own(place: Path) -> None:
    """Refused, with the reason: their columns may mean anything."""
    (place / "model.conf").write_text(MODEL.replace("!some(where (p.eft == deny))", "some(where (p.eft == allow))"))
    (place / "own.csv").write_text("p, alice, /apis/.*, get\n")
    path = Path("own.csv")
    with pytest.raises(ConfigurationError, match=r"own\.csv: is written for a model of its own, whose rules may mean"):
        grants_of(path, policy_of(path, Path("model.conf")))


def test_diff_of_entangled_policies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused when it would take too long, in words."""
    for name, order in (("a", "n{0}, *"), ("b", "*, n{0}")):
        rows = (f"p, user:a, get, core, r{{0}}|x, {order}".format(number) for number in range(400))
        (place / f"{name}.csv").write_text("\n".join(rows))
    status, out, err = run("policy diff a.csv b.csv")
    assert (status, out) == (2, "")
    assert err.startswith("a.csv, b.csv: the policies are too entangled: more than 300000 pieces had to be compared")


def test_who_can(place: Path) -> None:
    """Callers with rule and way; status 1 when nobody can."""
    status, out, err = run("policy who-can --policy policy.csv get configmaps -n dev --name settings")
    assert (status, err) == (0, "")
    assert (
        "  user:robot\n      policy.csv:13: p, user:robot, get|update, core, configmaps, dev, settings, allow\n" in out
    )
    status, out, _ = run("policy who-can --rbac roles.yaml update flunders.wardle.example.com -n dev")
    assert '      by User "alice" → RoleBinding "alice-edits" → Role "flunder-editor"\n' in out
    assert 'role:RoleBinding "alice-edits/dev" of Role "flunder-editor"  (members: user:alice)' in out
    answer = json.loads(run("policy who-can --policy policy.csv get pods/log -o json")[1])
    allowed = [one["subject"] for one in answer["allowed"]]
    assert allowed == ["group:system:masters", "group:audit", "group:ops", "group:platform"]
    status, out, _ = run("policy who-can --rbac roles.yaml fetch nodes")
    assert "group:system:masters" in out  # by the roles that ship


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lint nowhere.csv", "nowhere.csv: cannot be read: No such file or directory"),
        (f"lint {'a' * 300}.csv", "aaaa.csv: cannot be read: File name too long"),
        ("lint roles.yaml --model policy.csv", "--model: is for casbin policies, and roles.yaml holds manifests"),
        ("diff policy.csv policy.csv roles.yaml", "unexpected extra argument"),
        ("who-can get pods", "policy: give --config FILE, --policy FILE or --rbac FILE"),
    ],
)
def test_mistakes(place: Path, arguments: str, message: str) -> None:
    """Status 2, and what is wrong on standard error."""
    status, out, err = run(f"policy {arguments}")
    assert (status, out) == (2, "")
    assert message in err
