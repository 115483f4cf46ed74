"""Mistakes of the operator: one line each on standard error, path first, status 2, never a traceback. Word for word."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SERVICE = """\
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.com}
spec:
  group: example.com
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 15
  service: {namespace: a, name: b}
"""
MODEL = """\
[request_definition]
r = sub, obj, act, colour
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.shape == p.obj && r.act == p.act
"""


def serve(tmp_path: Path, *arguments: str, files: Mapping[str, str] | None = None) -> list[str]:
    """What `aggmw serve` says before it ends with status 2, without the directory's name and its own log lines."""
    for name, text in (files or {}).items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "aggmw", "serve", *arguments]
    if "--port" not in arguments:
        command += ["--port", "0"]
    if "--dir" not in arguments:
        command += ["--dir", "state"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (("version: v1", "version: V1"), [
            'spec.version: Invalid value: "V1": must be a DNS-1035 label, such as v1alpha1',
            'metadata.name: Invalid value: "v1.example.com": must be spec.version and spec.group with a dot between:'
            ' "V1.example.com"',
        ]),
        (("groupPriorityMinimum: 1000", "groupPriorityMinimum: 0"), [
            "spec.groupPriorityMinimum: Invalid value: 0: must be between 1 and 20000",
        ]),
        (("name: b", "port: 70000"), [
            "spec.service.name: Required value",
            "spec.service.port: Invalid value: 70000: must be between 1 and 65535",
        ]),
        (("  service:", "  caBundle: '!'\n  service:"), ["spec.caBundle: must be PEM certificates in base64"]),
    ],
)  # fmt: skip
def test_broken_api_service(tmp_path: Path, change: tuple[str, str], lines: list[str]) -> None:
    """Each mistake in an APIService names the file, the document, the object and the field."""
    files = {"config.yaml": "services: {files: [services.yaml]}", "services.yaml": SERVICE.replace(*change)}
    said = serve(tmp_path, "--config", "config.yaml", files=files)
    assert sorted(said) == sorted(f"services.yaml: document 1 (v1.example.com): {line}" for line in lines)


def test_token_file(tmp_path: Path) -> None:
    """A short line is named by its number, and its token is not repeated."""
    files = {"config.yaml": "authentication: {tokenFile: tokens.csv}", "tokens.csv": "t1,alice,1\ns3cr3t,bob\n"}
    assert serve(tmp_path, "--config", "config.yaml", files=files) == [
        'tokens.csv:2: 2 columns, where at least 3 are needed: token,user,uid[,"group1,group2"]'
    ]


def test_policy_with_unknown_field(tmp_path: Path) -> None:
    """A model or matcher that names a field no request has says so, with the fields there are."""
    files = {
        "config.yaml": "authorization: {policy: policy.csv, model: model.conf}",
        "policy.csv": "p, alice, /x, get\n",
        "model.conf": MODEL,
    }
    assert serve(tmp_path, "--config", "config.yaml", files=files) == [
        "model.conf:2: [request_definition] names field 'colour', which no request has; known: act, apiGroup,"
        " apiVersion, dom, groups, name, namespace, obj, path, resource, sub, subjects, subresource, user, verb",
        "model.conf:8: [matchers] names field 'r.shape', which [request_definition] does not define; known: r.sub,"
        " r.obj, r.act, r.colour",
    ]


def test_port_in_use(tmp_path: Path) -> None:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve(tmp_path, "--port", str(port)) == [
            f"listen 127.0.0.1:{port}: the address is already in use: stop what listens there, or choose another port"
        ]


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """A directory below a file, and a file in its place."""
    (tmp_path / "file").touch()
    assert serve(tmp_path, "--dir", "file/state") == [f"{tmp_path}/file/state: cannot be created: Not a directory"]
    (said,) = serve(tmp_path, "--dir", "file")
    assert said.startswith(f"{tmp_path}/file: ")


def test_everything_at_once(tmp_path: Path) -> None:
    """One pass finds what is wrong in all files and with the port."""
    files = {
        "config.yaml": (
            "authentication: {tokenFile: tokens.csv, clientCA: nothing.crt}\n"
            "authorization: {policy: policy.csv}\n"
            "services: {files: [services.yaml], resolve: {a/b: nowhere}}\n"
            "tls: {certificate: tokens.csv, key: none.key}\n"
        ),
        "tokens.csv": "t\n",
        "policy.csv": "p, alice, get, core, pods, *, *\n",
        "services.yaml": "kind: Pod\n",
    }
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = serve(tmp_path, "--config", "config.yaml", "--port", str(port), files=files)
    assert said == [
        "nothing.crt: cannot be read: No such file or directory",
        'tokens.csv:1: 1 column, where at least 3 are needed: token,user,uid[,"group1,group2"]',
        "policy.csv:1: has 'alice' as the subject: write user:NAME, group:NAME or role:NAME",
        "config.yaml: services.resolve: 'a/b': 'nowhere': must be \"host:port\" with a port from 1 to 65535",
        "services.yaml: document 1: must be an APIService of apiregistration.k8s.io/v1",
        "none.key: cannot be read: No such file or directory",
        f"listen 127.0.0.1:{port}: the address is already in use: stop what listens there, or choose another port",
    ]
