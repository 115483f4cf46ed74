"""`aggmw serve --workers N` as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.metrics.figures import Figures
from tests.ports import free_port

PATIENCE = 40.0
SERVE = (sys.executable, "-m", "aggmw", "serve")
CONFIGURATION = """\
grace: 5s
authentication: {tokenFile: tokens.csv}
services:
  paths:
    - {path: /app/, app: "application:app"}
"""
APPLICATION = '''
import asyncio
import os
import time


async def app(scope, receive, send):
    """`/app/pid` says which process answers, `/app/held` when there is a file `go`, `/app/fork` forks."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/app/fork" and not os.fork():
        time.sleep(60)
        os._exit(0)
    while scope["path"] == "/app/held" and not os.path.exists("go"):
        await asyncio.sleep(0.02)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
'''


class Workers:
    """A running server with several workers."""

    def __init__(self, path: Path, port: int, workers: int | None, command: tuple[str, ...]) -> None:
        self.path = path
        self.port = port
        if workers is not None:
            command = (*command, "--port", str(port), "--workers", str(workers))
        else:
            with (path / "config.yaml").open("a") as config:
                config.write(f"port: {port}\nworkers: 2\n")
        self.process = subprocess.Popen(
            [*command, "--config", "config.yaml"],
            cwd=path,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": text.rstrip()}
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put(None)

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next log line about an event."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event!r} {fields} in {self.lines}") from None
            assert line is not None, f"no {event!r} {fields} in {self.lines}"
            if line["event"] == event and fields.items() <= line.items():
                return line

    def up(self, *numbers: int) -> dict[int, int]:
        """Wait until these workers serve; their process identifiers."""
        found: dict[int, int] = {}
        while set(numbers) - set(found):
            line = self.until("worker serves")
            found[line["worker"]] = line["pid"]
        return found

    @property
    def children(self) -> set[int]:
        """The processes that the server has started and that are still there."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in listed}

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; the status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.end()

    def clean(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    # Clients

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.path / ".aggmw" / "serving-ca.crt"))

    def connect(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context or self.context)

    def get(self, path: str, connection: http.client.HTTPSConnection | None = None) -> tuple[int, str]:
        """Ask as the administrator, over a new connection by default."""
        used = connection or self.connect()
        try:
            used.request("GET", path, headers={"Authorization": "Bearer secret"})
            answer = used.getresponse()
            return answer.status, answer.read().decode()
        finally:
            if connection is None:
                used.close()

    def connected(self, number: int, pids: Iterable[int]) -> list[http.client.HTTPSConnection]:
        """Connections, so many to each of these workers."""
        context = self.context
        found: dict[int, list[http.client.HTTPSConnection]] = {pid: [] for pid in pids}
        while any(len(each) < number for each in found.values()):
            connection = self.connect(context)
            of_its_worker = found[int(self.get("/app/pid", connection)[1])]
            if len(of_its_worker) < number:
                of_its_worker.append(connection)
            else:
                connection.close()
        return [connection for each in found.values() for connection in each]

    def go(self) -> None:
        """Let `/app/held` answer."""
        (self.path / "go").touch()

    def answering(self) -> set[int]:
        """The workers that answer new connections."""
        context = self.context
        found = set()
        for _ in range(40):
            connection = self.connect(context)
            found.add(int(self.get("/app/pid", connection)[1]))
            connection.close()
        return found

    def figures(self) -> Figures:
        """Once they are known: who does not tell them in time is not waited for."""
        page = ""

        def known() -> bool:
            nonlocal page
            status, page = self.get("/metrics")
            assert status in (200, 503), page
            return status == 200

        eventually(known)
        return Figures(page)


def gone(pid: int) -> bool:
    """Whether a process is no more, or nothing but an entry in the table."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def eventually(true: Callable[[], bool]) -> None:
    """Wait for what no event tells, such as the end of processes that are not our children."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def much_grace(directory: Path) -> None:
    """More than any test waits."""
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace("grace: 5s", f"grace: {10 * PATIENCE:.0f}s"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a configuration."""
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "tokens.csv").write_text('secret,admin,1,"system:masters"\n')
    return tmp_path


@pytest.fixture
def begin(directory: Path) -> Iterator[Callable[..., Workers]]:
    """Starts servers; without a number, port and workers (two) are in the file. What is left running is killed."""
    running: list[Workers] = []

    def started(workers: int | None = None, *, command: tuple[str, ...] = SERVE) -> Workers:
        running.append(Workers(directory, free_port(), workers, command))
        return running[-1]

    yield started
    for each in running:
        each.clean()
