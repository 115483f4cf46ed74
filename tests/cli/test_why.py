"""`aggmw why`: denials say what to change; what is printed, and the exit status."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import DOCS
from typer.testing import CliRunner

from aggmw.cli import app
from aggmw.pki.make import issue_client, make_ca
from aggmw.server.directory import Directory

DENIALS = Path(__file__).parent / "denials"
EXPECTED = (DENIALS / "expected.txt").read_text(encoding="utf-8")
CASES = dict(re.findall(r"^\$ aggmw (why .*)\n((?:(?!\$ aggmw).*\n)*)", EXPECTED, re.MULTILINE))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("policy.csv", "roles.yaml"):
        (tmp_path / name).write_text((DENIALS / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "both.yaml").write_text("authorization: {policy: policy.csv}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, shlex.split(command), env={"TERM": "dumb", "COLUMNS": "120"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("command", CASES)
def test_a_denial_says_what_to_change(place: Path, command: str) -> None:
    """Word for word: 20 denials of different kinds, as they are read by people who do not see the policy."""
    status, out, err = run(command)
    assert (status, err) == (1, "")
    assert out.strip("\n") == CASES[command].strip("\n")
    assert "To allow it" in out


def test_there_are_twenty() -> None:
    """And five of them stand in the docs, with the policy that they are about."""
    assert len(CASES) >= 20
    page = (DOCS / "how-to" / "why-denied.md").read_text(encoding="utf-8")
    for name in ("policy.csv", "roles.yaml"):
        assert (DENIALS / name).read_text(encoding="utf-8") in page
    shown = [command for command, text in CASES.items() if f"$ aggmw {command}\n{text.rstrip()}\n```" in page]
    assert len(shown) == 5


@pytest.mark.parametrize("command", [one for one in CASES if "--rbac" not in one])
def test_what_it_says_to_add_is_enough(place: Path, command: str) -> None:
    """Each rule that a denial says to add, or to write in place of another, added to the file, allows it."""
    _, out, _ = run(f"{command} -o json")
    answer: dict[str, Any] = json.loads(out)
    text = (place / "policy.csv").read_text(encoding="utf-8")
    for change in answer["explanation"]["changes"]:
        gone = {int(rule.split(":")[1]) for rule in change["remove"]}
        kept = [line for number, line in enumerate(text.splitlines(), 1) if number not in gone]
        (place / "policy.csv").write_text("\n".join([*kept, *change["add"]]) + "\n", encoding="utf-8")
        groups = "".join(f" --group {group}" for group in change["groups"])
        status, out, _ = run(f"{command}{groups}")
        assert status == 0, out
        (place / "policy.csv").write_text(text, encoding="utf-8")


def test_allowed(place: Path) -> None:
    """Status 0, the rule, and how it concerns the caller."""
    status, out, err = run("why --policy policy.csv --as alice get flunders.wardle.example.com/x -n dev")
    assert (status, err) == (0, "")
    assert out == (
        "allowed: alice may get flunders.wardle.example.com/x in the namespace dev\n\n"
        "This rule allows it:\n"
        "  policy.csv:5: p, role:viewer, get|list|watch, wardle.example.com, flunders|fischers, *, *, allow\n"
        "  concerns alice by user:alice → role:editor → role:viewer\n\n"
        "The caller is alice. Groups: system:authenticated.\n"
        "The server puts its callers into system:authenticated, so that was done here, too.\n"
    )


def test_a_configuration(place: Path) -> None:
    """What a configuration names decides, and the groups that need no policy come first."""
    status, out, _ = run("why --config both.yaml --as root --group system:masters delete nodes/n1")
    assert status == 0
    assert "Allowed to members of the group system:masters." in out


def test_one_that_denies_everything(place: Path) -> None:
    """What stands behind it is not asked, and that is what to change."""
    (place / "order.yaml").write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n"
        "- {type: AlwaysDeny, name: first}\n- {type: Casbin, name: policy}\n"
    )
    (place / "ordered.yaml").write_text("authorization: {policy: policy.csv, configurationFile: order.yaml}\n")
    status, out, _ = run("why --config ordered.yaml --as alice get flunders.wardle.example.com/x -n dev")
    assert status == 1
    assert "An authorizer that denies everything decided: let one before it allow it, or put that one last\n" in out


def test_a_configuration_without_a_policy(place: Path) -> None:
    """Nobody may do anything, and what is missing is named; who is allowed all the same is told nothing of it."""
    (place / "none.yaml").write_text("authorization: {alwaysAllowPaths: [/healthz]}\n")
    status, out, _ = run("why --config none.yaml --as bob get pods")
    assert status == 1
    assert "The configuration names no policy, so nobody but system:masters may do anything: give" in out
    assert "nor anything near it" not in out
    for allowed in ("--as bob get /healthz", "--as bob --group system:masters get pods"):
        status, out, _ = run(f"why --config none.yaml {allowed}")
        assert (status, "names no policy" in out) == (0, False)


def test_json(place: Path) -> None:
    """Everything that the text says, by names."""
    command = (
        "why --policy policy.csv --as bob --group x --uid 7 --extra team=a --extra team=b delete pods/web/log -n dev"
    )
    status, out, err = run(f"{command} -o json")
    answer = json.loads(out)
    assert (status, err) == (1, "")
    assert answer["request"]["identity"] == {
        "user": "bob",
        "uid": "7",
        "groups": ["x", "system:authenticated"],
        "extra": {"team": ["a", "b"]},
    }
    assert answer["request"]["name"] == "web"
    assert answer["request"]["subresource"] == "log"
    assert answer["explanation"]["verdict"]["outcome"] == "NO_OPINION"
    assert answer["explanation"]["changes"][0]["add"] == ["p, user:bob, delete, core, pods/log, dev, web"]


@pytest.mark.parametrize(
    ("what", "version", "group", "resource"),
    [
        ("deployments.v1.apps/x", "v1", "apps", "deployments"),
        ("deployments.v1beta2.apps/x", "v1beta2", "apps", "deployments"),
        ("flunders.v1alpha1.wardle.example.com/x", "v1alpha1", "wardle.example.com", "flunders"),
        ("pods.v1./x", "v1", "", "pods"),
        ("pods/x", "v1", "", "pods"),
        ("flunders.wardle.example.com/x", "v1", "wardle.example.com", "flunders"),
        ("things.version.example.com/x", "v1", "version.example.com", "things"),
        ("pods.v1./x --api-version v1", "v1", "", "pods"),
        ("pods/x --api-version v2", "v2", "", "pods"),
    ],
)
def test_resource_version_and_group(place: Path, what: str, version: str, group: str, resource: str) -> None:
    """A resource is written as for kubectl, with a version before its group or without one."""
    _, out, _ = run(f"why --policy policy.csv --as x get {what} -o json")
    asked = json.loads(out)["request"]
    found = asked["api_version"], asked["api_group"], asked["resource"], asked["name"]
    assert found == (version, group, resource, "x")


def test_a_group_that_was_left_out(place: Path) -> None:
    """As kubectl lets one do: also who is not meant by the rule either is told what it is about."""
    (place / "policy.csv").write_text("p, role:writer, get, notes.example.com, notes, *, *\ng, user:eve, role:writer\n")
    hint = "the request has core; is notes.notes.example.com meant?\n"
    assert hint in run("why --policy policy.csv --as bob get notes -n dev")[1]
    assert hint not in run("why --policy policy.csv --as bob list notes -n dev")[1]
    assert "meant?" not in run("why --policy policy.csv --as bob get notes.notes.example.com -n dev")[1]


def test_version_in_the_place_of_a_group(place: Path) -> None:
    """For kubectl, too, it is a group; that is hardly meant, and said."""
    _, out, _ = run("why --policy policy.csv --as x get pods.v1")
    assert "'v1' is read as a group; a version stands before its group: pods.v1. of the core group." in out


def test_what_a_web_socket_needs_besides(place: Path) -> None:
    """Whoever may get exec is told that a WebSocket has to be created, too."""
    (place / "policy.csv").write_text("p, user:eve, get, core, pods/exec, *, *\n")
    _, out, _ = run("why --policy policy.csv --as eve get pods/web/exec -n dev")
    assert (
        "A WebSocket needs the verb create, too:\n  denied: eve may not create the subresource exec of pods/web" in out
    )


def test_by_a_credential(place: Path) -> None:
    """Who asks is found out as the server would, from a token or a certificate."""
    Directory.open(place / "state")
    (place / "tokens.csv").write_text("secret-token,alice,1\n")
    (place / "token").write_text("secret-token\n")
    (place / "other").write_text("another-token\n")
    (place / "config.yaml").write_text("authentication: {tokenFile: tokens.csv}\nauthorization: {policy: policy.csv}\n")
    status, out, err = run("why --config config.yaml --dir state --token-file token get /apis")
    assert (status, err) == (0, "")
    assert "allowed: alice may get /apis" in out
    status, out, err = run("why --config config.yaml --dir state --token-file other get /apis")
    assert (status, out) == (2, "")
    assert err == "other: nobody knows this credential; aggmw check auth says why\n"


def test_by_a_certificate(place: Path) -> None:
    """Its groups are the caller's, and so are those that the server adds."""
    Directory.open(place / "state")
    clients = make_ca("clients")
    (place / "clients.pem").write_bytes(clients.certificate)
    (place / "olga.pem").write_bytes(issue_client(clients, "olga", groups=["ops"]).certificate)
    (place / "config.yaml").write_text("authentication: {clientCA: clients.pem}\nauthorization: {policy: policy.csv}\n")
    status, out, err = run("why --config config.yaml --dir state --cert olga.pem get /metrics")
    assert (status, err) == (0, "")
    assert "  concerns olga by group:ops → role:operator\n" in out
    assert "The caller is olga. Groups: ops, system:authenticated.\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--as x get pods.v1.apps --api-version v2", "'pods.v1.apps' says 'v1' already, so --api-version is too much"),
        ("--policy policy.csv get /apis", "say who asks by one of --as, --token-file and --cert"),
        ("--policy policy.csv --as a --token-file t get /apis", "say who asks by one of"),
        ("--policy policy.csv --token-file t --group x get /apis", "--group, --uid and --extra go with --as"),
        ("--as a get /apis", "policy: give --config FILE, --policy FILE or --rbac FILE"),
        ("--as a --policy policy.csv --config both.yaml get /apis", "--config: names the policies itself"),
        ("--as a --model m.conf get /apis", "--model: needs the policy that is written for it: --policy FILE"),
        ("--as a --policy nowhere.csv get /apis", "nowhere.csv: cannot be read: No such file or directory"),
        ("--as a --policy policy.csv get /apis -n dev", "/apis is a path, which has no namespace, name or subresource"),
        ("--as a --policy policy.csv get pods/ -n dev", "cannot read 'pods/': write /path, or RESOURCE.GROUP"),
        ("--as a --policy policy.csv get pods/x/log --name y", "'pods/x/log' says 'x' already, so --name is too much"),
        ("--as a --policy policy.csv list pods -n dev -A", "one namespace and all namespaces exclude each other"),
        ("--as a --policy policy.csv --extra team list pods", "the extra value 'team' is not of the form KEY=VALUE"),
        ("--as ' a' --policy policy.csv list pods", "caller: the user holds a control character or begins or ends"),
        ("--as a --policy policy.csv list pods -o yaml", "'yaml' is not one of"),
    ],
)
def test_mistakes(place: Path, arguments: str, message: str) -> None:
    """Status 2, and what is wrong on standard error."""
    status, out, err = run(f"why {arguments}")
    assert (status, out) == (2, "")
    assert message in re.sub(r"\s*│?\n│?\s*", " ", err)
