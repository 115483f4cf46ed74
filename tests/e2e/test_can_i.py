"""May I, and may they: real kubectl against the demo, in every form of `auth can-i`, and with manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import Demo, Kubectl

FLUNDERS = "flunders.wardle.example.com"
EVERYBODY = """\
selfsubjectreviews.authentication.k8s.io        []   []   [create]
selfsubjectaccessreviews.authorization.k8s.io   []   []   [create]
selfsubjectrulesreviews.authorization.k8s.io    []   []   [create]
[/api/*] [] [get]
[/api] [] [get]
[/apis/*] [] [get]
[/apis] [] [get]
"""
DISCOVERY = """\
[/openapi/*] [] [get]
[/version/] [] [get]
[/version] [] [get]
"""


def can(kubectl: Kubectl, *arguments: str, warning: str = "") -> bool:
    """The answer: yes with exit status 0, no with 1, and on stderr nothing but the warning that is expected."""
    done = kubectl.run("auth", "can-i", *arguments)
    warned = f"Warning: {warning}\n\n" if warning else ""
    assert (done.returncode, done.stdout, done.stderr) in ((0, "yes\n", warned), (1, "no\n", warned)), done
    return done.returncode == 0


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["get", "flunders"], True),
        (["get", "fl"], True),
        (["get", "flunder"], True),
        (["get", FLUNDERS], True),
        (["get", "flunders.v1alpha1.wardle.example.com"], True),
        (["delete", "flunders/one"], True),
        (["delete", f"{FLUNDERS}/one"], True),
        (["deletecollection", "flunders"], True),
        (["*", "flunders"], True),
        (["update", "flunders", "--subresource=status"], True),
        (["update", "flunders/one", "--subresource=status"], True),
        (["update", "flunders", "--subresource=scale"], False),
        (["list", "flunders", "-n", "default"], False),
        (["list", "flunders", "-n", "dev"], True),
        (["list", "flunders", "-A"], False),
        (["*", "*"], False),
        (["*", "*", "-A"], False),
        (["create", "localsubjectaccessreviews.authorization.k8s.io"], False),
        (["get", "/billing/invoices"], True),
        (["get", "/billing"], True),
        (["post", "/billing/invoices"], False),
        (["get", "/metrics"], False),
        (["get", "/apis/wardle.example.com/v1alpha1"], True),
    ],
)
def test_alice(alice: Kubectl, arguments: list[str], answer: bool) -> None:
    """Resource with and without group and version, name, subresource, namespace, path; no word but the answer."""
    assert can(alice, *arguments) is answer


@pytest.mark.parametrize(
    ("arguments", "answer", "warning"),
    [
        (["list", "notes"], True, "resource 'notes' is not namespace scoped in group 'notes.example.com'"),
        (
            ["create", "subjectaccessreviews"],
            False,
            "resource 'subjectaccessreviews' is not namespace scoped in group 'authorization.k8s.io'",
        ),
        (["get", "pods"], False, "the server doesn't have a resource type 'pods'"),
        (
            ["get", "flunders.example.com"],
            False,
            "the server doesn't have a resource type 'flunders' in group 'example.com'",
        ),
        (["fly", "flunders"], True, "verb 'fly' is not a known verb"),
    ],
)
def test_warnings(alice: Kubectl, arguments: list[str], answer: bool, warning: str) -> None:
    """kubectl warns by what discovery says: of a cluster scope, of what nobody serves, and of its own about verbs."""
    assert can(alice, *arguments, warning=warning) is answer


def test_without_a_namespace_nothing_is_warned_of(alice: Kubectl) -> None:
    """What has no namespace is asked for all of them."""
    assert can(alice, "list", "notes", "-A") is True


def test_quiet(alice: Kubectl) -> None:
    """Only the exit status, for scripts."""
    for namespace, status in (("dev", 0), ("default", 1)):
        done = alice.run("auth", "can-i", "get", "flunders", "-q", "-n", namespace)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_list(alice: Kubectl) -> None:
    """Every rule about alice in her namespace: by name, by group, by role; without a word about gaps."""
    mine = f"""\
Resources Non-Resource URLs Resource Names Verbs
notes.notes.example.com [] [] [*]
{FLUNDERS}/status [] [] [*]
{FLUNDERS} [] [] [*]
{EVERYBODY}[/billing/*] [] [get]
[/billing] [] [get]
{DISCOVERY}"""
    assert rows(alice("auth", "can-i", "--list")) == rows(mine)
    assert rows(alice("auth", "can-i", "--list", "--no-headers")) == rows(mine)[1:]


def test_list_of_another_namespace(alice: Kubectl) -> None:
    """There is less there."""
    listed = alice("auth", "can-i", "--list", "-n", "default")
    assert FLUNDERS not in listed
    assert "notes.notes.example.com" in listed


def test_administrator(admin: Kubectl) -> None:
    """Everything, and the list says so."""
    assert can(admin, "*", "*") is True
    assert can(admin, "get", "/metrics") is True
    assert rows(admin("auth", "can-i", "--list", "--no-headers")) == [["*.*", "[]", "[]", "[*]"], ["[*]", "[]", "[*]"]]


def test_nobody(nobody: Kubectl) -> None:
    """What everybody may, and no more."""
    assert can(nobody, "get", "flunders") is False
    assert rows(nobody("auth", "can-i", "--list", "--no-headers")) == rows(EVERYBODY + DISCOVERY)


def test_without_credentials(kubectl_as: Callable[[str | Path], Kubectl], wrong_token: Path) -> None:
    """Nobody is told anything."""
    assert "You must be logged in to the server" in kubectl_as(wrong_token).fails("auth", "can-i", "get", "flunders")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--as=alice", "-n", "dev"], True),
        (["--as=alice", "-n", "default"], False),
        (["--as=zoe", "--as-group=flunder-people", "-n", "dev"], False),
        (["--as=zoe", "--as-group=system:masters", "-n", "dev"], True),
        (["--as=system:serviceaccount:dev:robot", "-n", "dev"], False),
    ],
)
def test_as_somebody_else(admin: Kubectl, arguments: list[str], answer: bool) -> None:
    """The administrator asks as others, by name and by group."""
    assert can(admin, "get", "flunders", *arguments) is answer


def test_list_as_somebody_else(admin: Kubectl, alice: Kubectl) -> None:
    """The list is theirs."""
    assert admin("auth", "can-i", "--list", "--as=alice", "-n", "dev") == alice("auth", "can-i", "--list")


def test_only_who_may_impersonate(alice: Kubectl) -> None:
    """Security: nobody asks as another without that right."""
    assert 'User "alice" cannot impersonate' in alice.fails("auth", "can-i", "get", "flunders", "--as=admin")


# With manifests


def written(path: Path, kind: str, namespace: str = "", **spec: Any) -> str:
    metadata = {"metadata": {"namespace": namespace}} if namespace else {}
    manifest = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, **metadata, "spec": spec}
    path.write_text(yaml.safe_dump(manifest))
    return str(path)


GET = {"verb": "get", "group": "wardle.example.com", "resource": "flunders", "namespace": "dev"}


def test_about_others(admin: Kubectl, tmp_path: Path) -> None:
    """The administrator asks what somebody may: everywhere, and in one namespace."""
    for kind, namespace in (("SubjectAccessReview", ""), ("LocalSubjectAccessReview", "dev")):
        file = written(tmp_path / "review.yaml", kind, namespace, user="alice", resourceAttributes=GET)
        status = yaml.safe_load(admin("create", "-f", file, "-o", "yaml"))["status"]
        assert status["allowed"] is True
        assert "flunder-editor" in status["reason"]
        file = written(tmp_path / "review.yaml", kind, namespace, user="zoe", groups=["x"], resourceAttributes=GET)
        assert yaml.safe_load(admin("create", "-f", file, "-o", "yaml"))["status"] == {"allowed": False}


def test_about_others_is_for_whom_the_policy_lets(alice: Kubectl, tmp_path: Path) -> None:
    """Security: what others may do is not for everybody."""
    file = written(tmp_path / "review.yaml", "SubjectAccessReview", user="admin", resourceAttributes=GET)
    assert 'cannot create resource "subjectaccessreviews" in API group "authorization.k8s.io"' in alice.fails(
        "create", "-f", file
    )


def test_mistakes(admin: Kubectl, tmp_path: Path) -> None:
    """All at once, as kubectl shows them."""
    file = written(tmp_path / "review.yaml", "SubjectAccessReview")
    assert admin.fails("create", "-f", file).splitlines() == [
        'The SubjectAccessReview "" is invalid: ',
        "* spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        '* spec.user: Invalid value: "": at least one of user or group must be specified',
    ]


def test_listed_and_explained(alice: Kubectl) -> None:
    """Discovery has the group with its scopes; so does OpenAPI."""
    lines = alice("api-resources", "--api-group=authorization.k8s.io", "--no-headers").splitlines()
    version = "authorization.k8s.io/v1"
    assert [line.split() for line in lines] == [
        ["localsubjectaccessreviews", version, "true", "LocalSubjectAccessReview"],
        ["selfsubjectaccessreviews", version, "false", "SelfSubjectAccessReview"],
        ["selfsubjectrulesreviews", version, "false", "SelfSubjectRulesReview"],
        ["subjectaccessreviews", version, "false", "SubjectAccessReview"],
    ]
    assert "KIND:       LocalSubjectAccessReview" in alice("explain", "localsubjectaccessreviews")


def test_answer_is_what_happens(demo: Demo, alice: Kubectl) -> None:
    """What can-i says of a list is what the list then meets."""
    for namespace in ("dev", "default"):
        allowed = can(alice, "list", "flunders", "-n", namespace)
        assert (alice.run("get", "flunders", "-n", namespace).returncode == 0) is allowed
