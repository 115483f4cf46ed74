"""Workers start, die, hang and stop; nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from structlog.testing import capture_logs
from tests.ports import free_port
from tests.server.workers.conftest import PATIENCE, SERVE, Workers, eventually, gone, much_grace

from aggmw.config import Configuration
from aggmw.server.directory import Directory
from aggmw.server.workers.supervisor import _Supervisor

IMPATIENT = (sys.executable, str(Path(__file__).with_name("impatient.py")))

Begin = Callable[..., Workers]


def test_all_serve(begin: Begin) -> None:
    """Each worker answers, and new connections are spread over them."""
    served = begin(2)
    pids = served.up(1, 2)
    assert served.children == set(pids.values())
    assert served.answering() == set(pids.values())
    assert served.stop() == 0
    assert all(gone(pid) for pid in pids.values())


def test_what_is_said(begin: Begin, directory: Path) -> None:
    """The supervisor says once where it serves; what a worker says carries its number and process."""
    (directory / "audit.yaml").write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
    served = begin(2)
    served.up(1, 2)
    assert served.stop() == 0
    (said,) = [line for line in served.lines if line["event"] == "serving"]
    assert (said["workers"], said["url"]) == (2, f"https://127.0.0.1:{served.port}")
    assert Path(said["kubeconfig"]).is_file()
    assert not [line for line in served.lines if line["event"] == "certificate made" and "worker" in line]


def test_killed_worker_is_replaced(begin: Begin) -> None:
    """A worker that dies is replaced at once; meanwhile the others serve every new connection."""
    served = begin(2)
    pids = served.up(1, 2)
    os.kill(pids[2], signal.SIGKILL)
    died = served.until("worker died, replacing it")
    assert (died["worker"], died["pid"], died["status"], died["after_seconds"]) == (2, pids[2], -9, 0.0)
    assert pids[1] in served.answering()
    replacement = served.up(2)[2]
    eventually(lambda: served.answering() == {pids[1], replacement})
    assert served.stop() == 0
    assert gone(replacement)


def test_killed_worker_that_has_forked(begin: Begin) -> None:
    """A process that a worker has forked holds all that it had open; once it is dead it is replaced all the same."""
    served = begin(2)
    pids = served.up(1, 2)
    forked = int(served.get("/app/fork")[1])
    (number,) = [each for each, pid in pids.items() if pid == forked]
    os.kill(forked, signal.SIGKILL)
    assert served.until("worker died, replacing it")["pid"] == forked
    served.up(number)
    served.signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE) == 0  # its lines have no end yet: the forked process could write some


def test_worker_that_is_told_to_stop(begin: Begin, directory: Path) -> None:
    """SIGTERM to one worker drains it: requests that it has are answered, and another one takes its place."""
    much_grace(directory)
    served = begin(2)
    pids = served.up(1, 2)
    connections = served.connected(4, pids.values())
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(partial(served.get, "/app/held"), connections)
        eventually(lambda: served.figures().sum("apiserver_current_inflight_requests") == 8)
        os.kill(pids[1], signal.SIGTERM)
        eventually(lambda: pids[1] not in served.answering())
        served.go()
    assert sorted(answers) == sorted([(200, str(pid)) for pid in pids.values()] * 4)
    for connection in connections:
        connection.close()
    assert served.until("worker was told to stop, replacing it")["pid"] == pids[1]
    served.up(1)
    assert served.figures().sum("aggmw_worker_deaths_total") == 0
    assert served.stop() == 0


def test_worker_that_dies_young(begin: Begin, directory: Path) -> None:
    """One that dies again and again is replaced more and more slowly; the others serve on."""
    served = begin(2)
    pids = served.up(1, 2)
    (directory / "tokens.csv").write_text("nonsense\n")
    os.kill(pids[1], signal.SIGKILL)
    delays = [served.until("worker died, replacing it", worker=1)["after_seconds"] for _ in range(3)]
    assert delays == [0.0, 0.5, 1.0]
    problem = next(line for line in served.lines if line["event"] == "worker did not start")
    assert problem["path"] == "tokens.csv:1"
    assert served.answering() == {pids[2]}
    (directory / "tokens.csv").write_text('secret,admin,1,"system:masters"\n')
    replacement = served.up(1)[1]
    eventually(lambda: served.answering() == {replacement, pids[2]})
    assert served.stop() == 0


def test_hung_worker_is_stood_in_for(begin: Begin) -> None:
    """While a worker says nothing, another one accepts its connections; not any more once it is back."""
    served = begin(2)
    pids = served.up(1, 2)
    os.kill(pids[1], signal.SIGSTOP)
    assert served.answering() == {pids[2]}
    os.kill(pids[1], signal.SIGCONT)
    eventually(lambda: served.answering() == set(pids.values()))
    assert served.stop() == 0


def test_hung_worker_is_replaced(begin: Begin) -> None:
    """A worker that says nothing is killed and replaced."""
    served = begin(2, command=IMPATIENT)
    pids = served.up(1, 2)
    os.kill(pids[1], signal.SIGSTOP)
    assert served.until("worker hangs, killing it")["pid"] == pids[1]
    served.up(1)
    assert served.stop() == 0
    assert gone(pids[1])


def test_hung_worker_does_not_keep_the_server(begin: Begin) -> None:
    """A worker that ignores the end is killed after the grace time, or at the second signal."""
    served = begin(2, command=IMPATIENT)
    pids = served.up(1, 2)
    os.kill(pids[1], signal.SIGSTOP)
    served.signal(signal.SIGTERM)
    eventually(lambda: gone(pids[2]))
    served.signal(signal.SIGTERM)
    assert served.end() == 0
    assert gone(pids[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_end_of_the_supervisor(begin: Begin, number: int) -> None:
    """Whatever ends the supervisor, its workers end, and the port is free."""
    served = begin(2)
    pids = served.up(1, 2)
    served.signal(number)
    assert served.end() == (-9 if number == signal.SIGKILL else 0)
    for pid in pids.values():
        eventually(lambda pid=pid: gone(pid))  # type: ignore[misc]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_while_files_are_read(begin: Begin, directory: Path, number: int) -> None:
    """A worker that still reads its files has nothing to drain, so nobody waits for it."""
    (directory / "tokens.csv").unlink()
    os.mkfifo(directory / "tokens.csv")  # whoever opens it waits for somebody who writes
    much_grace(directory)
    served = begin(2)
    eventually(lambda: len(served.children) == 1)
    served.signal(number)
    assert served.end() == 0
    assert not [line for line in served.lines if line.get("level") == "error"]


def test_hang_up_while_files_are_read(begin: Begin, directory: Path) -> None:
    """SIGHUP does not end one process that only starts: it reads files again once it serves."""
    tokens = directory / "tokens.csv"
    text = tokens.read_bytes()
    tokens.unlink()
    os.mkfifo(tokens)
    served = begin(1)
    with waited_for(tokens) as writing:
        served.signal(signal.SIGHUP)
        tokens.unlink()
        tokens.write_bytes(text)
        writing.write(text)
    served.until("reloaded")
    assert served.get("/app/pid")[0] == 200
    assert served.stop() == 0


def waited_for(fifo: Path) -> BinaryIO:
    """The writing end, once somebody waits for what is written."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return os.fdopen(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb")
        except OSError:  # nobody yet
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_all(begin: Begin, directory: Path, number: int) -> None:
    """A terminal's Ctrl-C and a service manager's SIGTERM reach every process: that is one signal, not several."""
    much_grace(directory)
    served = begin(2)
    pids = served.up(1, 2)
    connections = served.connected(3, pids.values())
    idle = connections[::3]
    with ThreadPoolExecutor(4) as clients:
        answers = clients.map(partial(served.get, "/app/held"), [each for each in connections if each not in idle])
        eventually(lambda: served.figures().sum("apiserver_current_inflight_requests") == 4)
        os.killpg(served.process.pid, number)
        for each in idle:
            assert each.sock.recv(1) == b""  # its worker drains
        served.go()
    assert [status for status, _ in answers] == [200] * 4
    assert served.end() == 0
    for connection in connections:
        connection.close()


