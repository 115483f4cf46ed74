"""Every framework's example under uvicorn and the door: real kubectl below /k8s, the host's own routes beside it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.conftest import PATIENCE, STOP_SECONDS, Kubectl, log_of
from tests.e2e.flunders import GROUP, forbidden, path
from tests.ports import free_port

from aggmw.server.directory import Directory
from aggmw.server.kubeconfig import Access, render_kubeconfig

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ["starlette", "fastapi", "litestar", "django"]
JSON = "application/json"
POLICY = """\
p2, group:system:authenticated, get, /api|/api/*|/apis|/apis/*|/openapi/*|/version|/readyz
p, group:dev, *, wardle.example.com, flunders, dev, *
"""


class Process:
    """A program that goes on, and the lines that it has printed."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def until(self, text: str) -> str:
        """Wait for a line with this text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if text in line:
                return line.strip()
        raise AssertionError(f"no {text!r} in {self.output}")

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self.output += self._process.communicate(timeout=STOP_SECONDS)[0]
        finally:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode


@dataclass(frozen=True)
class Host:
    """An application of an example, with its server."""

    directory: Directory
    port: int
    wardle_log: Path

    def own(self, route: str, token: str = "") -> tuple[int, object]:
        """One request without kubectl: status and answer."""
        context = ssl.create_default_context(cafile=self.directory.serving_ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=PATIENCE)
        try:
            connection.request("GET", route, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if response.getheader("content-type") == JSON else body
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Until the front proxy has asked the API server what it serves."""
        while self.own("/k8s/readyz", "t0k")[0] != 200:
            time.sleep(0.02)

    def asked(self, method: str, target: str) -> list[str]:
        """Who has asked the API server for something, by its own log."""
        return [line["user"] for line in log_of(self.wardle_log) if (line["method"], line["path"]) == (method, target)]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """The files that the examples read."""
    directory = Directory.open(tmp_path_factory.mktemp("mounted") / "state")
    (directory.path / "tokens.csv").write_text('t0k,alice,alice-1,"dev"\n')
    (directory.path / "policy.csv").write_text(POLICY)
    return directory


@pytest.fixture(scope="module")
def wardle(state: Directory) -> Iterator[str]:
    """The API server behind all of them: where it listens."""
    files = state.server("wardle", names=["api.wardle.svc"])
    arguments = ["--cert", files.certificate, "--key", files.key, "--client-ca", state.front_proxy_ca]
    arguments += ["--log", state.path / "wardle.log"]
    process = Process(["examples/wardle", *map(str, arguments)])
    try:
        yield process.until("listening on").removeprefix("listening on ")
    finally:
        status = process.stop()
    assert status == 0, process.output


@pytest.fixture(scope="module", params=FRAMEWORKS)
def host(request: pytest.FixtureRequest, state: Directory, wardle: str) -> Iterator[Host]:
    """One framework's example, as its docstring says to start it, with TLS."""
    port = free_port()
    arguments = {
        "--http": "aggmw.server.door:Door",
        "--lifespan": "on",
        "--port": str(port),
        "--ssl-certfile": str(state.server_certificate),
        "--ssl-keyfile": str(state.server_key),
        "--ssl-ca-certs": str(state.client_ca),
        "--ssl-cert-reqs": str(int(ssl.CERT_OPTIONAL)),
        "--timeout-graceful-shutdown": "5",
    }
    command = ["-m", "uvicorn", f"examples.frameworks.{request.param}_app:app"]
    command += [word for pair in arguments.items() for word in pair]
    process = Process([*command, "--no-access-log"], STATE=str(state.path), WARDLE_URL=wardle)
    try:
        process.until("Uvicorn running on")
        yield Host(state, port, state.path / "wardle.log")
    finally:
        status = process.stop()
    assert status in (0, -signal.SIGTERM)
    assert "Traceback" not in process.output, process.output


@pytest.fixture
def alice(host: Host, kubectl_program: Path, tmp_path: Path) -> Kubectl:
    """Known by a token; may work with flunders in namespace dev."""
    access = Access(
        f"https://127.0.0.1:{host.port}/k8s",
        host.directory.serving_ca.read_bytes(),
        "alice",
        token="t0k",
        namespace="dev",
    )
    kubeconfig = tmp_path / "alice.kubeconfig"
    kubeconfig.write_bytes(render_kubeconfig(access))
    return Kubectl(kubectl_program, kubeconfig, tmp_path)


@pytest.fixture
def admin(host: Host, kubectl_program: Path, tmp_path: Path) -> Kubectl:
    """Known by a client certificate; may do everything."""
    url = f"https://127.0.0.1:{host.port}/k8s"
    kubeconfig = host.directory.kubeconfig(f"admin-{host.port}", server=url, user="admin", groups=["system:masters"])
    return Kubectl(kubectl_program, kubeconfig, tmp_path)


def manifest(name: str) -> str:
    return f"""\
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata: {{name: {name}, namespace: dev}}
spec: {{reference: mounted}}
"""


def test_kubectl_below_the_mount(host: Host, alice: Kubectl) -> None:
    """kubectl with the mount in its server URL: discovery, create, get, watch, delete, and what is forbidden."""
    host.wait_until_ready()
    assert "flunders.wardle.example.com" in alice("api-resources", "-o", "name").split()
    name = f"of-{host.port}"
    assert alice("create", "-f", "-", stdin=manifest(name)) == f"flunder.wardle.example.com/{name} created\n"
    assert alice.json("get", "flunder", name)["spec"] == {"reference": "mounted"}
    with alice.start("get", "flunder", name, "--watch", "-o", "jsonpath={.spec.reference}{'\\n'}") as watch:
        assert watch.line() == "mounted"
        alice("patch", "flunder", name, "--type=merge", "-p", '{"spec":{"reference":"changed"}}')
        while watch.line() != "changed":
            pass  # its condition Ready comes by itself
    alice("delete", "flunder", name)
    assert forbidden("alice", "list", "default") in alice.fails("get", "flunders", "-n", "default")


def test_the_api_server_knows_who_asks(host: Host, alice: Kubectl, admin: Kubectl) -> None:
    """By a token or by a client certificate, at one door with the host's own routes."""
    assert admin.json("get", "flunders", "-A")["items"] == []
    alice("get", "flunders", "-o", "name")
    assert host.asked("GET", path())[-1] == "admin"
    assert host.asked("GET", path("dev"))[-1] == "alice"
    assert admin.json("version")["serverVersion"]["major"] == "1"
    assert GROUP in admin("api-versions")


def test_routes_of_the_host(host: Host) -> None:
    """The application's own routes know the same caller, and nobody else."""
    assert host.own("/me", "t0k") == (200, {"user": "alice", "groups": ["dev", "system:authenticated"]})
    for token in ("", "unknown"):
        status, answer = host.own("/me", token)
        assert (status, answer["reason"]) == (401, "Unauthorized")  # type: ignore[index]
    assert host.own("/k8s/version")[0] == 401
