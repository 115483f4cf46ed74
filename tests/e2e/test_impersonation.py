"""Real kubectl with --as, --as-group and --as-uid: allowed, refused, and in the audit log; and a cluster behind."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.conftest import STOP_SECONDS, Kubectl
from tests.ports import free_port

from aggmw.server.directory import Directory
from aggmw.server.kubeconfig import Access, render_kubeconfig

CONFIG = """\
grace: 2s
authentication: {tokenFile: tokens.csv, impersonation: true}
authorization: {policy: policy.csv}
audit: {policyFile: audit.yaml, log: {path: audit.log}}
"""
TOKENS = """\
of-alice,alice,1,dev
of-proxy,front-proxy,2
"""
POLICY = """\
p, group:system:authenticated, create, authentication.k8s.io, selfsubjectreviews, *, *
p2, group:system:authenticated, get, /api*
p2, group:system:authenticated, get, /version
p, user:alice, impersonate, core, users, *, bob
p, user:alice, impersonate, core, groups, *, ops
p, user:alice, impersonate, authentication.k8s.io, uids, *, u-7
p, user:alice, impersonate, core, serviceaccounts, ci, builder
p, user:front-proxy, impersonate, core, users, *, *
p, user:front-proxy, impersonate, core, groups, *, *
"""
REVIEWS = "selfsubjectreviews"
AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, nonResourceURLs: ["/api*", "/version", "/openapi*"]}
- {level: RequestResponse}
"""


class Served:
    """A running `aggmw serve`."""

    def __init__(self, path: Path, program: Path, **files: str) -> None:
        self.path = path
        self.port = free_port()
        self._program = program
        for name, text in {"config": CONFIG, "policy": POLICY, "tokens": TOKENS, "audit": AUDIT, **files}.items():
            suffix = ".csv" if name in ("policy", "tokens") else ".yaml"
            (path / f"{name}{suffix}").write_text(text)
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        with (path / "log").open("wb") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port)], cwd=path, stderr=log)
        self.until("serving")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def until(self, event: str) -> None:
        """Wait for a log line."""
        while f'"event":"{event}"' not in (text := (self.path / "log").read_text().replace('": "', '":"')):
            assert self.process.poll() is None, text
            time.sleep(0.05)

    def kubectl(self, kubeconfig: Path) -> Kubectl:
        home = self.path / kubeconfig.stem
        home.mkdir(exist_ok=True)
        return Kubectl(self._program, kubeconfig, home)

    def with_token(self, token: str, *, path: str = "") -> Kubectl:
        authority = (self.path / "state" / "serving-ca.crt").read_bytes()
        file = self.path / f"{token}.kubeconfig"
        file.write_bytes(render_kubeconfig(Access(f"{self.url}{path}", authority, "token", token=token)))
        return self.kubectl(file)

    @property
    def admin(self) -> Kubectl:
        return self.kubectl(self.path / "state" / "admin.kubeconfig")

    def events(self) -> list[dict[str, Any]]:
        """The audit log, once everything is written."""
        file = self.path / "audit.log"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0


@contextmanager
def served(path: Path, program: Path, **files: str) -> Iterator[Served]:
    path.mkdir(exist_ok=True)
    one = Served(path, program, **files)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def whoami(kubectl: Kubectl, *arguments: str) -> dict[str, Any]:
    user: dict[str, Any] = kubectl.json("auth", "whoami", *arguments)["status"]["userInfo"]
    return user


def test_allowed_and_refused_and_recorded(tmp_path: Path, kubectl_program: Path) -> None:
    """Shown by 3: who may act as whom; the audit log shows both identities, and who was refused."""
    with served(tmp_path, kubectl_program) as site:
        alice = site.with_token("of-alice")
        assert whoami(alice)["username"] == "alice"
        assert whoami(alice, "--as=bob", "--as-group=ops", "--as-uid=u-7") == {
            "username": "bob",
            "uid": "u-7",
            "groups": ["ops", "system:authenticated"],
        }
        assert whoami(alice, "--as=system:serviceaccount:ci:builder")["groups"] == [
            "system:serviceaccounts",
            "system:serviceaccounts:ci",
            "system:authenticated",
        ]
        admin = site.admin
        assert whoami(admin, "--as=root", "--as-group=system:masters")["groups"][0] == "system:masters"
        for arguments in (["--as=carol"], ["--as=bob", "--as-group=system:masters"], ["--as=bob", "--as-uid=u-8"]):
            refused = alice.fails("get", "--raw", "/readyz", *arguments)
            assert 'User "alice" cannot impersonate' in refused
        site.stop()
        events = [
            event
            for event in site.events()
            if event["requestURI"] == "/readyz" or event.get("objectRef", {}).get("resource") == REVIEWS
        ]
    told = [
        (
            event["user"]["username"],
            event.get("impersonatedUser", {}).get("username"),
            event["responseStatus"]["code"],
            event.get("annotations", {}).get("impersonation.aggmw/asked-for"),
        )
        for event in events
    ]
    assert told == [
        ("alice", None, 201, None),
        ("alice", "bob", 201, "bob"),
        ("alice", "system:serviceaccount:ci:builder", 201, "system:serviceaccount:ci:builder"),
        ("admin", "root", 201, "root"),
        ("alice", None, 403, "carol"),
        ("alice", None, 403, "bob"),
        ("alice", None, 403, "bob"),
    ]
    assert events[1]["impersonatedUser"] == {
        "username": "bob",
        "uid": "u-7",
        "groups": ["ops", "system:authenticated"],
    }
    text = json.dumps(events)
    assert "of-alice" not in text


