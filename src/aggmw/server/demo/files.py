"""What an operator would write for the demo: a configuration, registrations, a policy, tokens, objects to try."""

from __future__ import annotations

import base64
import csv
import secrets
from pathlib import Path

import yaml

from aggmw.server.demo.children import Child, program
from aggmw.server.directory import Directory
from aggmw.server.files import write_file
from aggmw.server.kubeconfig import Access, render_kubeconfig

__all__ = ["write_files", "write_kubeconfigs"]

_POLICY = """\
# Who may do what, besides the administrator, whose group system:masters may do everything.
# Resources: p, subject, verb, apiGroup, resource, namespace, name    Other paths: p2, subject, verb, path

# Everybody who is known may ask which APIs exist; everybody else may ask for /healthz.
p2, group:system:authenticated, get, /api|/api/*|/apis|/apis/*|/openapi/*|/version|/version/
p2, group:system:unauthenticated, get, /healthz

# Everybody who is known may ask who that is, and what they may do: kubectl auth whoami, kubectl auth can-i.
p, group:system:authenticated, create, authentication.k8s.io, selfsubjectreviews, *, *
p, group:system:authenticated, create, authorization.k8s.io, selfsubjectaccessreviews|selfsubjectrulesreviews, *, *

# Alice works with flunders in namespace dev, takes notes, and reads invoices.
p, role:flunder-editor, *, wardle.example.com, flunders, dev, *
p, role:flunder-editor, *, wardle.example.com, flunders/status, dev, *
p, role:note-taker, *, notes.example.com, notes, *, *
p2, role:accountant, get, /billing|/billing/*
g, user:alice, role:flunder-editor
g, user:alice, role:note-taker
g, user:alice, role:accountant
"""

_FLUNDER = """\
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata:
  name: one
spec:
  reference: two
"""

_NOTE = """\
apiVersion: notes.example.com/v1
kind: Note
metadata:
  name: hello
text: Served by FastAPI in the front proxy's own process.
"""


def write_files(directory: Directory, wardle: Child, billing: Child) -> Path:
    """Write everything; the configuration file. Policy, tokens and the FastAPI application are kept once they exist."""
    kept = {
        "policy.csv": _POLICY.encode(),
        "tokens.csv": f'{secrets.token_urlsafe(32)},alice,alice-1,"flunder-people"\n'.encode(),
        "notes.py": (program("demo") / "notes.py").read_bytes(),
    }
    for name, content in kept.items():
        if not (directory.path / name).exists():
            write_file(directory.path / name, content, private=name == "tokens.csv")
    configuration = {
        "logLevel": "warning",
        "authentication": {"tokenFile": "tokens.csv", "anonymous": {"paths": ["/healthz"]}, "impersonation": True},
        "authorization": {"policy": "policy.csv"},
        "services": {
            "files": ["apiservices.yaml"],
            "resolve": {"wardle/api": wardle.address},
            "local": [{"group": "notes.example.com", "version": "v1", "app": "notes:app"}],
            "paths": [{"path": "/billing/", "url": billing.url}],
        },
    }
    files = {
        "apiservices.yaml": _api_service(directory),
        "config.yaml": yaml.safe_dump(configuration, sort_keys=False).encode(),
        "flunder.yaml": _FLUNDER.encode(),
        "note.yaml": _NOTE.encode(),
    }
    for name, content in files.items():
        write_file(directory.path / name, content, private=False)
    return directory.path / "config.yaml"


def _api_service(directory: Directory) -> bytes:
    """The registration of the API server, as for a Kubernetes cluster."""
    spec = {
        "service": {"namespace": "wardle", "name": "api"},
        "group": "wardle.example.com",
        "version": "v1alpha1",
        "caBundle": base64.b64encode(directory.serving_ca.read_bytes()).decode(),
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": spec,
    }
    return yaml.safe_dump(api_service, sort_keys=False).encode()


def write_kubeconfigs(directory: Directory, url: str) -> None:
    """alice has a token, nobody a client certificate."""
    with (directory.path / "tokens.csv").open(newline="", encoding="utf-8") as file:
        token = next(row[0] for row in csv.reader(file) if row[1:2] == ["alice"])
    alice = Access(url, directory.serving_ca.read_bytes(), "alice", token=token, namespace="dev")
    write_file(directory.path / "alice.kubeconfig", render_kubeconfig(alice), private=True)
    directory.kubeconfig("nobody", server=url, user="nobody")
