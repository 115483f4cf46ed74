"""`kubectl exec` through `aggmw serve`, with TLS and client certificates on both sides, to a server with a shell."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.conftest import STOP_SECONDS, Kubectl
from tests.ports import free_port

from aggmw.pki.make import issue_server, make_ca
from aggmw.server.directory import Directory

pytestmark = pytest.mark.usefixtures("clean_environment")

# What a kubelet does for exec, in few words: channel 0 is what comes in, 1 and 2 what goes out, 3 how it ended, 255
# says that a channel has ended. It serves whom the front proxy vouches for, and nobody else.
SHELL = """
import json
import sys
from pathlib import Path

from aggmw.server.serving import make_server, run
from aggmw.server.tls import DoorTLS

CHANNELS = "v5.channel.k8s.io"
NAMES = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
STREAM = {**NAMES, "name": "pods/exec", "kind": "PodExecOptions", "verbs": ["get", "create"]}
RESOURCES = {"kind": "APIResourceList", "groupVersion": "v1", "resources": [NAMES, STREAM]}
POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "dev"},
    "spec": {"containers": [{"name": "c"}]},
    "status": {"phase": "Running"},
}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = dict(scope["headers"])
    assert scope["state"]["aggmw.connection"].chain, "not the front proxy"
    if scope["type"] == "websocket":
        await shell(scope, receive, send, headers[b"x-remote-user"])
        return
    found = {"/api/v1": RESOURCES, "/api/v1/namespaces/dev/pods/p": POD}.get(scope["path"])
    body = json.dumps(found or {"kind": "Status", "code": 404}).encode()
    start = {"status": 200 if found else 404, "headers": [(b"content-type", b"application/json")]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body})


async def shell(scope, receive, send, caller):
    await receive()
    if b"command=secret" in scope["query_string"]:
        body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                           "reason": "Forbidden", "message": "that command is not for you"}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
        return
    assert CHANNELS in scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": CHANNELS})
    await send({"type": "websocket.send", "bytes": b"\\x01I am " + caller + b"\\n"})
    while (message := await receive())["type"] == "websocket.receive":
        data = message["bytes"]
        if data[:1] == b"\\x00":
            await send({"type": "websocket.send", "bytes": b"\\x01" + data[1:]})
        elif data[:2] == b"\\xff\\x00" and b"command=sleep" not in scope["query_string"]:
            break
    if b"command=fail" in scope["query_string"]:
        cause = {"causes": [{"reason": "ExitCode", "message": "7"}]}
        status = {"status": "Failure", "reason": "NonZeroExitCode", "details": cause, "message": "exit 7"}
    else:
        status = {"status": "Success"}
    await send({"type": "websocket.send", "bytes": b"\\x03" + json.dumps({"metadata": {}, **status}).encode()})
    await send({"type": "websocket.close", "code": 1000})


port, certificate, key, client_ca = sys.argv[1:]
tls = DoorTLS(certificate=Path(certificate), key=Path(key), client_ca=[Path(client_ca)])
server = make_server(app, port=int(port), tls=tls, grace=1.0)


async def up():
    print("up", flush=True)


raise SystemExit(run(server, beside=up))
"""

SERVICE = """\
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata:
  name: v1.
  annotations: {{aggmw/url: "https://127.0.0.1:{port}"}}
spec:
  group: ""
  version: v1
  groupPriorityMinimum: 18000
  versionPriority: 1
  caBundle: {ca}
  service: {{namespace: dev, name: shell}}
"""


@dataclass
class Front:
    """A running front proxy."""

    kubectl: Kubectl
    process: subprocess.Popen[str]


@pytest.fixture
def front(tmp_path: Path, kubectl_program: Path) -> Iterator[Front]:
    """`aggmw serve` in front of the server with the shell."""
    directory = Directory.open(tmp_path / "state", names=["127.0.0.1"])
    ca = make_ca("services")
    pair = issue_server(ca, "shell", names=["shell.dev.svc"])
    (tmp_path / "shell.crt").write_bytes(pair.certificate)
    (tmp_path / "shell.key").write_bytes(pair.key)
    (tmp_path / "shell.py").write_text(SHELL)
    port, here = free_port(), free_port()
    bundle = base64.b64encode(ca.certificate).decode()
    (tmp_path / "services.yaml").write_text(SERVICE.format(port=port, ca=bundle))
    (tmp_path / "config.yaml").write_text(f"port: {here}\ngrace: 2s\nservices: {{files: [services.yaml]}}\n")
    trusted = directory.front_proxy_certificate.parent / "front-proxy-ca.crt"
    shell = [sys.executable, "shell.py", str(port), "shell.crt", "shell.key", str(trusted)]
    serve = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
    backend = subprocess.Popen(shell, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(serve, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert backend.stdout is not None
        assert backend.stdout.readline() == "up\n"
        assert process.stderr is not None
        lines = []
        while not lines or '"serving"' not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        home = tmp_path / "home"
        home.mkdir()
        kubectl = Kubectl(kubectl_program, tmp_path / "state" / "admin.kubeconfig", home)
        while kubectl.run("get", "--raw", "/readyz").stdout != "ok":  # what the server serves is known
            time.sleep(0.05)
        yield Front(kubectl, process)
        for each in (process, backend):
            each.send_signal(signal.SIGTERM)
            assert each.wait(STOP_SECONDS) == 0
    finally:
        for each in (process, backend):
            each.kill()
            each.communicate()


def test_exec(front: Front) -> None:
    """What goes in comes out, as the caller, and it ends with 0."""
    text = "hello\n" * 1_000
    done = front.kubectl.run("exec", "-i", "-n", "dev", "p", "--", "cat", stdin=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"I am admin\n{text}"


def test_exec_that_fails(front: Front) -> None:
    """The exit code is the command's."""
    done = front.kubectl.run("exec", "-i", "-n", "dev", "p", "--", "fail")
    assert done.returncode == 7
    assert done.stdout == "I am admin\n"


def test_exec_that_is_refused(front: Front) -> None:
    """kubectl tries SPDY next and shows what became of that; `-v=6` shows what the backend had said."""
    exec_ = ("exec", "-i", "-n", "dev", "p", "--", "secret")
    done = front.kubectl.run(*exec_)
    assert done.returncode == 1
    assert "this upgrade is not supported; use a WebSocket" in done.stderr
    done = front.kubectl.run("-v=6", *exec_)
    assert done.returncode == 1
    assert "that command is not for you" in done.stderr


def test_exec_when_it_stops(front: Front) -> None:
    """A shell that is open when the front proxy is told to stop is ended, and the front proxy with it."""
    with front.kubectl.start("exec", "-n", "dev", "-i", "p", "--", "sleep") as shell:
        assert shell.line() == "I am admin"
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(STOP_SECONDS) == 0
        code, _, errors = shell.end()
        assert code == 1
        assert "1001" in errors
