"""Signals to a server process: what they begin, and that it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import PATIENCE

from aggmw.pki.make import KeyPair, issue_server

SCRIPT = Path(__file__).with_name("stoppable.py")


class Process:
    """The script, running."""

    def __init__(self, loop: str, grace: float, *files: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), loop, str(grace), *map(str, files)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.sockets: list[socket.socket] = []

    def watch(self, path: str) -> socket.socket:
        """A stream that has begun."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.sockets.append(sock)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while b"event" not in received:
            received += sock.recv(1000)
        return sock

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def clean(self) -> None:
        for sock in self.sockets:
            sock.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start the script; it is gone after the test."""
    processes: list[Process] = []

    def begin(*arguments: Any) -> Process:
        processes.append(Process(*arguments))
        return processes[-1]

    yield begin
    for process in processes:
        process.clean()


def rest(sock: socket.socket) -> bytes:
    data = b""
    try:
        while more := sock.recv(1000):
            data += more
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_polite(start: Callable[..., Process], loop: str, number: int) -> None:
    """http-facts §3: on SIGTERM or SIGINT open watches end properly, the lifespan ends, and the exit status is 0."""
    process = start(loop, 10 * PATIENCE)
    watch = process.watch("/polite")
    process.signal(number)
    assert rest(watch).endswith(b"4\r\nlast\r\n0\r\n\r\n")
    code, out, err = process.end()
    assert (code, out, err) == (0, "lifespan ended\n", "")


@pytest.mark.parametrize("path", ["/stubborn", "/immortal"])
def test_stubborn(start: Callable[..., Process], loop: str, path: str) -> None:
    """http-facts §3: the process ends within the grace time also when an application ignores the drain, or worse."""
    process = start(loop, 0.6)
    watch = process.watch(path)
    process.signal(signal.SIGTERM)
    assert not rest(watch).endswith(b"0\r\n\r\n")
    code, out, err = process.end()
    assert code == 0
    assert "lifespan ended" in out
    assert "grace time is over" in out + err
    assert "Traceback" not in err


def test_impatience(start: Callable[..., Process]) -> None:
    """A second signal ends the waiting."""
    process = start("asyncio", 10 * PATIENCE)
    process.watch("/stubborn")
    process.signal(signal.SIGINT)
    process.signal(signal.SIGTERM)
    code, _, _ = process.end()
    assert code == 0


def test_hang_up(
    start: Callable[..., Process], authority: KeyPair, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """SIGHUP reads the certificate again; a broken one changes nothing and is logged."""
    files = tmp_path / "crt", tmp_path / "key"
    for path, source in zip(files, certificate, strict=True):
        shutil.copy(source, path)
    process = start("uvloop", 1, *files)

    def shown() -> bytes:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", process.port), timeout=PATIENCE))

    before = shown()
    pair = issue_server(authority, "after", names=["localhost"])
    after = ssl.PEM_cert_to_DER_cert(pair.certificate.decode())
    assert before != after
    files[0].write_bytes(b"nonsense")
    process.signal(signal.SIGHUP)
    assert process.process.stdout is not None
    assert "not reloaded" in process.process.stdout.readline()
    assert shown() == before
    files[0].write_bytes(pair.certificate)
    files[1].write_bytes(pair.key)
    process.signal(signal.SIGHUP)
    assert "reloaded" in process.process.stdout.readline()
    assert shown() == after
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0
    assert not os.path.exists(f"/proc/{process.process.pid}/fd")
