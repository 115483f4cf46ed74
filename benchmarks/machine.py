"""The machine: which programs it has, which cores are used for what, and what a process cost."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "INSTALL",
    "Cores",
    "Usage",
    "free_port",
    "peak_memory",
    "program",
    "resident",
    "settled",
    "started",
    "usage",
]

INSTALL = {
    "bench": "Python peers: `make bench` installs them, or: pip install -c constraints.txt --group bench",
    "compiled": "The compiled build: `make compiled` (needs a C compiler and Python's headers)",
    "etcd": "etcd: apt-get install etcd-server, or your system's package",
    "kube-apiserver": "kube-apiserver: make kube-apiserver (needs Go; ten minutes)",
    "go": "Go: https://go.dev/dl (any version from 1.21 on)",
    "nginx": "nginx: apt-get install nginx-light, or your system's package",
    "wrk": "wrk: apt-get install wrk, or your system's package",
}
"""What a line says of a program that is not there."""

_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin", "/usr/local/bin")
_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def program(name: str) -> str | None:
    """The path of an installed program, also where root's PATH would have it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ELSEWHERE))


class Cores(NamedTuple):
    """Which core the proxy runs on, and which the load generator and the backend share.

    On a machine with one core nothing is pinned, and the figures mean little.
    """

    proxy: int | None
    rest: int | None

    @classmethod
    def choose(cls) -> Cores:
        """The first two cores that this process may use."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


class Usage(NamedTuple):
    """Seconds of one process on a core so far, in user space and in the kernel."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system


def usage(pid: int) -> Usage:
    """From `/proc/<pid>/stat`, in steps of 10 ms on most machines."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return Usage(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)


def settled(pid: int, patience: float = 5.0) -> None:
    """Wait until a process has nothing left to do: what it still owes the clients that left slows down the next one."""
    deadline = time.monotonic() + patience
    before = usage(pid).total
    while time.monotonic() < deadline:
        time.sleep(0.03)
        now = usage(pid).total
        if now == before:
            return
        before = now


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    return _memory(pid, "VmRSS")


@contextmanager
def peak_memory(pid: int) -> Iterator[Callable[[], int]]:
    """How many bytes the resident memory grew at most, from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets VmHWM
    before = resident(pid)
    yield lambda: _memory(pid, "VmHWM") - before


def _memory(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    arguments: Sequence[str | Path],
    core: int | None,
    *,
    env: Mapping[str, str] | None = None,
    output: int | None = subprocess.DEVNULL,
    errors: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process on one core, ended with the context, and with this process however that ends."""

    def prepare() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    with open(errors or os.devnull, "ab") as log:
        process = subprocess.Popen(
            [str(each) for each in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            env={**os.environ, **(env or {})},
            text=True,
            preexec_fn=prepare,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
