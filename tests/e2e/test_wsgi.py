"""A Flask and a Django application as API groups: `examples/wsgi` under `aggmw serve`, used with real kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Kubectl
from tests.e2e.test_mounted import ROOT, Process
from tests.ports import free_port

from aggmw.server.kubeconfig import Access, render_kubeconfig

EXAMPLES = ROOT / "examples" / "wsgi"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The directory of the running front proxy, and its URL."""
    directory, port = tmp_path_factory.mktemp("wsgi"), free_port()
    command = ["-m", "aggmw", "serve", "--config", str(EXAMPLES / "config.yaml"), "--dir", str(directory)]
    process = Process([*command, "--port", str(port)])
    process.until("serving")
    for _ in range(2):
        process.until("discovery of a backend succeeded")
    yield directory, f"https://127.0.0.1:{port}"
    assert process.stop() == 0


@pytest.fixture
def alice(serving: tuple[Path, str], kubectl_program: Path, tmp_path: Path) -> Kubectl:
    directory, url = serving
    kubeconfig = tmp_path / "alice.kubeconfig"
    kubeconfig.write_bytes(
        render_kubeconfig(Access(url, (directory / "serving-ca.crt").read_bytes(), "alice", token="an-example"))
    )
    return Kubectl(kubectl_program, kubeconfig, tmp_path)


def manifest(group: str, kind: str, name: str) -> str:
    return f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{text: hello}}\n"


def test_both_groups_are_listed(alice: Kubectl) -> None:
    """Flask behind `ServeDiscovery`, Django with discovery of its own."""
    lines = [line.split() for line in alice("api-resources", "--no-headers").splitlines()]
    assert ["notes", "nt", "notes.example.com/v1", "false", "Note"] in lines
    assert ["tasks", "tasks.example.com/v1", "false", "Task"] in lines


def test_flask(alice: Kubectl) -> None:
    """Create, list, get, refuse a second one, delete; it knows who asked, and its errors are understood."""
    note = manifest("notes.example.com", "Note", "first")
    assert alice("create", "-f", "-", stdin=note) == "note.notes.example.com/first created\n"
    assert "AlreadyExists" in alice.fails("create", "-f", "-", stdin=note)
    assert alice("get", "nt", "-o", "name") == "note.notes.example.com/first\n"
    assert alice.json("get", "note", "first")["metadata"]["annotations"] == {"notes.example.com/author": "alice"}
    assert alice("delete", "note", "first") == 'note.notes.example.com "first" deleted\n'
    assert alice.fails("get", "note", "first") == (
        'Error from server (NotFound): notes.notes.example.com "first" not found\n'
    )


def test_django(alice: Kubectl) -> None:
    """The same for Django as WSGI; the caller's groups come as a value."""
    task = manifest("tasks.example.com", "Task", "wash")
    assert alice("create", "-f", "-", stdin=task) == "task.tasks.example.com/wash created\n"
    spec = {"text": "hello", "owner": "alice", "groups": ["dev", "system:authenticated"]}
    assert alice.json("get", "task", "wash")["spec"] == spec
    assert [line.split()[0] for line in alice("get", "tasks").splitlines()] == ["NAME", "wash"]
    assert "(NotFound)" in alice.fails("get", "task", "other")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_can_be_read(path: Path) -> None:
    """At most 60 lines, and the command that starts it in its docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert "aggmw serve --config examples/wsgi/config.yaml" in text
