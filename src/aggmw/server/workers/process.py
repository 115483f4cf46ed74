"""One worker process, as the supervisor sees it: started, spoken to, waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from aggmw.errors import Problem
from aggmw.server.workers.channel import Channel, framed
from aggmw.server.workers.job import Job

__all__ = ["Worker"]

_PROGRAM = "aggmw.server.workers.worker"
_EXIT_SECONDS = 5.0  # from the end of its channel to its own

# Whoever kept this process from reading what its user or directory holds means its workers, too.
_FLAGS = (("isolated", "-I"), ("ignore_environment", "-E"), ("no_user_site", "-s"), ("safe_path", "-P"))


class Worker:
    """A process that runs. Use `Worker.start`.

    Attributes:
        number: which worker it is; for a moment the one that replaces it has the same.
        grace: its grace time.
        pid: its process identifier.
        arrived: set when it serves, or is known never to.
        serving: whether it accepts connections.
        born: when it began to serve, by the event loop's clock; 0.0 before.
        mistakes: in the configuration, which it found.
        leaving: whether it was told to stop.
        ended: set when the process is no more.
        spoken: whether it has said anything yet.
        silence: seconds since it last did.
        asked: its figures, when it was asked for them and has not answered.
    """

    def __init__(self, job: Job, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self.number = job.number
        self.grace = job.configuration.grace
        self.pid = process.pid
        self.arrived = asyncio.Event()
        self.serving = False
        self.born = 0.0
        self.mistakes: tuple[Problem, ...] = ()
        self.leaving = False
        self.ended = asyncio.Event()
        self.spoken = False
        self.silence = 0
        self.asked: asyncio.Future[None] | None = None
        self._job = job
        self._process = process
        self._ours = ours
        self._channel: Channel | None = None

    @classmethod
    def start(cls, job: Job) -> Worker:
        """Start a process, which waits for `converse`."""
        ours, theirs = socket.socketpair()
        inherited = (theirs.fileno(), *job.listeners)
        with theirs, _undisturbed():
            process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, *_flags(), "-m", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
            )
        ours.setblocking(False)
        return cls(job, process, ours)

    async def converse(self) -> Channel:
        """Say what its work is; what it says comes from the channel."""
        self._channel = await Channel.over(self._ours)
        self._channel.write(framed(self._job.packed()))
        return self._channel

    def say(self, kind: str, **fields: object) -> None:
        """Send it a message."""
        if self._channel is not None:
            self._channel.say(kind, **fields)

    @property
    def dead(self) -> bool:
        """Whether the process is no more, also where its channel has not ended."""
        return self._process.poll() is not None

    def hang_up(self) -> None:
        """End the channel of one that is dead: a process that it has forked may hold the other end open."""
        if self._channel is not None:
            self._channel.hang_up()

    def terminate(self) -> None:
        """Have it stop, also while it does not listen."""
        self._process.terminate()

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    async def over(self) -> int:
        """Wait for its end, once its channel has ended; the status, negative for a signal."""
        if self._channel is not None:
            await self._channel.close()
        return await asyncio.to_thread(self._reap)

    def _reap(self) -> int:
        try:
            return self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@cache
def _flags() -> list[str]:
    flags = [flag for name, flag in _FLAGS if getattr(sys.flags, name)]
    if os.getcwd() not in sys.path and "" not in sys.path:
        flags.append("-P")  # else `-m` would look for modules in the working directory
    return flags


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A process that is started here is not ended by what a terminal sends to all, before it has said so itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
