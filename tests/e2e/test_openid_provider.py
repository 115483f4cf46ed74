"""Tokens of a real OpenID provider, and of service accounts, with real kubectl: rotation, expiry, down and back."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from tests.e2e.conftest import PATIENCE, STOP_SECONDS, Kubectl, log_of, put
from tests.e2e.openid_provider import GROUP, VERSION, OpenIDProvider, flunders
from tests.ports import free_port

from aggmw.config import load
from aggmw.config.tokens import service_accounts
from aggmw.pki.make import make_ca
from aggmw.server.kubeconfig import Access, render_kubeconfig

CONFIG = """\
grace: 2s
authentication:
  configurationFile: authentication.yaml
  serviceAccounts: {issuer: https://proxy.example, accounts: accounts.yaml, signingKey: sa.key}
authorization: {policy: policy.csv}
services: {files: [services.yaml]}
"""
ISSUERS = """\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: URL
    audiences: [aggmw]
    certificateAuthority: |
CA
  claimValidationRules: [{expression: "claims.scope == 'flunders'", message: no flunders}]
  claimMappings:
    username: {claim: sub, prefix: "idp:"}
    groups: {expression: "claims.groups.map(group, 'idp:' + group)"}
    extra: [{key: idp.example/client, valueExpression: claims.client_id}]
"""
POLICY = """\
p, group:system:authenticated, create, authentication.k8s.io, selfsubjectreviews, *, *
p, group:idp:readers, list, wardle.example.com, flunders, *, *
p, group:system:serviceaccounts:ci, list, wardle.example.com, flunders, *, *
p2, group:system:authenticated, get, /api*
p2, group:system:authenticated, get, /openapi/*
p2, group:system:authenticated, get, /version
p2, group:system:serviceaccounts, get, /openid/v1/jwks
"""
SERVICES = f"""\
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {VERSION}.{GROUP}, annotations: {{aggmw/url: "URL"}}}}
spec:
  group: {GROUP}
  version: {VERSION}
  groupPriorityMinimum: 1000
  versionPriority: 15
  service: {{namespace: wardle, name: api}}
"""
ACCOUNTS = "{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: ci, name: builder, uid: u1}}\n"


class Served:
    """A running `aggmw serve`."""

    def __init__(self, path: Path, kubectl: Path) -> None:
        self.path = path
        self.port = free_port()
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        self.log = (path / "log").open("wb")
        self.process = subprocess.Popen([*command, "--port", str(self.port)], cwd=path, stderr=self.log)
        self._kubectl = kubectl
        self.until("serving")
        self.context = ssl.create_default_context(cafile=str(path / "state" / "serving-ca.crt"))

    def lines(self) -> list[dict[str, Any]]:
        return log_of(self.path / "log")

    def until(self, event: str, **fields: Any) -> None:
        """Wait for a log line."""
        while not any(line["event"] == event and fields.items() <= line.items() for line in self.lines()):
            assert self.process.poll() is None, (self.path / "log").read_text()
            time.sleep(0.05)

    def kubectl(self, token: str) -> Kubectl:
        """kubectl with a bearer token."""
        home = self.path / "home"
        home.mkdir(exist_ok=True)
        authority = (self.path / "state" / "serving-ca.crt").read_bytes()
        file = self.path / "token.kubeconfig"
        file.write_bytes(render_kubeconfig(Access(f"https://127.0.0.1:{self.port}", authority, "token", token=token)))
        return Kubectl(self._kubectl, file, home)

    def status(self, token: str, path: str = "/version") -> int:
        """One request on a connection of its own."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0
        self.log.close()


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OpenIDProvider]:
    """Not started yet."""
    authority = make_ca("provider")
    provider = OpenIDProvider(free_port(), authority, tmp_path)
    certificate = textwrap.indent(authority.certificate.decode(), " " * 6).rstrip()
    (tmp_path / "authentication.yaml").write_text(
        ISSUERS.replace("URL", provider.url).replace("CA\n", f"{certificate}\n")
    )
    yield provider
    provider.stop()


@pytest.fixture
def serve(tmp_path: Path, provider: OpenIDProvider, kubectl_program: Path) -> Iterator[Callable[[], Served]]:
    """Starts the front proxy, with the server behind it."""
    running: list[Served] = []
    with flunders() as behind:
        files = {"config.yaml": CONFIG, "policy.csv": POLICY, "accounts.yaml": ACCOUNTS}
        files["services.yaml"] = SERVICES.replace("URL", behind)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "sa.key").write_bytes(ECKey.generate_key("P-256").as_pem(private=True))

        def started() -> Served:
            running.append(Served(tmp_path, kubectl_program))
            return running[-1]

        yield started
        for each in running:
            each.process.kill()
            each.process.wait()


def expiry(token: str) -> float:
    payload = token.split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"])


def names(listed: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in listed["items"]]


def test_kubectl_with_its_tokens(provider: OpenIDProvider, serve: Callable[[], Served]) -> None:
    """kubectl is who the token says, and so it is for the server behind; another audience, or scope, is nobody."""
    provider.start()
    served = serve()
    kubectl = served.kubectl(provider.token())
    user = kubectl.json("auth", "whoami")["status"]["userInfo"]
    assert user["username"] == "idp:jane"
    assert user["groups"] == ["idp:readers", "system:authenticated"]
    assert user["extra"]["idp.example/client"] == ["jane"]
    assert user["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    assert names(kubectl.json("get", "flunders.wardle.example.com")) == ["idp-jane"]
    for bad in (provider.token(resource="urn:other"), provider.token(scope=""), provider.token()[:-6] + "AAAAAA"):
        assert "Unauthorized" in served.kubectl(bad).fails("get", "--raw", "/version")
    served.stop()
    assert provider.token()[:20] not in (served.path / "log").read_text()


class Flow:
    """Requests without a pause, each with a token that was asked for right before, from a thread of its own."""

    def __init__(self, served: Served, token: Callable[[], str]) -> None:
        self._served = served
        self._token = token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: list[int] = []
        self.answers: list[tuple[float, int, float]] = []
        """When each request began, its status, and when it was answered."""
        self.error: Exception | None = None

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def more(self, number: int) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.statuses) + number
        while len(self.statuses) < wanted and self.error is None:
            time.sleep(0.01)
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                token, began = self._token(), time.time()
                self.statuses.append(self._served.status(token))
                self.answers.append((began, self.statuses[-1], time.time()))
        except (OSError, http.client.HTTPException) as error:
            self.error = error


def test_rotation_while_requests_flow(provider: OpenIDProvider, serve: Callable[[], Served]) -> None:
    """No valid token is refused while the provider changes its keys, again and again; none is accepted once expired."""
    provider.start()
    served = serve()
    old = provider.token()
    provider.tell("seconds 4")
    while True:
        brief = provider.token()
        ends = expiry(brief)
        if served.status(brief) == 200:
            break
        assert time.time() >= ends
    provider.tell("seconds 600")
    with (
        Flow(served, provider.token) as fresh,
        Flow(served, lambda: old) as kept,
        Flow(served, lambda: brief) as expiring,
    ):
        flows = (fresh, kept, expiring)
        rotations = 0
        while rotations < 4 or time.time() < ends:
            for each in flows:
                each.more(5)
            provider.tell("rotate")
            rotations += 1
        for each in flows:
            each.more(5)
    assert set(fresh.statuses) == set(kept.statuses) == {200}
    assert {status for _, status, answered in expiring.answers if answered < ends} <= {200}
    assert {status for began, status, _ in expiring.answers if began >= ends} == {401}
    provider.tell("forget")
    provider.tell("rotate")
    assert served.status(provider.token()) == 200
    assert served.status(old) == 401
    served.stop()


def test_expiry(provider: OpenIDProvider, serve: Callable[[], Served]) -> None:
    """A token is good until it expires, on every request, and never after."""
    provider.start()
    served = serve()
    provider.tell("seconds 3")
    token = provider.token()
    ends = expiry(token)
    while True:
        before = time.time()
        status = served.status(token)
        if before >= ends:
            assert status == 401
            break
        assert status == 200 or time.time() >= ends
    served.stop()


def test_down_and_back(provider: OpenIDProvider, serve: Callable[[], Served]) -> None:
    """While the provider is down its tokens go on, and others' too; when it is back with other keys they count."""
    provider.start()
    served = serve()
    token = provider.token()
    assert served.status(token) == 200
    provider.stop()
    builder = issued(served)
    with Flow(served, lambda: token) as theirs, Flow(served, lambda: builder) as ours:
        theirs.more(10)
        ours.more(10)
        assert served.status(token.replace(token[:10], token[:9] + "x")) == 401
    assert set(theirs.statuses) == set(ours.statuses) == {200}
    provider.start()
    assert served.status(provider.token()) == 200
    served.stop()


def test_down_at_the_start(provider: OpenIDProvider, serve: Callable[[], Served]) -> None:
    """A provider that is not there yet keeps nothing from starting; its tokens count as soon as it is."""
    served = serve()
    served.until(
        "keys of an issuer cannot be read; the last good ones stay", cause="the discovery document: connection refused"
    )
    assert served.status(issued(served)) == 200
    provider.start()
    assert served.status(provider.token()) == 200
    served.stop()


def issued(served: Served) -> str:
    """A token of the service account, as the configuration that is served issues it."""
    settings = load(served.path / "config.yaml").authentication.service_accounts
    assert settings is not None
    accounts, _ = service_accounts(settings, "")
    return asyncio.run(accounts.issue("ci", "builder")).token


def test_service_account(serve: Callable[[], Served]) -> None:
    """kubectl as a service account, by `kubectl create token`, until it is gone; its issuer's keys are published."""
    served = serve()
    admin = Kubectl(served._kubectl, served.path / "state" / "admin.kubeconfig", served.path / "home")
    token = admin("create", "token", "builder", "-n", "ci", "--duration=20m").strip()
    assert expiry(token) > time.time() + 1100
    assert "serviceaccounts" not in admin("api-resources")  # nothing of them can be read
    assert "doesn't have a resource type" in admin.fails("get", "pods")
    kubectl = served.kubectl(token)
    assert 'cannot create resource "serviceaccounts/token"' in kubectl.fails("create", "token", "builder", "-n", "ci")
    assert 'serviceaccounts "other" not found' in admin.fails("create", "token", "other", "-n", "ci")
    user = kubectl.json("auth", "whoami")["status"]["userInfo"]
    assert (user["username"], user["uid"]) == ("system:serviceaccount:ci:builder", "u1")
    assert user["groups"] == ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"]
    assert names(kubectl.json("get", "flunders.wardle.example.com")) == ["system-serviceaccount-ci-builder"]
    assert json.loads(kubectl("get", "--raw", "/openid/v1/jwks"))["keys"][0]["alg"] == "ES256"
    put(served.path / "accounts.yaml", "")
    served.process.send_signal(signal.SIGHUP)
    served.until("reloaded", what="service accounts")
    assert "Unauthorized" in kubectl.fails("get", "--raw", "/version")
    served.stop()
