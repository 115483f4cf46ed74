"""Who am I, and whose token is this: real kubectl against the demo."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.e2e.conftest import Demo, Kubectl


@pytest.fixture
def review(demo: Demo, tmp_path: Path) -> Path:
    """A manifest that asks whose token alice's is."""
    with (demo.directory / "tokens.csv").open() as file:
        token = next(csv.reader(file))[0]
    path = tmp_path / "review.yaml"
    spec = {"token": token}
    path.write_text(yaml.safe_dump({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}))
    return path


def test_with_a_certificate(admin: Kubectl) -> None:
    """The administrator's client certificate."""
    known = admin.json("auth", "whoami")["status"]["userInfo"]
    assert (known["username"], known["groups"]) == ("admin", ["system:masters", "system:authenticated"])
    (credential,) = known["extra"]["authentication.kubernetes.io/credential-id"]
    assert credential.startswith("X509SHA256=")


def test_with_a_token(alice: Kubectl) -> None:
    """A static token; kubectl asks in protobuf and shows a table."""
    assert alice("auth", "whoami").splitlines() == [
        "ATTRIBUTE   VALUE",
        "Username    alice",
        "UID         alice-1",
        "Groups      [flunder-people system:authenticated]",
    ]


def test_with_a_wrong_token(kubectl_as: Callable[[str | Path], Kubectl], wrong_token: Path) -> None:
    """Nobody, in kubectl's words."""
    assert "You must be logged in to the server" in kubectl_as(wrong_token).fails("auth", "whoami")


def test_listed_and_explained(alice: Kubectl) -> None:
    """Discovery has the group; so does OpenAPI."""
    assert "authentication.k8s.io/v1" in alice("api-versions").splitlines()
    lines = alice("api-resources", "--api-group=authentication.k8s.io", "--no-headers").splitlines()
    assert [line.split() for line in lines] == [
        ["selfsubjectreviews", "authentication.k8s.io/v1", "false", "SelfSubjectReview"],
        ["tokenreviews", "authentication.k8s.io/v1", "false", "TokenReview"],
    ]
    assert "KIND:       TokenReview" in alice("explain", "tokenreviews")


def test_create_a_token_review(admin: Kubectl, review: Path) -> None:
    """From a manifest, as YAML; the answer is the object with its status."""
    answer = yaml.safe_load(admin("create", "-f", str(review), "-o", "yaml"))
    assert answer["status"] == {
        "authenticated": True,
        "user": {"username": "alice", "uid": "alice-1", "groups": ["flunder-people", "system:authenticated"]},
    }


def test_create_is_for_whom_the_policy_lets(alice: Kubectl, review: Path) -> None:
    """Trying out tokens is not for everybody."""
    assert 'cannot create resource "tokenreviews" in API group "authentication.k8s.io"' in alice.fails(
        "create", "-f", str(review)
    )


def test_unknown_fields(admin: Kubectl, review: Path) -> None:
    """kubectl validates strictly, and shows warnings when it is told to warn."""
    manifest = yaml.safe_load(review.read_text()) | {"foo": "bar"}
    review.write_text(yaml.safe_dump(manifest))
    assert 'strict decoding error: unknown field "foo"' in admin.fails("create", "-f", str(review))
    done = admin.run("create", "-f", str(review), "--validate=warn")
    assert (done.returncode, done.stderr) == (0, 'Warning: unknown field "foo"\n')
