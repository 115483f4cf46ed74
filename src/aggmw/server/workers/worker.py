"""The program that a worker is: `python -m aggmw.server.workers.worker DESCRIPTOR`, started by the supervisor only.

The terminal's SIGINT and SIGHUP are the supervisor's affair. SIGTERM ends a worker as a drain does; more of them change
nothing, because a service manager sends one to every process and the supervisor then says the same. So does the end of
the supervisor.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from itertools import count

import structlog

from aggmw.config.compose import Composed
from aggmw.errors import ConfigurationError, StatusError, fault
from aggmw.server import logs, serving
from aggmw.server.directory import Directory
from aggmw.server.run import prepare
from aggmw.server.workers.channel import Channel, Message, framed, read_frame
from aggmw.server.workers.job import Job

__all__ = ["main"]

_log = structlog.get_logger("aggmw.server")

_BEAT_SECONDS = 2.0
_PATIENCE_SECONDS = 10.0
_ANSWER_SECONDS = 3.0


def main() -> int:
    """Do the job that comes over the channel; the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))
    connected = _own(int(sys.argv[1]))
    try:
        job = Job.unpacked(read_frame(connected))
    except (EOFError, OSError):
        return 0  # the supervisor is gone
    listeners = [_own(descriptor) for descriptor in job.listeners]
    logs.configure(job.configuration.log_level, job.configuration.log_format, worker=job.number)
    try:
        server, composed = prepare(
            job.configuration, Directory(job.directory), lambda: _listener(job, listeners), signals=False
        )
    except ConfigurationError as error:
        problems = [[problem.path, problem.message] for problem in error.problems]
        connected.sendall(framed({"say": "mistakes", "problems": problems}))
        return 2
    return serving.run_on_loop(server, _Worker(job, listeners, server, composed).work(connected))


def _own(descriptor: int) -> socket.socket:
    """A socket that was inherited, and goes no further."""
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)
    return found


def _listener(job: Job, listeners: list[socket.socket]) -> socket.socket:
    if not listeners:
        raise ConfigurationError(job.trouble)
    return listeners[job.number - 1]


class _Worker:
    """One worker on its event loop; the other ones' colleague."""

    def __init__(self, job: Job, listeners: list[socket.socket], server: serving.Server, composed: Composed) -> None:
        self.number = job.number
        self._listeners = listeners
        self._covering: dict[int, asyncio.Server] = {}
        self._server = server
        self._composed = composed
        self._stopped = False
        self._identifiers = count()
        self._questions: dict[int, asyncio.Future[str]] = {}
        if job.patient:
            server.before_accepting = self._until_ready
        if composed.metrics is not None:
            composed.metrics.beside(self)

    async def work(self, connected: socket.socket) -> None:
        """Serve until told to stop, or until nobody is there to tell."""
        connected.setblocking(False)
        self._channel = await Channel.over(connected)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        beside = [asyncio.create_task(each) for each in (self._listen(), self._beat(), self._announce())]
        try:
            await self._server.serve()
        finally:
            await self._say_figures()
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await self._channel.close()

    async def figures(self, own: bytes) -> bytes:
        """What the other workers count; as `aggmw.contracts.metrics.Colleagues` says."""
        identifier = next(self._identifiers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._questions[identifier] = answer
        self._channel.say("ask", identifier=identifier, figures=own.decode("ascii"))
        try:
            return (await asyncio.wait_for(answer, _ANSWER_SECONDS)).encode("ascii")
        except TimeoutError as error:
            raise StatusError(
                503, "ServiceUnavailable", "the figures of the other workers are not known at the moment"
            ) from error
        finally:
            del self._questions[identifier]

    async def _listen(self) -> None:
        try:
            while (message := await self._channel.hear()) is not None:
                await self._heard(message)
        except Exception as error:  # noqa: BLE001  who hears nothing any more has to be replaced
            _log.error("this worker cannot do as it is told, so it ends", **fault(error))
        else:
            if not self._stopped:
                _log.warning("the supervisor is gone, so this worker ends")
        self._stop()

    async def _heard(self, message: Message) -> None:
        kind = message["say"]
        if kind == "stop":
            self._stop()
        elif kind == "now":
            self._stop()
            self._server.stop()
        elif kind == "figures?":
            await self._say_figures()
        elif kind == "stand in":
            await self._stand_in(message["number"])
        elif kind == "step back":
            self._step_back(message["number"])
        elif kind == "answer":
            question = self._questions.get(message["identifier"])
            if question is not None and not question.done():
                question.set_result(message["figures"])

    def _stop(self) -> None:
        if not self._stopped:  # a second call would be impatience
            self._stopped = True
            self._channel.say("leaving")
            self._server.stop()

    async def _stand_in(self, number: int) -> None:
        """Accept the connections of a worker that is not there, besides our own."""
        if not self._stopped and number not in self._covering:
            try:
                server = await self._server.listen(self._listeners[number - 1].dup())
            except OSError as error:
                _log.error("cannot stand in for another worker", other=number, error=error.strerror)
                return
            if self._server.should_exit:  # meanwhile
                server.close()
                return
            self._covering[number] = server
            self._server.servers.append(server)

    def _step_back(self, number: int) -> None:
        if (server := self._covering.pop(number, None)) is not None:
            self._server.servers.remove(server)
            server.close()

    async def _say_figures(self) -> None:
        if self._composed.metrics is not None:
            figures = await self._composed.metrics.share(self.number)
            self._channel.say("figures", figures=figures.decode("ascii"))

    async def _beat(self) -> None:
        while True:
            self._channel.say("beat")
            await asyncio.sleep(_BEAT_SECONDS)

    async def _announce(self) -> None:
        await self._server.up.wait()
        serving.settle_memory()
        self._channel.say("up")

    async def _until_ready(self) -> None:
        """Wait until requests for every service can be routed: who replaces another worker must not know less."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        while not (self._composed.front_proxy.ready or self._server.drain.begun):
            if loop.time() >= deadline:
                _log.warning("not every service was asked yet, serving all the same")
                return
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
