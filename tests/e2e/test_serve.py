"""`aggmw serve` as an operator runs it: an empty directory, the next start, a reload, an end."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import PATIENCE, STOP_SECONDS, Kubectl, put
from tests.ports import free_port

CONFIG = """\
authorization: {policy: policy.csv}
grace: 2s
"""


class Served:
    """A running `aggmw serve` in its own working directory."""

    def __init__(self, path: Path, kubectl: Path) -> None:
        self.path = path
        self.port = free_port()
        command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], cwd=path, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[dict[str, Any]] = []
        self._kubectl = kubectl

    def until(self, event: str) -> dict[str, Any]:
        """The next log line about an event."""
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"no {event!r} in {self.lines}")

    def kubectl(self) -> Kubectl:
        home = self.path / "home"
        home.mkdir(exist_ok=True)
        return Kubectl(self._kubectl, self.path / "state" / "admin.kubeconfig", home)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@pytest.fixture
def serve(tmp_path: Path, kubectl_program: Path) -> Iterator[Callable[[], Served]]:
    """Starts servers; what is left running is killed."""
    running: list[Served] = []
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "policy.csv").write_text("p2, user:nobody, get, /version\n")

    def started() -> Served:
        running.append(Served(tmp_path, kubectl_program))
        running[-1].until("serving")
        return running[-1]

    yield started
    for each in running:
        each.process.kill()
        each.process.communicate()


def test_first_start_and_next(serve: Callable[[], Served]) -> None:
    """The first start makes everything, the kubeconfig works, and the next start keeps it; both end with 0."""
    first = serve()
    assert first.kubectl()("get", "--raw", "/readyz") == "ok"
    made = {file.name: file.read_bytes() for file in (first.path / "state").glob("*.crt")}
    assert {"serving-ca.crt", "server.crt", "client-ca.crt", "front-proxy-ca.crt", "front-proxy-client.crt"} == set(
        made
    )
    assert first.stop() == 0
    second = serve()
    assert {file.name: file.read_bytes() for file in (second.path / "state").glob("*.crt")} == made
    assert second.kubectl()("get", "--raw", "/readyz") == "ok"
    assert second.stop() == 0


def test_start_is_quick(serve: Callable[[], Served]) -> None:
    """A start, certificates included, is a matter of seconds; printed, not judged."""
    began = time.monotonic()
    serve()
    print(f"first start to listening: {time.monotonic() - began:.2f} s")


def test_sighup_reads_the_policy_again(serve: Callable[[], Served]) -> None:
    """A new policy counts after SIGHUP; a broken one is logged, and the old one stays in force."""
    served = serve()
    policy = served.path / "policy.csv"
    put(policy, "p, alice, get\n")
    served.process.send_signal(signal.SIGHUP)
    refused = served.until("not reloaded")
    assert (refused["what"], refused["path"]) == ("policy", "policy.csv:1")
    put(policy, "p2, user:nobody, get, /healthz\n")
    served.process.send_signal(signal.SIGHUP)
    while served.until("reloaded")["what"] != "policy":
        pass
    assert served.kubectl()("get", "--raw", "/healthz") == "ok"
    assert served.stop() == 0


def test_no_http2(serve: Callable[[], Served]) -> None:
    """`aggmw serve` speaks HTTP/1.1 and nothing else, whatever a client would rather speak."""
    served = serve()
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
        context = ssl.create_default_context(cafile=str(served.path / "state" / "serving-ca.crt"))
        context.set_alpn_protocols(offered)
        with (
            socket.create_connection(("127.0.0.1", served.port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            assert wire.selected_alpn_protocol() == chosen
            wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 400 ")
