"""`aggmw demo` as a process: its end, its next start, and what becomes of the API server that it started."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.conftest import PATIENCE, STOP_SECONDS
from tests.e2e.flunders import flunder

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo, Kubectl

FLUNDERS = "/apis/wardle.example.com/v1alpha1/flunders"


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def test_sigterm_with_an_open_watch(start: Callable[[], Demo], kubectl_as: Callable[[str | Path], Kubectl]) -> None:
    """SIGTERM ends an open watch properly and the demo within its grace time, with status 0."""
    demo = start()
    admin = kubectl_as(demo.kubeconfig("admin"))
    admin("create", "-f", "-", stdin=json.dumps(flunder("first")))
    with admin.start("get", "--raw", f"{FLUNDERS}?watch=true&allowWatchBookmarks=true") as watch:
        assert json.loads(watch.line())["type"] == "ADDED"  # so it is open, all the way
        demo.process.send_signal(signal.SIGTERM)
        status, out, err = watch.end()
        assert (status, err) == (0, "")  # a stream that was cut is an error: "unexpected EOF"
        assert {json.loads(line)["type"] for line in out.splitlines()} <= {"MODIFIED", "BOOKMARK"}
        assert demo.process.wait(STOP_SECONDS) == 0
    assert "Traceback" not in demo.output.read_text()


def test_the_next_start_keeps_everything(start: Callable[[], Demo]) -> None:
    """Authorities, certificates and identities are the same after a restart; only the addresses are new."""
    first = start()
    before = {file.name: file.read_bytes() for file in first.directory.glob("*.crt")}
    identities = [first.entry(user) for user in ("admin", "nobody", "alice")]
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(STOP_SECONDS) == 0
    second = start()
    assert {file.name: file.read_bytes() for file in second.directory.glob("*.crt")} == before
    for user, identity in zip(("admin", "nobody", "alice"), identities, strict=True):
        assert second.entry(user) == identity | {"server": second.url}


def test_private_files(start: Callable[[], Demo]) -> None:
    """C5 17: the directory is 0700; what holds a key or a token is 0600."""
    directory = start().directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    private = [file for pattern in ("*.key", "*.kubeconfig", "tokens*") for file in directory.glob(pattern)]
    assert len(private) > 8
    assert {stat.S_IMODE(file.stat().st_mode) for file in private} == {0o600}


def test_the_api_server_ends_with_a_demo_that_was_killed(start: Callable[[], Demo]) -> None:
    """Even kill -9 leaves no API server behind."""
    demo = start()
    children = demo.children()
    assert children, "the API server is a process of its own"
    os.kill(demo.process.pid, signal.SIGKILL)
    demo.process.wait()
    until(lambda: not demo.left(children), "the end of the API server")


def test_the_api_server_dies(start: Callable[[], Demo]) -> None:
    """Without its API server the front proxy says 503 as a Status; the rest goes on."""
    demo = start()
    for child in demo.children():
        os.kill(child, signal.SIGKILL)
    until(lambda: demo.request(FLUNDERS, user="admin")[0] == 503, "a 503")
    status, body = demo.request(FLUNDERS, user="admin")
    assert (status, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
    assert demo.request("/healthz") == (200, b"ok")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(STOP_SECONDS) == 0


def test_a_port_in_use(start: Callable[[], Demo], tmp_path: Path) -> None:
    """A port that is taken is one line and status 2, and leaves no process."""
    demo = start()
    other = subprocess.run(
        [Path(sys.executable).parent / "aggmw", "demo", "--dir", tmp_path / "other", "--port", str(demo.port)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.count("\n") == 1
    assert f":{demo.port}: " in other.stderr
    assert "Traceback" not in other.stderr
