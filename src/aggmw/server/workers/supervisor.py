"""The supervisor: starts workers, watches them, replaces them one by one or when they die, and stops them.

Every worker has a listening socket of its own at the same address. The supervisor holds them all for as long as it
lives, so no connection that waits to be accepted is lost with a worker: another one accepts from its socket until it is
replaced. The supervisor reads the configuration file; what that names is read by the workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog

from aggmw.config import Configuration
from aggmw.errors import ConfigurationError, Problem, fault
from aggmw.server.directory import Directory
from aggmw.server.run import administrator, open_directory
from aggmw.server.serving import listening_for_reload
from aggmw.server.sockets import bind, bind_beside, url_of
from aggmw.server.workers.channel import Message
from aggmw.server.workers.job import Job
from aggmw.server.workers.ledger import Ledger
from aggmw.server.workers.process import Worker

__all__ = ["supervise"]

_log = structlog.get_logger("aggmw.server")

_HUNG_SECONDS = 30  # of silence; a worker says something every two
_ABSENT_SECONDS = 5  # of silence, after which another one accepts its connections
_START_SECONDS = 120  # until the first word, with the imports of what the configuration names
_GRACE_MARGIN = 5.0  # beyond the grace time, in which a worker ends by itself
_HURRY_SECONDS = 2.0  # after a second signal
_FIGURES_SECONDS = 1.0
_GROWN_UP_SECONDS = 10.0  # who dies before is replaced more and more slowly
_SLOWEST = 30.0


def supervise(configuration: Configuration, path: Path, read: Callable[[], Configuration]) -> int:
    """Serve with several workers until SIGINT or SIGTERM. SIGHUP replaces them one after another.

    Args:
        configuration: what to serve.
        path: the directory of certificates and kubeconfigs, made on the first start.
        read: the configuration, read anew.

    Returns:
        The exit status: 0 after a stop, 1 when the first worker did not start.

    Raises:
        ConfigurationError: all mistakes, before anything is served.
    """
    if os.name != "posix":
        problem = Problem("workers", "several workers need a POSIX system; here there can be one")
        raise ConfigurationError([problem])
    directory = open_directory(configuration, path)
    trouble: tuple[Problem, ...] = ()
    listeners = []
    try:
        listeners.append(bind(configuration.host, configuration.port, shared=True))
    except ConfigurationError as error:
        trouble = error.problems  # said together with what a worker finds wrong
    supervisor = _Supervisor(configuration, directory, read, listeners)
    try:
        return asyncio.run(supervisor.run(trouble))
    finally:
        for listener in listeners:
            listener.close()


class _Supervisor:
    """The workers by number, and the ones that leave."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        read: Callable[[], Configuration],
        listeners: list[socket.socket],
    ) -> None:
        self._configuration = configuration
        self._directory = directory
        self._read = read
        self._listeners = listeners
        self._listening: set[int] = set()
        self._covers: dict[int, Worker] = {}
        self._workers: dict[int, Worker] = {}
        self._all: dict[Worker, asyncio.Task[None]] = {}
        self._failures: dict[int, int] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._ledger = Ledger()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._restart = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, trouble: tuple[Problem, ...]) -> int:
        """Until it is told to stop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._told)
        loop.add_signal_handler(signal.SIGTERM, self._told)
        loop.add_signal_handler(signal.SIGHUP, self._restart.set)
        with listening_for_reload():
            return await self._run(trouble)

    async def _run(self, trouble: tuple[Problem, ...]) -> int:
        self._task(self._watch())
        try:
            self._bind_beside(self._configuration)
            if not await self._begun(trouble):
                return 0 if self._stopping.is_set() else 1
            url = url_of(self._listeners[0])
            kubeconfig = administrator(self._directory, url)
            _log.info("serving", url=url, kubeconfig=str(kubeconfig), workers=self._configuration.workers)
            for number in range(2, self._configuration.workers + 1):
                self._replace(number, patient=False)
            restarts = self._task(self._restarts())
            await self._stopping.wait()
            restarts.cancel()  # whom it has started is stopped with the others
            await asyncio.wait({restarts})
        finally:
            await self._end()
        _log.info("stopped")
        return 0

    async def _begun(self, trouble: tuple[Problem, ...]) -> bool:
        """Whether the first worker serves. What is wrong is found by this one alone.

        Raises:
            ConfigurationError: all mistakes that it found.
            OSError: no process can be started.
        """
        first = self._start(1, self._configuration, trouble)
        await self._arrival(first)
        if first.serving:
            self._workers[1] = first
            if first.ended.is_set():
                self._gone(first, 0)
        elif first.mistakes:
            raise ConfigurationError(first.mistakes)
        elif not self._stopping.is_set():
            _log.error("the first worker did not start, so nothing is served")
        return first.serving

    # Being told

    def _told(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _restarts(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            try:
                await self._replace_all()
            except ConfigurationError as error:
                _tell_mistakes("not restarted", error.problems)
            except OSError as error:
                _log.error("restart ends: no process can be started", error=error.strerror)
            except Exception as error:  # noqa: BLE001  the next signal is to find somebody who listens
                _log.error("not restarted", **fault(error))

    async def _replace_all(self) -> None:
        """Replace all workers by others with the configuration as it is now, one after another.

        Raises:
            ConfigurationError: it cannot be used; nothing has changed.
            OSError: no process can be started.
        """
        configuration = self._read()
        self._check_address(configuration)
        self._directory = open_directory(configuration, self._directory.path)
        self._bind_beside(configuration)
        _log.info("restarting", workers=configuration.workers)
        for number in range(1, configuration.workers + 1):
            worker = self._start(number, configuration, patient=True)
            await self._arrival(worker)
            if not worker.serving or worker.ended.is_set():
                _tell_mistakes("not restarted", worker.mistakes)
                _log.error("restart ends: a new worker does not serve", worker=number, replaced=number - 1)
                return
            self._configuration = configuration
            self._forget_timer(number)
            self._failures[number] = 0
            former = self._workers.get(number)
            self._workers[number] = worker
            self._cover()
            if former is not None:
                await self._retire(former)
        for number in [each for each in (*self._workers, *self._timers) if each > configuration.workers]:
            self._forget_timer(number)
            if (surplus := self._workers.pop(number, None)) is not None:
                self._cover()
                await self._retire(surplus)
        _log.info("restarted", workers=configuration.workers)

    def _check_address(self, configuration: Configuration) -> None:
        now, then = self._configuration, configuration
        if (now.host, now.port) != (then.host, then.port):
            where = f"{then.source or 'configuration'}: host, port"
            message = (
                f"the address cannot change while running: it is {now.host}:{now.port}, not {then.host}:{then.port};"
                " stop the server and start it again"
            )
            raise ConfigurationError([Problem(where, message)])

    # Workers come and go

    def _start(
        self,
        number: int,
        configuration: Configuration,
        trouble: tuple[Problem, ...] = (),
        *,
        patient: bool = False,
    ) -> Worker:
        worker = Worker.start(
            Job(
                number,
                configuration,
                self._directory.path,
                tuple([listener.fileno() for listener in self._listeners]),
                trouble,
                patient=patient,
            )
        )
        self._all[worker] = asyncio.get_running_loop().create_task(self._follow(worker))
        return worker

    async def _follow(self, worker: Worker) -> None:
        """Listen to a worker until it is no more."""
        channel = await worker.converse()
        while (message := await channel.hear()) is not None:
            try:
                self._heard(worker, message)
            except Exception as error:  # noqa: BLE001  it may be of another version; nobody else would notice its end
                _log.error("worker is not understood, killing it", worker=worker.number, pid=worker.pid, **fault(error))
                worker.kill()
        status = await worker.over()
        del self._all[worker]
        worker.ended.set()
        worker.arrived.set()
        if worker.asked is not None:
            worker.asked.cancel()
        self._ledger.gone(worker.pid)
        self._gone(worker, status)

    async def _arrival(self, worker: Worker) -> None:
        """Wait until a worker serves, or never will, or nobody wants it to."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(each.wait()) for each in (worker.arrived, self._stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    def _gone(self, worker: Worker, status: int) -> None:
        """A worker is no more: another one takes its place if nobody has told it to stop."""
        number = worker.number
        if worker.leaving or self._stopping.is_set() or self._workers.get(number) is not worker:
            return
        del self._workers[number]
        self._cover()
        self._ledger.deaths += 1
        if worker.serving and asyncio.get_running_loop().time() - worker.born >= _GROWN_UP_SECONDS:
            self._failures[number] = 0
        delay = self._replace_later(number)
        _tell_mistakes("worker did not start", worker.mistakes)
        _log.error("worker died, replacing it", worker=number, pid=worker.pid, status=status, after_seconds=delay)

    def _left(self, worker: Worker) -> None:
        """A worker drains. If nobody here has told it to, another one takes its place."""
        number = worker.number
        if worker.leaving or self._stopping.is_set() or self._workers.get(number) is not worker:
            return
        _log.info("worker was told to stop, replacing it", worker=number, pid=worker.pid)
        worker.leaving = True
        del self._workers[number]
        self._cover()
        self._replace(number)

    def _replace_later(self, number: int) -> float:
        """Start a worker in place of one that failed, the later the more have failed in a row; in how many seconds."""
        failures = self._failures[number] = self._failures.get(number, 0) + 1
        delay = 0.0 if failures == 1 else min(_SLOWEST, 0.5 * 2.0 ** min(failures - 2, 10))
        self._timers[number] = asyncio.get_running_loop().call_later(delay, self._replace, number)
        return delay

    def _replace(self, number: int, *, patient: bool = True) -> None:
        self._forget_timer(number)
        if self._stopping.is_set():
            return
        try:
            self._workers[number] = self._start(number, self._configuration, patient=patient)
        except OSError as error:
            delay = self._replace_later(number)
            _log.error("no process can be started", worker=number, error=error.strerror, after_seconds=delay)

    def _forget_timer(self, number: int) -> None:
        if (timer := self._timers.pop(number, None)) is not None:
            timer.cancel()

    def _bind_beside(self, configuration: Configuration) -> None:
        """A socket for each worker; they listen when these accept."""
        while self._listeners and len(self._listeners) < configuration.workers:
            self._listeners.append(bind_beside(self._listeners[0]))

    def _cover(self) -> None:
        """Let somebody accept the connections of every worker that is not there."""
        serving = {
            number: worker
            for number, worker in self._workers.items()
            if worker.serving and worker.silence < _ABSENT_SECONDS
        }
        for number in self._listening:
            former = self._covers.get(number)
            if former in serving.values() and number not in serving:
                continue
            if former is not None:
                del self._covers[number]
                former.say("step back", number=number)
            if serving and number not in serving:
                covering = list(self._covers.values())
                self._covers[number] = min(serving.values(), key=covering.count)
                self._covers[number].say("stand in", number=number)

    async def _retire(self, worker: Worker) -> None:
        """Let a worker drain, and wait for its end. One that has not said anything yet has nothing to drain."""
        worker.leaving = True
        worker.say("stop")
        if not worker.spoken:
            worker.terminate()
        try:
            await asyncio.wait_for(worker.ended.wait(), worker.grace + _GRACE_MARGIN)
        except TimeoutError:
            _log.error("worker does not end, killing it", worker=worker.number, pid=worker.pid)
            worker.kill()
            await worker.ended.wait()

    async def _end(self) -> None:
        """Stop all workers, at the latest when the grace time is over; at once when told so again."""
        self._stopping.set()
        for number in list(self._timers):
            self._forget_timer(number)
        over = [asyncio.ensure_future(self._retire(worker)) for worker in self._all]
        if over:
            hurried = asyncio.ensure_future(self._hurried())
            await asyncio.gather(*over)
            hurried.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._all.values(), return_exceptions=True)

    async def _hurried(self) -> None:
        await self._hurry.wait()
        for worker in self._all:
            worker.say("now")
        await asyncio.sleep(_HURRY_SECONDS)
        for worker in self._all:
            worker.kill()

    # What workers say

    def _heard(self, worker: Worker, message: Message) -> None:
        worker.silence = 0
        worker.spoken = True
        kind = message["say"]
        if kind == "up":
            worker.serving = True
            worker.born = asyncio.get_running_loop().time()
            worker.arrived.set()
            self._listening.add(worker.number)
            self._cover()
            _log.info("worker serves", worker=worker.number, pid=worker.pid)
        elif kind == "mistakes":
            worker.mistakes = tuple([Problem(*each) for each in message["problems"]])
        elif kind == "leaving":
            self._left(worker)
        elif kind == "figures":
            self._ledger.note(worker.pid, message["figures"].encode("ascii"))
            if worker.asked is not None and not worker.asked.done():
                worker.asked.set_result(None)
        elif kind == "ask":
            self._ledger.note(worker.pid, message["figures"].encode("ascii"))
            self._task(self._answer(worker, message["identifier"]))

    async def _answer(self, worker: Worker, identifier: int) -> None:
        """Tell a worker what the others count; of one that does not say it in time, what it said last."""
        asked = [self._ask(other) for other in self._all if other is not worker and other.serving]
        if asked:
            await asyncio.wait(asked, timeout=_FIGURES_SECONDS)
        figures = self._ledger.of_others(
            worker.pid,
            serving=sum(each.serving and not each.leaving for each in self._all),
            leaving=[each.pid for each in self._all if each.leaving],
        )
        worker.say("answer", identifier=identifier, figures=figures.decode("ascii"))

    def _ask(self, worker: Worker) -> asyncio.Future[None]:
        if worker.asked is None or worker.asked.done():
            worker.asked = asyncio.get_running_loop().create_future()
            worker.say("figures?")
        return worker.asked

    async def _watch(self) -> None:
        """Kill workers that are silent. Ticks are counted, so that time in which nobody ran does not count."""
        while True:
            await asyncio.sleep(1)
            for worker in list(self._all):
                worker.silence += 1
                if worker.silence > 1 and worker.dead:
                    worker.hang_up()
                elif worker.silence >= (_HUNG_SECONDS if worker.spoken else _START_SECONDS):
                    _log.error("worker hangs, killing it", worker=worker.number, pid=worker.pid)
                    worker.silence = 0
                    worker.kill()
            self._cover()

    def _task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _tell_mistakes(event: str, problems: Iterable[Problem]) -> None:
    for problem in problems:
        _log.error(event, path=problem.path, problem=problem.message)
