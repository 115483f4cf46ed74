"""The servers behind the demo's front proxy, each a process of its own that ends with us, however we end."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aggmw.errors import ConfigurationError, Problem

__all__ = ["Child", "program", "started"]

_STARTUP_SECONDS = 20.0
_STOP_SECONDS = 5.0


class Child:
    """A server that listens.

    Attributes:
        url: where, as it printed it.
        process: that it is.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def address(self) -> str:
        """`host:port`."""
        return self.url.partition("://")[2]


def program(name: str) -> Path:
    """A program of the demo: inside an installed package, or in `examples/` of a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_demo" / name
    return installed if installed.exists() else package.parents[1] / "examples" / name


@contextmanager
def started(what: str, command: Sequence[str | Path]) -> Iterator[Child]:
    """A Python program that prints "listening on URL" when it is ready, and ends when its standard input does.

    Raises:
        ConfigurationError: it does not.
    """
    # A session of its own: Ctrl-C is for the front proxy, whose watches end first.
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Child(process, _url(process, what))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _url(process: subprocess.Popen[str], what: str) -> str:
    output = process.stdout
    line = ""
    if output is not None and select.select([output], [], [], _STARTUP_SECONDS)[0]:
        line = output.readline().strip()
    if not line.startswith("listening on "):
        raise ConfigurationError([Problem(what, "did not start; what it said is above")])
    return line.removeprefix("listening on ")