def test_wrong_token_is_recorded(tmp_path: Path, kubectl_program: Path) -> None:
    """A refused credential is 401 and in the log, as nobody, without the credential."""
    with served(tmp_path, kubectl_program) as site:
        assert "logged in" in site.with_token("wrong-token").fails("auth", "whoami")
        site.stop()
        events = site.events()
    refused = [event for event in events if event["responseStatus"]["code"] == 401]
    assert refused
    assert all(event["user"] == {} for event in refused)
    assert refused[0]["responseStatus"]["message"] == "Authentication failed, attempted: bearer"
    assert "wrong-token" not in json.dumps(events)


def test_a_cluster_that_knows_no_front_proxy(tmp_path: Path, kubectl_program: Path) -> None:
    """kubectl through a front proxy to an API server that is told who asks by impersonation."""
    with served(tmp_path / "cluster", kubectl_program) as cluster:
        place = tmp_path / "front"
        place.mkdir()
        (place / "token").write_text("of-proxy\n")
        (place / "cluster-ca.crt").write_bytes((cluster.path / "state" / "serving-ca.crt").read_bytes())
        service = {
            "path": "/clusters/one/",
            "url": cluster.url,
            "ca": "cluster-ca.crt",
            "serverName": "localhost",
            "stripPrefix": True,
            "impersonation": {"tokenFile": "token"},
        }
        config = yaml.safe_load(CONFIG) | {"services": {"paths": [service]}}
        rule = "p2, group:dev, *, /clusters/one/*\np2, group:system:masters, *, /clusters/one/*\n"
        with served(place, kubectl_program, config=yaml.safe_dump(config), policy=POLICY + rule) as front:
            known = whoami(front.with_token("of-alice", path="/clusters/one"))
            assert (known["username"], known["groups"]) == ("alice", ["dev", "system:authenticated"])
            url = f"{front.url}/clusters/one"
            dora = Directory.open(place / "state").kubeconfig("dora", server=url, user="dora", groups=("dev",))
            assert whoami(front.kubectl(dora))["username"] == "dora"
            front.stop()
        cluster.stop()
        event = cluster.events()[-1]
    assert (event["user"]["username"], event["impersonatedUser"]["username"]) == ("front-proxy", "dora")


def test_a_group_version_of_a_cluster(tmp_path: Path, kubectl_program: Path) -> None:
    """kubectl by the front proxy's own discovery to one group of such an API server, which finds out who asks."""
    names = CONFIG + "tls: {names: [api.cluster.svc]}\n"
    with served(tmp_path / "cluster", kubectl_program, config=names) as cluster:
        place = tmp_path / "front"
        place.mkdir()
        (place / "token").write_text("of-proxy\n")
        bundle = base64.b64encode((cluster.path / "state" / "serving-ca.crt").read_bytes()).decode()
        spec = {"group": "authentication.k8s.io", "version": "v1", "groupPriorityMinimum": 17700, "versionPriority": 15}
        spec |= {"service": {"namespace": "cluster", "name": "api"}, "caBundle": bundle}
        metadata = {"name": "v1.authentication.k8s.io", "annotations": {"aggmw/url": cluster.url}}
        service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec}
        (place / "services.yaml").write_text(yaml.safe_dump(service))
        told = [{"apiService": "v1.authentication.k8s.io", "tokenFile": "token"}]
        config = yaml.safe_load(CONFIG) | {"services": {"files": ["services.yaml"], "impersonation": told}}
        with served(place, kubectl_program, config=yaml.safe_dump(config)) as front:
            front.until("discovery of a backend succeeded")
            alice = front.with_token("of-alice")
            assert "selfsubjectreviews" in alice("api-resources", "--api-group=authentication.k8s.io")
            known = whoami(alice)
            assert (known["username"], known["groups"]) == ("alice", ["dev", "system:authenticated"])
            front.stop()
        cluster.stop()
        users = {
            (event["user"]["username"], event.get("impersonatedUser", {}).get("username"))
            for event in cluster.events()
            if "objectRef" in event
        }
    assert users == {("front-proxy", "alice")}
