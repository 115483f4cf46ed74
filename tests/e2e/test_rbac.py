"""Kubernetes RBAC as `aggmw serve` decides by it, seen by real kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import STOP_SECONDS, Kubectl, log_of, put
from tests.ports import free_port

from aggmw.server.kubeconfig import Access, render_kubeconfig

TOKENS = 'alice-token,alice,1,"developers"\nbob-token,bob,2\n'
ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: flunders:view
  labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}
rules:
  - {apiGroups: [wardle.example.com], resources: [flunders, flunders/status], verbs: [get, list]}
"""
BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ROLE}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: WHO, name: NAME}]
"""
FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders"


class Serving:
    """A running `aggmw serve` with a role in a file, and bindings in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        (path / "tokens.csv").write_text(TOKENS)
        (path / "roles.yaml").write_text(ROLE)
        (path / "rbac.d").mkdir()
        self.bind("viewers", "flunders:view", "Group", "developers")
        settings = {"tokenFile": "tokens.csv"}, {"rbac": ["roles.yaml", "rbac.d"]}
        (path / "config.yaml").write_text(
            json.dumps({"grace": "1s", "authentication": settings[0], "authorization": settings[1]})
        )
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        with (path / "log").open("wb") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port)], cwd=path, stderr=log)
        self.until("serving")

    def bind(self, file: str, role: str, kind: str, name: str) -> None:
        """Write a binding to a file of the directory."""
        text = BINDING.replace("ROLE", role).replace("WHO", kind).replace("NAME", name).replace("viewers", file)
        put(self.path / f"rbac.d/{file}.yaml", text)

    def until(self, event: str, number: int = 1) -> None:
        """Wait for log lines."""
        while sum(line["event"] == event for line in self.log()) < number:
            assert self.process.poll() is None, (self.path / "log").read_text()
            time.sleep(0.05)

    def log(self) -> list[dict[str, str]]:
        return log_of(self.path / "log")

    def kubeconfig(self, user: str) -> Path:
        authority = (self.path / "state" / "serving-ca.crt").read_bytes()
        file = self.path / f"{user}.kubeconfig"
        url = f"https://127.0.0.1:{self.port}"
        file.write_bytes(render_kubeconfig(Access(url, authority, user, token=f"{user}-token")))
        return file

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    server = Serving(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def kubectl(serving: Serving, kubectl_program: Path, tmp_path: Path) -> Callable[[str], Kubectl]:
    """kubectl as a user with a token."""

    def make(user: str) -> Kubectl:
        home = tmp_path / f"home-{user}"
        home.mkdir(exist_ok=True)
        return Kubectl(kubectl_program, serving.kubeconfig(user), home)

    return make


def test_list_of_rights(kubectl: Callable[[str], Kubectl]) -> None:
    """`auth can-i --list` shows the rules of the bindings in a namespace, and the default roles everywhere."""
    there, elsewhere = (
        kubectl("alice")("auth", "can-i", "--list", "-n", namespace).splitlines() for namespace in ("dev", "prod")
    )
    assert [line.split() for line in there if "flunders" in line] == [
        ["flunders.wardle.example.com/status", "[]", "[]", "[get", "list]"],
        ["flunders.wardle.example.com", "[]", "[]", "[get", "list]"],
    ]
    for lines in (there, elsewhere):
        assert ["[/apis/*]", "[]", "[get]"] in [line.split() for line in lines]
    assert not any("flunders" in line for line in elsewhere)


def test_refusals(kubectl: Callable[[str], Kubectl], serving: Serving) -> None:
    """A refusal has Kubernetes' words; that a role is missing is among them."""
    bob = kubectl("bob")
    refused = (
        'flunders.wardle.example.com is forbidden: User "bob" cannot list resource "flunders" in API group'
        ' "wardle.example.com" in the namespace "dev"'
    )
    assert bob.fails("get", "--raw", FLUNDERS) == f"Error from server (Forbidden): {refused}\n"
    assert "(NotFound)" in kubectl("alice").fails("get", "--raw", FLUNDERS)
    serving.bind("broken", "gone", "User", "bob")
    serving.until("reloaded")
    missing = 'RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found'
    assert bob.fails("get", "--raw", FLUNDERS) == f"Error from server (Forbidden): {refused}: {missing}\n"


def test_edited_manifests(kubectl: Callable[[str], Kubectl], serving: Serving) -> None:
    """What is written to the directory is in force at once; what is broken changes nothing, and is said."""
    bob = kubectl("bob")
    question = ("get", "--raw", FLUNDERS)  # which nobody serves
    serving.bind("more", "view", "User", "bob")
    serving.until("reloaded")
    assert "(NotFound)" in bob.fails(*question)
    put(serving.path / "rbac.d/more.yaml", "kind: Role\n")
    serving.until("not reloaded")
    assert "(NotFound)" in bob.fails(*question)
    problems = [line["problem"] for line in serving.log() if line["event"] == "not reloaded"]
    assert len(problems) == 1
    assert problems[0].startswith('is "Role": only Role, ClusterRole')
    assert ", stale: what is there now cannot be used" in bob("get", "--raw", "/readyz?verbose")
    (serving.path / "rbac.d/more.yaml").unlink()
    serving.until("reloaded", 2)
    assert "(Forbidden)" in bob.fails(*question)
    [line] = [line for line in bob("get", "--raw", "/readyz?verbose").splitlines() if "authorization-rbac" in line]
    assert line == f"[+]authorization-rbac ok: revision {serving.log()[-1]['revision']}"