def test_second_signal(begin: Begin, directory: Path) -> None:
    """A second signal ends what still runs."""
    much_grace(directory)
    served = begin(2)
    served.up(1, 2)
    failed: list[Exception] = []

    def ask() -> None:
        try:
            served.get("/app/held")
        except OSError as error:
            failed.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for each in asking:
        each.start()
    eventually(lambda: served.figures().sum("apiserver_current_inflight_requests") == 4)
    served.signal(signal.SIGTERM)
    served.signal(signal.SIGINT)
    assert served.end() == 0
    for each in asking:
        each.join()
    assert len(failed) == 4


def ended(directory: Path, port: int, workers: int = 3) -> tuple[int, str]:
    """A server that should end by itself: its status and what it said."""
    command = [*SERVE, "--config", "config.yaml", "--port", str(port), "--workers", str(workers)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    return done.returncode, done.stderr


def test_mistakes_are_said_once(directory: Path) -> None:
    """All mistakes in all files, and the port in use, are a line each, and nothing is served."""
    (directory / "tokens.csv").write_text("nonsense\n")
    (directory / "application.py").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = ended(directory, port)
    assert status == 2
    lines = [line for line in said.splitlines() if not line.startswith("{")]
    assert [line.partition(": ")[0] for line in lines] == [
        "tokens.csv:1",
        "config.yaml",
        f"listen 127.0.0.1:{port}",
    ]
    assert "already in use" in lines[2]


def test_port_of_another_one(begin: Begin, directory: Path) -> None:
    """Two servers with several workers do not share a port."""
    served = begin(2)
    served.up(1, 2)
    status, said = ended(directory, served.port)
    assert status == 2
    assert said.splitlines()[-1].endswith(
        "the address is already in use: stop what listens there, or choose another port"
    )


def test_application_that_does_not_start(directory: Path) -> None:
    """A first worker that dies is not tried again, and the status says so."""
    (directory / "application.py").write_text("import os\nos._exit(7)\n")
    status, said = ended(directory, free_port())
    assert status == 1
    assert said.count("the first worker did not start") == 1


def test_number_of_workers(directory: Path) -> None:
    """Numbers that make no sense are refused, wherever they come from."""
    assert ended(directory, free_port(), workers=0)[0] == 2
    (directory / "config.yaml").write_text("workers: none\n")
    status, said = ended(directory, free_port(), workers=1)
    assert (status, said) == (2, "config.yaml: workers: must be a whole number from 1 to 256, not 'none'\n")


async def test_fault_in_a_restart(tmp_path: Path) -> None:
    """Whatever goes wrong in one restart is said, and the next signal is heard."""

    def faulty() -> Configuration:
        raise ZeroDivisionError

    supervisor = _Supervisor(Configuration(), Directory(tmp_path), faulty, [])
    with capture_logs() as logs:
        restarts = asyncio.create_task(supervisor._restarts())
        for _ in range(2):
            supervisor._restart.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    restarts.cancel()
    await asyncio.wait({restarts})
    assert [(log["event"], log["error"]) for log in logs] == [("not restarted", "ZeroDivisionError")] * 2


class Strange:
    """A worker that says what nobody understands, and then ends."""

    number, pid, asked, leaving, serving = 1, 17, None, True, False

    def __init__(self) -> None:
        self.said: list[dict[str, object]] = [{"say": "figures", "figures": "[]"}, {"say": "beat"}]
        self.arrived, self.ended = asyncio.Event(), asyncio.Event()
        self.killed = False

    async def converse(self) -> Strange:
        return self

    async def hear(self) -> dict[str, object] | None:
        return self.said.pop(0) if self.said else None

    async def over(self) -> int:
        return -9

    def kill(self) -> None:
        self.killed = True


async def test_worker_that_is_not_understood(tmp_path: Path) -> None:
    """It is killed, and its end is noticed."""
    supervisor = _Supervisor(Configuration(), Directory(tmp_path), Configuration, [])
    worker: Any = Strange()
    following = supervisor._all[worker] = asyncio.create_task(supervisor._follow(worker))
    with capture_logs() as logs:
        await following
    assert [log["event"] for log in logs] == ["worker is not understood, killing it"]
    assert worker.killed
    assert worker.ended.is_set()
    assert not supervisor._all
