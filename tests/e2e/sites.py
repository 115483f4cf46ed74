"""Another proxy in front of a page, decided by `aggmw serve`: with the files of the page in the docs, ports aside."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import DOCS, blocks
from tests.e2e.conftest import PATIENCE, START_SECONDS, STOP_SECONDS, log_of

__all__ = ["ALICE", "BOB", "Answer", "Served", "Site", "beside", "ended", "files", "served", "started"]

PAGE = DOCS / "how-to" / "behind-nginx-traefik-envoy.md"
ALICE, BOB = {"Authorization": "Bearer alice-token"}, {"Authorization": "Bearer bob-token"}


@dataclass
class Answer:
    """What a client of the proxy got."""

    status: int
    fields: dict[str, list[str]]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the page saw."""
        assert self.status == 200, self
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def message(self) -> str:
        """Why aggmw refused."""
        assert self.status >= 400, self
        return str(json.loads(self.body)["message"])

    def values(self, name: str) -> list[str]:
        """What the page saw of a field, in this spelling."""
        return [value for key, value in self.seen["fields"] if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The one value that the page saw of a field."""
        values = self.values(name)
        assert len(values) < 2, values
        return values[0] if values else None


@dataclass
class Site:
    """A proxy in front of the page, running."""

    directory: Path
    port: int

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        host: str | None = "shop.example.com",
    ) -> Answer:
        """One request, its target as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            if host is not None:
                connection.putheader("Host", host)
            for name, value in headers.items() if isinstance(headers, Mapping) else headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            fields: dict[str, list[str]] = {}
            for name, value in response.getheaders():
                fields.setdefault(name.lower(), []).append(value)
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()


@dataclass
class Served:
    """The page, and aggmw beside it."""

    directory: Path
    page_port: int
    port: int
    process: subprocess.Popen[bytes]


def files(directory: Path, changes: Mapping[str, Mapping[str, str]]) -> None:
    """What the page of the docs calls by a name, with changes by file: each of what is replaced stands there once."""
    for block in blocks(PAGE):
        if block.title:
            text = block.text
            for written, here in changes.get(block.title, {}).items():
                assert text.count(written) == 1, (block.title, written)
                text = text.replace(written, here)
            (directory / block.title).write_text(text)


def beside(directory: Path, served: Served) -> Path:
    """Another directory for a proxy that asks the same aggmw."""
    (directory / "state").mkdir(parents=True)
    shutil.copy(served.directory / "state" / "serving-ca.crt", directory / "state")
    return directory


@contextmanager
def ended(command: Sequence[str | Path], **options: Any) -> Iterator[Any]:
    """A process that is ended at the latest when this is left."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def started(command: Sequence[str | Path], directory: Path, port: int) -> Iterator[Site]:
    """A proxy in the foreground, as whoever we are, from when it listens."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is missing: make e2e installs it", pytrace=False)
    log = directory / "proxy.log"
    with log.open("wb") as to, ended(command, cwd=directory, stdout=to, stderr=to) as process:
        until = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{Path(command[0]).name} did not start:\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)
        yield Site(directory, port)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, log.read_text()


@contextmanager
def served(directory: Path, port: int, changes: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The page, and aggmw with the configuration of the page in the docs; both have to end well when told to."""
    files(directory, {"config.yaml": changes or {}})
    command = [sys.executable, "-m", "aggmw", "serve", "--config", "config.yaml", "--dir", "state", "--port", str(port)]
    log = directory / "aggmw.log"
    with ExitStack() as stack:
        page = stack.enter_context(ended([sys.executable, Path(__file__).parent / "echo.py"], stdout=subprocess.PIPE))
        page_port = int(page.stdout.readline())
        aggmw = stack.enter_context(ended(command, cwd=directory, stderr=stack.enter_context(log.open("wb"))))
        until = time.monotonic() + START_SECONDS
        while not any(line["event"] == "serving" for line in log_of(log)):
            if aggmw.poll() is not None or time.monotonic() > until:
                pytest.fail(f"aggmw did not start:\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)
        yield Served(directory, page_port, port, aggmw)
        aggmw.terminate()
        assert aggmw.wait(STOP_SECONDS) == 0
        assert "Traceback" not in log.read_text()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
