"""Follows a page as a reader would: writes its files, pastes its commands into a terminal, compares what they print.

What pages and this runner agree on:

- A block with `title="…"` is a file, relative to an empty directory. Later blocks of that title replace it.
- A `console` block is a transcript: `$ ` begins a command, `> ` continues one that ends in a backslash, the rest is
  what it prints.
- All commands run in one bash in one terminal of 120 columns, in the order of the page. Each has to print exactly what
  the page shows, and to succeed, unless it prints why it does not.
- A command that ends in `&` is a server. What the page shows below it is waited for; what it prints later does not
  matter. `kill %N` is waited for. All of them are stopped at the end.
- `…` stands for any text within a line, and alone on a line for any lines. Ages (`3s`), times, UUIDs and process
  numbers in brackets need not be the same.
- The ports in `PORTS` are replaced by free ones, in files and commands, and back in what is printed.
- Setting up (`python3 -m venv`, activating it, `pip install`, `export AGGMW=`) is not done: the environment that the
  tests run in takes its place, and `$AGGMW` is this checkout.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from tests.docs.pages import ROOT, Block, Command
from tests.ports import free_port

__all__ = ["PORTS", "Mismatch", "agrees", "follow"]

PORTS = ("6443", "7443", "8000", "8001")
"""The ports that pages use, always in so many words."""

_SECONDS = 60.0
_STOP_SECONDS = 5.0
_COLUMNS = 120
_SET_UP = re.compile(r"python3 -m venv |\. \.venv/bin/activate$|pip install |export AGGMW=")
_KILL = re.compile(r"kill (%\d+(?: %\d+)*)$")
_VOLATILE = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"(?m)^(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\[\d+\]"), "[N]"),
    (re.compile(r"(?m)\b(?:\d+[smhd])+$"), "AGE"),
    (re.compile(r"(?m) +$"), ""),
)


class Mismatch(AssertionError):
    """A command does not print what the page says."""


def follow(blocks: Sequence[Block], directory: Path) -> None:
    """Do everything that a page says, in its order.

    Args:
        blocks: of one page.
        directory: an empty one.

    Raises:
        Mismatch: a command prints something else, or nothing in time.
    """
    with ExitStack() as stack:
        ports = _free_ports("".join(block.text for block in blocks))
        shell = stack.enter_context(_Shell(directory))
        for block in blocks:
            if block.title:
                file = directory / block.title
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(_substituted(block.text, ports), encoding="utf-8")
            elif block.language == "console":
                for command in block.commands:
                    _do(shell, command, ports, f"{block.page}:{command.line}")


def agrees(expected: str, printed: str) -> bool:
    """Whether what was printed is what the page shows."""
    parts = []
    for line in _plain(expected).split("\n"):
        if line == "…":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append("[^\n]*".join(map(re.escape, line.split("…"))) + "\n")
    return re.fullmatch("".join(parts), _plain(printed) + "\n") is not None


def _plain(text: str) -> str:
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text.strip("\n")


def _do(shell: _Shell, command: Command, ports: dict[str, str], where: str) -> None:
    if _SET_UP.match(command.text):
        return
    text = _substituted(command.text, ports)
    back = {free: shown for shown, free in ports.items()}

    def fits(printed: str, expected: str = command.output) -> bool:
        return agrees(expected, _substituted(printed, back))

    if text.endswith("&"):
        printed, done = shell.start(text.removesuffix("&"), until=partial(fits, expected=f"{command.output}\n…"))
    else:
        if killed := _KILL.match(text):
            text = f"{{ {text}; wait {killed[1]}; true; }} 2>/dev/null"
        printed, status = shell.run(text)
        done = fits(printed) and (status == 0 or bool(printed.strip()))
    if not done:
        shown = _substituted(printed, back)
        raise Mismatch(f"{where}: $ {command.text}\n--- the page\n{command.output}\n--- printed\n{shown}")


def _substituted(text: str, replacements: dict[str, str]) -> str:
    return re.sub(rf"(?<![\d.])(?:{'|'.join(replacements)})(?!\d)", lambda match: replacements[match[0]], text)


def _free_ports(page: str) -> dict[str, str]:
    """As many digits as on the page, so that tables stay aligned; and no number that means something else there."""
    found: dict[str, str] = {}
    while len(found) < len(PORTS):
        port = str(free_port(digits=4))
        if port not in page:
            found[PORTS[len(found)]] = port
    return found


class _Terminal:
    """What is printed on a terminal of its own; read all the time, so that nobody waits for its reader."""

    def __init__(self) -> None:
        self._reading, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
        self.path = os.ttyname(self.descriptor)
        self._printed = b""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def clear(self) -> None:
        with self._changed:
            self._printed = b""

    def wait(self, ready: Callable[[str], bool]) -> tuple[str, bool]:
        """What was printed, as soon as it is what is waited for; or what there is when the time is over."""
        with self._changed:
            done = self._changed.wait_for(lambda: ready(self._text), _SECONDS)
            return self._text, done

    @property
    def _text(self) -> str:
        return self._printed.decode(errors="replace").replace("\r\n", "\n")

    def left(self, seconds: float) -> bool:
        """Let go of it; whether everybody else does, too, within some seconds."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Only when everybody has left it."""
        self._thread.join()
        os.close(self._reading)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._reading, 65536)
            except OSError:  # how a terminal says that nobody holds its other side
                return
            with self._changed:
                self._printed += piece
                self._changed.notify_all()


class _Shell:
    """One bash for a whole page, and the servers that it starts."""

    _END = "the-command-has-ended"

    def __init__(self, directory: Path) -> None:
        program = Path(sys.executable).parent
        environment = {
            "AGGMW": str(ROOT),
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": f"{program}:{os.environ.get('PATH', os.defpath)}",
            "TERM": "xterm",
        }
        self._terminals = [_Terminal()]
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._terminals[0].descriptor,
            stderr=self._terminals[0].descriptor,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> _Shell:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._signal(signal.SIGTERM)
        left = [terminal.left(_STOP_SECONDS) for terminal in self._terminals]
        if not all(left):
            self._signal(signal.SIGKILL)
        self._process.wait()
        for terminal in self._terminals:
            terminal.close()

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit status."""
        terminal = self._terminals[0]
        terminal.clear()
        self._type(f"{{ {command}\n}} </dev/null; printf '%s%d\\n' {self._END} $?\n")
        ended = re.compile(rf"{self._END}(\d+)\n\Z")
        printed, done = terminal.wait(lambda text: ended.search(text) is not None)
        if not done:
            return f"{printed}\n(and has not ended)", 1
        found = ended.search(printed)
        assert found is not None
        return printed[: found.start()], int(found[1])

    def start(self, command: str, *, until: Callable[[str], bool]) -> tuple[str, bool]:
        """Start a server on a terminal of its own; what it has printed, and whether that is what is waited for."""
        terminal = _Terminal()
        self._terminals.append(terminal)
        # By the shell's own outputs: what the command redirects itself stays redirected, and `kill %N` meets it alone.
        self._type(f"exec 3>&1 >{terminal.path} 2>&1\n{command} &\nexec >&3 2>&3 3>&-\n")
        return terminal.wait(until)

    def _type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
