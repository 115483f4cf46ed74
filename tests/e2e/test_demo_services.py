"""The demo's other two services: a FastAPI application in the front proxy's process, and a plain web service."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import PATIENCE, STOP_SECONDS

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo, Kubectl

KubectlAs = Callable[[str | Path], "Kubectl"]


def token(demo: Demo) -> str:
    with (demo.directory / "tokens.csv").open(newline="") as file:
        return next(row[0] for row in csv.reader(file) if row[1] == "alice")


@pytest.fixture
def curl(demo: Demo, curl_program: str) -> Callable[..., str]:
    """What curl prints for a path, with these arguments, as the demo says to call it."""

    def ask(path: str, *arguments: str) -> str:
        command = [curl_program, "-sS", "--cacert", str(demo.directory / "serving-ca.crt"), *arguments, demo.url + path]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout

    return ask


def test_the_group_in_this_process_is_listed(demo: Demo, kubectl_as: KubectlAs) -> None:
    """`kubectl api-resources` shows it beside the group of the API server."""
    lines = kubectl_as(demo.kubeconfig("admin"))("api-resources").splitlines()
    assert ["notes", "nt", "notes.example.com/v1", "false", "Note"] in [line.split() for line in lines]
    assert any(line.startswith("flunders ") for line in lines)


def test_kubectl_works_with_it(demo: Demo, kubectl_as: KubectlAs, tmp_path: Path) -> None:
    """Create, get, refuse a second one, delete; the application knows who asked."""
    alice = kubectl_as(demo.kubeconfig("alice"))
    note = tmp_path / "note.yaml"
    note.write_text((demo.directory / "note.yaml").read_text().replace("name: hello", "name: first"))
    assert alice("create", "-f", str(note)) == "note.notes.example.com/first created\n"
    try:
        made = alice.json("get", "nt", "first")
        assert made["metadata"]["annotations"] == {"notes.example.com/author": "alice"}
        assert [line.split()[0] for line in alice("get", "notes").splitlines()] == ["NAME", "first"]
        assert "AlreadyExists" in alice.fails("create", "-f", str(note))
    finally:
        assert alice("delete", "note", "first") == 'note.notes.example.com "first" deleted\n'
    assert "NotFound" in alice.fails("get", "note", "first")


def test_policy_holds_for_it(demo: Demo, kubectl_as: KubectlAs) -> None:
    """Somebody without the right is refused by the front proxy, before the application."""
    refused = kubectl_as(demo.kubeconfig("nobody")).fails("get", "notes")
    assert 'User "nobody" cannot list resource "notes" in API group "notes.example.com"' in refused


def test_the_web_service_by_curl(demo: Demo, curl: Callable[..., str]) -> None:
    """Its redirect is passed on, it is told who asks, and without a right there is nothing to see."""
    bearer = ("-H", f"Authorization: Bearer {token(demo)}")
    answer = json.loads(curl("/billing/", "-L", *bearer))
    assert answer == {"asked by": "alice", "invoices": ["1001", "1002"]}
    assert json.loads(curl("/billing/invoices/1001", *bearer))["customer"] == "Acme"
    forged = ("-H", "X-Remote-User: mallory", "-H", "X_Remote_User: mallory")
    assert json.loads(curl("/billing/invoices", *bearer, *forged))["asked by"] == "alice"
    assert json.loads(curl("/billing/invoices"))["code"] == 401
    assert json.loads(curl("/billings", *bearer))["code"] == 403


def test_metrics(demo: Demo, kubectl_as: KubectlAs) -> None:
    """The administrator reads what was counted, alice does not."""
    kubectl_as(demo.kubeconfig("alice"))("get", "--raw", "/apis/notes.example.com/v1/notes")
    page = kubectl_as(demo.kubeconfig("admin"))("get", "--raw", "/metrics")
    assert 'apiserver_request_total{code="200",component="apiserver",dry_run="",group="notes.example.com"' in page
    assert "aggmw_upstream_connections{" in page
    assert "Forbidden" in kubectl_as(demo.kubeconfig("alice")).fails("get", "--raw", "/metrics")


def test_the_application_is_the_readers_to_change(start: Callable[[], Demo], kubectl_as: KubectlAs) -> None:
    """`notes.py` is kept: what is changed there is served after the next start."""
    first = start()
    first.process.terminate()
    assert first.process.wait(STOP_SECONDS) == 0
    file = first.directory / "notes.py"
    file.write_text(file.read_text().replace('short_names=["nt"]', 'short_names=["memo"]'))
    second = start()
    assert "memo" in kubectl_as(second.kubeconfig("admin"))("api-resources")
