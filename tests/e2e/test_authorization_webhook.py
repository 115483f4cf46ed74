"""Who may, decided by another front proxy: `aggmw serve` asks `aggmw serve`, and kubectl sees what comes of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import STOP_SECONDS, Kubectl, log_of, put
from tests.ports import free_port

from aggmw.server.kubeconfig import Access, render_kubeconfig

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
JUDGES = """\
p, user:front, create, authorization.k8s.io, subjectaccessreviews, *, *
p, group:devs, create, authorization.k8s.io, selfsubjectaccessreviews|selfsubjectrulesreviews, *, *
p2, user:alice, get, /version
"""
TOKENS = 'alice-token,alice,1,"devs"\nbob-token,bob,2,"devs"\nfront-token,front,3\n'
ORDER = """\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: judge.example.com
  webhook:
    timeout: 30s
    authorizedTTL: 1s
    unauthorizedTTL: 1s
    subjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: judge.kubeconfig}
    matchConditionSubjectAccessReviewVersion: v1
    matchConditions: [{expression: "request.user != 'carol'"}]
"""
EVERYTHING = "- {type: AlwaysAllow, name: all}\n"


class Serving:
    """A running `aggmw serve`."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.port = free_port()
        (path / "tokens.csv").write_text(TOKENS)
        (path / "config.yaml").write_text(
            json.dumps({"grace": "1s", "authentication": {"tokenFile": "tokens.csv"}, "authorization": config})
        )
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        with (path / "log").open("wb") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port)], cwd=path, stderr=log)
        self.until("serving")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def until(self, event: str, number: int = 1) -> None:
        """Wait for log lines."""
        while sum(line["event"] == event for line in self.log()) < number:
            assert self.process.poll() is None, (self.path / "log").read_text()
            time.sleep(0.05)

    def log(self) -> list[dict[str, Any]]:
        return log_of(self.path / "log")

    def kubeconfig(self, user: str, path: str = "") -> Path:
        authority = (self.path / "state" / "serving-ca.crt").read_bytes()
        file = self.path / f"{user}.kubeconfig"
        file.write_bytes(render_kubeconfig(Access(self.url + path, authority, user, token=f"{user}-token")))
        return file

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(STOP_SECONDS) == 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts front proxies, each in a directory of its own."""
    running: list[Serving] = []

    def started(name: str, config: dict[str, Any], **files: str) -> Serving:
        path = tmp_path / name
        path.mkdir()
        for file, text in files.items():
            (path / file.replace("_", ".")).write_text(text)
        running.append(Serving(path, config))
        return running[-1]

    yield started
    for each in running:
        each.process.kill()
        each.process.wait()


def test_another_front_proxy_decides(serve: Callable[..., Serving], tmp_path: Path, kubectl_program: Path) -> None:
    """It allows and denies; its policy counts once what was remembered is over; while it is gone nothing is allowed."""
    judge = serve("judge", {"policy": "policy.csv"}, policy_csv=JUDGES)
    asked = judge.kubeconfig("front", REVIEWS).read_text()
    front = serve("front", {"configurationFile": "authz.yaml"}, authz_yaml=ORDER, judge_kubeconfig=asked)
    alice, bob = (Kubectl(kubectl_program, front.kubeconfig(user), tmp_path) for user in ("alice", "bob"))

    assert '"gitVersion"' in alice("get", "--raw", "/version")
    assert "Forbidden" in bob.fails("get", "--raw", "/version")
    assert alice.run("auth", "can-i", "get", "/version").stdout == "yes\n"
    listed = bob.run("auth", "can-i", "--list", "-n", "dev")
    assert "the list may be incomplete: the webhook judge.example.com cannot list" in listed.stderr

    put(judge.path / "policy.csv", JUDGES.replace("user:alice", "user:bob"))
    judge.until("reloaded")
    for kubectl, status in ((alice, 1), (bob, 0)):  # each has an answer of its own that is remembered
        while kubectl.run("get", "--raw", "/version").returncode != status:
            pass

    judge.stop()
    assert "the authorizer failed" in alice.fails("get", "--raw", "/apis")
    front.until("webhook gave no verdict")

    put(front.path / "authz.yaml", ORDER.replace("authorizers:", "authorizers:\n- {type: Node, name: node}"))
    front.until("not reloaded")
    put(front.path / "authz.yaml", ORDER.partition("- type")[0] + EVERYTHING)
    front.until("reloaded")
    assert '"gitVersion"' in alice("get", "--raw", "/version")
    front.stop()
