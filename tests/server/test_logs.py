"""Logs: readable on a terminal, JSON otherwise, and never a traceback or what it could hold."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from aggmw.server import logs
logs.configure("{level}", "auto")
log = structlog.get_logger("aggmw.test")
token = "s3cr3t"
try:
    raise RuntimeError(token)
except RuntimeError as error:
    log.error("it failed", request_id="id-1", exc_info=error)
log.debug("detail")
logging.getLogger("library").warning("from %s", "elsewhere")
"""


def run(level: str = "info", *, terminal: bool = False) -> str:
    """What the program above writes to standard error."""
    command = [sys.executable, "-c", PROGRAM.format(level=level)]
    if not terminal:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reading:
        process = subprocess.Popen(command, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while chunk := reading.read(4096):
                said += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        assert process.wait(60) == 0
    return said.decode()


def test_json_without_traceback() -> None:
    """One object a line: time, level, event and fields; of an exception its type, not its words."""
    lines = [json.loads(line) for line in run().splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [("error", "it failed"), ("warning", "from elsewhere")]
    assert lines[0]["error"] == "RuntimeError"
    assert lines[0]["request_id"] == "id-1"
    assert "s3cr3t" not in json.dumps(lines)


def test_readable_on_a_terminal() -> None:
    """On a terminal a line is for people."""
    said = run(terminal=True)
    assert "it failed" in said
    assert "request_id" in said
    assert "{" not in said
    assert "s3cr3t" not in said


def test_tracebacks_at_debug() -> None:
    """Whoever asks for debug gets the traceback and the debug lines."""
    said = run("debug")
    assert "Traceback" in said
    assert '"detail"' in said


@pytest.fixture(autouse=True)
def _root_logger() -> None:
    """Nothing here configures this process."""
    assert not [handler for handler in logging.getLogger().handlers if handler.get_name() == "aggmw"]


@pytest.mark.parametrize("full", [True, False])
def test_nobody_takes_the_lines(full: bool) -> None:
    """A full disk, or a pipe that nobody reads any more, takes nobody along who has something to say."""
    program = PROGRAM.format(level="info") + "print('went on')"
    if full:
        with open("/dev/full", "wb") as nowhere:
            said = subprocess.run([sys.executable, "-c", program], stdout=-1, stderr=nowhere, timeout=60, check=False)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        said = subprocess.run([sys.executable, "-c", program], stdout=-1, stderr=writing, timeout=60, check=False)
        os.close(writing)
    assert said.stdout == b"went on\n"
