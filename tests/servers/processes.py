"""The servers that the tests compare, each as one process that somebody would start it as."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.ports import free_port

__all__ = ["SERVERS", "Process"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 2.0

_UVICORN = ("uvicorn", "tests.servers.app:app", "--no-proxy-headers", "--log-level", "warning", "--port", "PORT")

SERVERS: dict[str, Sequence[str]] = {
    "door": ("tests.servers.app", "PORT"),
    "uvicorn-httptools": (*_UVICORN, "--http", "httptools"),
    "uvicorn-h11": (*_UVICORN, "--http", "h11"),
    "uvicorn-zttp": (*_UVICORN, "--http", "zttp"),
    "granian": ("granian", "tests.servers.app:app", "--interface", "asgi", "--http", "1", "--port", "PORT"),
    "hypercorn": ("hypercorn", "tests.servers.app:app", "--workers", "0", "--bind", "127.0.0.1:PORT"),
}
"""By name: the module that is run, and its arguments; the first is the reference."""


class Process:
    """One server, running once the constructor has returned.

    Args:
        name: of `SERVERS`.
        things: the port that it forwards to.
        log: gets whatever it prints.

    Attributes:
        port: where it listens.

    Raises:
        AssertionError: it did not start.
    """

    def __init__(self, name: str, things: int, log: Path) -> None:
        self.port = free_port()
        self._log = log
        command = [argument.replace("PORT", str(self.port)) for argument in SERVERS[name]]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**os.environ, "THINGS_PORT": str(things)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: granian is two processes
            )
        try:
            self._wait(time.monotonic() + START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _wait(self, deadline: float) -> None:
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self._process.args!r} did not start: {self._log.read_text(errors='replace')}")
            time.sleep(0.02)  # the one event that all of them have is that they answer

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.settimeout(START_SECONDS)
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return sock.recv(1000).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def terminate(self) -> None:
        """Tell the server to end."""
        self._process.terminate()

    def stop(self) -> None:
        """End the server and whatever it started, and wait for it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
