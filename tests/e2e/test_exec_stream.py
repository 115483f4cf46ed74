"""`kubernetes.stream`: exec over a WebSocket, as the administrator with a client certificate, through `aggmw serve`."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.stream import stream
from kubernetes.stream.ws_client import ERROR_CHANNEL
from tests.e2e.conftest import PATIENCE, STOP_SECONDS
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("clean_environment")

# A kubelet's side of exec in few words: channel 1 is standard output, 3 is how it ended.
SERVICE = """
import json

CHANNELS = "v4.channel.k8s.io"


async def app(scope, receive, send):
    if scope["type"] != "websocket":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": CHANNELS})
    caller = scope["aggmw.identity"].user
    await send({"type": "websocket.send", "bytes": b"\\x01" + caller.encode()})
    status = {"metadata": {}, "status": "Success"}
    await send({"type": "websocket.send", "bytes": b"\\x03" + json.dumps(status).encode()})
    await send({"type": "websocket.close", "code": 1000})
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """The administrator's, of a front proxy in front of a service that runs commands in pods."""
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "config.yaml").write_text(
        f"port: {free_port()}\ngrace: 1s\nservices: {{local: [{{group: '', version: v1, app: 'service:app'}}]}}\n"
    )
    command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        while not lines or '"serving"' not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        yield tmp_path / "state" / "admin.kubeconfig"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_exec_with_a_client_certificate(kubeconfig: Path) -> None:
    """The client puts its server's origin into the handshake of its own accord, and is no page for that."""
    api_client = config.new_client_from_config(str(kubeconfig))
    try:
        pods = client.CoreV1Api(api_client)
        response = stream(
            pods.connect_get_namespaced_pod_exec,
            "web-0",
            "dev",
            command=["whoami"],
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        response.run_forever(timeout=PATIENCE)
        assert response.read_stdout() == "admin"
        assert '"Success"' in response.read_channel(ERROR_CHANNEL)
        response.sock.shutdown()  # `close` leaves the socket when the server has closed first
    finally:
        api_client.close()
        gc.collect()  # urllib3 closes connections when their pool is collected
